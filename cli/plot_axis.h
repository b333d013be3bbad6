/* Logarithmic axes of plots by gnuplot. */
#ifndef CLI_PLOT_AXIS_H
#define CLI_PLOT_AXIS_H

#include <stdio.h>

/* The range of values that an axis must show, all above 0. Initialize with zeros. */
struct plot_range {
    double low, high;
};
void plot_widen(struct plot_range *r, double value);

/* Sets up a logarithmic axis 'x' or 'y', with tics at 1, 2 and 5 times each power of ten, or at the powers
 * of ten alone where there would be many. */
void plot_write_axis(FILE *script, char axis, const struct plot_range *r);

#endif
