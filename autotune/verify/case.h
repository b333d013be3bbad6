/* What a verification case is made of: a spec, weights, and sequences with their tokens, queries and pages.
 * Case `index` of a seed is always the same. */
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
    char json[2048];       /* of cross-layer methods, the base layer */
    char delta_json[2048]; /* cross-layer: of the layers after it; else "" */
    int layers;
    /* sizes */
    int hidden, heads, kv_heads, head_dim, page, group;
    int rank_k, rank_v;     /* of the latent methods, without padding */
    int groups_k, groups_v; /* groups of KV heads with latents of their own */
    bool latent, rotated, cross_layer, latent_cross, many_queries, bf16; /* rotated: method x */
    bool both_kernels; /* a spec of one query whose plan takes several too: plain cases ask one, others
                          several */
    rounding_type weights;
    /* The channel of x that some tokens have at f16's limit (and with it latent 0 of each group); -1: none.
     * The weights' rows of this channel are small, so that logits keep their usual size. */
    int limit_channel;
    int size; /* activations are larger by 2^size than others, and what multiplies them smaller */
} case_spec;

#define CASE_LIMIT_WEIGHT 1e-4f /* of limit_channel's row, of others */

void case_spec_make(uint64_t seed, int64_t index, verify_choice choice, case_spec *spec);

/* ---------------------------------------------------------------- shapes */

/* One cached sequence. A shared prefix is one without queries, at position 0. */
typedef struct case_sequence {
    int end[CASE_MAX_ROUNDS]; /* tokens cached after each round of appending */
    int length;               /* of the last round */
    int offset;               /* position of its first token */
    int queries, first_query; /* rows of q */
    int32_t pages[64];        /* in the pool, in order */
    int slot;                 /* in the tail pool */
} case_sequence;

enum case_kind {
    CASE_PLAIN,  /* no optional argument but those that several queries need */
    CASE_PLACED, /* positions and offsets of their own; many queries: trees */
    CASE_SHARED, /* a prefix that all sequences share, attended apart and merged */
    CASE_KINDS
};

typedef struct case_shape {
    enum case_kind kind;
    int sequences; /* cached; of CASE_SHARED, the first is the prefix */
    case_sequence sequence[CASE_MAX_SEQUENCES];
    int rounds, pool_pages, queries, longest, most_queries;
    bool tree, shuffled; /* shuffled: tokens of a round are appended in any order */
    int mask_words;
    int32_t *query_position;      /* [queries] */
    uint32_t *tree_mask;          /* [queries, mask_words], or NULL */
    uint16_t *x[CASE_MAX_LAYERS]; /* [tokens of sequence 0 | of 1 | …][hidden], bits of the spec's dtype */
    uint16_t *q;                  /* [queries, heads, head_dim] likewise */
    int first_token[CASE_MAX_SEQUENCES + 1];
    uint64_t order_seed; /* of shuffling */
} case_shape;

xq_status case_shape_draw(random_stream *r, const case_spec *spec, int64_t kind, case_shape *shape,
                          error *err);
void case_shape_free(case_shape *shape);

/* The tokens of a round of appending, in order of their rows. */
typedef struct case_round {
    int round;
    int begin[CASE_MAX_SEQUENCES], end[CASE_MAX_SEQUENCES]; /* by sequence: tokens before, and after */
} case_round;
case_round case_round_of(const case_shape *shape, int round);

/* An activation as kernels take it: f16. */
uint16_t case_domain(const case_spec *spec, uint16_t bits);

/* Where token t of a sequence stands for RoPE: drafts of a tree at their queries' positions. */
int case_token_position(const case_shape *shape, int sequence, int token);

/* The sequences that are attended: all but a shared prefix. */
static inline int case_first_attended(const case_shape *shape)
{
    return shape->kind == CASE_SHARED ? 1 : 0;
}

/* ---------------------------------------------------------------- weights */

/* Of one layer, f32 as given to xq_plan_pack_weights; NULL where the spec has none. */
typedef struct case_weights {
    float *wk, *wv;           /* [hidden, dkv] */
    float *uk, *ak, *uv, *av; /* latent; rotated x: no uv */
    float *k_cost;            /* latent with feedback: [dkv, head_dim] */
    float *ukv;               /* latent-cl */
    float *bk, *bv, *k_norm, *sinks;
} case_weights;

xq_status case_weights_draw(random_stream *r, const case_spec *spec, case_weights *weights, error *err);
void case_weights_free(case_weights *weights);

#endif
