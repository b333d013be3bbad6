/* Tests the model features of the reference: with cases that are computed by hand, and with identities that
 * hold for any numbers. */
#include "../../../autotune/reference/reference.h"
#include "../../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { H = 4, KV = 2, DH = 8, D = 16, N = 7, ROW = H * DH, DKV = KV * DH, MAX_Q = 7 };

typedef struct fixture {
    reference_model model;
    double x[N * D], wk[D * DKV], wv[D * DKV], bk[DKV], bv[DKV], norm[DKV], sinks[H], q[MAX_Q * ROW];
    double out[MAX_Q * ROW], lse[MAX_Q * H];
    reference_layer layer;
    reference_queries queries;
} fixture;

static void fill(random_stream *r, double *data, size_t count)
{
    for (size_t i = 0; i < count; i++)
        data[i] = (double)random_normal(r);
}

/* Prepares one query at the last position. `model` is plain attention, with RoPE on three of four pairs;
 * tests add features to it. */
static void open_fixture(fixture *f)
{
    random_stream r = random_begin(11, 4);
    memset(f, 0, sizeof *f);
    f->model = (reference_model){
        .hidden_size = D, .heads = H, .kv_heads = KV, .head_dim = DH, .scale = 0.4, .pairs = 3};
    for (int i = 0; i < 3; i++)
        f->model.frequencies[i] = pow(10, -i);
    fill(&r, f->x, N * D);
    fill(&r, f->wk, D * DKV);
    fill(&r, f->wv, D * DKV);
    fill(&r, f->bk, DKV);
    fill(&r, f->bv, DKV);
    fill(&r, f->norm, DKV);
    fill(&r, f->sinks, H);
    fill(&r, f->q, MAX_Q * ROW);
    f->layer = (reference_layer){f->wk, f->wv, D, D, 1, 1, f->bk, f->bv, f->norm, f->sinks};
    f->queries = (reference_queries){.count = 1, .q = f->q};
}

/* Attends over `tokens` rows of x, beginning at row `first`. */
static void attend_from(fixture *f, int first, int tokens)
{
    error err = ERROR_INIT;
    const double *x = f->x + first * D;
    cr_assert_eq(
        reference_attend_layer(&f->model, &f->layer, tokens, x, x, &f->queries, f->out, f->lse, &err),
        XQ_OK, "%s", err.message);
}

static void attend(fixture *f)
{
    attend_from(f, 0, N);
}

static void expect_same(const fixture *a, const fixture *b, int queries)
{
    cr_assert_lt(reference_error(a->out, b->out, (size_t)(queries * ROW)), 1e-12);
    for (int i = 0; i < queries * H; i++)
        cr_assert_float_eq(a->lse[i], b->lse[i], 1e-12);
}

static double distance(const fixture *a, const fixture *b)
{
    return reference_error(a->out, b->out, ROW);
}

/* ---------------------------------------------------------------- rows instead of values */

/* Attends with the rows that values are made of, in `latents` groups. The results must be those with
 * values. */
static void expect_rows_give_the_same(fixture *f, int latents, int queries)
{
    error err = ERROR_INIT;
    double k[N * DKV], v[N * DKV], out[MAX_Q * ROW], lse[MAX_Q * H];
    int64_t positions[N];
    f->layer.inner_k = f->layer.inner_v = D / latents;
    f->layer.latents_k = f->layer.latents_v = latents;
    f->queries.count = queries;
    reference_token_positions(&f->queries, N, positions);
    cr_assert_eq(reference_keys(&f->model, &f->layer, N, f->x, positions, k, &err), XQ_OK);
    cr_assert_eq(reference_values(&f->model, &f->layer, N, f->x, v, &err), XQ_OK);
    cr_assert_eq(reference_attend_queries(&f->model, &f->layer, N, k, v, &f->queries, f->out, f->lse, &err),
                 XQ_OK);
    cr_assert_eq(reference_attend_rows(&f->model, &f->layer, N, k, f->x, &f->queries, out, lse, &err),
                 XQ_OK, "%s", err.message);
    cr_expect_lt(reference_error(f->out, out, (size_t)(queries * ROW)), 1e-12);
    for (int i = 0; i < queries * H; i++)
        cr_expect_float_eq(f->lse[i], lse[i], 1e-12);
}

