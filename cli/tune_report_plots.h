/* The plots of xq tune report, as SVG to stand within a page. gnuplot sees numbers only: texts of the store
 * take the place of marks in what it has drawn. */
#ifndef CLI_TUNE_REPORT_PLOTS_H
#define CLI_TUNE_REPORT_PLOTS_H

#include "tune_report.h"

/* A plot of bars shows the first so many, so that it stays a picture. */
enum { TUNE_REPORT_MOST_BARS = 100 };

/* Each is NULL where there is nothing to draw. */
struct tune_report_plots {
    char *gains, *reasons, *matches;
    char **rooflines;   /* by device */
    char **sensitivity; /* by contest */
    char **all;         /* `count` of them, which those above point into */
    int count;
};

/* Release *out with tune_report_plots_free, after a failure too. Errors: those of gnuplot_run. */
xq_status tune_report_plots_make(const struct tune_report *report, struct tune_report_plots *out,
                                 error *err);
void tune_report_plots_free(struct tune_report_plots *p);

#endif
