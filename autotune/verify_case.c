#include "verify_case.h"

#include "../runtime/half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void case_spec_draw(random_stream *r, case_spec *spec)
{
    memset(spec, 0, sizeof *spec);
    spec->latent = random_between(r, 0, 2) > 0;
    spec->head_dim = random_choice(r, 2, 64, 128);
    spec->kv_heads = random_choice(r, 6, 1, 2, 3, 4, 5, 8);
    spec->heads = spec->kv_heads * random_choice(r, 9, 1, 1, 2, 3, 4, 5, 7, 8, 12);
    spec->hidden = 64 * random_between(r, 2, 12);
    spec->page = random_choice(r, 6, 16, 32, 48, 64, 128, 256);
    int dkv = spec->kv_heads * spec->head_dim, full = dkv < spec->hidden ? dkv : spec->hidden;
    spec->rank_k = 64 * random_between(r, 1, full / 64);
    spec->rank_v = 64 * random_between(r, 1, full / 64);
    if (random_between(r, 0, 1)) /* full rank is the common case */
        spec->rank_k = spec->rank_v = full;

    char group[16], ranks[64] = "", scaling[192] = "";
    int channels = random_choice(r, 5, 32, 64, 128, 256, 0);
    snprintf(group, sizeof group, channels ? "%d" : "\"row\"", channels);
    if (spec->latent)
        snprintf(ranks, sizeof ranks, ", \"rank_k\": %d, \"rank_v\": %d", spec->rank_k, spec->rank_v);
    if (random_between(r, 0, 1))
        snprintf(
            scaling, sizeof scaling,
            ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
            "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": %d}",
            random_choice(r, 2, 64, 8192));
    snprintf(spec->json, sizeof spec->json,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d, \"rope_theta\": %d.0%s}, \"cache\": {\"method\": \"%s\", \"bits\": %d, "
             "\"group\": %s, \"page\": %d%s}}",
             spec->hidden, spec->heads, spec->kv_heads, spec->head_dim, random_choice(r, 2, 10000, 500000),
             scaling, spec->latent ? "latent" : "x", random_choice(r, 2, 4, 8), group, spec->page, ranks);
}

/* Lengths that meet the edges: empty, one token, around pages and tiles, and a few hundred. */
static int draw_length(random_stream *r, int page)
{
    int edge = random_choice(r, 4, 16, page, 128, 256) * random_between(r, 1, 2);
    switch (random_between(r, 0, 5)) {
    case 0:
        return random_between(r, 0, 1);
    case 1:
        return random_between(r, 2, 40);
    case 2:
        return edge > 600 ? 600 : edge;
    case 3:
        return (edge > 600 ? 600 : edge) + random_between(r, -1, 1);
    default:
        return random_between(r, 1, 300);
    }
}

static void draw_pages(random_stream *r, const case_spec *spec, case_shape *shape, int32_t *pool)
{
    int entry = 0;
    for (int i = 0; i < shape->batch; i++) {
        int pages = (shape->lengths[i] + spec->page - 1) / spec->page;
        shape->indptr[i] = entry;
        shape->last_page_len[i] = pages ? shape->lengths[i] - (pages - 1) * spec->page : 0;
        entry += pages;
    }
    shape->indptr[shape->batch] = entry;
    for (int i = 0; i < shape->pool_pages; i++)
        pool[i] = i;
    random_shuffle(r, pool, (size_t)shape->pool_pages);
    memcpy(shape->indices, pool, (size_t)entry * sizeof *pool);
    for (int i = 0; i < 4; i++) /* entries that no kernel may follow */
        shape->indices[entry + i] = i % 2 ? -1 : INT32_MAX;
}

/* All tokens of all sequences, in random order. */
static void draw_tokens(random_stream *r, case_shape *shape, int32_t *order)
{
    for (int i = 0; i < shape->tokens; i++)
        order[i] = i;
    random_shuffle(r, order, (size_t)shape->tokens);
    for (int i = 0; i < shape->tokens; i++) {
        int token = order[i], sequence = 0;
        while (token >= shape->lengths[sequence])
            token -= shape->lengths[sequence++];
        shape->token_sequence[i] = sequence;
        shape->token_position[i] = token;
    }
}

/* Rows like those of a real model: a channel much larger than the rest (by less in narrow rows, so that
 * logits stay where those of real models are, within about 10), and a constant run now and then. */