Test(reference_features, rows_weighed_first_give_what_values_give)
{
    fixture f;
    open_fixture(&f);
    expect_rows_give_the_same(&f, 1, MAX_Q);
    expect_rows_give_the_same(&f, KV, 2);
    f.model.bias = f.model.sinks = true;
    f.model.window = 3;
    expect_rows_give_the_same(&f, 1, MAX_Q);
    expect_rows_give_the_same(&f, KV, 1);
}

/* ---------------------------------------------------------------- scores */

Test(reference_features, a_soft_cap_bounds_scores_and_a_wide_one_changes_nothing)
{
    fixture plain, capped;
    open_fixture(&plain);
    open_fixture(&capped);
    attend(&plain);
    capped.model.softcap = 1e7;
    attend(&capped);
    cr_assert_lt(distance(&plain, &capped), 1e-9);
    capped.model.softcap = 1e-3; /* all scores are about 0, so the output is the mean of the values */
    attend(&capped);
    for (int h = 0; h < H; h++)
        cr_assert_float_eq(capped.lse[h], log(N), 2e-3);
    cr_assert_gt(distance(&plain, &capped), 0.1);
}

Test(reference_features, soft_cap_of_one_score_by_hand)
{
    fixture f;
    open_fixture(&f);
    f.model.pairs = 0;
    f.model.softcap = 2;
    attend_from(&f, 0, 1);
    double k[DH] = {0}, dot = 0;
    for (int i = 0; i < DH; i++) {
        for (int c = 0; c < D; c++)
            k[i] += f.x[c] * f.wk[c * DKV + i];
        dot += f.q[i] * k[i];
    }
    cr_assert_float_eq(f.lse[0], 2 * tanh(0.4 * dot / 2), 1e-12);
}

Test(reference_features, alibi_slopes_are_those_of_the_paper)
{
    reference_model m;
    error err = ERROR_INIT;
    const char *spec =
        "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": %d, \"num_key_value_heads\": 1, "
        "\"head_dim\": 64, \"alibi\": true, \"rope\": {\"type\": \"none\"}}}";
    char text[512];
    snprintf(text, sizeof text, spec, 8);
    cr_assert_eq(reference_model_read(text, &m, &err), XQ_OK);
    for (int h = 0; h < 8; h++)
        cr_assert_eq(m.slopes[h], ldexp(1, -h - 1));
    snprintf(text, sizeof text, spec, 12);
    cr_assert_eq(reference_model_read(text, &m, &err), XQ_OK);
    for (int h = 0; h < 8; h++)
        cr_assert_eq(m.slopes[h], ldexp(1, -h - 1));
    for (int h = 8; h < 12; h++) /* the slopes are 2^-0.5, 2^-1.5, … */
        cr_assert_float_eq(m.slopes[h], exp2(-(h - 8) - 0.5), 1e-15);
    cr_assert_eq(reference_model_read("{\"model\": {\"hidden_size\": 512, \"num_attention_heads\": 8, "
                                      "\"num_key_value_heads\": 8, \"head_dim\": 64, \"alibi\": true, "
                                      "\"alibi_scale\": 0.125, \"rope\": {\"type\": \"none\"}}}",
                                      &m, &err),
                 XQ_OK);
    for (int h = 0; h < 8; h++) /* the slopes of Falcon */
        cr_assert_eq(m.slopes[h], ldexp(1, -h - 4));
}

Test(reference_features, alibi_takes_its_slope_for_each_position_of_distance)
{
    fixture f;
    open_fixture(&f);
    memset(f.q, 0, sizeof f.q); /* scores are the bias alone */
    f.model.alibi = true;
    f.model.slopes[1] = 0.5;
    attend(&f);
    double sum = 0;
    for (int t = 0; t < N; t++)
        sum += exp(-0.5 * (N - 1 - t));
    cr_assert_float_eq(f.lse[0], log(N), 1e-12);
    cr_assert_float_eq(f.lse[1], log(sum), 1e-12);
}

