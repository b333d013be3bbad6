/* Runs gnuplot in a process of its own that ends with this one. No shell is involved. */
#ifndef CLI_GNUPLOT_H
#define CLI_GNUPLOT_H

#include "../runtime/base/error.h"

/* "gnuplot 5.4 patchlevel 4". */
typedef struct gnuplot_version {
    char text[64];
} gnuplot_version;

/* The version of gnuplot. Errors: XQ_ERROR_NO_TOOLCHAIN where the PATH has no gnuplot that runs. */
xq_status gnuplot_find(gnuplot_version *out, error *err);

/* Runs a script, without the user's own settings. *out is what gnuplot wrote to standard output; caller
 * frees. Errors: XQ_ERROR_INTERNAL with gnuplot's message, and all of its messages as the log;
 * XQ_ERROR_IO. */
xq_status gnuplot_run(const char *script, size_t bytes, char **out, error *err);

#endif
