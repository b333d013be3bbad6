/* Tests activations of all sizes that f16 holds. Whole numbers times a power of two are cached exactly in
 * four bits, and weights times the inverse give the same keys and values. So outputs may differ only by
 * rounding. */
#include "../../runtime/base/random.h"
#include "plain_attend.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 128, DH = 64, HEADS = 4, KV = 4, TOKENS = 150, SEQUENCES = 2, QUERIES = 4, ROW = HEADS * DH };
enum { ROWS = SEQUENCES * QUERIES };

struct scale_case {
    char name[60], model[100], rest[40];
    bool many;
    int least, most; /* powers of two at which the weights are exact in their type */
};

#define ROPE    "\"rope_theta\": 10000"
#define PARTIAL ROPE ", \"partial_rotary_factor\": 0.5"
#define NONE    "\"rope\": {\"type\": \"none\"}"
#define INT8    ", \"weights\": \"int8\""
#define BF16    ", \"weights\": \"bf16\""

static struct scale_case cases[] = {
    {"f16 weights", ROPE, "", false, -16, 0},
    {"int8 weights", ROPE, INT8, false, -24, 12},
    {"bf16 weights, many queries", ROPE, BF16, true, -24, 12},
    {"int8 weights, many queries", ROPE, INT8, true, -24, 12},
    {"f16 weights without RoPE", NONE, "", true, -16, 0},
    {"int8 weights without RoPE", NONE, INT8, false, -24, 12},
    {"int8 weights, half of a head turns", PARTIAL, INT8, true, -24, 12},
    {"e4m3 weights, a bias, half of a head turns", PARTIAL ", \"attention_bias\": true",
     ", \"weights\": \"e4m3\"", false, -24, 12},
};

struct scale_call {
    struct plain_attend a;
    char spec[500];
    float x[SEQUENCES * TOKENS * D], q[ROWS * ROW], wk[D * KV * DH], wv[D * KV * DH], bias[KV * DH];
    float scaled[3][SEQUENCES * TOKENS * D]; /* x, wk, wv */
    float out[ROWS * ROW], lse[ROWS * HEADS];
};

static struct scale_call *open_call(const struct scale_case *k)
{
    struct scale_call *c = calloc(1, sizeof *c);
    random_stream r = random_begin(78, plain_seed(k->name));
    int count = k->many ? QUERIES : 1;
    snprintf(
        c->spec, sizeof c->spec,
        "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"head_dim\": %d, %s}, "
        "\"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, \"group\": 32, \"page\": 32}, "
        "\"queries\": \"%s\"%s}",
        D, HEADS, DH, k->model, k->many ? "many" : "one", k->rest);
    for (int i = 0; i < SEQUENCES * TOKENS * D; i++) /* every group has both ends, so that its scale is 1 */
        c->x[i] = i % 32 == 3 ? 8 : i % 32 == 9 ? -7 : (float)random_between(&r, -7, 8);
    for (int i = 0; i < D * KV * DH; i++) {
        c->wk[i] = random_normal(&r) * 0.02f;
        c->wv[i] = random_normal(&r) * 0.1f;
    }
    for (int i = 0; i < KV * DH; i++)
        c->bias[i] = random_normal(&r);
    for (int i = 0; i < ROWS * ROW; i++)
        c->q[i] = random_normal(&r);
    c->a = (struct plain_attend){.spec = c->spec,
                                 .many = k->many,
                                 .batch = SEQUENCES,
                                 .queries = SEQUENCES * count,
                                 .x = c->scaled[0],
                                 .q = c->q};
    c->a.weights = (xq_weights)XQ_WEIGHTS_INIT;
    c->a.weights.wk = c->scaled[1];
    c->a.weights.wv = c->scaled[2];
    if (strstr(k->model, "bias"))
        c->a.weights.bk = c->a.weights.bv = c->bias;
    for (int i = 0; i < SEQUENCES; i++) {
        c->a.tokens[i] = TOKENS;
        c->a.indptr[i + 1] = (i + 1) * count;
        for (int j = 0; j < count; j++)
            c->a.position[i * count + j] = TOKENS - count + j;
    }
    return c;
}

static void attend_scaled(struct scale_call *c, int power, int implementation)
{
    for (int i = 0; i < SEQUENCES * TOKENS * D; i++)
        c->scaled[0][i] = ldexpf(c->x[i], power);
    for (int i = 0; i < D * KV * DH; i++) {
        c->scaled[1][i] = ldexpf(c->wk[i], -power);
        c->scaled[2][i] = ldexpf(c->wv[i], -power);
    }
    plain_attend(&c->a, implementation, c->out, c->lse);
}

static double difference(const float *a, const float *b, int count)
{
    double square = 0, norm = 0;
    for (int i = 0; i < count; i++) {
        square += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)a[i] * a[i];
    }
    return sqrt(square / norm);
}

ParameterizedTestParameters(scales, of_activations_do_not_matter)
{
    return cr_make_param_array(struct scale_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct scale_case *k, scales, of_activations_do_not_matter, .timeout = 300)
{
    struct scale_call *c = open_call(k);
    float *out = malloc(sizeof c->out), *lse = malloc(sizeof c->lse);
    int rows = c->a.queries;
    double bound = strcmp(k->rest, BF16) ? 1e-3 : 1.5e-2; /* with such weights, Z is rounded to bf16 */
    for (int implementation = XQ_FUSED; implementation <= XQ_UNFUSED; implementation++) {
        attend_scaled(c, 0, implementation);
        memcpy(out, c->out, sizeof c->out);
        memcpy(lse, c->lse, sizeof c->lse);
        for (int power = k->least; power <= k->most; power += 4) {
            attend_scaled(c, power, implementation);
            double e = difference(out, c->out, rows * ROW);
            cr_expect_lt(e, bound, "%s, implementation %d, 2^%d: outputs differ by %.2e", k->name,
                         implementation, power, e);
            for (int i = 0; i < rows * HEADS; i++)
                cr_assert(fabsf(lse[i] - c->lse[i]) < 2 * bound,
                          "%s, implementation %d, 2^%d: lse is %g, not %g", k->name, implementation, power,
                          (double)c->lse[i], (double)lse[i]);
        }
    }
    free(out);
    free(lse);
    free(c);
}

/* Queries that share a block do not share a scale. The tokens that one query attends to do not change a bit
 * of another query's output, however small their values are. */
Test(scales, of_a_query_does_not_depend_on_those_beside_it, .timeout = 300)
{
    struct scale_case *k = &cases[3];
    struct scale_call *c = open_call(k);
    float *out = malloc(sizeof c->out), q[ROWS * ROW];
    memcpy(q, c->q, sizeof q);
    for (int power = -16; power <= -8; power++) {
        for (int sharp = 1; sharp >= 0; sharp--) {
            for (int i = 0; i < ROWS * ROW; i++) /* sharp = 0: every other query attends to all alike */
                c->q[i] = i / ROW % 2 ? q[i] * (float)sharp : q[i] * 2;
            memcpy(out, c->out, sizeof c->out);
            attend_scaled(c, power, XQ_FUSED);
        }
        for (int row = 0; row < ROWS; row += 2)
            cr_expect_arr_eq(out + row * ROW, c->out + row * ROW, sizeof *out * ROW,
                             "2^%d: query %d depends on its neighbours", power, row);
        cr_assert_arr_neq(out + ROW, c->out + ROW, sizeof *out * ROW);
    }
    free(out);
    free(c);
}