/* ---------------------------------------------------------------- sinks */

Test(reference_features, a_sink_is_a_token_without_value)
{
    fixture plain, sunk;
    open_fixture(&plain);
    open_fixture(&sunk);
    attend(&plain);
    sunk.model.sinks = true;
    attend(&sunk);
    for (int h = 0; h < H; h++) {
        double both = log(exp(plain.lse[h]) + exp(sunk.sinks[h]));
        cr_assert_float_eq(sunk.lse[h], both, 1e-12);
        for (int i = 0; i < DH; i++)
            cr_assert_float_eq(sunk.out[h * DH + i], plain.out[h * DH + i] * exp(plain.lse[h] - both),
                               1e-12);
    }
    sunk.queries.without_sinks = true;
    attend(&sunk);
    expect_same(&plain, &sunk, 1);
}

/* ---------------------------------------------------------------- masks */

Test(reference_features, each_of_many_queries_sees_what_it_would_alone)
{
    fixture all, one;
    open_fixture(&all);
    open_fixture(&one);
    all.queries.count = MAX_Q;
    attend(&all);
    for (int j = 0; j < MAX_Q; j++) {
        one.queries.q = one.q + j * ROW;
        attend_from(&one, 0, j + 1);
        cr_assert_lt(reference_error(one.out, all.out + j * ROW, ROW), 1e-12);
    }
}

Test(reference_features, a_window_is_the_last_tokens_alone)
{
    fixture windowed, last;
    open_fixture(&windowed);
    open_fixture(&last);
    windowed.model.window = 3;
    attend(&windowed);
    last.queries.token_offset = N - 3;
    attend_from(&last, N - 3, 3);
    expect_same(&last, &windowed, 1);
    windowed.model.window = N;
    attend(&windowed);
    last.queries.token_offset = 0;
    attend(&last);
    expect_same(&last, &windowed, 1);
}

Test(reference_features, only_differences_of_positions_count)
{
    fixture here, there;
    open_fixture(&here);
    open_fixture(&there);
    there.queries.token_offset = 100;
    here.model.alibi = there.model.alibi = true;
    here.model.slopes[2] = there.model.slopes[2] = 0.3;
    here.model.window = there.model.window = 4;
    here.queries.count = there.queries.count = 3;
    attend(&here);
    attend(&there);
    expect_same(&here, &there, 3);
}

Test(reference_features, a_query_before_all_tokens_sees_nothing)
{
    fixture f;
    int64_t position[2] = {4, 5};
    open_fixture(&f);
    f.model.sinks = true;
    f.queries = (reference_queries){.count = 2, .q = f.q, .positions = position, .token_offset = 5};
    attend(&f);
    for (int i = 0; i < ROW; i++)
        cr_assert(f.out[i] == 0 && f.out[ROW + i] != 0);
    cr_assert_eq(f.lse[0], -INFINITY);
    cr_assert(isfinite(f.lse[H]));
}

Test(reference_features, a_tree_that_is_a_chain_is_causal)
{
    fixture tree, chain;
    uint32_t mask[3] = {1, 3, 7};
    int64_t positions[3] = {4, 5, 6};
    open_fixture(&tree);
    open_fixture(&chain);
    tree.model.window = chain.model.window = 4;
    chain.queries.count = 3;
    tree.queries = (reference_queries){
        .count = 3, .q = tree.q, .positions = positions, .tree_mask = mask, .mask_words = 1};
    attend(&chain);
    attend(&tree);
    expect_same(&chain, &tree, 3);
}

