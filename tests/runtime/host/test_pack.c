/* Tests packed weights: every type, column order and padding is read back from the places that
 * docs/layout.md states. */
#include "../../../autotune/reference/rounding.h"
#include "../../../autotune/reference/seen.h"
#include "../../../runtime/base/e4m3.h"
#include "../../../runtime/base/half.h"
#include "../../support/plan_fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 256, KV = 128, HEAD_DIM = 64 };

/* Returns memory that lives as long as the test. */
static void *keep(size_t bytes)
{
    static void *kept[64];
    static int count;
    cr_assert_lt(count, 64);
    return kept[count++] = malloc(bytes);
}

static float *random_matrix(int rows, int cols)
{
    float *m = keep(sizeof *m * (size_t)(rows * cols));
    for (int i = 0; i < rows * cols; i++)
        m[i] = (float)(rand() % 20001 - 10000) / 777;
    return m;
}

/* Returns a random matrix with as many values as the largest source here needs. */
static const float *values(int seed)
{
    srand((unsigned)seed);
    return random_matrix(D, 512);
}

/* Returns a spec of PLAN_MODEL's shape with more members of "model", of "cache" and of the spec itself. */
static const char *spec_of(const char *model, const char *method, const char *rest)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
             "\"head_dim\": 64%s}, \"cache\": {\"group\": 64, \"page\": 32, %s}%s}",
             model, method, rest);
    return text;
}

/* Makes a plan over stubs and packs its weights. */
static xq_plan *pack(const char *spec, xq_implementation implementation, const xq_weights *w,
                     unsigned char **packed)
{
    plan_open_stubs();
    xq_plan *plan = plan_make(spec, implementation);
    size_t bytes = plan_info(plan).weights_bytes;
    *packed = keep(bytes);
    cr_assert_eq(xq_plan_pack_weights(plan, w, *packed, bytes), XQ_OK, "%s", plan_error()->message);
    return plan;
}

/* Decodes the bits of an e4m3 number (OCP 8-bit floating point, section 5.3). */
static double e4m3_value(unsigned bits)
{
    int exponent = (int)(bits >> 3 & 15), mantissa = (int)(bits & 7);
    double magnitude = exponent == 0 ? ldexp(mantissa, -9) : ldexp(mantissa + 8, exponent - 10);
    return bits & 0x80 ? -magnitude : magnitude;
}

/* Reads W[k, n] of a packed matrix as the kernels do. */
static double packed_at(const unsigned char *packed, const struct shape_matrix *m, int k, int n)
{
    int tile = n / 16, step = k / 16;
    int lane = n % 8 * 4 + k % 8 / 2, reg = (n % 16 >= 8 ? 2 : 0) + (k % 16 >= 8 ? 1 : 0), half = k % 2;
    size_t at =
        ((((size_t)tile * (size_t)(m->rows / 16) + (size_t)step) * 32 + (size_t)lane) * 4 + (size_t)reg) *
            2 +
        (size_t)half;
    const unsigned char *data = packed + m->offset;
    uint16_t code;
    float scale;
    if (m->type == WEIGHT_F16 || m->type == WEIGHT_BF16) {
        memcpy(&code, data + 2 * at, sizeof code);
        return m->type == WEIGHT_F16 ? half_to_float(code) : half_from_bfloat(code);
    }
    memcpy(&scale, packed + m->scale_offset + (size_t)n * sizeof scale, sizeof scale);
    return (m->type == WEIGHT_INT8 ? (double)(signed char)data[at] : e4m3_value(data[at])) * scale;
}

/* Reads element i of a packed vector. */
static float vector_at(const xq_plan *plan, const unsigned char *packed, const char *name, int i)
{
    float value;
    memcpy(&value, packed + shape_vector(plan->weights, name)->offset + (size_t)i * sizeof value,
           sizeof value);
    return value;
}

static const struct shape_matrix *matrix(const xq_plan *plan, const char *name, int rows, int cols)
{
    const struct shape_matrix *m = shape_matrix(plan->weights, name);
    cr_assert_not_null(m, "%s", name);
    cr_assert(m->rows == rows && m->cols == cols, "%s is [%d, %d]", name, m->rows, m->cols);
    return m;
}

static void assert_packed(const xq_plan *plan, const unsigned char *packed, const char *name,
                          const float *w, int rows, int cols)
{
    const struct shape_matrix *m = matrix(plan, name, rows, cols);
    for (int k = 0; k < rows; k++)
        for (int n = 0; n < cols; n++)
            cr_assert_eq(packed_at(packed, m, k, n), (double)half_round(w[k * cols + n]), "%s[%d, %d]",
                         name, k, n);
}

/* ------------------------------------------------------------------- orders */

