/* Files of a folder that a command writes together. All of them are on disk before the first one
 * appears. */
#ifndef CLI_FILE_SET_H
#define CLI_FILE_SET_H

#include "cli.h"

enum { CLI_MOST_FILES = 2048 };

/* A file to be written. */
struct cli_file {
    char *name; /* relative to the folder; may contain folders, as in "kernels/lib/page.cuh" */
    void *data;
    size_t size;
    publication *file;
};

/* Zero-initialize; cli_file_set_free releases it. */
struct cli_file_set {
    struct cli_file files[CLI_MOST_FILES];
    int count;
};

/* Whether a file of this name is in the set. */
bool cli_file_set_has(const struct cli_file_set *set, const char *name);

/* Adds a file with a copy of `data`. `format` and the arguments after it make its name. Errors:
 * XQ_ERROR_MEMORY; XQ_ERROR_ARGUMENT for too many files, or for a name that the set has already. */
xq_status cli_file_set_add(struct cli_file_set *set, const void *data, size_t size, error *err,
                           const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Writes the files under temporary names into `folder`, which cli_begin_folder has made; `option` names the
 * folder in errors. Errors: those of cli_begin_output. */
xq_status cli_file_set_begin(struct cli_file_set *set, const char *option, const char *folder, error *err);
/* Gives the files their names, in the order in which they were added. Must be called between
 * cli_hold_signals and cli_release_signals. */
xq_status cli_file_set_commit(struct cli_file_set *set, error *err);

void cli_file_set_free(struct cli_file_set *set);

#endif
