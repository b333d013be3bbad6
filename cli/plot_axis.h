/* Logarithmic axes of gnuplot's plots. */
#ifndef CLI_PLOT_AXIS_H
#define CLI_PLOT_AXIS_H

#include <stdio.h>

/* The values that an axis must show, all above 0; begin with zeros. */
struct plot_range {
    double low, high;
};
void plot_widen(struct plot_range *r, double value);

/* Sets up a logarithmic axis 'x' or 'y', with a tic at 1, 2 and 5 of each power of ten; at 1 alone where
 * there would be many. */
void plot_write_axis(FILE *script, char axis, const struct plot_range *r);

#endif
