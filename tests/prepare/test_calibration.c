/* Factors that are calibrated on activations: they are exact at full rank, they quantize better than
 * rotated ones, and inputs that cannot be used are refused. */
#include "../../prepare/calibration.h"
#include "../../prepare/layer_factor.h"
#include "../../prepare/safetensors.h"
#include "../../runtime/base/random.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { D = 128, HEADS = 4, KV = 2, DH = 64, DKV = KV * DH, TOKENS = 400 };

static float x[TOKENS * D], q[TOKENS * HEADS * DH], wk[D * DKV], wv[D * DKV], k_cost[HEADS * DH * DH];

/* Activations such as models have: a mean, an outlier channel, channels of unequal size, and a first token
 * unlike the others. */
static void fill(void)
{
    random_stream r = random_begin(7, 0);
    for (int i = 0; i < D * DKV; i++) {
        wk[i] = (float)random_normal(&r) * 0.1f;
        wv[i] = (float)random_normal(&r) * 0.1f;
    }
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < D; i++) {
            double value = random_normal(&r) * exp(-0.02 * i) + (i % 5 ? 0 : 1.5);
            x[t * D + i] = (float)(i == 9 ? value * 8 + 5 : value);
        }
    for (int i = 0; i < D; i++)
        x[i] *= i == 40 ? 60 : 0.2f;
    for (int i = 0; i < TOKENS * HEADS * DH; i++)
        q[i] = (float)random_normal(&r) * (i % DH < 8 ? 3 : 0.5f);
}

static tensor rows_of(const char *name, float *data, int rank, int64_t tokens, int64_t middle, int64_t last)
{
    tensor t = {.name = name, .type = TENSOR_F32, .type_name = "F32", .rank = rank, .data = data};
    t.shape[0] = tokens;
    t.shape[1] = rank == 3 ? middle : last;
    t.shape[2] = last;
    t.bytes = sizeof(float) * (size_t)(tokens * last * (rank == 3 ? middle : 1));
    return t;
}

static const char *write_activations(int64_t tokens, int64_t width, bool queries)
{
    error err = ERROR_INIT;
    const char *path = files_path(files_directory(), "activations.safetensors");
    tensor tensors[] = {rows_of("x.0", x, 2, tokens, 0, width), rows_of("q.0", q, 3, tokens, HEADS, DH)};
    cr_assert_eq(safetensors_write(path, tensors, queries ? 2 : 1, &err), XQ_OK, "%s", err.message);
    return path;
}

/* Writes activations together with the costs of errors of keys [HEADS, DH, width]. */
static const char *write_costs(int64_t width)
{
    error err = ERROR_INIT;
    const char *path = files_path(files_directory(), "costs.safetensors");
    tensor tensors[] = {rows_of("k_cost.0", k_cost, 3, HEADS, DH, width),
                        rows_of("q.0", q, 3, TOKENS, HEADS, DH), rows_of("x.0", x, 2, TOKENS, 0, D)};
    cr_assert_eq(safetensors_write(path, tensors, 3, &err), XQ_OK, "%s", err.message);
    return path;
}

static layer_shape shape_of(int rank, int groups)
{
    return (layer_shape){.method = LAYER_LATENT,
                         .hidden_size = D,
                         .heads = HEADS,
                         .kv_heads = KV,
                         .head_dim = DH,
                         .kv_width = DKV,
                         .rank_k = rank,
                         .rank_v = rank,
                         .groups_k = groups,
                         .groups_v = groups,
                         .quantization_group = 64,
                         .rotary_dim = DH,
                         .rotation = true};
}

static layer_weights projections(void)
{
    layer_weights w = {.wk = malloc(sizeof wk), .wv = malloc(sizeof wv)};
    memcpy(w.wk, wk, sizeof wk);
    memcpy(w.wv, wv, sizeof wv);
    return w;
}

static xq_status factor(const char *path, const layer_shape *s, layer_weights *w, double lost[2],
                        error *err)
{
    calibration *c = NULL;
    *w = projections();
    if (calibration_open(path, &c, err) == XQ_OK)
        calibration_factor(c, 0, s, w, lost, err);
    calibration_close(c);
    return err->status;
}

/* Computes z [TOKENS, rank] = x·U as a cache of `bits` holds it; 32 bits are exact. With feedback, `cost`
 * holds the costs of errors of z·A (NULL: all errors cost the same). */
