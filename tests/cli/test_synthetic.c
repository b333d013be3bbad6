/* Tests that synthetic projections come with the factors of their method. The factors must be what a
 * decomposition would give, because `xq compare --synthetic` judges methods by them. */
#include "../../cli/synthetic.h"
#include "../../prepare/factor.h"
#include "../../prepare/layer_factor.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Returns the shape of a layer of 96 channels. The ranks are full until a test changes them. */
static layer_shape shape_of(layer_method method, int kv_heads, int groups, bool rotation)
{
    layer_shape s = {.method = method,
                     .hidden_size = 96,
                     .heads = 8,
                     .kv_heads = kv_heads,
                     .head_dim = 12,
                     .kv_width = 12 * kv_heads,
                     .groups_k = groups,
                     .groups_v = groups,
                     .rank_k = 96,
                     .quantization_group = 32,
                     .rotation = rotation};
    if (method == LAYER_LATENT)
        s.rank_k = s.rank_v = s.kv_width;
    if (method == LAYER_LATENT_CL)
        s.rank_k = 2 * s.kv_width < 96 ? 2 * s.kv_width : 96;
    return s;
}

static layer_weights drawn(const layer_shape *s, uint64_t seed, int layer)
{
    layer_weights w = {0};
    error err = ERROR_INIT;
    cr_assert_eq(synthetic_projections(seed, layer, s, &w, &err), XQ_OK, "%s", err.message);
    return w;
}

/* Returns ‖W - U·A‖ / ‖W‖, where each group of columns has its own product. */
static double lost(const layer_shape *s, int all_ranks, const float *w, const float *u, const float *a)
{
    int cols = s->kv_width / s->groups_k, rank = all_ranks / s->groups_k; /* groups_v is the same */
    double difference = 0, norm = 0;
    for (int i = 0; i < s->hidden_size; i++)
        for (int j = 0; j < s->kv_width; j++) {
            double product = 0, value = w[i * s->kv_width + j];
            for (int k = 0; k < rank; k++)
                product += (double)u[i * all_ranks + j / cols * rank + k] * a[k * s->kv_width + j];
            difference += pow(product - value, 2);
            norm += value * value;
        }
    return sqrt(difference / norm);
}

/* The projection must have a size such that x·W is about as large as x. */
static void has_a_fair_size(const layer_shape *s, const float *w)
{
    double norm = 0;
    for (int i = 0; i < s->hidden_size * s->kv_width; i++)
        norm += (double)w[i] * w[i];
    cr_assert_float_eq(norm, s->kv_width, 1e-4 * s->kv_width);
}

static void matrices_are_given(const layer_shape *s, const layer_weights *w)
{
    layer_part parts[LAYER_MOST_PARTS];
    layer_weights copy = *w;
    for (int i = 0, count = layer_parts(s, parts); i < count; i++)
        cr_assert_not_null(*layer_member(&copy, &parts[i]), "%s", parts[i].name);
}

Test(synthetic, latents_multiply_to_the_projections)
{
    for (int kv_heads = 2; kv_heads <= 8; kv_heads *= 2) /* 8 KV heads: MHA */
        for (int groups = 1; groups <= kv_heads; groups *= 2)
            for (int rotation = 0; rotation < 2; rotation++) {
                layer_shape s = shape_of(LAYER_LATENT, kv_heads, groups, rotation);
                layer_weights w = drawn(&s, 5, 3);
                matrices_are_given(&s, &w);
                cr_assert_lt(lost(&s, s.rank_k, w.wk, w.uk, w.ak), 1e-5, "%d groups", groups);
                cr_assert_lt(lost(&s, s.rank_v, w.wv, w.uv, w.av), 1e-5, "%d groups", groups);
                has_a_fair_size(&s, w.wk);
                has_a_fair_size(&s, w.wv);
                layer_weights_free(&w);
            }
}

/* No matrices of these ranks are nearer to W than those of its decomposition. */
Test(synthetic, reduced_ranks_lose_what_a_decomposition_loses)
{
    for (int groups = 1; groups <= 4; groups *= 4) {
        layer_shape s = shape_of(LAYER_LATENT, 4, groups, true);
        s.rank_k = 24, s.rank_v = 36;
        layer_weights w = drawn(&s, 5, 0);
        layer_weights other = {.wk = w.wk, .wv = w.wv};
        double least[2];
        error err = ERROR_INIT;
        cr_assert_eq(layer_factor(&s, &other, least, &err), XQ_OK);
        cr_assert_gt(least[0], 0.1);
        cr_assert_float_eq(lost(&s, s.rank_k, w.wk, w.uk, w.ak), least[0], 1e-4);
        cr_assert_float_eq(lost(&s, s.rank_v, w.wv, w.uv, w.av), least[1], 1e-4);
        other.wk = other.wv = NULL;
        layer_weights_free(&other);
        layer_weights_free(&w);
    }
}

