/* The plot of a sweep as SVG: the time of a step, and the memory of the cache, against cached tokens. */
#ifndef CLI_COMPARE_PLOT_H
#define CLI_COMPARE_PLOT_H

#include "compare.h"

struct compare_plot {
    const char *path; /* NULL: none */
    publication *file;
};

/* Begins the output and looks for gnuplot, so that failures come before the work and not after it. Errors:
 * those of cli_begin_output and gnuplot_find. */
xq_status compare_plot_begin(struct compare_plot *plot, error *err);

/* Draws the rows of one layer, with a curve for each implementation, bit width and batch, and publishes the
 * file. Errors: those of gnuplot_run and cli_commit_output. */
xq_status compare_plot_write(const struct compare_plot *plot, const struct compare_result *r, error *err);

#endif
