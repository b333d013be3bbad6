#include "plot_axis.h"

#include <math.h>

void plot_widen(struct plot_range *r, double value)
{
    r->low = r->low > 0 && r->low < value ? r->low : value;
    r->high = fmax(r->high, value);
}

void plot_write_axis(FILE *f, char axis, const struct plot_range *r)
{
    const double low = r->low / 1.6, high = r->high * 1.6;
    const int step = high / low > 1e4 ? 3 : 1;
    static const double digits[] = {1, 2, 5};
    const char *before = "";
    fprintf(f, "set logscale %c\nset %crange [%.9g:%.9g]\nset %ctics nomirror (", axis, axis, low, high,
            axis);
    for (int power = (int)floor(log10(low)); power <= (int)ceil(log10(high)); power++)
        for (int i = 0; i < 3; i += step) {
            double value = digits[i] * pow(10, power);
            if (value >= low && value <= high) {
                fprintf(f, "%s'%.12g' %.12g", before, value, value);
                before = ", ";
            }
        }
    fputs(")\n", f);
}
