/* The plots of xq tune report, as SVG elements for a page. gnuplot sees numbers only: it draws marks, which
 * are then replaced by texts from the store. */
#ifndef CLI_TUNE_REPORT_PLOTS_H
#define CLI_TUNE_REPORT_PLOTS_H

#include "tune_report.h"

/* A plot of bars shows at most so many, so that it stays readable. */
enum { TUNE_REPORT_MOST_BARS = 100 };

/* Each is NULL where there is nothing to draw. */
struct tune_report_plots {
    char *gains, *reasons, *matches;
    char **rooflines;   /* one for each device */
    char **sensitivity; /* one for each contest */
    char **all;         /* `count` plots, which the members above point to */
    int count;
};

/* Release *out with tune_report_plots_free, also after a failure. Errors: those of gnuplot_run. */
xq_status tune_report_plots_make(const struct tune_report *report, struct tune_report_plots *out,
                                 error *err);
void tune_report_plots_free(struct tune_report_plots *p);

#endif
