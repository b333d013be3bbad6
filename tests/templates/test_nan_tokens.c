/* Tests that a token whose activations are NaN reaches the queries that see it, and no others. The results
 * of the others are those with an ordinary token, to the last bit. */
#include "../../runtime/base/random.h"
#include "plain_attend.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 128, DH = 64, HEADS = 4, KV = 2, TOKENS = 90, SEQUENCES = 5, QUERIES = 30, ROW = HEADS * DH };

struct nan_case {
    char name[40];
    char model[120], cache[120], rest[40]; /* rest: other parts of the spec */
    int window, group;                     /* group: tokens that share a scale, or 1 */
    bool one, tree;
};

#define X      "\"method\": \"x\", \"rotation\": false"
#define LATENT "\"method\": \"latent\", \"rank_k\": 64, \"rank_v\": 64"
#define THETA  "\"rope_theta\": 10000"
#define WINDOW THETA ", \"sliding_window\": 33"

static struct nan_case cases[] = {
    {"latents", THETA, LATENT, "", 0, 1, false, false},
    {"x, a window", WINDOW, X, "", 33, 1, false, false},
    {"one query, a window", WINDOW, LATENT, "", 33, 1, true, false},
    {"a tree", THETA, X, "", 0, 1, false, true},
    {"groups of tokens", THETA, LATENT ", \"axis_k\": \"channel\", \"axis_v\": \"channel\"", "", 0, 32,
     false, false},
    {"bf16", THETA, X, ", \"dtype\": \"bf16\", \"weights\": \"bf16\"", 0, 1, false, false},
    {"bf16, one query", WINDOW, X, ", \"dtype\": \"bf16\"", 33, 1, true, false},
    {"norms of rows, sinks", THETA ", \"qk_norm\": \"row\", \"attention_sinks\": true", X, "", 0, 1, false,
     false},
    {"no RoPE", "\"rope\": {\"type\": \"none\"}", LATENT, ", \"weights\": \"int8\"", 0, 1, false, false},
    {"ALiBi, capped", "\"alibi\": true, \"attn_logit_softcapping\": 20", X, "", 0, 1, false, false},
};

/* The token of each sequence that becomes NaN. If there are 30 queries, they belong to the tokens from 60
 * to 89. */
static const int marked[SEQUENCES] = {0, 17, 62, 75, 89};

static float *normals(random_stream *r, size_t count, double deviation)
{
    float *values = malloc(sizeof *values * count);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(random_normal(r) * deviation);
    return values;
}

/* A call and its results. */
struct nan_call {
    struct plain_attend a;
    char spec[700];
    uint32_t tree[SEQUENCES * QUERIES];
    float *x, *q, *w[6];
    float out[SEQUENCES * QUERIES * ROW], lse[SEQUENCES * QUERIES * HEADS];
};

static void ask(struct nan_call *c, const struct nan_case *k)
{
    int count = k->one ? 1 : QUERIES;
    c->a.many = !k->one;
    c->a.batch = SEQUENCES;
    for (int i = 0; i < SEQUENCES; i++) {
        c->a.tokens[i] = TOKENS;
        c->a.offset[i] = i * 100;
        c->a.indptr[i + 1] = (i + 1) * count;
        for (int j = 0; j < count; j++) {
            c->a.position[i * count + j] = i * 100 + TOKENS - count + (k->tree ? j / 2 : j);
            /* Two queries share each position of the tree. An even query sees itself and the even queries
             * before it, an odd query the odd ones. */
            c->tree[i * count + j] = (j % 2 ? 0xaaaaaaaa : 0x55555555) & (0xffffffff >> (31 - j));
        }
    }
    c->a.queries = SEQUENCES * count;
    c->a.tree_mask = k->tree ? c->tree : NULL;
    c->a.mask_words = 1;
}

static struct nan_call *open_call(const struct nan_case *k)
{
    random_stream r = random_begin(77, plain_seed(k->name));
    struct nan_call *c = calloc(1, sizeof *c);
    bool latent = strstr(k->cache, "latent");
    snprintf(c->spec, sizeof c->spec,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d, %s}, \"cache\": {%s, \"bits\": 4, \"group\": 32, "
             "\"page\": 32}, \"queries\": \"%s\"%s}",
             D, HEADS, KV, DH, k->model, k->cache, k->one ? "one" : "many", k->rest);
    c->a = (struct plain_attend){.spec = c->spec, .bf16 = strstr(k->rest, "dtype")};
    c->a.weights = (xq_weights)XQ_WEIGHTS_INIT;
    ask(c, k);
    for (int i = 0; i < 4; i++)
        c->w[i] = normals(&r, D * KV * DH, 0.1);
    c->w[4] = normals(&r, KV * DH, 1);
    c->w[5] = normals(&r, HEADS, 1);
    c->a.weights.uk = latent ? c->w[0] : NULL;
    c->a.weights.ak = latent ? c->w[1] : NULL;
    c->a.weights.uv = latent ? c->w[2] : NULL;
    c->a.weights.av = latent ? c->w[3] : NULL;
    c->a.weights.wk = c->w[0];
    c->a.weights.wv = c->w[1];
    c->a.weights.k_norm = strstr(k->model, "qk_norm") ? c->w[4] : NULL;
    c->a.weights.sinks = strstr(k->model, "sinks") ? c->w[5] : NULL;
    c->x = normals(&r, SEQUENCES * TOKENS * D, 1);
    c->q = normals(&r, SEQUENCES * QUERIES * ROW, 1);
    c->a.x = c->x;
    c->a.q = c->q;
    return c;
}