static void cache(const layer_shape *s, const float *u, const float *a, const float *cost, int bits,
                  float *z)
{
    const int rank = s->rank_k;
    for (int t = 0; t < TOKENS; t++)
        for (int k = 0; k < rank; k++) {
            double sum = 0;
            for (int i = 0; i < D; i++)
                sum += (double)x[t * D + i] * u[i * rank + k];
            z[t * rank + k] = (float)sum;
        }
    xq_quantizer format = XQ_QUANTIZER_INIT;
    format.bits = bits;
    format.group = s->quantization_group;
    format.latents = s->groups_k;
    format.clip = bits == 2 ? 0.7f : 1;
    static float feedback[DKV * 64 * 2];
    if (bits < 32 && s->feedback) {
        cr_assert_eq(xq_simulate_feedback(&format, rank, DKV, a, DH, cost, feedback), XQ_OK);
        format.feedback = feedback;
    }
    if (bits < 32)
        cr_assert_eq(xq_simulate_cache(&format, TOKENS, rank, z, z), XQ_OK);
}

/* Computes errors [TOKENS, DKV] = z·A - x·W. */
static void find_errors(const layer_shape *s, const float *w, const float *u, const float *a,
                        const float *cost, int bits, double (*errors)[DKV])
{
    static float z[TOKENS * DKV];
    const int rank = s->rank_k, each = rank / s->groups_k, cols = DKV / s->groups_k;
    cache(s, u, a, cost, bits, z);
    for (int t = 0; t < TOKENS; t++)
        for (int j = 0; j < DKV; j++) {
            errors[t][j] = 0;
            for (int k = 0; k < each; k++)
                errors[t][j] += (double)z[t * rank + j / cols * each + k] * a[k * DKV + j];
            for (int i = 0; i < D; i++)
                errors[t][j] -= (double)x[t * D + i] * w[i * DKV + j];
        }
}

/* Returns Σ (x·W - its mean)² over tokens. */
static double size_of_projection(const float *w)
{
    double size = 0;
    for (int j = 0; j < DKV; j++) {
        double sum = 0, squares = 0;
        for (int t = 0; t < TOKENS; t++) {
            double y = 0;
            for (int i = 0; i < D; i++)
                y += (double)x[t * D + i] * w[i * DKV + j];
            sum += y;
            squares += y * y;
        }
        size += squares - sum * sum / TOKENS;
    }
    return size;
}

static double errors[TOKENS][DKV];

/* Returns Σ errors² / Σ (x·W - its mean)². */
static double distance(const layer_shape *s, const float *w, const float *u, const float *a, int bits)
{
    double difference = 0;
    find_errors(s, w, u, a, NULL, bits, errors);
    for (int t = 0; t < TOKENS; t++)
        for (int j = 0; j < DKV; j++)
            difference += errors[t][j] * errors[t][j];
    return difference / size_of_projection(w);
}

/* Returns Σ (errors of the keys of each KV head · direction)². */
static double distance_along(const layer_shape *s, const layer_weights *w, const float *cost, int bits,
                             const double *direction)
{
    double difference = 0;
    find_errors(s, wk, w->uk, w->ak, cost, bits, errors);
    for (int t = 0; t < TOKENS; t++)
        for (int h = 0; h < KV; h++) {
            double along = 0;
            for (int j = 0; j < DH; j++)
                along += errors[t][h * DH + j] * direction[j];
            difference += along * along;
        }
    return difference;
}

Test(calibration, full_rank_of_any_grouping_is_exact, .init = fill)
{
    for (int groups = 1; groups <= 2; groups++) {
        const layer_shape s = shape_of(DKV, groups);
        layer_weights w;
        double lost[2] = {1, 1};
        error err = ERROR_INIT;
        cr_assert_eq(factor(write_activations(TOKENS, D, true), &s, &w, lost, &err), XQ_OK, "%s",
                     err.message);
        cr_assert(lost[0] == 0 && lost[1] == 0);
        cr_assert_lt(distance(&s, wk, w.uk, w.ak, 32), 1e-9);
        cr_assert_lt(distance(&s, wv, w.uv, w.av, 32), 1e-9);
        layer_weights_free(&w);
    }
}

