/* Errors, progress, files and JSON of the subcommands. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ----------------------------------------------------------------- errors */

static int exit_status(xq_status status)
{
    switch (status) {
    case XQ_OK:
        return CLI_OK;
    case XQ_ERROR_NO_DEVICE:
    case XQ_ERROR_NO_TOOLCHAIN:
        return CLI_MISSING;
    default:
        return CLI_BAD_INPUT;
    }
}

/* `xq SUBCOMMAND: [FILE:LINE: ]what, and what would be valid`; the place only where the message does
 * not name it already. */
static void print_error(const char *subcommand, const char *message, const char *file, int line,
                        const char *field)
{
    fprintf(stderr, "xq %s: ", subcommand);
    if (file && *file && !strstr(message, file)) {
        if (line > 0)
            fprintf(stderr, "%s:%d: ", file, line);
        else
            fprintf(stderr, "%s: ", file);
    }
    if (field && *field && !strstr(message, field))
        fprintf(stderr, "%s: ", field);
    fprintf(stderr, "%s\n", message);
}

static void print_log(const struct cli_common *common, const char *log)
{
    if (common && common->verbose && log && *log)
        fprintf(stderr, "%s%s", log, log[strlen(log) - 1] == '\n' ? "" : "\n");
}

/* A fault of the model is the config.json's that it came from. */
static const char *file_of(const error *err)
{
    return !err->file[0] && strncmp(err->field, "model.", 6) == 0 ? cli_model_file() : err->file;
}

int cli_fail(const char *subcommand, const struct cli_common *common, const error *err)
{
    print_error(subcommand, err->message, file_of(err), err->line, err->field);
    print_log(common, err->log);
    return exit_status(err->status);
}

int cli_usage(const char *subcommand, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "xq %s: ", subcommand);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_USAGE;
}

/* ----------------------------------------------------------------- output */

bool cli_json_to_stdout(const struct cli_common *common)
{
    return common->json && strcmp(common->json, "-") == 0;
}

xq_status cli_write_json(const struct cli_common *common, const cJSON *json, error *err)
{
    if (!common->json)
        return XQ_OK;
    char *text = cJSON_Print(json);
    if (!text)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    if (cli_json_to_stdout(common)) {
        puts(text);
    } else {
        size_t n = strlen(text);
        text[n] = '\n'; /* cJSON's text stays within its size: the newline takes the NUL's place */
        cli_write_file(common->json, text, n + 1, err);
    }
    free(text);
    return err->status;
}

static xq_status file_error(const char *path, const char *what, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot %s %s: %s", what, path, strerror(errno));
    return error_at(err, path, 0);
}

xq_status cli_read_file(const char *path, char **text, size_t *size, error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return file_error(path, "open", err);
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        fclose(f);
        return file_error(path, "read", err);
    }
    size_t n = 0, capacity = 65536;
    char *data = malloc(capacity);
    while (data) {
        size_t got = fread(data + n, 1, capacity - n - 1, f);
        n += got;
        if (got == 0)
            break;
        if (n + 1 == capacity) {
            char *larger = realloc(data, capacity *= 2);
            if (!larger)
                free(data);
            data = larger;
        }
    }
    bool failed = ferror(f);
    fclose(f);
    if (!data)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory reading %s", path);
    if (failed) {
        free(data);
        return file_error(path, "read", err);
    }
    data[n] = 0;
    *text = data;
    if (size)
        *size = n;
    return XQ_OK;
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

xq_status cli_write_file(const char *path, const void *data, size_t size, error *err)
{
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) {
        errno = ENAMETOOLONG;
        return file_error(path, "write", err);
    }
    int fd = mkstemp(temporary);
    if (fd < 0)
        return file_error(path, "write", err);
    mode_t mask = umask(0); /* mkstemp makes private files; results are ordinary ones */
    umask(mask);
    bool ok = write_all(fd, data, size) && fchmod(fd, 0666 & ~mask) == 0 && fsync(fd) == 0;
    int saved = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        saved = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        saved = errno;
    }
    if (ok)
        return XQ_OK;
    unlink(temporary);
    errno = saved;
    return file_error(path, "write", err);
}

/* --------------------------------------------------------------- progress */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_progress_begin(struct cli_progress *p, const struct cli_common *common, const char *what)
{
    *p = (struct cli_progress){.what = what, .started = now()};
    p->enabled = !common->quiet && isatty(STDERR_FILENO);
}

void cli_progress_update(struct cli_progress *p, double fraction, const char *detail)
{
    if (!p->enabled)
        return;
    double t = now();
    if (t - p->started < 2 || t - p->shown < 0.2)
        return;
    p->shown = t;
    p->visible = true;
    char left[48] = ""; /* nothing to judge by before the first part is done */
    if (fraction > 0)
        snprintf(left, sizeof left, ", %.0f s left", (t - p->started) * (1 - fraction) / fraction);
    fprintf(stderr, "\r%s: %3.0f %%%s  %.60s\033[K", p->what, 100 * fraction, left, detail ? detail : "");
    fflush(stderr);
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->visible)
        fputs("\r\033[K", stderr);
    p->visible = false;
}
