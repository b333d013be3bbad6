/* The parts of xq tune report: the command (tune_report.c), the defaults and limits of each row, which need
 * today's generator (tune_report_rows.c), and the outputs: text and JSON (tune_report_text.c,
 * tune_report_json.c), plots (tune_report_plots.c) and the page that holds them (tune_report_html.c). */
#ifndef CLI_TUNE_REPORT_H
#define CLI_TUNE_REPORT_H

#include "../autotune/measure/roofline.h"
#include "../autotune/search/survey.h"
#include "cli.h"

#include <stdio.h>

/* --------------------------------------------------------------- contents */

/* A kernel family for a spec on a device, as today's generator sees it. */
struct tune_report_kernel;

/* A contest with everything that is reported about it. */
struct tune_report_row {
    const survey_contest *contest;
    const survey_answer *best;     /* NULL: nothing was measured */
    const char *chosen;            /* the default parameters, JSON in canonical form; NULL: not known */
    const char *why;               /* why they are not known; else NULL */
    const survey_answer *standard; /* the answer for the default; NULL: the store has none */
    int candidates;                /* number of valid combinations of parameters; 0: not known */
    double gain;                   /* the default's time over the best time; 0: not known */
    bool is_certain;               /* the best is faster beyond the spread of both */
    char *changed;                 /* best parameters unlike the default, JSON; NULL: not known */
    roofline_limit limit;          /* bytes 0: not known */
    survey_parameters parameters;
    survey_reasons reasons;
};

struct tune_report {
    const char *path; /* path of the store */
    survey survey;
    ceilings *ceilings; /* one for each device; source NULL: not known */
    struct tune_report_kernel **kernels;
    int kernel_count;
    struct tune_report_row *rows; /* one for each contest */
    survey_reasons reasons;       /* reasons of all contests */
    survey_matches matches;
};

/* Fills the members after `survey`, which must be filled already. Release the report with tune_report_free,
 * also after a failure. */
xq_status tune_report_rows(struct tune_report *report, const char *template_dir, error *err);
void tune_report_free(struct tune_report *report);

/* ----------------------------------------------------------------- outputs */

void tune_report_print(const struct tune_report *report);
cJSON *tune_report_json(const struct tune_report *report);

/* Sentences that the text and the page share. */
struct tune_report_text {
    char text[512];
};
struct tune_report_text
tune_report_answers(const struct tune_report *report); /* number of answers, and when they were taken */
/* Says for how many other sources answers were left out; "" where none were. */
struct tune_report_text tune_report_others(const struct tune_report *report);
/* "attend: 4096 tokens, batch 1, 1 query" */
struct tune_report_text tune_report_bucket(const survey_contest *contest);
/* "fused, launched one after another, L2 cold" */
struct tune_report_text tune_report_mode(const survey_contest *contest);
/* "sm_90, 132 multiprocessors, 80.0 GiB, driver 12.8, NVRTC 12.8, xq 0.1.0" */
struct tune_report_text tune_report_device(const store_device *device);

/* The number of answers of a contest that are neither a time nor wrong. */
int tune_report_failed(const survey_contest *contest);

/* xq tune report --store FILE. */
int cli_tune_report(int argc, char **argv);

#endif