/* This is the reason for calibration. */
Test(calibration, quantizes_better_than_a_rotation_of_the_svd, .init = fill)
{
    const char *path = write_activations(TOKENS, D, true);
    for (int bits = 2; bits <= 4; bits++) {
        const layer_shape s = shape_of(DKV, 1);
        layer_weights calibrated, rotated = projections();
        double lost[2];
        error err = ERROR_INIT;
        cr_assert_eq(factor(path, &s, &calibrated, lost, &err), XQ_OK, "%s", err.message);
        cr_assert_eq(layer_factor(&s, &rotated, NULL, &err), XQ_OK, "%s", err.message);
        double of_v = distance(&s, wv, calibrated.uv, calibrated.av, bits);
        double before = distance(&s, wv, rotated.uv, rotated.av, bits);
        cr_assert_lt(of_v, 0.5 * before, "%d bits: %g, not less than half of %g", bits, of_v, before);
        layer_weights_free(&calibrated);
        layer_weights_free(&rotated);
    }
}

/* Values are compared, because errors of all their dimensions cost the same. The costs of errors of keys
 * are returned in k_cost. */
Test(calibration, loses_less_with_feedback, .init = fill)
{
    const char *path = write_activations(TOKENS, D, true);
    for (int bits = 2; bits <= 4; bits++) {
        layer_shape s = shape_of(DKV, 1);
        layer_weights plain, fed;
        double lost[2];
        error err = ERROR_INIT;
        cr_assert_eq(factor(path, &s, &plain, lost, &err), XQ_OK, "%s", err.message);
        cr_assert_null(plain.k_cost);
        double without = distance(&s, wv, plain.uv, plain.av, bits);
        s.feedback = true;
        cr_assert_eq(factor(path, &s, &fed, lost, &err), XQ_OK, "%s", err.message);
        double with = distance(&s, wv, fed.uv, fed.av, bits);
        cr_assert_lt(with, 0.85 * without, "%d bits: %g with, %g without", bits, with, without);
        for (int i = 0; i < DKV * DH; i++)
            cr_assert((fed.k_cost[i] > 0) == (i % DH == i / DH % DH), "%d: %g", i, (double)fed.k_cost[i]);
        layer_weights_free(&plain);
        layer_weights_free(&fed);
    }
}

/* Draws costs of errors along a direction that involves all dimensions, so that the cost of a single
 * dimension does not show it. */
static void draw_direction(double direction[DH])
{
    for (int i = 0; i < DH; i++)
        direction[i] = (i % 3 ? 1 : -1) / sqrt(DH);
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < DH; i++)
            for (int j = 0; j < DH; j++)
                k_cost[(h * DH + i) * DH + j] = (float)((i == j) + 200 * direction[i] * direction[j]);
}

Test(calibration, errors_fall_where_the_file_says_that_they_cost_little, .init = fill)
{
    double direction[DH];
    draw_direction(direction);
    for (int groups = 1; groups <= KV; groups++) {
        const layer_shape s = shape_of(DKV, groups);
        layer_weights with, without;
        double lost[2];
        error err = ERROR_INIT;
        cr_assert_eq(factor(write_costs(DH), &s, &with, lost, &err), XQ_OK, "%s", err.message);
        cr_assert_eq(factor(write_activations(TOKENS, D, true), &s, &without, lost, &err), XQ_OK);
        double known = distance_along(&s, &with, NULL, 3, direction);
        double unknown = distance_along(&s, &without, NULL, 3, direction);
        cr_assert_lt(known, 0.5 * unknown, "%d groups: %g, not less than half of %g", groups, known,
                     unknown);
        cr_assert_lt(distance(&s, wk, with.uk, with.ak, 32), 1e-8);
        layer_weights_free(&with);
        layer_weights_free(&without);
    }
}

/* Feedback moves errors out of a direction that does not belong to any single channel. */
Test(calibration, what_the_file_says_of_costs_is_fed_back, .init = fill)
{
    double direction[DH], lost[2];
    layer_shape s = shape_of(DKV, 1);
    layer_weights fed;
    error err = ERROR_INIT;
    s.feedback = true;
    draw_direction(direction);
    cr_assert_eq(factor(write_costs(DH), &s, &fed, lost, &err), XQ_OK, "%s", err.message);
    for (int i = 0; i < DKV; i++)
        for (int j = 0; j < DH; j++) { /* the sum over two query heads */
            double cost = 2 * (k_cost[i % DH * DH + j]);
            cr_assert_float_eq(fed.k_cost[i * DH + j], cost, 1e-5, "%d, %d", i, j);
        }
    double with = distance_along(&s, &fed, fed.k_cost, 3, direction);
    double without = distance_along(&s, &fed, NULL, 3, direction);
    cr_assert_lt(with, 0.5 * without, "%g with, %g without", with, without);
    layer_weights_free(&fed);
}

