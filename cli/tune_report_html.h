/* The page of xq tune report: one file that contains its plots and needs no scripts. */
#ifndef CLI_TUNE_REPORT_HTML_H
#define CLI_TUNE_REPORT_HTML_H

#include "gnuplot.h"
#include "tune_report.h"

/* Draws the plots and writes the page. Errors: those of gnuplot_run and publish_write. */
xq_status tune_report_page(const struct tune_report *report, const gnuplot_version *gnuplot,
                           publication *out, error *err);

#endif
