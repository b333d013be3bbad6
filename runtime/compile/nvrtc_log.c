#include "nvrtc_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies the line at `line`, up to its end or the end of the text, into `buffer`; returns the next line or
 * NULL. */
static const char *next_line(const char *line, char *buffer, size_t size)
{
    size_t n = strcspn(line, "\n");
    snprintf(buffer, size, "%.*s", (int)(n < size ? n : size - 1), line);
    return line[n] ? line + n + 1 : NULL;
}

/* ----------------------------------------------------------------- errors */

static void set_file(struct nvrtc_diagnostic *d, const char *name, size_t length, const nvrtc_input *input)
{
    snprintf(d->file, sizeof d->file, "%.*s", (int)length, name);
    for (int i = 0; i < input->header_count; i++)
        if (strcmp(d->file, input->header_names[i]) == 0) {
            snprintf(d->file, sizeof d->file, "templates/lib/%s", input->header_names[i]);
            return;
        }
}

/* Parses "FILE(LINE): error: TEXT", also with "catastrophic error" and "error #20: ". */
static bool parse_compiler_error(const char *line, const nvrtc_input *input, struct nvrtc_diagnostic *d)
{
    for (const char *p = strchr(line, '('); p; p = strchr(p + 1, '(')) {
        int number = 0, used = 0;
        if (sscanf(p, "(%d): %n", &number, &used) != 1 || used == 0)
            continue;
        const char *kind = p + used;
        if (strncmp(kind, "catastrophic ", 13) == 0)
            kind += 13;
        if (strncmp(kind, "error", 5) != 0)
            continue;
        const char *text = strstr(kind, ": ");
        set_file(d, line, (size_t)(p - line), input);
        d->line = number;
        snprintf(d->message, sizeof d->message, "%s", text ? text + 2 : kind);
        return true;
    }
    return false;
}

/* Finds the source of line `target` of a PTX text: the last .loc before the line, and its .file. */
static void follow_loc(const char *ptx, int target, const nvrtc_input *input, struct nvrtc_diagnostic *d)
{
    char buffer[1024], name[512];
    int file = 0, line = 0, number = 1;
    for (const char *p = ptx; p && number <= target; number++) {
        p = next_line(p, buffer, sizeof buffer);
        int f, l;
        if (sscanf(buffer, " .loc %d %d", &f, &l) == 2) {
            file = f;
            line = l;
        }
    }
    for (const char *p = ptx; p && file;) {
        int f;
        p = next_line(p, buffer, sizeof buffer);
        if (sscanf(buffer, " .file %d \"%511[^\"]\"", &f, name) == 2 && f == file) {
            set_file(d, name, strlen(name), input);
            d->line = line;
            return;
        }
    }
}

/* Parses "ptxas application ptx input, line 28; error : TEXT", or "ptxas fatal : TEXT". */
static bool parse_assembler_error(const char *line, const char *ptx, const nvrtc_input *input,
                                  struct nvrtc_diagnostic *d)
{
    if (strncmp(line, "ptxas", 5) != 0)
        return false;
    const char *kind = strstr(line, "error  ");
    if (!kind)
        kind = strstr(line, "fatal  ");
    const char *text = kind ? strstr(kind, ": ") : NULL;
    if (!text)
        return false;
    snprintf(d->message, sizeof d->message, "%s", text + 2);
    const char *number = strstr(line, ", line ");
    if (number && number < kind)
        follow_loc(ptx, atoi(number + 7), input, d);
    return true;
}

bool nvrtc_log_first_error(const char *log, const char *ptx, const nvrtc_input *input,
                           struct nvrtc_diagnostic *out)
{
    char line[1024];
    while (log) {
        log = next_line(log, line, sizeof line);
        memset(out, 0, sizeof *out);
        if (parse_compiler_error(line, input, out) || parse_assembler_error(line, ptx, input, out))
            return true;
        if (strncmp(line, "nvrtc: error: ", 14) == 0) {
            snprintf(out->message, sizeof out->message, "%.500s", line + 14);
            return true;
        }
    }
    return false;
}

/* -------------------------------------------------------------- resources */

/* Returns the number before `word` in a line such as "0 bytes stack frame, 8 bytes spill stores". */
static int number_before(const char *line, const char *word)
{
    const char *p = strstr(line, word);
    if (!p)
        return 0;
    while (p > line && p[-1] == ' ')
        p--;
    while (p > line && p[-1] >= '0' && p[-1] <= '9')
        p--;
    return atoi(p);
}

int nvrtc_resource_report(const char *log, nvrtc_resources *out, int max)
{
    char line[1024], entry[128];
    nvrtc_resources unwanted;
    nvrtc_resources *current = NULL;
    int count = 0;
    while (log) {
        log = next_line(log, line, sizeof line);
        const char *compiling = strstr(line, "Compiling entry function '");
        if (compiling && sscanf(compiling, "Compiling entry function '%127[^']'", entry) == 1) {
            current = count < max ? &out[count] : &unwanted;
            memset(current, 0, sizeof *current);
            memcpy(current->entry, entry, sizeof entry);
            count++;
        } else if (current && strstr(line, "bytes spill stores")) {
            /* The numbers of a function that the kernel calls are added to the kernel's own. */
            current->stack_bytes += number_before(line, "bytes stack frame");
            current->spill_store_bytes += number_before(line, "bytes spill stores");
            current->spill_load_bytes += number_before(line, "bytes spill loads");
        } else if (current && strstr(line, "Used ") && strstr(line, " registers")) {
            current->registers = number_before(line, "registers");
            current->barriers = number_before(line, "barriers");
            current->shared_bytes = number_before(line, "bytes smem");
        }
    }
    return count;
}