Test(pack, every_weight_is_where_the_layout_says)
{
    unsigned char *packed;
    xq_weights w = {
        .struct_size = sizeof w, .uk = values(1), .uv = values(2), .ak = values(3), .av = values(4)};
    xq_plan *plan = pack(PLAN_LATENT, XQ_FUSED, &w, &packed);
    assert_packed(plan, packed, "uk", w.uk, D, 128);
    assert_packed(plan, packed, "uv", w.uv, D, 64);
    assert_packed(plan, packed, "wk", w.ak, 128, KV);
    assert_packed(plan, packed, "wv", w.av, 64, KV);
    plan_close(plan);
}

Test(pack, rotated_activations_have_a_square_u_and_factors_of_its_height)
{
    unsigned char *packed;
    xq_weights w = {.struct_size = sizeof w, .uk = values(1), .ak = values(3), .av = values(4)};
    xq_plan *plan = pack(spec_of("", "\"method\": \"x\", \"rotation\": true", ""), XQ_UNFUSED, &w, &packed);
    assert_packed(plan, packed, "uk", w.uk, D, D);
    assert_packed(plan, packed, "wk", w.ak, D, KV);
    assert_packed(plan, packed, "wv", w.av, D, KV);
    cr_assert_null(shape_matrix(plan->weights, "uv"));
    plan_close(plan);
}

/* Where K is a product of codes and int8 weights, sums of each column lie beside them, over the channels of
 * each quantization group: 128 rows in groups of 64. */
Test(pack, int8_weights_that_codes_are_multiplied_by_have_sums)
{
    unsigned char *packed;
    xq_weights w = {
        .struct_size = sizeof w, .uk = values(1), .uv = values(2), .ak = values(3), .av = values(4)};
    xq_plan *plan = pack(spec_of("", "\"method\": \"latent\", \"groups\": 1", ", \"weights\": \"int8\""),
                         XQ_FUSED, &w, &packed);
    const struct shape_matrix *m = shape_matrix(plan->weights, "wk");
    cr_assert_eq(m->sum_rows, 64);
    for (int group = 0; group < m->rows / 64; group++)
        for (int n = 0; n < m->cols; n++) {
            float scale, got;
            double sum = 0;
            memcpy(&scale, packed + m->scale_offset + (size_t)n * sizeof scale, sizeof scale);
            memcpy(&got, packed + m->sum_offset + (size_t)(group * m->cols + n) * sizeof got, sizeof got);
            for (int k = 0; k < 64; k++)
                sum += packed_at(packed, m, group * 64 + k, n) / (double)scale;
            cr_assert_float_eq((double)got, sum, 1e-6, "group %d, column %d: %g, not %g", group, n,
                               (double)got, sum);
        }
    cr_assert_eq(shape_matrix(plan->weights, "wv")->sum_rows, 0);
    plan_close(plan);
}

static void assert_refused(const xq_plan *plan, const xq_weights *w, void *packed, size_t bytes,
                           const char *field)
{
    cr_assert_eq(xq_plan_pack_weights(plan, w, packed, bytes), XQ_ERROR_ARGUMENT, "%s", field);
    cr_assert_str_eq(plan_error()->field, field);
}

/* Checks the layout of feedback in docs/layout.md: each channel of each group has the amounts that its
 * error adds to the values of each lane. */
static void assert_feedback(const xq_plan *plan, const unsigned char *packed, const char *name,
                            const float *feedback, int stored, int group)
{
    const int groups = (stored + group - 1) / group, lanes = group < 64 ? 8 : 16,
              values_each = group / lanes;
    const struct shape_matrix *m = matrix(plan, name, groups * group, group);
    for (int j = 0; j < groups * group; j++)
        for (int lane = 0; lane < lanes; lane++)
            for (int v = 0; v < values_each; v++) {
                static const int of_lane[] = {0, 1, 8, 9};
                int i = v / 4 * 64 + lane / 4 * 16 + lane % 4 * 2 + of_lane[v % 4];
                uint16_t half;
                memcpy(&half, packed + m->offset + 2 * (size_t)((j * lanes + lane) * values_each + v),
                       sizeof half);
                cr_assert_eq(half, half_from_float(feedback[j * group + i]), "%s: from %d to %d", name, j,
                             i);
            }
}

