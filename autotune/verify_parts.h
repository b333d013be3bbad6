/* What the parts of the verifier share: verify.c (cases), verify_open.c (specs and plans), verify_memory.c
 * and verify_call.c (the device's side), verify_append.c, verify_accumulate.c and verify_attend.c (the
 * reference's). */
#ifndef AUTOTUNE_VERIFY_PARTS_H
#define AUTOTUNE_VERIFY_PARTS_H

#include "page_codec.h"
#include "reference.h"
#include "verify.h"
#include "verify_case.h"

enum { IMPLEMENTATIONS = VERIFY_IMPLEMENTATIONS };

/* An implementation of the spec at hand: a plan for the first layer, and one for all after it. */
typedef struct verify_plans {
    verify_outcome outcome; /* of opening them */
    char message[400];
    xq_plan *plan[2];
    xq_plan_info info[2];
    uint64_t weights[CASE_MAX_LAYERS]; /* on the device */
} verify_plans;

/* A spec at hand, and what its cases share. Others are made ready while cases run. */
typedef struct verify_state {
    xq_context *context;
    gen *generator;
    uint64_t seed;
    verify_sequence *choices;
    int64_t spec_index; /* -1: none */
    case_spec spec;
    case_weights weights[CASE_MAX_LAYERS];
    verify_plans plans[IMPLEMENTATIONS];
    /* Set where fused or unfused opened: */
    reference_model model;
    page_codec *codec, *accumulator; /* accumulator: cross-layer methods, else NULL */
} verify_state;

static inline xq_plan *verify_plan(const verify_state *v, int implementation, int layer)
{
    return v->plans[implementation].plan[layer > 0];
}

/* The choices of a verifier that no other thread uses. */
verify_sequence *verifier_choices(verifier *v);

/* Reports it, and returns XQ_ERROR_MEMORY. */
xq_status verify_out_of_memory(error *err);

/* verify_run.c: runs a case of the spec at hand. Errors: what only this machine can repair. */
void verify_run_case(verify_state *v, const case_shape *shape, verify_result *result, error *err);

/* verify_open.c: makes spec `index` the one at hand. A spec that no kernel serves is no error. */
xq_status verify_open(verify_state *v, int64_t index, error *err);
void verify_close(verify_state *v);

/* ---------------------------------------------------------------- verify_memory.c */

/* Device memory of a case, filled with NaN: pages (and tails) of each layer, the accumulator of all. */
typedef struct verify_memory {
    verify_state *v;
    const case_shape *shape;
    int layers;
    bool kv; /* fp16 KV pages */
    size_t page_bytes, tail_bytes, accumulator_bytes;
    uint64_t pages[CASE_MAX_LAYERS], tails[CASE_MAX_LAYERS], accumulator;
    uint64_t pointers[256]; /* all of the above, and what calls need: freed together */
    int count;
} verify_memory;

/* `implementation` says what pages are like. */
xq_status verify_memory_create(verify_state *v, int implementation, const case_shape *shape,
                               verify_memory *m, error *err);
void verify_memory_free(verify_memory *m);

/* Device memory that lives as long as `m`: a copy of `data`, or NaN where that is NULL. 0 after a failure.
 */
uint64_t verify_memory_upload(verify_memory *m, const void *data, size_t bytes, error *err);

/* Host copies of a layer's cache. */
typedef struct verify_snapshot {
    uint8_t *pages, *tails, *accumulator; /* NULL where there are none */
} verify_snapshot;
xq_status verify_snapshot_take(verify_memory *m, int layer, verify_snapshot *s, error *err);
void verify_snapshot_free(verify_snapshot *s);

/* Sequence `sequence` of a snapshot as the page codec sees it, with `length` tokens. */
page_sequence verify_snapshot_sequence(const verify_state *v, const case_shape *shape,
                                       const verify_snapshot *s, int sequence, int length);
page_sequence verify_snapshot_accumulator(const verify_state *v, const case_shape *shape,
                                          const verify_snapshot *s, int sequence, int length);

/* Pages and tails that nobody owns hold what they were filled with. */
bool verify_snapshot_untouched(const verify_memory *m, const verify_snapshot *s);

/* ---------------------------------------------------------------- verify_call.c */

/* The tokens of a round of appending, in order of their rows. */
typedef struct verify_round {
    int round;
    int begin[CASE_MAX_SEQUENCES], end[CASE_MAX_SEQUENCES]; /* by sequence: tokens before, and after */
} verify_round;
verify_round verify_round_of(const case_shape *shape, int round);

xq_status verify_call_append(verify_memory *m, int implementation, int layer, int round, error *err);
xq_status verify_call_accumulate(verify_memory *m, int implementation, int layer, int round, error *err);

/* Attends, twice on the same workspace; out [queries, heads, head_dim] and lse [queries, heads] of the
 * second time. */
xq_status verify_call_attend(verify_memory *m, int implementation, int layer, double *out, float *lse,
                             error *err);

/* verify_arguments.c: calls with one bad argument each; all must be refused with the argument's name. Adds
 * to *refused; the first that is not is an error (XQ_ERROR_INTERNAL). */
xq_status verify_arguments(verify_memory *m, int implementation, int *refused, error *err);

/* ---------------------------------------------------------------- verify_append.c, verify_accumulate.c,
 * verify_attend.c */

/* What a round cached of a layer. `before`: the accumulator as append found it; NULL for a first layer. */
xq_status verify_check_append(const verify_state *v, const case_shape *shape, int layer, int round,
                              const verify_snapshot *after, const verify_snapshot *before,
                              verify_result *result, error *err);

/* The accumulator after a layer's deltas were added. */
xq_status verify_check_accumulate(const verify_state *v, const case_shape *shape, int layer, int round,
                                  const verify_snapshot *after, const verify_snapshot *before,
                                  verify_result *result, error *err);

/* What attention over a layer's cache returned. */
xq_status verify_check_attend(const verify_state *v, const case_shape *shape, int implementation, int layer,
                              const verify_snapshot *cache, const double *out, const float *lse,
                              verify_result *result, error *err);

/* fp16 KV pages against exact keys and values. */
xq_status verify_check_kv(const verify_state *v, const case_shape *shape, const verify_snapshot *cache,
                          verify_result *result, error *err);

/* A row [hidden] of the accumulator as kernels see it. */
void verify_accumulator_row(const verify_state *v, const page_sequence *accumulator, int t, uint16_t *row);

/* An activation as kernels take it: f16. */
uint16_t verify_domain(const case_spec *spec, uint16_t bits);

/* Projections of a layer as an implementation has them: rounded to their type. */
typedef struct verify_layer {
    reference_layer layer;
    double *wk, *wv, *vectors;
} verify_layer;
xq_status verify_layer_create(const verify_state *v, int implementation, int layer, verify_layer *out,
                              error *err);
void verify_layer_free(verify_layer *l);

#endif
