/* What a verification case is made of: a random spec, and random data in a shape (verify.h). */
#ifndef AUTOTUNE_VERIFY_CASE_H
#define AUTOTUNE_VERIFY_CASE_H

#include "../gen/error.h"
#include "random.h"

#include <stdint.h>

#define CASE_MAX_BATCH 6

/* Sizes of a spec, as chosen. */
typedef struct case_spec {
    char json[1024];
    int latent; /* method latent, else x */
    int hidden, heads, kv_heads, head_dim, rank_k, rank_v, page;
} case_spec;

/* Sequences, their pages, and the rows that fill them. */
typedef struct case_shape {
    int batch;
    int lengths[CASE_MAX_BATCH];
    int tokens; /* of all sequences */
    int longest;
    int pool_pages; /* more than the table names */
    int table_entries;
    int32_t indptr[CASE_MAX_BATCH + 1], last_page_len[CASE_MAX_BATCH];
    int32_t *indices;                         /* [table_entries + 4]; the last four name no page */
    int32_t *token_sequence, *token_position; /* [tokens], in the order of appending */
    uint16_t *x;                              /* [tokens, hidden] f16, rows in the order of appending */
    uint16_t *q;                              /* [batch, heads, head_dim] f16 */
    int appends;                              /* append calls that the tokens are spread over */
} case_shape;

/* Projections in f32, already rounded to f16, so that references use what the kernels use. */
typedef struct case_weights {
    float *wk, *wv;           /* [hidden, dkv]: method x, and the fp16 KV baseline */
    float *uk, *ak, *uv, *av; /* latent; NULL for method x */
} case_weights;

void case_spec_draw(random_stream *r, case_spec *spec);
xq_status case_shape_draw(random_stream *r, const case_spec *spec, case_shape *shape, error *err);
void case_shape_free(case_shape *shape);
xq_status case_weights_draw(random_stream *r, const case_spec *spec, case_weights *weights, error *err);
void case_weights_free(case_weights *weights);

#endif
