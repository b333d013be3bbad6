#include "attention.h"
#include "arithmetic.h"
#include "fail.h"

#include <stdlib.h>

enum {
    BLOCK = 128
}; /* tokens whose queries are multiplied at once; a block skips tokens that none of its queries sees */

typedef struct block {
    int first, count;  /* positions of the queries */
    int begin, end;    /* tokens that at least one of the queries sees */
    float *q, *scores; /* [group * count, dh]; [group * count, end - begin] */
    float *out;        /* [group * count, dh] */
} block;

/* Turns a row of scores into weights. Tokens in [begin, end), which the query sees, get
 * exp(score - greatest) divided by the sum of these; all others get 0. */
static void softmax(float *row, int width, int begin, int end)
{
    float greatest = -INFINITY, part[16] = {0}, sum = 0;
    for (int i = 0; i < begin; i++)
        row[i] = 0;
    for (int i = begin; i < end; i++)
        greatest = row[i] > greatest ? row[i] : greatest;
    for (int i = begin; i < end; i++)
        row[i] = exp_of(row[i] - greatest);
    int i = begin;
    for (; i + 16 <= end; i += 16)
        for (int j = 0; j < 16; j++)
            part[j] += row[i + j];
    for (; i < end; i++)
        sum += row[i];
    for (int j = 0; j < 16; j++)
        sum += part[j];
    for (i = begin; i < end; i++)
        row[i] /= sum;
    for (i = end; i < width; i++)
        row[i] = 0;
}

/* Copies the scaled queries of a KV head's group into the block; `scatter` copies their outputs back. */
static void gather(const attention_shape *s, const block *b, int kv_head, const float *q)
{
    const size_t dh = (size_t)s->head_dim;
    const int group = s->heads / s->kv_heads;
    for (int t = 0; t < b->count; t++)
        for (int g = 0; g < group; g++)
            for (size_t i = 0; i < dh; i++)
                b->q[(size_t)(t * group + g) * dh + i] =
                    q[(size_t)(t * s->heads + kv_head * group + g) * dh + i] * s->scale;
}

static void scatter(const attention_shape *s, const block *b, int kv_head, float *out)
{
    const size_t dh = (size_t)s->head_dim;
    const int group = s->heads / s->kv_heads;
    for (int t = 0; t < b->count; t++)
        for (int g = 0; g < group; g++)
            memcpy(out + (size_t)(t * s->heads + kv_head * group + g) * dh,
                   b->out + (size_t)(t * group + g) * dh, dh * sizeof *out);
}

static void attend_block(const attention_shape *s, const block *b, int kv_head, const float *k,
                         const float *v)
{
    const int dh = s->head_dim, stride = s->kv_heads * dh, group = s->heads / s->kv_heads;
    const int rows = b->count * group, width = b->end - b->begin;
    const size_t first = (size_t)b->begin * (size_t)stride + (size_t)kv_head * (size_t)dh;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, width, dh, 1, b->q, dh, k + first, stride, 0,
                b->scores, width);
    for (int r = 0; r < rows; r++) {
        int end = b->first + r / group + 1, begin = s->window > 0 && end > s->window ? end - s->window : 0;
        softmax(b->scores + (size_t)r * (size_t)width, width, begin > b->begin ? begin - b->begin : 0,
                end - b->begin);
    }
    multiply(b->scores, width, v + first, stride, rows, width, dh, b->out, dh);
}

void attend(const attention_shape *s, const float *q, int count, const float *k, const float *v, int length,
            float *out)
{
    const size_t group = (size_t)(s->heads / s->kv_heads), dh = (size_t)s->head_dim;
    const size_t row = (size_t)s->heads * dh, rows = group * (size_t)(count < BLOCK ? count : BLOCK);
    block b = {.q = room(rows * dh, sizeof(float)),
               .out = room(rows * dh, sizeof(float)),
               .scores = room(rows * (size_t)length, sizeof(float))};
    for (int done = 0; done < count; done += b.count) {
        b.count = count - done < BLOCK ? count - done : BLOCK;
        b.first = length - count + done;
        b.end = b.first + b.count;
        b.begin = s->window > 0 && b.first + 1 > s->window ? b.first + 1 - s->window : 0;
        for (int h = 0; h < s->kv_heads; h++) {
            gather(s, &b, h, q + (size_t)done * row);
            attend_block(s, &b, h, k, v);
            scatter(s, &b, h, out + (size_t)done * row);
        }
    }
    free(b.q);
    free(b.out);
    free(b.scores);
}
