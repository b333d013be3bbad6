/* The plot of a sweep, an SVG: time of a step, and memory of the cache, against cached tokens. */
#ifndef CLI_COMPARE_PLOT_H
#define CLI_COMPARE_PLOT_H

#include "compare.h"

struct compare_plot {
    const char *path; /* NULL: none */
    publication *file;
};

/* Tries the output and gnuplot, so that they fail before the work and not after it. Errors: those of
 * cli_begin_output and gnuplot_find. */
xq_status compare_plot_begin(struct compare_plot *plot, error *err);

/* Draws rows of one layer, a curve for each implementation, bit width and batch, and publishes the file.
 * Errors: those of gnuplot_run and cli_commit_output. */
xq_status compare_plot_write(const struct compare_plot *plot, const struct compare_result *r, error *err);

#endif