static void draw_rows(random_stream *r, const case_spec *spec, case_shape *shape)
{
    int outlier = random_between(r, 0, spec->hidden - 1);
    float size = 12 * sqrtf((float)spec->hidden / 768);
    for (int t = 0; t < shape->tokens; t++) {
        uint16_t *row = shape->x + (size_t)t * (size_t)spec->hidden;
        for (int c = 0; c < spec->hidden; c++)
            row[c] = half_from_float(random_normal(r) * (c == outlier ? size : 1.0f));
        if (random_between(r, 0, 15) == 0)
            for (int c = 0; c < 64; c++)
                row[c] = row[0];
    }
    size_t queries = (size_t)shape->batch * (size_t)spec->heads * (size_t)spec->head_dim;
    for (size_t i = 0; i < queries; i++)
        shape->q[i] = half_from_float(random_normal(r));
}

xq_status case_shape_draw(random_stream *r, const case_spec *spec, case_shape *shape, error *err)
{
    memset(shape, 0, sizeof *shape);
    shape->batch = random_between(r, 1, CASE_MAX_BATCH);
    shape->pool_pages = 3;
    for (int i = 0; i < shape->batch; i++) {
        shape->lengths[i] = draw_length(r, spec->page);
        shape->tokens += shape->lengths[i];
        shape->longest = shape->lengths[i] > shape->longest ? shape->lengths[i] : shape->longest;
        shape->table_entries += (shape->lengths[i] + spec->page - 1) / spec->page;
    }
    shape->pool_pages += shape->table_entries;
    shape->appends = random_between(r, 1, 3);

    size_t tokens = (size_t)shape->tokens;
    size_t queries = (size_t)shape->batch * (size_t)spec->heads * (size_t)spec->head_dim;
    int32_t *scratch = calloc(tokens + (size_t)shape->pool_pages, sizeof *scratch);
    shape->indices = calloc((size_t)shape->table_entries + 4, sizeof *shape->indices);
    shape->token_sequence = calloc(tokens + 1, sizeof *shape->token_sequence);
    shape->token_position = calloc(tokens + 1, sizeof *shape->token_position);
    shape->x = calloc(tokens * (size_t)spec->hidden + 1, sizeof *shape->x);
    shape->q = calloc(queries, sizeof *shape->q);
    if (!scratch || !shape->indices || !shape->token_sequence || !shape->token_position || !shape->x ||
        !shape->q) {
        free(scratch);
        case_shape_free(shape);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a verification case");
    }
    draw_pages(r, spec, shape, scratch);
    draw_tokens(r, shape, scratch);
    draw_rows(r, spec, shape);
    free(scratch);
    return XQ_OK;
}

void case_shape_free(case_shape *shape)
{
    free(shape->indices);
    free(shape->token_sequence);
    free(shape->token_position);
    free(shape->x);
    free(shape->q);
    memset(shape, 0, sizeof *shape);
}

/* Entries of deviation 1/sqrt(rows), so that products keep the size of their input. */
static float *draw_matrix(random_stream *r, int rows, int cols)
{
    float *m = malloc((size_t)rows * (size_t)cols * sizeof *m);
    if (m)
        for (size_t i = 0; i < (size_t)rows * (size_t)cols; i++)
            m[i] = half_round(random_normal(r) / sqrtf((float)rows));
    return m;
}

xq_status case_weights_draw(random_stream *r, const case_spec *spec, case_weights *weights, error *err)
{
    int dkv = spec->kv_heads * spec->head_dim;
    memset(weights, 0, sizeof *weights);
    weights->wk = draw_matrix(r, spec->hidden, dkv);
    weights->wv = draw_matrix(r, spec->hidden, dkv);
    int complete = weights->wk && weights->wv;
    if (spec->latent) {
        weights->uk = draw_matrix(r, spec->hidden, spec->rank_k);
        weights->ak = draw_matrix(r, spec->rank_k, dkv);
        weights->uv = draw_matrix(r, spec->hidden, spec->rank_v);
        weights->av = draw_matrix(r, spec->rank_v, dkv);
        complete = complete && weights->uk && weights->ak && weights->uv && weights->av;
    }
    if (complete)
        return XQ_OK;
    case_weights_free(weights);
    return error_set(err, XQ_ERROR_MEMORY, "argument",
                     "out of memory for the weights of a verification case");
}

void case_weights_free(case_weights *weights)
{
    free(weights->wk);
    free(weights->wv);
    free(weights->uk);
    free(weights->ak);
    free(weights->uv);
    free(weights->av);
    memset(weights, 0, sizeof *weights);
}