Test(pack, feedback_is_made_of_what_keys_and_values_are_multiplied_by)
{
    unsigned char *packed;
    xq_weights w = XQ_WEIGHTS_INIT;
    xq_quantizer q = XQ_QUANTIZER_INIT;
    static float cost[KV * HEAD_DIM], got[128 * 64];
    w.uk = values(1), w.uv = values(2), w.ak = values(3), w.av = values(4), w.k_cost = cost;
    for (int i = 0; i < KV * HEAD_DIM; i++)
        cost[i] = (float)((i / HEAD_DIM % HEAD_DIM % 3 + 1) * (i % HEAD_DIM % 3 + 1)) +
                  (i / HEAD_DIM % HEAD_DIM == i % HEAD_DIM ? (float)(i % 7) : 0);
    xq_plan *plan = pack(spec_of("",
                                 "\"method\": \"latent\", \"feedback\": true, \"groups\": 2, "
                                 "\"rank_k\": 80, \"rank_v\": 128",
                                 ""),
                         XQ_FUSED, &w, &packed);
    q.bits = 4, q.group = 64, q.latents = 2;
    cr_assert_eq(xq_simulate_feedback(&q, 80, KV, w.ak, HEAD_DIM, cost, got), XQ_OK);
    assert_feedback(plan, packed, "fk", got, 128, 64);
    cr_assert_eq(xq_simulate_feedback(&q, 128, KV, w.av, 1, NULL, got), XQ_OK);
    assert_feedback(plan, packed, "fv", got, 128, 64);
    cost[5] = -1;
    assert_refused(plan, &w, packed, plan->weights->bytes, "weights.k_cost");
    cost[5] = NAN;
    assert_refused(plan, &w, packed, plan->weights->bytes, "weights.k_cost");
    plan_close(plan);
}

/* With method x, the same channels serve keys and values, so both are counted. */
Test(pack, feedback_of_rotated_activations_counts_keys_and_values)
{
    unsigned char *packed;
    xq_weights w = XQ_WEIGHTS_INIT;
    xq_quantizer q = XQ_QUANTIZER_INIT;
    static float both[D * 2 * KV], got[D * 64];
    w.uk = values(1), w.ak = values(3), w.av = values(4);
    for (int i = 0; i < D; i++)
        for (int c = 0; c < 2 * KV; c++)
            both[i * 2 * KV + c] = c < KV ? w.ak[i * KV + c] : w.av[i * KV + c - KV];
    xq_plan *plan = pack(spec_of("", "\"method\": \"x\", \"feedback\": true", ""), XQ_UNFUSED, &w, &packed);
    q.bits = 4, q.group = 64;
    cr_assert_eq(xq_simulate_feedback(&q, D, 2 * KV, both, 1, NULL, got), XQ_OK);
    assert_feedback(plan, packed, "fk", got, D, 64);
    plan_close(plan);
}

Test(pack, latents_of_groups_are_padded_each)
{
    unsigned char *packed;
    xq_weights w = {
        .struct_size = sizeof w, .uk = values(1), .uv = values(2), .ak = values(3), .av = values(4)};
    /* Keys have two latents of 40 columns, values two of 64. */
    const char *spec = spec_of("", "\"method\": \"latent\", \"groups\": 2, \"rank_k\": 80, \"rank_v\": 128",
                               ", \"weights\": \"f16\"");
    xq_plan *plan = pack(spec, XQ_UNFUSED, &w, &packed);
    cr_assert_eq(plan_info(plan).latents, 2);
    cr_assert_eq(plan_info(plan).rank_k, 128);
    const struct shape_matrix *uk = matrix(plan, "uk", D, 128), *wk = matrix(plan, "wk", 64, KV);
    for (int k = 0; k < D; k++)
        for (int n = 0; n < 128; n++)
            cr_assert_eq(packed_at(packed, uk, k, n),
                         n % 64 < 40 ? (double)half_round(w.uk[k * 80 + n / 64 * 40 + n % 64]) : 0,
                         "uk[%d, %d]", k, n);
    for (int k = 0; k < 64; k++)
        for (int n = 0; n < KV; n++)
            cr_assert_eq(packed_at(packed, wk, k, n), k < 40 ? (double)half_round(w.ak[k * KV + n]) : 0,
                         "ak[%d, %d]", k, n);
    assert_packed(plan, packed, "uv", w.uv, D, 128);
    assert_packed(plan, packed, "wv", w.av, 64, KV);
    plan_close(plan);
}

/* RoPE turns 12 dimensions of a head, in pairs of neighbours: 6 pairs, padded to 8. The other 52 dimensions
 * are absorbed, padded to 64. */
#define PARTIAL ", \"rope\": {\"type\": \"interleaved\", \"theta\": 10000, \"rotary_dim\": 12}"
enum { PAIRS = 6, KEYS = 16, REST = 52, ABSORBED = 64 };

static int key_column(int column) /* the dimension of the head in this column, or -1 for padding */
{
    return column % 8 < PAIRS ? 2 * (column % 8) + column / 8 : -1;
}

