/* Calls of the fused kernel, as tests make them: any model, cache and weights, queries of every kind,
 * against double precision. The kernels are driven directly, so that splits are as short as a test wants
 * them. */
#ifndef TESTS_ATTEND_CALL_H
#define TESTS_ATTEND_CALL_H

#include "../runtime/launch/shape.h"
#include "cache_image.h"

enum { ATTEND_MOST_QUERIES = 400, ATTEND_MASK_WORDS = 3 };

/* One sequence of a call. */
struct call_sequence {
    int tokens, queries;
};

/* A call: queries [count] of `sequences`, with what xq_queries says of them. */
struct attend_call {
    int batch, queries;
    struct call_sequence sequences[FIXTURE_MAX_BATCH];
    bool one; /* no indptr: each sequence has one query */
    bool has_positions, has_offsets, has_mask;
    int32_t indptr[FIXTURE_MAX_BATCH + 1], offsets[FIXTURE_MAX_BATCH], positions[ATTEND_MOST_QUERIES];
    uint32_t mask[ATTEND_MOST_QUERIES * ATTEND_MASK_WORDS];
};

struct attend_call attend_call_of(int batch, const struct call_sequence *sequences, bool one);

/* Queries at the last positions, each of which sees the drafts before it and itself. */
void attend_call_causal(struct attend_call *c);

/* Draft `child` of sequence i follows draft `parent` (-1: the last token that is none), `distance`
 * positions on. */
void attend_call_draft(struct attend_call *c, int i, int child, int parent, int distance);

/* A spec, in parts. */
struct attend_case {
    char name[48];
    char model[330]; /* inside of the spec's "model" */
    char cache[180];
    char rest[64]; /* more of the spec */
};

/* Its kernels, and random weights. */
struct attend_layer {
    fixture f;
    struct shape shape;
    const test_kernel *attend, *absorb, *key_norms;
    reference_layer reference;
    float *matrices[7]; /* wk or ak, wv or av, bk, bv, k_norm, sinks; zeros */
    double *doubles[7];
    uint8_t *packed;
    uint64_t weights;
    bool bf16; /* activations */
    double bound;
};

/* `queries`: "one" or "many". */
void attend_layer_open(struct attend_layer *l, const struct attend_case *m, const char *queries,
                       random_stream *r);
void attend_layer_close(struct attend_layer *l);

/* One call on a fresh cache; the worst error of a sequence. The test fails where that is beyond the bound.
 */
double attend_judge(struct attend_layer *l, random_stream *r, const struct attend_call *c, int per_split,
                    bool with_sinks);

#endif