/* If the rank is lower, costs decide which directions are left out. */
Test(calibration, with_feedback_coordinates_are_made_for_the_spread_alone, .init = fill)
{
    double direction[DH], lost[2];
    draw_direction(direction);
    for (int rank = DKV; rank >= DKV / 2; rank -= DKV / 2) {
        layer_shape s = shape_of(rank, 1);
        layer_weights with, without;
        error err = ERROR_INIT;
        s.feedback = true;
        cr_assert_eq(factor(write_costs(DH), &s, &with, lost, &err), XQ_OK, "%s", err.message);
        cr_assert_eq(factor(write_activations(TOKENS, D, true), &s, &without, lost, &err), XQ_OK);
        const size_t bytes = sizeof *with.uk * (size_t)(D * rank);
        cr_assert_eq(memcmp(with.uk, without.uk, bytes) == 0, rank == DKV, "rank %d", rank);
        cr_assert_eq(memcmp(with.uv, without.uv, bytes), 0);
        layer_weights_free(&with);
        layer_weights_free(&without);
    }
}

Test(calibration, a_lower_rank_tells_what_it_loses, .init = fill)
{
    const layer_shape s = shape_of(64, 1);
    layer_weights w;
    double lost[2] = {0, 0};
    error err = ERROR_INIT;
    cr_assert_eq(factor(write_activations(TOKENS, D, true), &s, &w, lost, &err), XQ_OK, "%s", err.message);
    cr_assert(lost[0] > 0.01 && lost[0] < 1 && lost[1] > 0.01 && lost[1] < 1, "%g, %g", lost[0], lost[1]);
    layer_weights_free(&w);
}

static void refuses(const char *path, const layer_shape *s, xq_status status, const char *text)
{
    layer_weights w;
    double lost[2];
    error err = ERROR_INIT;
    cr_assert_eq(factor(path, s, &w, lost, &err), status, "%s", err.message);
    cr_assert(strstr(err.message, text), "'%s' is not in: %s", text, err.message);
    error_clear(&err);
    layer_weights_free(&w);
}

Test(calibration, what_cannot_be_used_is_refused_by_name, .init = fill)
{
    layer_shape s = shape_of(DKV, 1);
    refuses("/nonexistent/file", &s, XQ_ERROR_IO, "/nonexistent/file");
    refuses(write_activations(TOKENS, D, false), &s, XQ_ERROR_FORMAT, "q.0");
    refuses(write_activations(TOKENS, D - 1, true), &s, XQ_ERROR_FORMAT, "x.0");
    refuses(write_activations(20, D, true), &s, XQ_ERROR_FORMAT, "at least 64");
    refuses(write_costs(DH - 1), &s, XQ_ERROR_FORMAT, "k_cost.0");
    k_cost[3 * DH + 1] = 1;
    refuses(write_costs(DH), &s, XQ_ERROR_ARGUMENT, "k_cost.0[1, 3] is 0; costs must be symmetric");
    const char *path = write_activations(TOKENS, D, true);
    s.rotation = false;
    refuses(path, &s, XQ_ERROR_UNSUPPORTED, "cache.rotation");
    s = shape_of(DKV, 1);
    s.method = LAYER_LATENT_CL;
    refuses(path, &s, XQ_ERROR_UNSUPPORTED, "latent-cl");
    memset(wv, 0, sizeof wv);
    s = shape_of(DKV, 1);
    refuses(path, &s, XQ_ERROR_ARGUMENT, "Wv is zero");
    fill();
    memset(x, 0, sizeof x);
    refuses(write_activations(TOKENS, D, true), &s, XQ_ERROR_ARGUMENT,
            "tensor x.0 of the calibration holds only zeros");
    fill();
    x[77] = NAN;
    s = shape_of(DKV, 1);
    refuses(write_activations(TOKENS, D, true), &s, XQ_ERROR_FORMAT, "x.0");
}