Test(synthetic, rotated_x_multiplies_to_both_projections)
{
    for (int kv_heads = 2; kv_heads <= 16; kv_heads *= 2) { /* up to twice as many columns as channels */
        layer_shape s = shape_of(LAYER_X, kv_heads, 1, true);
        layer_weights w = drawn(&s, 5, 3);
        matrices_are_given(&s, &w);
        cr_assert_lt(lost(&s, 96, w.wk, w.uk, w.ak), 1e-5);
        cr_assert_lt(lost(&s, 96, w.wv, w.uk, w.av), 1e-5);
        has_a_fair_size(&s, w.wk);
        has_a_fair_size(&s, w.wv);
        layer_weights_free(&w);
    }
}

/* The inverse of U turns latents back into activations, so U must not be nearly singular. */
Test(synthetic, rotated_x_can_be_turned_back)
{
    layer_shape s = shape_of(LAYER_X, 2, 1, true);
    layer_weights w = drawn(&s, 5, 3);
    double identity[96 * 96];
    error err = ERROR_INIT;
    for (int i = 0; i < 96 * 96; i++)
        identity[i] = w.uk[i];
    cr_assert_eq(factor_turn_back(w.uk, 96, 96, identity, &err), XQ_OK);
    for (int i = 0; i < 96 * 96; i++)
        cr_assert_float_eq(identity[i], i % 97 == 0, 1e-5);
    layer_weights_free(&w);
}

Test(synthetic, activations_in_themselves_have_the_same_projections_as_rotated_ones)
{
    layer_shape plain = shape_of(LAYER_X, 8, 1, false), rotated = shape_of(LAYER_X, 8, 1, true),
                cross = shape_of(LAYER_X_CL, 8, 1, false);
    layer_weights a = drawn(&plain, 5, 3), b = drawn(&rotated, 5, 3), c = drawn(&cross, 5, 3);
    size_t bytes = sizeof(float) * 96 * 96;
    cr_assert_null(a.uk);
    cr_assert_null(a.ak);
    cr_assert_eq(memcmp(a.wk, b.wk, bytes) || memcmp(a.wk, c.wk, bytes), 0);
    cr_assert_eq(memcmp(a.wv, b.wv, bytes) || memcmp(a.wv, c.wv, bytes), 0);
    layer_weights_free(&a);
    layer_weights_free(&b);
    layer_weights_free(&c);
}

/* Returns the share of w [96, dkv] that the orthonormal columns of u [96, rank] do not span. */
static double outside(const float *u, int rank, const float *w, int cols)
{
    double norm = 0, rest = 0;
    for (int j = 0; j < cols; j++) {
        double column[96];
        for (int i = 0; i < 96; i++)
            norm += pow(column[i] = w[i * cols + j], 2);
        for (int k = 0; k < rank; k++) {
            double product = 0;
            for (int i = 0; i < 96; i++)
                product += (double)u[i * rank + k] * w[i * cols + j];
            for (int i = 0; i < 96; i++)
                column[i] -= product * u[i * rank + k];
        }
        for (int i = 0; i < 96; i++)
            rest += column[i] * column[i];
    }
    return sqrt(rest / norm);
}

Test(synthetic, joint_latents_span_both_projections)
{
    for (int kv_heads = 2; kv_heads <= 8; kv_heads *= 2)
        for (int rotation = 0; rotation < 2; rotation++) {
            layer_shape s = shape_of(LAYER_LATENT_CL, kv_heads, 1, rotation);
            layer_weights w = drawn(&s, 5, 3);
            matrices_are_given(&s, &w);
            cr_assert_lt(outside(w.ukv, s.rank_k, w.wk, s.kv_width), 1e-5);
            cr_assert_lt(outside(w.ukv, s.rank_k, w.wv, s.kv_width), 1e-5);
            layer_weights_free(&w);
        }
}

Test(synthetic, joint_latents_of_a_reduced_rank_lose_what_a_decomposition_loses)
{
    layer_shape s = shape_of(LAYER_LATENT_CL, 4, 1, true);
    s.rank_k = 40;
    layer_weights w = drawn(&s, 5, 3), other = {.wk = w.wk, .wv = w.wv};
    double least[2];
    error err = ERROR_INIT;
    cr_assert_eq(layer_factor(&s, &other, least, &err), XQ_OK);
    double k = outside(w.ukv, 40, w.wk, s.kv_width), v = outside(w.ukv, 40, w.wv, s.kv_width);
    cr_assert_float_eq(sqrt((k * k + v * v) / 2), least[0], 1e-2); /* K and V are about equally large */
    other.wk = other.wv = NULL;
    layer_weights_free(&other);
    layer_weights_free(&w);
}

Test(synthetic, seeds_layers_keys_and_values_differ)
{
    layer_shape s = shape_of(LAYER_LATENT, 4, 2, true);
    layer_weights w[3] = {drawn(&s, 5, 0), drawn(&s, 6, 0), drawn(&s, 5, 1)};
    const float *all[6] = {w[0].wk, w[0].wv, w[1].wk, w[1].wv, w[2].wk, w[2].wv};
    const int count = 96 * 48;
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++) {
            double product = 0; /* product of two matrices whose squares sum up to 48 */
            for (int k = 0; k < count; k++)
                product += (double)all[i][k] * all[j][k];
            cr_assert_lt(fabs(product), 0.2 * 48, "%d and %d", i, j);
        }
    for (int i = 0; i < 3; i++)
        layer_weights_free(&w[i]);
}
