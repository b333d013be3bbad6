/* Keeps measurements of xq tune in a store (autotune/search/store.h), so that nothing is measured twice. */
#ifndef CLI_TUNE_STORE_H
#define CLI_TUNE_STORE_H

#include "../autotune/search/store.h"
#include "../autotune/verify/verify.h"
#include "tune.h"

/* The part of a question that all candidates of a job share. */
struct tune_question {
    const struct tune_job *job;
    const xq_device_info *device;
    char source[STORE_TEXT + 1]; /* hashes of all families that the step may run */
    char *spec;                  /* the job's choices without tuning of its family; tune_question_free
                                    releases it */
};
/* Errors: XQ_ERROR_SPEC for a spec that has tuning of other families. */
xq_status tune_question_make(gen *g, const struct tune_job *job, const xq_device_info *device,
                             struct tune_question *out, error *err);
void tune_question_free(struct tune_question *question);

/* The `source` of a question: the hashes of the sources of all families that a step may run, because the
 * measured time is that of a step. */
xq_status tune_step_source(gen *g, xq_implementation implementation, char source[STORE_TEXT + 1],
                           error *err);

/* The sources of the steps of every implementation, with today's templates. `all` points into `texts`. */
struct tune_sources {
    char texts[VERIFY_IMPLEMENTATIONS][STORE_TEXT + 1];
    const char *all[VERIFY_IMPLEMENTATIONS];
};
xq_status tune_sources_read(const char *template_dir, struct tune_sources *out, error *err);

/* Finds the trial that the store has for these parameters. Failures that may pass (hung, crashed) are not
 * found, so that they are tried again. */
xq_status tune_store_find(store *s, const struct tune_question *question, const char *parameters,
                          struct tune_trial *out, bool *found, error *err);
xq_status tune_store_add(store *s, const struct tune_question *question, const char *parameters,
                         const struct tune_trial *trial, error *err);

/* xq tune merge A.db B.db --out C.db. */
int cli_tune_merge(int argc, char **argv);
/* xq tune export --store A.db --out TABLE. */
int cli_tune_export(int argc, char **argv);

#endif
