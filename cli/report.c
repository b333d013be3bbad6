/* Errors and input files of the subcommands. */
#include "../runtime/base/files.h"
#include "../runtime/base/printable.h"
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ----------------------------------------------------------------- errors */

static const char misuse[] = "usage"; /* the stage of an error that is wrong usage */

static int exit_status(const error *err)
{
    if (strcmp(err->stage, misuse) == 0)
        return CLI_USAGE;
    switch (err->status) {
    case XQ_OK:
        return CLI_OK;
    case XQ_ERROR_NO_DEVICE:
    case XQ_ERROR_NO_TOOLCHAIN:
        return CLI_MISSING;
    default:
        return CLI_BAD_INPUT;
    }
}

struct cli_shown cli_show(const char *text)
{
    struct cli_shown shown;
    printable(shown.text, sizeof shown.text, text);
    return shown;
}

/* Prints `xq SUBCOMMAND: [FILE:LINE: ]what, and what would be valid`. The place is printed only where the
 * message does not name it already. */
static void print_error(const char *subcommand, const char *message, const char *file, int line,
                        const char *field)
{
    cli_progress_pause();
    fprintf(stderr, "xq %s: ", subcommand);
    if (*file && !strstr(message, file)) {
        if (line > 0)
            fprintf(stderr, "%s:%d: ", file, line);
        else
            fprintf(stderr, "%s: ", file);
    }
    if (*field && !strstr(message, field))
        fprintf(stderr, "%s: ", field);
    fprintf(stderr, "%s\n", message);
    cli_progress_resume();
}

/* Prints a compiler's log whole, with its lines and tabs. */
static void print_log(const struct cli_common *common, const char *log)
{
    if (!common || !common->verbose || !log || !*log)
        return;
    for (const char *c = log; *c; c++)
        if (iscntrl((unsigned char)*c) && *c != '\n' && *c != '\t')
            fprintf(stderr, "\\x%02x", (unsigned char)*c);
        else
            fputc(*c, stderr);
    if (log[strlen(log) - 1] != '\n')
        fputc('\n', stderr);
}

/* The file to blame for an error. A fault of the model is blamed on the config.json that the model came
 * from. */
static const char *file_of(const struct cli_common *common, const error *err)
{
    bool of_model = common && !err->file[0] && strncmp(err->field, "model.", 6) == 0;
    return of_model ? common->model_file : err->file;
}

/* Replaces the name of a field of the library's options by the command-line option that sets it. */
static void name_option(const char *field, const char *option, struct cli_shown *message)
{
    size_t length = strlen(field);
    if (strncmp(message->text, field, length) != 0 || message->text[length] != ':')
        return;
    struct cli_shown copy = *message;
    snprintf(message->text, sizeof message->text, "%s%.*s", option, (int)(sizeof copy.text - 32),
             copy.text + length);
}

int cli_fail(const char *subcommand, const struct cli_common *common, const error *err)
{
    struct cli_shown message = cli_show(err->message), field = cli_show(err->field);
    if (strcmp(err->field, "template_dir") == 0) {
        name_option("template_dir", "--templates", &message);
        *field.text = 0;
    }
    print_error(subcommand, message.text, cli_show(file_of(common, err)).text, err->line, field.text);
    print_log(common, err->log);
    return exit_status(err);
}

xq_status cli_misuse(error *err, const char *format, ...)
{
    char text[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(err, XQ_ERROR_ARGUMENT, misuse, "%s", text);
}

static void print_line(const char *subcommand, const char *format, va_list args)
{
    char line[2048];
    printable_format(line, sizeof line, format, args);
    fprintf(stderr, "xq%s%s: %s\n", *subcommand ? " " : "", subcommand, line);
}

int cli_usage(const char *subcommand, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(subcommand, format, args);
    va_end(args);
    return CLI_USAGE;
}

int cli_bad_input(const char *subcommand, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(subcommand, format, args);
    va_end(args);
    return CLI_BAD_INPUT;
}

/* ------------------------------------------------------------------ input */

static xq_status file_error(const char *path, const char *what, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot %s %s: %s", what, path, files_reason(path));
    return error_at(err, path, 0);
}

/* This is larger than any spec or config.json. Reading an endless device such as /dev/zero stops here. */
enum { MOST_TEXT = 64 << 20 };

/* Reads the rest of a file, and closes it. */
static xq_status read_whole(FILE *f, const char *path, char **text, size_t *size, error *err)
{
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        fclose(f);
        errno = EISDIR;
        return file_error(path, "read", err);
    }
    size_t n = 0, capacity = 65536;
    char *data = malloc(capacity);
    while (data) {
        size_t got = fread(data + n, 1, capacity - n - 1, f);
        n += got;
        if (got == 0 || n > MOST_TEXT)
            break;
        if (n + 1 == capacity) {
            char *larger = realloc(data, capacity *= 2);
            if (!larger)
                free(data);
            data = larger;
        }
    }
    bool failed = ferror(f);
    int why = errno;
    fclose(f);
    if (!data)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory reading %s", path);
    if (failed || n > MOST_TEXT) {
        free(data);
        errno = failed ? why : EFBIG;
        return file_error(path, "read", err);
    }
    data[n] = 0;
    *text = data;
    if (size)
        *size = n;
    return XQ_OK;
}

xq_status cli_read_file(const char *path, char **text, size_t *size, error *err)
{
    FILE *f = fopen(path, "rb");
    return f ? read_whole(f, path, text, size, err) : file_error(path, "open", err);
}

/* Reads the stream as it was given. Its name in /dev would be opened anew, which shows an end of file where
 * the caller closed the stream (cli_open_standard_streams), and fails where it is a socket. */
xq_status cli_read_stdin(char **text, size_t *size, error *err)
{
    struct stat st;
    if (fstat(STDIN_FILENO, &st) == 0 && S_ISLNK(st.st_mode)) /* a closed stream, as in files_reason */
        return error_set(err, XQ_ERROR_IO, "file", "cannot read standard input: this stream is closed");
    int fd = dup(STDIN_FILENO);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "rb");
    if (f)
        return read_whole(f, "standard input", text, size, err);
    if (fd >= 0)
        close(fd);
    return file_error("standard input", "read", err);
}
