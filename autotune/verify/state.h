/* The current spec with its plans, weights and codecs, on which all parts of the verifier work. */
#ifndef AUTOTUNE_VERIFY_STATE_H
#define AUTOTUNE_VERIFY_STATE_H

#include "../engine/page_codec.h"
#include "../reference/reference.h"
#include "case.h"
#include "verify.h"

enum { IMPLEMENTATIONS = VERIFY_IMPLEMENTATIONS };

/* The current spec in one implementation: a plan for the first layer, and one for all layers after it. */
typedef struct verify_plans {
    verify_outcome outcome; /* the outcome of opening the plans */
    char message[400];
    xq_plan *plan[2];
    xq_plan_info info[2];
    uint64_t weights[CASE_MAX_LAYERS]; /* on the device */
} verify_plans;

/* The current spec, and everything that its cases share. Other specs are prepared while its cases run. */
typedef struct verify_state {
    xq_context *context;
    gen *generator;
    uint64_t seed;
    verify_sequence *choices;
    int64_t spec_index; /* number of the spec; -1: none is open */
    case_spec spec;
    case_weights weights[CASE_MAX_LAYERS];
    verify_plans plans[IMPLEMENTATIONS];
    /* Set where fused or unfused opened: */
    reference_model model;
    page_codec *codec, *accumulator; /* accumulator: cross-layer methods; else NULL */
} verify_state;

static inline xq_plan *verify_plan(const verify_state *v, int implementation, int layer)
{
    return v->plans[implementation].plan[layer > 0];
}

/* Reports that memory ran out, and returns XQ_ERROR_MEMORY. */
static inline xq_status verify_out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory while verifying");
}

#endif