Test(pack, fused_keys_are_pairs_then_absorbed_columns_as_rows)
{
    unsigned char *packed;
    xq_weights w = {
        .struct_size = sizeof w, .wk = values(1), .wv = values(2), .bk = values(3), .bv = values(4)};
    xq_plan *plan =
        pack(spec_of(PARTIAL ", \"attention_bias\": true", "\"method\": \"x\", \"rotation\": false", ""),
             XQ_FUSED, &w, &packed);
    const struct shape_matrix *wk = matrix(plan, "wk", D, 2 * KEYS);
    const struct shape_matrix *absorb = matrix(plan, "wk_absorb", 2 * ABSORBED, D);
    for (int n = 0; n < 2 * KEYS; n++) {
        int column = key_column(n % KEYS), from = n / KEYS * HEAD_DIM + column;
        cr_assert_eq(vector_at(plan, packed, "bk", n), column < 0 ? 0 : w.bk[from], "bk[%d]", n);
        for (int k = 0; k < D; k++)
            cr_assert_eq(packed_at(packed, wk, k, n),
                         column < 0 ? 0 : (double)half_round(w.wk[k * KV + from]), "wk[%d, %d]", k, n);
    }
    for (int r = 0; r < 2 * ABSORBED; r++) {
        int column = r % ABSORBED < REST ? 2 * PAIRS + r % ABSORBED : -1,
            from = r / ABSORBED * HEAD_DIM + column;
        cr_assert_eq(vector_at(plan, packed, "bk_absorb", r), column < 0 ? 0 : w.bk[from], "bk_absorb[%d]",
                     r);
        for (int c = 0; c < D; c++)
            cr_assert_eq(packed_at(packed, absorb, r, c),
                         column < 0 ? 0 : (double)half_round(w.wk[c * KV + from]), "wk_absorb[%d, %d]", r,
                         c);
    }
    cr_assert_arr_eq(packed + shape_vector(plan->weights, "bv")->offset, w.bv, KV * sizeof(float));
    plan_close(plan);
}

Test(pack, normalized_keys_are_all_rematerialized)
{
    unsigned char *packed;
    xq_weights w = {
        .struct_size = sizeof w, .wk = values(1), .wv = values(2), .k_norm = values(3), .sinks = values(4)};
    const char *spec = spec_of(PARTIAL ", \"qk_norm\": \"row\", \"attention_sinks\": true",
                               "\"method\": \"x\", \"rotation\": false", "");
    xq_plan *plan = pack(spec, XQ_FUSED, &w, &packed);
    const struct shape_vector *norm = shape_vector(plan->weights, "k_norm");
    enum { COLUMNS = KEYS + 64 }; /* columns per head */
    cr_assert_eq(norm->count, 2 * COLUMNS);
    cr_assert_null(shape_matrix(plan->weights, "wk_absorb"));
    for (int n = 0; n < norm->count; n++) {
        int rest = n % COLUMNS - KEYS;
        int column = rest < 0 ? key_column(n % COLUMNS) : rest < REST ? 2 * PAIRS + rest : -1;
        cr_assert_eq(vector_at(plan, packed, "k_norm", n),
                     column < 0 ? 0 : w.k_norm[n / COLUMNS * HEAD_DIM + column], "k_norm[%d]", n);
    }
    cr_assert_arr_eq(packed + shape_vector(plan->weights, "sinks")->offset, w.sinks, 4 * sizeof(float));
    plan_close(plan);
}

Test(pack, unfused_keys_keep_the_models_order)
{
    unsigned char *packed;
    xq_weights w = {.struct_size = sizeof w, .wk = values(1), .wv = values(2), .k_norm = values(3)};
    xq_plan *plan =
        pack(spec_of(PARTIAL ", \"qk_norm\": true", "\"method\": \"x\", \"rotation\": false", ""),
             XQ_UNFUSED, &w, &packed);
    assert_packed(plan, packed, "wk", w.wk, D, KV);
    cr_assert_eq(shape_vector(plan->weights, "k_norm")->count, HEAD_DIM);
    cr_assert_arr_eq(packed + shape_vector(plan->weights, "k_norm")->offset, w.k_norm,
                     HEAD_DIM * sizeof(float));
    plan_close(plan);
}

Test(pack, joint_latents_go_both_ways)
{
    unsigned char *packed;
    xq_weights w = {.struct_size = sizeof w, .wk = values(1), .wv = values(2), .ukv = values(3)};
    xq_plan *plan =
        pack(spec_of("", "\"method\": \"latent-cl\", \"rank_k\": 200", ""), XQ_FUSED, &w, &packed);
    const struct shape_matrix *ukv = matrix(plan, "ukv", D, 256), *ukvt = matrix(plan, "ukvt", 256, D);
    for (int k = 0; k < D; k++)
        for (int n = 0; n < 256; n++) {
            double expected = n < 200 ? (double)half_round(w.ukv[k * 200 + n]) : 0;
            cr_assert_eq(packed_at(packed, ukv, k, n), expected, "ukv[%d, %d]", k, n);
            cr_assert_eq(packed_at(packed, ukvt, n, k), expected, "ukvt[%d, %d]", n, k);
        }
    assert_packed(plan, packed, "wv", w.wv, D, KV);
    plan_close(plan);
}