static void close_call(struct nan_call *c)
{
    for (int i = 0; i < 6; i++)
        free(c->w[i]);
    free(c->x);
    free(c->q);
    free(c);
}

static void mark(struct nan_call *c, float value)
{
    for (int i = 0; i < SEQUENCES; i++)
        for (int channel = 0; channel < D; channel += 5)
            c->x[(i * TOKENS + marked[i]) * D + channel] = value;
}

/* Whether query j of sequence i sees token t. */
static bool sees(const struct nan_call *c, const struct nan_case *k, int i, int j, int t)
{
    int row = c->a.indptr[i] + j, draft = t - (TOKENS - QUERIES);
    int at = c->a.position[row] - c->a.offset[i];
    if (k->tree && draft >= 0)
        return c->tree[row] >> draft & 1;
    return t <= at && (!k->window || at - t < k->window);
}

static bool sees_mark(const struct nan_call *c, const struct nan_case *k, int i, int j)
{
    int first = marked[i] / k->group * k->group, end = first + k->group;
    if (end > TOKENS) /* tokens in the tail share no scale */
        first = marked[i], end = first + 1;
    bool seen = false;
    for (int t = first; t < end; t++)
        seen = seen || sees(c, k, i, j, t);
    return seen;
}

/* Queries that do not see the marked token must give the same bits as before. With `nan`, all others must
 * give NaN. */
static void compare(const struct nan_call *c, const struct nan_case *k, const struct nan_call *before,
                    int implementation, bool nan)
{
    int untouched = 0, reached = 0, group = implementation >= XQ_FP16_KV ? 1 : k->group;
    struct nan_case own = *k;
    own.group = group;
    for (int i = 0; i < SEQUENCES; i++)
        for (int row = c->a.indptr[i]; row < c->a.indptr[i + 1]; row++) {
            const float *out = c->out + row * ROW, *lse = c->lse + row * HEADS;
            if (!sees_mark(c, &own, i, row - c->a.indptr[i])) {
                cr_expect(memcmp(out, before->out + row * ROW, ROW * sizeof *out) == 0 &&
                              memcmp(lse, before->lse + row * HEADS, HEADS * sizeof *lse) == 0,
                          "%s, implementation %d: token %d reaches query %d of sequence %d", k->name,
                          implementation, marked[i], row - c->a.indptr[i], i);
                untouched++;
            } else if (nan) {
                for (int e = 0; e < ROW; e++)
                    cr_assert(isnan(out[e]),
                              "%s, implementation %d: query %d of sequence %d, element %d: %g", k->name,
                              implementation, row - c->a.indptr[i], i, e, (double)out[e]);
                for (int h = 0; h < HEADS; h++)
                    cr_assert(isnan(lse[h]));
                reached++;
            }
        }
    cr_assert(untouched > 0 && (!nan || reached > 0));
}

ParameterizedTestParameters(nan_tokens, reach_the_queries_that_see_them_alone)
{
    return cr_make_param_array(struct nan_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct nan_case *k, nan_tokens, reach_the_queries_that_see_them_alone, .timeout = 300)
{
    struct nan_call *c = open_call(k), *before = malloc(sizeof *before);
    float *x = malloc(sizeof *x * SEQUENCES * TOKENS * D);
    memcpy(x, c->x, sizeof *x * SEQUENCES * TOKENS * D);
    for (int implementation = 0; implementation <= XQ_FP8_KV; implementation++) {
        memcpy(c->x, x, sizeof *x * SEQUENCES * TOKENS * D);
        plain_attend(&c->a, implementation, c->out, c->lse);
        *before = *c;
        mark(c, NAN);
        plain_attend(&c->a, implementation, c->out, c->lse);
        compare(c, k, before, implementation, true);
    }
    free(x);
    free(before);
    close_call(c);
}

/* Values beyond the range of f16 become infinite where keys and values are stored in f16. */
Test(nan_tokens, infinite_values_reach_the_queries_that_see_them_alone, .timeout = 300)
{
    struct nan_case k = cases[1];
    struct nan_call *c = open_call(&k), *before = malloc(sizeof *before);
    for (int i = 0; i < D * KV * DH; i++)
        c->w[1][i] = 4;
    for (int implementation = 0; implementation <= XQ_FP8_KV; implementation++) {
        mark(c, 1);
        plain_attend(&c->a, implementation, c->out, c->lse);
        *before = *c;
        mark(c, 6e4f);
        plain_attend(&c->a, implementation, c->out, c->lse);
        compare(c, &k, before, implementation, false);
    }
    free(before);
    close_call(c);
}
