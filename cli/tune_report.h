/* xq tune report in parts: the command (tune_report.c), what today's generator and the limit add to a
 * survey of the store (tune_report_rows.c), and the outputs: text and JSON (tune_report_text.c,
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

/* A contest, with all that is reported of it. */
struct tune_report_row {
    const survey_contest *contest;
    const survey_answer *best;     /* NULL: nothing was measured */
    const char *chosen;            /* the default parameters, JSON in canonical form; NULL: not known, */
    const char *why;               /* because of this */
    const survey_answer *standard; /* the default's answer; NULL: the store has none */
    int candidates;                /* parameter choices that are valid; 0: not known */
    double gain;                   /* the default's time over the best time; 0: not known */
    bool is_certain;               /* the best is faster beyond the spread of both */
    char *changed;                 /* parameters in which the best differs from the default, JSON; NULL:
                                      one of them is not known */
    roofline_limit limit;          /* bytes 0: not known */
    survey_parameters parameters;
    survey_reasons reasons;
};

struct tune_report {
    const char *path; /* of the store */
    survey survey;
    ceilings *ceilings; /* by device; source NULL: not known */
    struct tune_report_kernel **kernels;
    int kernel_count;
    struct tune_report_row *rows; /* by contest */
    survey_reasons reasons;       /* of all contests */
    survey_matches matches;
};

/* Needs report->survey; fills what follows it. Release the report with tune_report_free, after a failure
 * too. */
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
tune_report_answers(const struct tune_report *report); /* how many, and when taken */
/* Says of how many other sources answers were left out; "" where none were. */
struct tune_report_text tune_report_others(const struct tune_report *report);
/* "attend: 4096 tokens, batch 1, 1 query" */
struct tune_report_text tune_report_bucket(const survey_contest *contest);
/* "fused, launched one after another, L2 cold" */
struct tune_report_text tune_report_mode(const survey_contest *contest);
/* "sm_90, 132 multiprocessors, 80.0 GiB, driver 12.8, NVRTC 12.8, xq 0.1.0" */
struct tune_report_text tune_report_device(const store_device *device);

/* Answers of a contest that are no time and not wrong. */
int tune_report_failed(const survey_contest *contest);

/* xq tune report --store FILE. */
int cli_tune_report(int argc, char **argv);

#endif