/* -------------------------------------------------------------------- types */

static void check_type(const char *name, rounding_type type)
{
    char rest[64];
    unsigned char *packed;
    xq_weights w = XQ_WEIGHTS_INIT;
    float *wk = random_matrix(D, KV), *wv = random_matrix(D, KV);
    for (int k = 0; k < D; k++)
        wk[k * KV + 7] = 0; /* a column of zeros */
    for (int n = 0; n < KV; n++)
        wv[100 * KV + n] *= 300; /* everything else is small */
    w.wk = wk;
    w.wv = wv;
    snprintf(rest, sizeof rest, ", \"weights\": \"%s\"", name);
    xq_plan *plan =
        pack(spec_of(PARTIAL, "\"method\": \"x\", \"rotation\": false", rest), XQ_FUSED, &w, &packed);
    double *rounded = keep(sizeof *rounded * D * KV);
    const struct shape_matrix *m = matrix(plan, "wv", D, KV);
    rounding_matrix(type, wv, D, KV, 0, rounded);
    for (int i = 0; i < D * KV; i++)
        cr_assert_eq(packed_at(packed, m, i / KV, i % KV), rounded[i], "%s: wv[%d, %d]", name, i / KV,
                     i % KV);
    m = matrix(plan, "wk", D, 2 * KEYS);
    rounding_matrix(type, wk, D, KV, 0, rounded);
    for (int n = 0; n < KEYS; n++)
        for (int k = 0; k < D && key_column(n) >= 0; k++)
            cr_assert_eq(packed_at(packed, m, k, n), rounded[k * KV + key_column(n)], "%s: wk[%d, %d]",
                         name, k, key_column(n));
    /* Absorbed weights have one scale per row of the source, over the absorbed columns of all heads, which
     * are padded with columns of zeros. */
    float *absorbed = keep(sizeof *absorbed * D * 2 * ABSORBED);
    for (int i = 0; i < D * 2 * ABSORBED; i++) {
        int column = i % (2 * ABSORBED) / ABSORBED * HEAD_DIM + 2 * PAIRS + i % ABSORBED;
        absorbed[i] = i % ABSORBED < REST ? wk[i / (2 * ABSORBED) * KV + column] : 0;
    }
    m = matrix(plan, "wk_absorb", 2 * ABSORBED, D);
    rounding_matrix(type, absorbed, D, 2 * ABSORBED, 1, rounded);
    for (int i = 0; i < D * 2 * ABSORBED; i++)
        cr_assert_eq(packed_at(packed, m, i % (2 * ABSORBED), i / (2 * ABSORBED)), rounded[i],
                     "%s: wk_absorb[%d, %d]", name, i % (2 * ABSORBED), i / (2 * ABSORBED));
    plan_close(plan);
}

Test(pack, bf16_rounds_to_even)
{
    check_type("bf16", ROUNDING_BF16);
}

Test(pack, int8_has_a_scale_for_each_column)
{
    check_type("int8", ROUNDING_INT8);
}

Test(pack, e4m3_has_a_scale_for_each_column)
{
    check_type("e4m3", ROUNDING_E4M3);
}

/* Fills a matrix with columns that are hard to round: zeros, constants, one large weight, and sums that are
 * large or near zero. */
static float *difficult_matrix(int rows, int cols)
{
    float *m = random_matrix(rows, cols);
    for (int i = 0; i < rows * cols; i++) {
        const int column = i % cols, row = i / cols;
        m[i] = column % 8 == 3   ? 0
               : column % 8 == 4 ? (float)(column - 20) / 3
               : column % 8 == 5 ? fabsf(m[i])
               : column % 8 == 6 ? (row == rows / 2 ? 1000 : m[i])
                                 : m[i];
    }
    return m;
}

/* Compares a packed matrix with the reference and with the simulation, which have no padding. */
static void check_int8(const xq_plan *plan, const unsigned char *packed, const char *name, const float *w,
                       int rows, int cols)
{
    const struct shape_matrix *m = shape_matrix(plan->weights, name);
    double *expected = malloc(sizeof *expected * (size_t)(rows * cols));
    float *simulated = malloc(sizeof *simulated * (size_t)(rows * cols));
    rounding_matrix(ROUNDING_INT8, w, (size_t)rows, (size_t)cols, 0, expected);
    cr_assert_eq(xq_simulate_weights("int8", rows, cols, w, simulated), XQ_OK);
    cr_assert_eq(m->type, WEIGHT_INT8);
    for (int i = 0; i < m->rows * cols; i++) {
        const double got = packed_at(packed, m, i / cols, i % cols);
        cr_assert_eq(got, i < rows * cols ? expected[i] : 0, "%s[%d, %d]", name, i / cols, i % cols);
        if (i < rows * cols)
            cr_assert_eq(simulated[i], (float)got, "%s[%d, %d]", name, i / cols, i % cols);
    }
    free(simulated);
    free(expected);
}

