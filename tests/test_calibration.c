/* Factors that are calibrated on activations: exact, better to quantize, and nothing that cannot be used.
 */
#include "../prepare/calibration.h"
#include "../prepare/layer_factor.h"
#include "../prepare/safetensors.h"
#include "../runtime/base/random.h"
#include "files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { D = 128, HEADS = 4, KV = 2, DH = 64, DKV = KV * DH, TOKENS = 400 };

static float x[TOKENS * D], q[TOKENS * HEADS * DH], wk[D * DKV], wv[D * DKV];

/* Activations as models have them: a mean, an outlier channel, channels of unequal size, a first token
 * unlike others. */
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

/* Σ (x·W - z·A)² / Σ (x·W - its mean)² over tokens, z = x·U as a cache of `bits` holds it; bits 32: exact.
 */
static double distance(const layer_shape *s, const float *w, const float *u, const float *a, int bits)
{
    static float z[TOKENS * DKV];
    static double y[TOKENS][DKV];
    double mean[DKV] = {0}, difference = 0, size = 0;
    int rank = s->rank_k, each = rank / s->groups_k, cols = DKV / s->groups_k;
    for (int t = 0; t < TOKENS; t++) {
        for (int k = 0; k < rank; k++) {
            double sum = 0;
            for (int i = 0; i < D; i++)
                sum += (double)x[t * D + i] * u[i * rank + k];
            z[t * rank + k] = (float)sum;
        }
        for (int j = 0; j < DKV; j++) {
            y[t][j] = 0;
            for (int i = 0; i < D; i++)
                y[t][j] += (double)x[t * D + i] * w[i * DKV + j];
            mean[j] += y[t][j] / TOKENS;
        }
    }
    xq_quantizer format = XQ_QUANTIZER_INIT;
    format.bits = bits;
    format.group = s->quantization_group;
    format.latents = s->groups_k;
    format.clip = bits == 2 ? 0.7f : 1;
    static float feedback[DKV * 64 * 2];
    if (bits < 32 && s->feedback) {
        cr_assert_eq(xq_simulate_feedback(&format, rank, DKV, a, NULL, feedback), XQ_OK);
        format.feedback = feedback;
    }
    if (bits < 32)
        cr_assert_eq(xq_simulate_cache(&format, TOKENS, rank, z, z), XQ_OK);
    for (int t = 0; t < TOKENS; t++)
        for (int j = 0; j < DKV; j++) {
            double sum = 0;
            for (int k = 0; k < each; k++)
                sum += (double)z[t * rank + j / cols * each + k] * a[k * DKV + j];
            difference += pow(sum - y[t][j], 2);
            size += pow(y[t][j] - mean[j], 2);
        }
    return difference / size;
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

/* The reason for all of it. */
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

/* Values: errors of all their dimensions cost alike. Of keys what they cost comes along. */
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
        for (int i = 0; i < DKV; i++)
            cr_assert(fed.k_cost[i] > 0 && isfinite(fed.k_cost[i]), "%d: %g", i, (double)fed.k_cost[i]);
        layer_weights_free(&plain);
        layer_weights_free(&fed);
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
            "tensor x.0 of the calibration holds zeros alone");
    fill();
    x[77] = NAN;
    s = shape_of(DKV, 1);
    refuses(write_activations(TOKENS, D, true), &s, XQ_ERROR_FORMAT, "x.0");
}
