/* Reference attention in double precision, written as plainly as possible. */
#ifndef EMBED_REFERENCE_H
#define EMBED_REFERENCE_H

#include "common.h"

/* The model: GQA with RoPE. */
enum {
    HIDDEN = 256,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD_DIM = 64,
    KV_WIDTH = KV_HEADS * HEAD_DIM,
    ROW = HEADS * HEAD_DIM /* width of a row of queries or outputs */
};
#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"            \
    " \"head_dim\": 64, \"rope_theta\": 10000}"
static const double rope_theta = 10000;
enum { REFERENCE_TOKENS = 256 }; /* most tokens of a sequence */

/* The projections of a layer. */
struct projections {
    double k[HIDDEN][KV_WIDTH], v[HIDDEN][KV_WIDTH];
};

/* Fills one projection with random numbers, and `values` with the same numbers in f32, for packing. */
static inline void random_weights(double (*w)[KV_WIDTH], float (*values)[KV_WIDTH])
{
    static uint16_t bits[HIDDEN][KV_WIDTH];
    random_halves(bits[0], HIDDEN * KV_WIDTH, 1.0f / 16);
    for (int i = 0; i < HIDDEN; i++)
        for (int j = 0; j < KV_WIDTH; j++) {
            w[i][j] = half_value(bits[i][j]);
            values[i][j] = (float)w[i][j];
        }
}

/* Fills both projections with random numbers. Returns them packed for the plan, in device memory. */
static inline uint64_t random_projections(xq_plan *plan, struct projections *p)
{
    static float k[HIDDEN][KV_WIDTH], v[HIDDEN][KV_WIDTH];
    xq_weights weights = XQ_WEIGHTS_INIT;
    random_weights(p->k, k);
    random_weights(p->v, v);
    weights.wk = k[0];
    weights.wv = v[0];
    return upload_weights(plan, &weights);
}

static inline void rotate(double *v, int position)
{
    for (int i = 0; i < HEAD_DIM / 2; i++) {
        double angle = position * pow(rope_theta, -2.0 * i / HEAD_DIM), c = cos(angle), s = sin(angle);
        double low = v[i], high = v[i + HEAD_DIM / 2];
        v[i] = low * c - high * s;
        v[i + HEAD_DIM / 2] = high * c + low * s;
    }
}

/* Computes x * W[:, kv_head], the projection of one KV head. */
static inline void project(double *out, const double *x, const double (*w)[KV_WIDTH], int kv_head)
{
    for (int i = 0; i < HEAD_DIM; i++) {
        out[i] = 0;
        for (int j = 0; j < HIDDEN; j++)
            out[i] += x[j] * w[j][kv_head * HEAD_DIM + i];
    }
}

/* Attention of one head, for a query at `position`, which sees the tokens up to that position. `rows` are
 * the activations that the cache holds for the sequence. */
static inline void attend_reference(double *out, const struct projections *p, const uint16_t *q,
                                    double (*rows)[HIDDEN], int position, int head)
{
    double query[HEAD_DIM], key[HEAD_DIM], value[HEAD_DIM], scores[REFERENCE_TOKENS], sum = 0;
    int kv_head = head / (HEADS / KV_HEADS);
    for (int i = 0; i < HEAD_DIM; i++)
        query[i] = half_value(q[i]);
    rotate(query, position);
    for (int t = 0; t <= position; t++) {
        project(key, rows[t], p->k, kv_head);
        rotate(key, t);
        scores[t] = 0;
        for (int i = 0; i < HEAD_DIM; i++)
            scores[t] += query[i] * key[i];
        scores[t] = exp(scores[t] / sqrt(HEAD_DIM));
        sum += scores[t];
    }
    memset(out, 0, sizeof(double) * HEAD_DIM);
    for (int t = 0; t <= position; t++) {
        project(value, rows[t], p->v, kv_head);
        for (int i = 0; i < HEAD_DIM; i++)
            out[i] += scores[t] / sum * value[i];
    }
}

/* Reads `count` rows of a cache as the kernels see them. Row p * page_tokens + t of `rows` is token t of
 * entry p of the page table. Rows beyond a sequence's length are zeros. The function sets args.k. */
static inline void read_rows(xq_plan *plan, xq_dequantize_args args, int count, double (*rows)[HIDDEN])
{
    const size_t bytes = (size_t)count * HIDDEN * sizeof(uint16_t);
    uint16_t *bits = host_memory(bytes);
    args.k = allocate(bytes);
    check(xq_plan_dequantize(plan, &args, NULL), "xq_plan_dequantize");
    check(xq_device_read(context, bits, args.k, bytes), "xq_device_read");
    release(args.k);
    for (int r = 0; r < count; r++)
        for (int c = 0; c < HIDDEN; c++)
            rows[r][c] = half_value(bits[r * HIDDEN + c]);
    free(bits);
}

/* Sums of squares: of the differences from the expected values, and of the expected values. */
struct deviation {
    double difference, norm;
};

static inline void compare(struct deviation *d, double value, double expected)
{
    d->difference += (value - expected) * (value - expected);
    d->norm += expected * expected;
}

static inline double relative(const struct deviation *d)
{
    return sqrt(d->difference / d->norm);
}

/* Compares all heads of one query with double precision. q and out are the query's rows. */
static inline void compare_attention(struct deviation *d, const struct projections *p, const uint16_t *q,
                                     const uint16_t *out, double (*rows)[HIDDEN], int position)
{
    double expected[HEAD_DIM];
    for (int h = 0; h < HEADS; h++) {
        attend_reference(expected, p, q + h * HEAD_DIM, rows, position, h);
        for (int i = 0; i < HEAD_DIM; i++)
            compare(d, half_value(out[h * HEAD_DIM + i]), expected[i]);
    }
}

#endif