Test(pack, int8_is_the_same_in_padded_latents_in_the_simulation_and_in_the_reference)
{
    static const struct {
        int latents_k, rank_k, latents_v, rank_v; /* ranks of each latent, which are padded */
    } cases[] = {{2, 40, 2, 64}, {2, 16, 1, 72}, {1, 100, 1, 17}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char cache[160];
        unsigned char *packed;
        xq_weights w = {.struct_size = sizeof w, .uk = values(1), .uv = values(2)};
        w.ak = difficult_matrix(cases[i].rank_k, KV);
        w.av = difficult_matrix(cases[i].rank_v, KV);
        snprintf(
            cache, sizeof cache,
            "\"method\": \"latent\", \"groups_k\": %d, \"groups_v\": %d, \"rank_k\": %d, \"rank_v\": %d",
            cases[i].latents_k, cases[i].latents_v, cases[i].latents_k * cases[i].rank_k,
            cases[i].latents_v * cases[i].rank_v);
        xq_plan *plan = pack(spec_of("", cache, ", \"weights\": \"int8\""), XQ_UNFUSED, &w, &packed);
        check_int8(plan, packed, "wk", w.ak, cases[i].rank_k, KV);
        check_int8(plan, packed, "wv", w.av, cases[i].rank_v, KV);
        plan_close(plan);
    }
}

/* 4096 rows are as many as scales are searched for; beyond, the largest weight has the code 127. */
Test(pack, int8_of_many_rows_is_that_of_the_simulation_and_of_the_reference)
{
    for (int rows = 4096; rows <= 4096 + 64; rows += 64) {
        char spec[512];
        unsigned char *packed;
        xq_weights w = XQ_WEIGHTS_INIT;
        w.wk = difficult_matrix(rows, 64);
        w.wv = difficult_matrix(rows, 64);
        snprintf(
            spec, sizeof spec,
            "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": 4, \"num_key_value_heads\": 1, "
            "\"head_dim\": 64}, \"cache\": {\"method\": \"x\", \"rotation\": false}, "
            "\"weights\": \"int8\"}",
            rows);
        xq_plan *plan = pack(spec, XQ_UNFUSED, &w, &packed);
        check_int8(plan, packed, "wk", w.wk, rows, 64);
        check_int8(plan, packed, "wv", w.wv, rows, 64);
        plan_close(plan);
    }
}

/* The absorbed columns of a head are padded, and blocks of int8 weights count the padding. */
Test(pack, references_see_absorbed_and_other_keys_as_they_are_packed)
{
    static const char *const types[] = {"int8", "e4m3"};
    for (int type = 0; type < 2; type++) {
        char rest[64];
        unsigned char *packed;
        error err = ERROR_INIT;
        xq_weights w = {.struct_size = sizeof w, .wk = values(1), .wv = values(2)};
        double *seen = keep(sizeof *seen * D * KV);
        snprintf(rest, sizeof rest, ", \"weights\": \"%s\"", types[type]);
        xq_plan *plan =
            pack(spec_of(PARTIAL, "\"method\": \"x\", \"rotation\": false", rest), XQ_FUSED, &w, &packed);
        cr_assert_eq(seen_matrix(xq_plan_spec(plan), XQ_FUSED, "wk", w.wk, D, KV, seen, NULL, &err), XQ_OK,
                     "%s", err.message);
        const struct shape_matrix *wk = matrix(plan, "wk", D, 2 * KEYS);
        const struct shape_matrix *absorb = matrix(plan, "wk_absorb", 2 * ABSORBED, D);
        for (int k = 0; k < D; k++)
            for (int head = 0; head < 2; head++) {
                const double *row = seen + k * KV + head * HEAD_DIM;
                for (int n = 0; n < KEYS; n++)
                    if (key_column(n) >= 0)
                        cr_assert_eq(packed_at(packed, wk, k, head * KEYS + n), row[key_column(n)]);
                for (int n = 0; n < REST; n++)
                    cr_assert_eq(packed_at(packed, absorb, head * ABSORBED + n, k), row[2 * PAIRS + n],
                                 "%s: head %d, column %d, row %d", types[type], head, n, k);
            }
        plan_close(plan);
    }
}