Test(reference_features, siblings_of_a_tree_stand_at_one_position_and_do_not_see_each_other)
{
    fixture tree, alone;
    uint32_t mask[3] = {1, 3, 5}; /* drafts 1 and 2 both follow draft 0 */
    int64_t positions[3] = {4, 5, 5};
    open_fixture(&tree);
    open_fixture(&alone);
    tree.queries = (reference_queries){
        .count = 3, .q = tree.q, .positions = positions, .tree_mask = mask, .mask_words = 1};
    attend(&tree);
    memcpy(alone.x + 5 * D, tree.x + 6 * D,
           D * sizeof *alone.x); /* the second sibling, as if it were the only one */
    alone.queries.q = alone.q + 2 * ROW;
    attend_from(&alone, 0, 6);
    cr_assert_lt(reference_error(alone.out, tree.out + 2 * ROW, ROW), 1e-12);
}

Test(reference_features, merging_the_parts_of_a_sequence_gives_the_whole)
{
    fixture whole, prefix, rest;
    int64_t positions[2] = {N - 2, N - 1};
    open_fixture(&whole);
    open_fixture(&prefix);
    open_fixture(&rest);
    whole.model.sinks = prefix.model.sinks = rest.model.sinks = true;
    whole.queries = (reference_queries){.count = 2, .q = whole.q};
    prefix.queries =
        (reference_queries){.count = 2, .q = prefix.q, .positions = positions, .without_sinks = true};
    rest.queries = (reference_queries){.count = 2, .q = rest.q, .token_offset = 4};
    attend(&whole);
    attend_from(&prefix, 0, 4);
    attend_from(&rest, 4, N - 4);
    reference_merge(prefix.out, prefix.lse, rest.out, rest.lse, 2 * H, DH);
    expect_same(&whole, &prefix, 2);
}

/* ---------------------------------------------------------------- keys */

Test(reference_features, interleaved_pairs_are_neighbours)
{
    fixture neox, interleaved;
    open_fixture(&neox);
    open_fixture(&interleaved);
    interleaved.model.interleaved = true;
    for (int i = 0; i < 6; i++) { /* dimension i of neox is 2i of interleaved, and i + 3 is 2i + 1 */
        int to = i < 3 ? 2 * i : 2 * (i - 3) + 1;
        for (int h = 0; h < H; h++)
            interleaved.q[h * DH + to] = neox.q[h * DH + i];
        for (int c = 0; c < D; c++)
            for (int h = 0; h < KV; h++)
                interleaved.wk[c * DKV + h * DH + to] = neox.wk[c * DKV + h * DH + i];
    }
    attend(&neox);
    attend(&interleaved);
    expect_same(&neox, &interleaved, 1);
}

Test(reference_features, dimensions_beyond_the_rotary_ones_do_not_turn)
{
    fixture near, far;
    open_fixture(&near);
    open_fixture(&far);
    for (int h = 0; h < H; h++)
        memset(near.q + h * DH, 0, 6 * sizeof *near.q);
    memcpy(far.q, near.q, sizeof near.q);
    int64_t position = 5000;
    far.queries.positions = &position;
    attend(&near);
    attend(&far);
    expect_same(&near, &far, 1);
}

Test(reference_features, attention_factor_is_of_rotated_queries_and_keys)
{
    fixture with, by_hand;
    double f = 1.3;
    open_fixture(&with);
    open_fixture(&by_hand);
    with.model.attention_factor = f;
    for (int h = 0; h < H; h++)
        for (int i = 0; i < 6; i++)
            by_hand.q[h * DH + i] *= f;
    for (int c = 0; c < D; c++)
        for (int h = 0; h < KV; h++)
            for (int i = 0; i < 6; i++)
                by_hand.wk[c * DKV + h * DH + i] *= f;
    attend(&with);
    attend(&by_hand);
    expect_same(&with, &by_hand, 1);
}

Test(reference_features, biases_are_one_more_input_that_is_always_one)
{
    fixture biased, widened;
    error err = ERROR_INIT;
    double x[N * (D + 1)], wk[(D + 1) * DKV], wv[(D + 1) * DKV];
    open_fixture(&biased);
    open_fixture(&widened);
    biased.model.bias = true;
    attend(&biased);
    for (int t = 0; t < N; t++) {
        memcpy(x + t * (D + 1), widened.x + t * D, D * sizeof *x);
        x[t * (D + 1) + D] = 1;
    }
    memcpy(wk, widened.wk, sizeof widened.wk);
    memcpy(wv, widened.wv, sizeof widened.wv);
    memcpy(wk + D * DKV, widened.bk, sizeof widened.bk);
    memcpy(wv + D * DKV, widened.bv, sizeof widened.bv);
    reference_layer layer = {wk, wv, D + 1, D + 1, 1, 1, NULL, NULL, NULL, NULL};
    cr_assert_eq(reference_attend_layer(&widened.model, &layer, N, x, x, &widened.queries, widened.out,
                                        widened.lse, &err),
                 XQ_OK);
    expect_same(&biased, &widened, 1);
}

