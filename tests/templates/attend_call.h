/* Calls of the fused kernel for tests, checked against double precision. Model, cache, weights and queries
 * can be of any kind. The tests launch the kernels directly, so that they can choose splits as short as
 * they want. */
#ifndef TESTS_ATTEND_CALL_H
#define TESTS_ATTEND_CALL_H

#include "../../runtime/launch/shape.h"
#include "cache_image.h"

enum { ATTEND_MOST_QUERIES = 400, ATTEND_MASK_WORDS = 3 };

/* One sequence of a call. */
struct call_sequence {
    int tokens, queries;
};

/* A call: its queries in the order of `sequences`, and the arrays that xq_queries describes. */
struct attend_call {
    int batch, queries;
    struct call_sequence sequences[FIXTURE_MAX_BATCH];
    bool one; /* no indptr: each sequence has one query */
    bool has_positions, has_offsets, has_mask;
    bool spread_scales; /* the cache is one of cache_image_spread_scales */
    int32_t indptr[FIXTURE_MAX_BATCH + 1], offsets[FIXTURE_MAX_BATCH], positions[ATTEND_MOST_QUERIES];
    uint32_t mask[ATTEND_MOST_QUERIES * ATTEND_MASK_WORDS];
};

struct attend_call attend_call_of(int batch, const struct call_sequence *sequences, bool one);

/* Makes each sequence's queries its last tokens. Each query sees the drafts before it and itself. */
void attend_call_causal(struct attend_call *c);

/* Places draft `child` of sequence i `distance` positions after draft `parent`. If `parent` is -1, the
 * draft follows the last token that is not a draft. */
void attend_call_draft(struct attend_call *c, int i, int child, int parent, int distance);

/* A spec, in parts that are put together as text. */
struct attend_case {
    char name[48];
    char model[330]; /* members of the spec's "model" */
    char rest[64];   /* further members of the spec, after a comma */
    char cache[180]; /* members of its "cache" */
};

/* Begins the random numbers of a case. They depend on its name and on the seed alone: a parameterized test
 * gets a copy of its case at an address that changes from run to run. */
random_stream attend_case_random(const struct attend_case *m, uint64_t seed);

/* The kernels of a spec, and random weights for them. */
struct attend_layer {
    fixture f;
    struct shape shape;
    const test_kernel *attend, *absorb, *key_norms;
    reference_layer reference;
    float *matrices[7]; /* wk or ak, wv or av, bk, bv, k_norm, sinks; one of zeros */
    double *doubles[7];
    uint8_t *packed;
    uint64_t weights;
    bool bf16; /* whether activations are bf16 */
    double bound;
};

/* `queries`: "one" or "many". */
void attend_layer_open(struct attend_layer *l, const struct attend_case *m, const char *queries,
                       random_stream *r);
void attend_layer_close(struct attend_layer *l);

/* Runs one call on a fresh cache and returns the largest error of any sequence. The test fails if that
 * error is above the layer's bound. */
double attend_judge(struct attend_layer *l, random_stream *r, const struct attend_call *c, int per_split,
                    bool with_sinks);

#endif