Test(pack, every_e4m3_code_and_midpoint_rounds_to_nearest_even)
{
    for (unsigned code = 0; code < 0x7e; code++) {
        double low = e4m3_value(code), high = e4m3_value(code + 1);
        float middle = (float)((low + high) / 2);
        unsigned even = code + (code & 1);
        cr_assert_eq(e4m3_encode((float)low), code);
        cr_assert_eq(e4m3_encode(middle), even, "between codes %u and %u", code, code + 1);
        cr_assert_eq(e4m3_encode(nextafterf(middle, 1e9f)), code + 1);
        cr_assert_eq(e4m3_encode(nextafterf(-middle, 1e9f)), code | 0x80);
    }
    cr_assert_eq(e4m3_encode(449), 0x7e);
    cr_assert_eq(e4m3_encode(-1e30f), 0xfe);
}

/* ----------------------------------------------------------------- refusals */

Test(pack, missing_or_unrepresentable_weights_are_refused_and_nothing_is_written)
{
    xq_plan *plan = plan_make(PLAN_X, XQ_FUSED);
    size_t bytes = plan_info(plan).weights_bytes;
    unsigned char *packed = keep(bytes);
    memset(packed, 0xee, bytes);
    xq_weights w = XQ_WEIGHTS_INIT;
    float *wk = random_matrix(D, KV), *wv = random_matrix(D, KV);
    w.wk = wk;
    assert_refused(plan, &w, packed, bytes, "weights.wv");
    w.wv = wv;
    assert_refused(plan, &w, packed, bytes - 1, "destination_bytes");
    assert_refused(plan, &w, NULL, bytes, "destination");
    const float bad[] = {NAN, INFINITY, -INFINITY, 65520.0f, -1e30f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wv[3 * KV + 5] = bad[i];
        assert_refused(plan, &w, packed, bytes, "weights.wv");
        cr_assert(strstr(plan_error()->message, "[3, 5]"), "%s", plan_error()->message);
    }
    for (size_t i = 0; i < bytes; i++)
        cr_assert_eq(packed[i], 0xee);
    wv[3 * KV + 5] = 65519.0f; /* rounds to 65504 */
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK);
    plan_close(plan);
}

Test(pack, every_matrix_that_the_plan_needs_is_asked_for_and_no_other)
{
    plan_open_stubs();
    const char *method = "\"method\": \"latent-cl\", \"rank_k\": 200";
    xq_plan *plan = plan_make(
        spec_of(", \"attention_bias\": true, \"qk_norm\": true, \"attention_sinks\": true", method, ""),
        XQ_FUSED);
    size_t bytes = plan_info(plan).weights_bytes;
    void *packed = keep(bytes);
    const size_t fields[] = {offsetof(xq_weights, wk),   offsetof(xq_weights, wv),
                             offsetof(xq_weights, ukv),  offsetof(xq_weights, bk),
                             offsetof(xq_weights, bv),   offsetof(xq_weights, k_norm),
                             offsetof(xq_weights, sinks)};
    const char *const names[] = {"wk", "wv", "ukv", "bk", "bv", "k_norm", "sinks"};
    enum { FIELDS = sizeof fields / sizeof fields[0] };
    for (int missing = 0; missing <= FIELDS; missing++) {
        char field[32];
        xq_weights w = XQ_WEIGHTS_INIT;
        float *some = random_matrix(D, 256);
        for (int i = 0; i < FIELDS; i++)
            if (i != missing)
                memcpy((char *)&w + fields[i], &some, sizeof some);
        if (missing == FIELDS) {
            cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK, "%s", plan_error()->message);
            continue;
        }
        snprintf(field, sizeof field, "weights.%s", names[missing]);
        assert_refused(plan, &w, packed, bytes, field);
    }
    float *bias = random_matrix(1, KV);
    bias[9] = NAN;
    xq_weights w = XQ_WEIGHTS_INIT;
    w.wk = w.wv = w.ukv = w.bk = w.k_norm = w.sinks = values(1);
    w.bv = bias;
    assert_refused(plan, &w, packed, bytes, "weights.bv");
    cr_assert(strstr(plan_error()->message, "weights.bv[9]"), "%s", plan_error()->message);
    plan_close(plan);
}

