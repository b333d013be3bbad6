/* What the parts of the verifier share: verify.c (specs and cases), verify_run.c (the device's side) and
 * verify_compare.c (the reference's). */
#ifndef AUTOTUNE_VERIFY_PARTS_H
#define AUTOTUNE_VERIFY_PARTS_H

#include "page_codec.h"
#include "reference.h"
#include "verify.h"
#include "verify_case.h"

enum { IMPLEMENTATIONS = 3 }; /* by xq_implementation */

struct verifier {
    xq_context *context;
    gen *generator;
    uint64_t seed;
    /* What the cases of one spec share. */
    int64_t spec_index; /* -1: none */
    case_spec spec;
    case_weights weights;
    reference_model model;
    page_codec *codec;
    xq_plan *plan[IMPLEMENTATIONS];
    xq_plan_info info[IMPLEMENTATIONS];
    uint64_t device_weights[IMPLEMENTATIONS];
};

/* A cache filled by append, and what attend made of it. */
typedef struct verify_run {
    const case_shape *shape;
    uint8_t *pages; /* pool, host copy */
    double *out;    /* [batch, heads, head_dim] */
    float *lse;     /* [batch, heads] */
} verify_run;

/* Appends all tokens (into a pool of NaN) unless `filled` is a pool that has them already, then attends. */
xq_status verify_run_device(verifier *v, int implementation, const case_shape *shape, const uint8_t *filled,
                            verify_run *out, error *err);
void verify_run_free(verify_run *r);

/* Compares what the runs of all implementations cached and returned with what they should have; fills the
 * errors in `result`. */
xq_status verify_compare(const verifier *v, const verify_run runs[IMPLEMENTATIONS], verify_result *result,
                         error *err);

/* Reports it, and returns XQ_ERROR_MEMORY. */
xq_status verify_out_of_memory(error *err);

#endif