/* Checks the RMS normalization of one key against a computation by hand. */
static void check_norm(reference_norm norm, int span)
{
    fixture f;
    error err = ERROR_INIT;
    double plain[DKV], normed[DKV];
    int64_t position = 0;
    open_fixture(&f);
    f.model.norm_epsilon = 0.25;
    cr_assert_eq(reference_keys(&f.model, &f.layer, 1, f.x, &position, plain, &err), XQ_OK);
    f.model.norm = norm;
    cr_assert_eq(reference_keys(&f.model, &f.layer, 1, f.x, &position, normed, &err), XQ_OK);
    for (int i = 0; i < DKV; i++) {
        double squares = 0;
        for (int j = i / span * span; j < (i / span + 1) * span; j++)
            squares += plain[j] * plain[j];
        cr_assert_float_eq(normed[i], plain[i] / sqrt(squares / span + 0.25) * f.norm[i % span], 1e-13);
    }
}

Test(reference_features, qk_norm_of_a_head_and_of_the_row)
{
    check_norm(REFERENCE_NORM_HEAD, DH);
    check_norm(REFERENCE_NORM_ROW, DKV);
}

Test(reference_features, qk_norm_takes_the_bias_in_and_comes_before_rotation)
{
    fixture small, large;
    open_fixture(&small);
    open_fixture(&large);
    small.model.norm = large.model.norm = REFERENCE_NORM_HEAD;
    small.model.bias = large.model.bias = true;
    for (int i = 0; i < D * DKV; i++)
        large.wk[i] *= 8; /* a factor that products and bias share cancels */
    for (int i = 0; i < DKV; i++)
        large.bk[i] *= 8;
    for (int i = 1; i < DH; i++)
        small.norm[i] = large.norm[i] = small.norm[0];
    attend(&small);
    attend(&large);
    expect_same(&small, &large, 1);
    fixture turned; /* with equal norm factors, turning keys does not change their norm */
    open_fixture(&turned);
    double k[2 * DKV];
    int64_t positions[2] = {0, 9};
    error err = ERROR_INIT;
    turned.model.norm = REFERENCE_NORM_HEAD;
    memcpy(turned.norm, small.norm, sizeof small.norm);
    for (int c = 0; c < D; c++)
        turned.x[D + c] = turned.x[c];
    cr_assert_eq(reference_keys(&turned.model, &turned.layer, 2, turned.x, positions, k, &err), XQ_OK);
    reference_rotate(&turned.model, k, 1, KV, 9);
    cr_assert_lt(reference_error(k + DKV, k, DKV), 1e-12);
}

Test(reference_features, grouped_latents_are_weights_with_blocks_of_zeros)
{
    fixture grouped, blocks;
    double wk[D * DKV] = {0}, wv[D * DKV] = {0};
    open_fixture(&grouped);
    open_fixture(&blocks);
    for (int c = 0; c < D / 2; c++)
        for (int i = 0; i < DKV; i++) {
            int row = i / DH * (D / 2) + c; /* head i / DH reads its half of x */
            wk[row * DKV + i] = grouped.wk[c * DKV + i];
            wv[row * DKV + i] = grouped.wv[c * DKV + i];
        }
    blocks.layer.wk = wk;
    blocks.layer.wv = wv;
    grouped.layer.inner_k = grouped.layer.inner_v = D / 2;
    grouped.layer.latents_k = grouped.layer.latents_v = 2;
    attend(&grouped);
    attend(&blocks);
    expect_same(&blocks, &grouped, 1);
}