Test(pack, what_the_plan_has_no_use_for_is_refused)
{
    static const struct {
        const char *method;
        xq_implementation implementation;
        const char *used; /* names, each with a space after it */
    } cases[] = {
        {"\"method\": \"x\", \"rotation\": false", XQ_FUSED, "wk wv "},
        {"\"method\": \"x\", \"rotation\": true", XQ_UNFUSED, "uk ak av "},
        {"\"method\": \"latent\"", XQ_FUSED, "uk ak uv av "},
        {"\"method\": \"latent\", \"feedback\": true", XQ_FUSED, "uk ak uv av k_cost "},
        {"\"method\": \"latent-cl\"", XQ_FUSED, "wk wv ukv "},
        {"\"method\": \"latent\"", XQ_FP16_KV, "wk wv "},
        {"\"method\": \"latent\"", XQ_FP8_KV, "wk wv k_scale v_scale "},
    };
    static const struct {
        const char *name;
        size_t at;
    } fields[] = {
        {"wk", offsetof(xq_weights, wk)},           {"wv", offsetof(xq_weights, wv)},
        {"uk", offsetof(xq_weights, uk)},           {"ak", offsetof(xq_weights, ak)},
        {"uv", offsetof(xq_weights, uv)},           {"av", offsetof(xq_weights, av)},
        {"ukv", offsetof(xq_weights, ukv)},         {"bk", offsetof(xq_weights, bk)},
        {"bv", offsetof(xq_weights, bv)},           {"k_norm", offsetof(xq_weights, k_norm)},
        {"sinks", offsetof(xq_weights, sinks)},     {"k_cost", offsetof(xq_weights, k_cost)},
        {"k_scale", offsetof(xq_weights, k_scale)}, {"v_scale", offsetof(xq_weights, v_scale)},
    };
    float *some = keep(sizeof *some * D * 256);
    for (int i = 0; i < D * 256; i++)
        some[i] = 1; /* costs are symmetric */
    plan_open_stubs();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        xq_plan *plan = plan_make(spec_of("", cases[i].method, ""), cases[i].implementation);
        size_t bytes = plan_info(plan).weights_bytes;
        void *packed = keep(bytes);
        xq_weights good = XQ_WEIGHTS_INIT;
        for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
            char name[16];
            snprintf(name, sizeof name, "%s ", fields[f].name);
            const char *at = strstr(cases[i].used, name);
            if (at && (at == cases[i].used || at[-1] == ' '))
                memcpy((char *)&good + fields[f].at, &some, sizeof some);
        }
        cr_assert_eq(xq_plan_pack_weights(plan, &good, packed, bytes), XQ_OK, "%s: %s", cases[i].method,
                     plan_error()->message);
        for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
            char field[32];
            xq_weights w = good;
            snprintf(field, sizeof field, "weights.%s", fields[f].name);
            memcpy((char *)&w + fields[f].at, &some, sizeof some);
            if (memcmp(&w, &good, sizeof w) != 0)
                assert_refused(plan, &w, packed, bytes, field);
        }
        xq_plan_destroy(plan);
    }
    plan_close(NULL);
}

/* A vector of the packed weights. */
static float packed_float(const xq_plan *plan, const void *packed, const char *name)
{
    float value;
    memcpy(&value, (const char *)packed + shape_vector(plan->weights, name)->offset, sizeof value);
    return value;
}

Test(pack, scales_of_an_fp8_cache_are_1_unless_they_are_given)
{
    static const float bad[] = {0, -0.5f, NAN, INFINITY, 1e-31f, 2e30f};
    plan_open_stubs();
    xq_plan *plan = plan_make(spec_of("", "\"method\": \"x\"", ""), XQ_FP8_KV);
    size_t bytes = plan_info(plan).weights_bytes;
    void *packed = keep(bytes);
    xq_weights w = XQ_WEIGHTS_INIT;
    const float k_scale = 0.03125f;
    float v_scale;
    w.wk = w.wv = random_matrix(D, KV);
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(packed_float(plan, packed, "k_scale"), 1);
    cr_assert_eq(packed_float(plan, packed, "v_scale"), 1);
    w.k_scale = &k_scale;
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(packed_float(plan, packed, "k_scale"), k_scale);
    cr_assert_eq(packed_float(plan, packed, "v_scale"), 1);
    w.v_scale = &v_scale;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        v_scale = bad[i];
        assert_refused(plan, &w, packed, bytes, "weights.v_scale");
        cr_assert(strstr(plan_error()->message, "valid: numbers from 1e-30 to 1e30"), "%s",
                  plan_error()->message);
    }
    plan_close(plan);
}

Test(pack, the_range_is_that_of_the_type)
{
    const struct {
        const char *type;
        float largest, refused;
    } cases[] = {{"f16", 65519, 65520}, {"bf16", 0x1.fefffep127f, 0x1.ffp127f}, {"int8", 3e38f, INFINITY}};
    plan_open_stubs();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char rest[64];
        snprintf(rest, sizeof rest, ", \"weights\": \"%s\"", cases[i].type);
        xq_plan *plan = plan_make(spec_of("", "\"method\": \"x\", \"rotation\": false", rest), XQ_FUSED);
        size_t bytes = plan_info(plan).weights_bytes;
        void *packed = keep(bytes);
        xq_weights w = XQ_WEIGHTS_INIT;
        float *wk = random_matrix(D, KV);
        w.wv = w.wk = wk;
        wk[5] = cases[i].largest;
        cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK, "%s", plan_error()->message);
        wk[5] = cases[i].refused;
        assert_refused(plan, &w, packed, bytes, "weights.wk");
        xq_plan_destroy(plan);
    }
    plan_close(NULL);
}
