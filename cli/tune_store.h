/* Measurements of xq tune in a store (autotune/search/store.h): what was measured before is not measured
 * again. */
#ifndef CLI_TUNE_STORE_H
#define CLI_TUNE_STORE_H

#include "../autotune/search/store.h"
#include "../autotune/verify/verify.h"
#include "tune.h"

/* What all candidates of a job have alike. */
struct tune_question {
    const struct tune_job *job;
    const xq_device_info *device;
    char source[STORE_TEXT + 1]; /* hashes of all families that the step may run */
    char *spec;                  /* the job's choices without tuning; tune_question_free */
};
/* Errors: XQ_ERROR_SPEC for a spec that has tuning of other families. */
xq_status tune_question_make(gen *g, const struct tune_job *job, const xq_device_info *device,
                             struct tune_question *out, error *err);
void tune_question_free(struct tune_question *question);

/* The `source` of a question: hashes of the sources of all families that a step may run, for a time is that
 * of a step. */
xq_status tune_step_source(gen *g, xq_implementation implementation, char source[STORE_TEXT + 1],
                           error *err);

/* The same for every implementation, with the templates of today. `all` points into `texts`. */
struct tune_sources {
    char texts[VERIFY_IMPLEMENTATIONS][STORE_TEXT + 1];
    const char *all[VERIFY_IMPLEMENTATIONS];
};
xq_status tune_sources_read(const char *template_dir, struct tune_sources *out, error *err);

/* The trial that the store has of these parameters. Failures that may pass (hung, crashed) are tried again.
 */
xq_status tune_store_find(store *s, const struct tune_question *question, const char *parameters,
                          struct tune_trial *out, bool *found, error *err);
xq_status tune_store_add(store *s, const struct tune_question *question, const char *parameters,
                         const struct tune_trial *trial, error *err);

/* xq tune merge A.db B.db --out C.db. */
int cli_tune_merge(int argc, char **argv);
/* xq tune export --store A.db --out TABLE. */
int cli_tune_export(int argc, char **argv);

#endif