Test(reference_features, what_a_layer_lacks_is_an_error)
{
    fixture f;
    error err = ERROR_INIT;
    open_fixture(&f);
    f.model.sinks = true;
    f.layer.sinks = NULL;
    cr_assert_eq(reference_attend_layer(&f.model, &f.layer, N, f.x, f.x, &f.queries, f.out, f.lse, &err),
                 XQ_ERROR_INTERNAL);
}

/* ---------------------------------------------------------------- reading specs */

#define MODEL(features)                                                                                    \
    "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, " features "}}"

static reference_model read_model(const char *spec)
{
    reference_model m;
    error err = ERROR_INIT;
    cr_assert_eq(reference_model_read(spec, &m, &err), XQ_OK, "%s", err.message);
    return m;
}

Test(reference_features, reads_what_a_spec_says_of_the_model)
{
    reference_model m =
        read_model(MODEL("\"attention_bias\": true, \"qk_norm\": \"row\", \"rms_norm_eps\": 1e-5, "
                         "\"attn_logit_softcapping\": 50, \"sliding_window\": 4096, "
                         "\"attention_sinks\": true, \"attention_scale\": 0.0625, "
                         "\"rope\": {\"type\": \"interleaved\", \"theta\": 100, \"rotary_dim\": 32}"));
    cr_assert(m.bias && m.sinks && !m.alibi && m.interleaved);
    cr_assert(m.norm == REFERENCE_NORM_ROW && m.norm_epsilon == 1e-5 && m.softcap == 50 &&
              m.window == 4096);
    cr_assert(m.scale == 0.0625 && m.pairs == 16);
    cr_assert_float_eq(m.frequencies[8], 0.1, 1e-15);
}

Test(reference_features, linear_scaling_divides_every_frequency)
{
    reference_model m = read_model(MODEL("\"rope\": {\"type\": \"neox\", \"theta\": 10000, "
                                         "\"scaling\": {\"type\": \"linear\", \"factor\": 4}}"));
    cr_assert_eq((double)m.frequencies[0], 0.25);
    cr_assert_float_eq(m.frequencies[16], 0.0025, 1e-15);
    cr_assert_eq(m.attention_factor, 1);
}

Test(reference_features, yarn_keeps_fast_pairs_stretches_slow_ones_and_ramps_between)
{
    /* The spec has theta 10000, 32 pairs and 4096 positions. Pair i turns 4096 * 10000^(-i/32) / 2π times,
     * which is 32 at i = 10.47 and 1 at i = 22.51. So the ramp goes from pair 10 to pair 23. */
    reference_model m = read_model(
        MODEL("\"rope\": {\"type\": \"neox\", \"theta\": 10000, \"scaling\": {\"type\": \"yarn\", "
              "\"factor\": 16, \"original_max_position_embeddings\": 4096}}"));
    for (int i = 0; i < 32; i++) {
        long double plain = powl(10000, -i / 32.0L), ramp = i <= 10 ? 0 : i >= 23 ? 1 : (i - 10) / 13.0;
        cr_assert_float_eq(m.frequencies[i], plain * (1 - ramp) + plain / 16 * ramp, 1e-12 * plain,
                           "pair %d", i);
    }
    cr_assert_float_eq(m.attention_factor, 0.1 * log(16) + 1, 1e-15);
    m = read_model(MODEL("\"rope\": {\"type\": \"neox\", \"theta\": 10000, \"attention_factor\": 1.5, "
                         "\"scaling\": {\"type\": \"yarn\", \"factor\": 16, \"truncate\": false, "
                         "\"original_max_position_embeddings\": 4096}}"));
    double begin = 32 * log(4096 / (64 * M_PI)) / log(10000),
           end = 32 * log(4096 / (2 * M_PI)) / log(10000);
    double ramp = (16 - begin) / (end - begin);
    cr_assert_float_eq(m.frequencies[16], 0.01 * (1 - ramp) + 0.01 / 16 * ramp, 1e-14);
    cr_assert_eq(m.attention_factor, 1.5);
}
