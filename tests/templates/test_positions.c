/* Tests RoPE at positions up to the largest int32. The key of a token is its activation, in one head, so
 * that scores are cosines. */
#include "plain_attend.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { DH = 64, SEQUENCES = 12, FIRST = 16777216, LAST = INT32_MAX };

#define SPEC(MODEL, QUERIES)                                                                               \
    "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 1, \"head_dim\": 64, \"rope_theta\": "     \
    "10000" MODEL "}, \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 8, \"group\": 64, "    \
    "\"page\": 16}, \"queries\": \"" QUERIES "\"}"

static float identity[DH * DH];

/* Sequences of two tokens: the first has 8 in dimension `pair`, all other activations are 0. The query is 1
 * in this dimension, and heads have 64 dimensions. So the first token's score is the cosine of the angle
 * between it and the query, and the second token's score is 0. */
struct pairs {
    struct plain_attend call;
    float x[SEQUENCES * 2 * DH], q[SEQUENCES * DH];
    int pair[SEQUENCES];
};

static struct pairs pairs_begin(const char *spec, bool many)
{
    struct pairs p = {.call = {.spec = spec, .many = many, .weights = XQ_WEIGHTS_INIT}};
    for (int i = 0; i < DH; i++)
        identity[i * DH + i] = 1;
    p.call.weights.wk = p.call.weights.wv = identity;
    return p;
}

static void pairs_add(struct pairs *p, int32_t token, int32_t query, int pair)
{
    int i = p->call.batch++;
    p->call.queries = p->call.batch;
    p->call.tokens[i] = 2;
    p->call.offset[i] = token;
    p->call.position[i] = query;
    p->call.indptr[i + 1] = i + 1;
    p->pair[i] = pair;
    p->x[i * 2 * DH + pair] = 8;
    p->q[i * DH + pair] = 1;
}

static void expect_cosines(struct pairs *p)
{
    float out[SEQUENCES * DH], lse[SEQUENCES];
    p->call.x = p->x;
    p->call.q = p->q;
    for (int implementation = 0; implementation < 3; implementation++) {
        plain_attend(&p->call, implementation, out, lse);
        for (int i = 0; i < p->call.batch; i++) {
            long double turned =
                ((long double)p->call.position[i] - p->call.offset[i]) * powl(10000, -p->pair[i] / 32.0L);
            double expected = log(exp((double)cosl(turned)) + 1);
            cr_expect_float_eq(lse[i], expected, 1e-3,
                               "implementation %d, token at %d, query at %d, pair %d: %g, not %g",
                               implementation, p->call.offset[i], p->call.position[i], p->pair[i],
                               (double)lse[i], expected);
        }
    }
}

Test(positions, queries_and_tokens_beyond_two_to_the_24_turn_by_their_distance, .timeout = 120)
{
    struct pairs p = pairs_begin(SPEC("", "many"), true);
    pairs_add(&p, 0, FIRST + 1, 0);         /* 1.30916 */
    pairs_add(&p, FIRST + 1, FIRST + 2, 0); /* 0.99935 */
    pairs_add(&p, 0, LAST, 0);
    pairs_add(&p, 0, LAST, 1);
    pairs_add(&p, 0, LAST, 31);
    pairs_add(&p, 1000000007, LAST, 3);
    pairs_add(&p, LAST - 1, LAST, 0);
    pairs_add(&p, LAST - 1, LAST, 17);
    pairs_add(&p, 12345, 2000000001, 7);
    pairs_add(&p, 3, 100003, 0);
    pairs_add(&p, (1 << 30) + 1, (1 << 30) + 3, 0);
    pairs_add(&p, 1 << 24, 1 << 30, 12);
    expect_cosines(&p);
}

Test(positions, sequences_with_one_query_may_begin_anywhere, .timeout = 120)
{
    struct pairs p = pairs_begin(SPEC("", "one"), false);
    static const int32_t first[] = {0, FIRST, FIRST + 1, FIRST + 2, 99999999, 1 << 30, LAST - 2, LAST - 1};
    for (int i = 0; i < 8; i++)
        pairs_add(&p, first[i], first[i] + 1, i % 3);
    expect_cosines(&p);
}

/* With a window of 8, a query sees the first of two tokens up to 7 positions away. */
Test(positions, windows_end_where_they_do_at_the_last_positions, .timeout = 120)
{
    struct pairs p = pairs_begin(SPEC(", \"sliding_window\": 8", "many"), true);
    float out[SEQUENCES * DH], lse[SEQUENCES];
    pairs_add(&p, LAST - 7, LAST, 0);
    pairs_add(&p, LAST - 8, LAST, 0);
    pairs_add(&p, LAST - 9, LAST, 0);
    pairs_add(&p, 0, LAST, 0);
    pairs_add(&p, LAST - 1, 0, 0);
    pairs_add(&p, LAST - 1, LAST - 2, 0);
    pairs_add(&p, LAST - 1, LAST - 1, 0);
    p.call.x = p.x;
    p.call.q = p.q;
    const double expected[] = {log(exp(cos(7)) + 1), 0, -INFINITY, -INFINITY, -INFINITY, -INFINITY, 1};
    for (int implementation = 0; implementation < 3; implementation++) {
        plain_attend(&p.call, implementation, out, lse);
        for (int i = 0; i < p.call.batch; i++)
            cr_expect(lse[i] == expected[i] || fabs(lse[i] - expected[i]) < 1e-3,
                      "implementation %d, sequence %d: %g, not %g", implementation, i, (double)lse[i],
                      expected[i]);
    }
}
