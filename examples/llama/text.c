#include "text.h"
#include "fail.h"
#include "progress.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* There is one child process at a time. */
static pid_t child;
static const char *interpreter;

enum { NOT_FOUND = 127 };

/* The path of tokens.py, which is in the program's folder. */
static void script_path(char *path, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", path, size - 16);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, "tokens.py");
}

/* Runs tokens.py and returns a pipe: from its output if `reads`, else to its input. */
static FILE *start(const char *python, const char *const arguments[3], bool reads)
{
    char script[4096];
    int ends[2];
    script_path(script, sizeof script);
    interpreter = python;
    fflush(stdout);
    if (pipe(ends) != 0 || (child = fork()) < 0)
        fail(EXIT_INPUT, "%s: %s", python, strerror(errno));
    if (child == 0) {
        dup2(ends[reads ? 1 : 0], reads ? 1 : 0);
        close(ends[0]);
        close(ends[1]);
        execlp(python, python, "-B", script, arguments[0], arguments[1], arguments[2], (char *)NULL);
        _exit(NOT_FOUND);
    }
    close(ends[reads ? 1 : 0]);
    return fdopen(ends[reads ? 0 : 1], reads ? "r" : "w");
}

/* Waits for the child. If it ran and failed, it has printed the error itself. */
static void finish(FILE *pipe)
{
    int status = 0;
    fclose(pipe);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND)
        fail(EXIT_INPUT, "--python: cannot run '%s'", interpreter);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        progress_end();
        exit(EXIT_INPUT);
    }
}

static void append_id(token_list *list, size_t *room_for, long id)
{
    if (list->count == *room_for) {
        *room_for = *room_for ? 2 * *room_for : 4096;
        list->ids = realloc(list->ids, *room_for * sizeof *list->ids);
        if (!list->ids)
            fail(EXIT_INPUT, "out of memory for %zu token ids", *room_for);
    }
    list->ids[list->count++] = (int32_t)id;
}

token_list text_encode(const char *python, const char *model_directory, const char *text, bool is_file)
{
    FILE *output = start(
        python, (const char *const[]){is_file ? "encode" : "encode-text", model_directory, text}, true);
    token_list list = {0};
    size_t room_for = 0;
    long id;
    if (!output || fscanf(output, "%ld", &id) != 1)
        id = -1;
    list.bos = (int32_t)id;
    while (output && fscanf(output, "%ld", &id) == 1)
        append_id(&list, &room_for, id);
    finish(output);
    return list;
}

token_list text_read_ids(const char *path)
{
    token_list list = {.bos = -1};
    size_t room_for = 0;
    long id = -1; /* negative between numbers */
    FILE *file = fopen(path, "r");
    if (!file)
        fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
    for (int c; (c = fgetc(file)) != EOF;) {
        if (c == '-' || id > INT32_MAX / 16)
            fail(EXIT_INPUT, "%s: valid token ids are whole numbers from 0", path);
        if (isdigit(c)) {
            id = (id < 0 ? 0 : id * 10) + (c - '0');
        } else if (id >= 0) {
            append_id(&list, &room_for, id);
            id = -1;
        }
    }
    if (id >= 0)
        append_id(&list, &room_for, id);
    if (ferror(file))
        fail(EXIT_INPUT, "%s: %s", path, strerror(errno));
    fclose(file);
    return list;
}

FILE *text_decoder_open(const char *python, const char *model_directory)
{
    return start(python, (const char *const[]){"decode", model_directory, NULL}, false);
}

void text_decoder_close(FILE *decoder)
{
    finish(decoder);
}
