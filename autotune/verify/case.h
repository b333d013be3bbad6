/* A verification case consists of a spec, weights, and sequences with their tokens, queries and pages. Case
 * `index` of a seed is always the same. */
#ifndef AUTOTUNE_VERIFY_CASE_H
#define AUTOTUNE_VERIFY_CASE_H

#include "../../runtime/base/error.h"
#include "../reference/rounding.h"
#include "axes.h"

#include <stdint.h>

#define CASE_MAX_SEQUENCES     7
#define CASE_MAX_ROUNDS        6
#define CASE_MAX_LAYERS        3
#define CASE_MAX_QUERIES       80 /* of one sequence */
#define CASE_MAX_TOTAL_QUERIES 160
#define CASE_MAX_TOKENS        600 /* of one sequence */

/* ---------------------------------------------------------------- specs */
typedef struct case_spec {
    verify_choice choice;
    char json[2048];       /* for cross-layer methods, the spec of the base layer */
    char delta_json[2048]; /* cross-layer: the spec of the layers after the base layer; else "" */
    int layers;
    /* sizes */
    int hidden, heads, kv_heads, head_dim, page, group;
    int rank_k, rank_v;     /* latent methods: ranks without padding */
    int groups_k, groups_v; /* groups of KV heads, each with latents of its own */
    bool latent, rotated, cross_layer, latent_cross, many_queries, bf16; /* rotated: method x */
    bool both_kernels; /* a spec of one query whose plan accepts several: plain cases ask one query, others
                          several */
    rounding_type weights;
    /* The channel of x in which some tokens are at f16's limit, and with it the first channel of each
     * latent; -1: none. The weights' rows of this channel are small, so that logits keep their usual
     * size. */
    int limit_channel;
    int size; /* activations are larger by a factor of 2^size than usual, and the matrices that multiply
                 them smaller */
} case_spec;

#define CASE_LIMIT_WEIGHT 1e-4f /* factor of limit_channel's row of weights */

void case_spec_make(uint64_t seed, int64_t index, verify_choice choice, case_spec *spec);

/* ---------------------------------------------------------------- shapes */

/* One cached sequence. A shared prefix is a sequence without queries, at position 0. */
typedef struct case_sequence {
    int end[CASE_MAX_ROUNDS]; /* tokens cached after each round of appending */
    int length;               /* tokens cached after the last round */
    int offset;               /* position of the first token */
    int queries, first_query; /* rows of q: their number, and the first one */
    int32_t pages[64];        /* page numbers in the pool, in order */
    int slot;                 /* slot in the tail pool */
} case_sequence;

enum case_kind {
    CASE_PLAIN,  /* no optional arguments, except those that several queries need */
    CASE_PLACED, /* positions and offsets of their own; specs of many queries: also trees */
    CASE_SHARED, /* all sequences share a prefix, which is attended apart and merged */
    CASE_KINDS
};

typedef struct case_shape {
    enum case_kind kind;
    int sequences; /* cached sequences; in CASE_SHARED, sequence 0 is the prefix */
    case_sequence sequence[CASE_MAX_SEQUENCES];
    int rounds, pool_pages, queries, longest, most_queries;
    bool tree, shuffled; /* shuffled: the tokens of a round are appended in any order */
    int mask_words;
    int32_t *query_position;      /* [queries] */
    uint32_t *tree_mask;          /* [queries, mask_words], or NULL */
    uint16_t *x[CASE_MAX_LAYERS]; /* [tokens of sequence 0 | of sequence 1 | …][hidden], bits of the spec's
                                     dtype */
    uint16_t *q;                  /* [queries, heads, head_dim], bits of the spec's dtype */
    int first_token[CASE_MAX_SEQUENCES + 1];
    uint64_t order_seed; /* seed for shuffling tokens */
} case_shape;

xq_status case_shape_draw(random_stream *r, const case_spec *spec, int64_t kind, case_shape *shape,
                          error *err);
void case_shape_free(case_shape *shape);

/* The tokens of one round of appending: for each sequence, those from begin to end - 1. */
typedef struct case_round {
    int round;
    int begin[CASE_MAX_SEQUENCES], end[CASE_MAX_SEQUENCES]; /* tokens before and after the round */
} case_round;
case_round case_round_of(const case_shape *shape, int round);

/* Converts an activation to f16, as kernels do. */
uint16_t case_domain(const case_spec *spec, uint16_t bits);

/* The position of token t for RoPE. Drafts of a tree are at their queries' positions. */
int case_token_position(const case_shape *shape, int sequence, int token);

/* The first sequence that is attended: a shared prefix, sequence 0, is not. */
static inline int case_first_attended(const case_shape *shape)
{
    return shape->kind == CASE_SHARED ? 1 : 0;
}

/* ---------------------------------------------------------------- weights */

/* The weights of one layer, f32 as given to xq_plan_pack_weights; NULL where the spec has none. */
typedef struct case_weights {
    float *wk, *wv;           /* [hidden, dkv] */
    float *uk, *ak, *uv, *av; /* method latent; method x with rotation: all but uv */
    float *k_cost;            /* method latent with feedback: [dkv, head_dim] */
    float *ukv;               /* latent-cl */
    float *bk, *bv, *k_norm, *sinks;
} case_weights;

xq_status case_weights_draw(random_stream *r, const case_spec *spec, case_weights *weights, error *err);
void case_weights_free(case_weights *weights);

#endif
