#include "../../prepare/factor.h"
#include "../../prepare/layer_factor.h"
#include "../../prepare/rotation.h"
#include "../../prepare/svd.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(drand48() * 2 - 1);
}

/* Returns ‖W - U·A‖ / ‖W‖. The columns of group g are the group's columns of U times those of A. */
static double residual(const factor_shape *s, const float *w, const float *u, const float *a)
{
    int cols = s->cols / s->groups, rank = s->rank / s->groups;
    double difference = 0, norm = 0;
    for (int i = 0; i < s->rows; i++)
        for (int j = 0; j < s->cols; j++) {
            double product = 0;
            for (int k = 0; k < rank; k++)
                product += (double)u[i * s->rank + j / cols * rank + k] * a[k * s->cols + j];
            difference += pow(product - w[i * s->cols + j], 2);
            norm += pow(w[i * s->cols + j], 2);
        }
    return sqrt(difference / norm);
}

/* Returns the largest |Uᵀ·U - 1| within the columns of each group. */
static double skew(const factor_shape *s, const float *u)
{
    int rank = s->rank / s->groups;
    double most = 0;
    for (int p = 0; p < s->rank; p++)
        for (int q = p / rank * rank; q < (p / rank + 1) * rank; q++) {
            double product = p == q ? -1 : 0;
            for (int i = 0; i < s->rows; i++)
                product += (double)u[i * s->rank + p] * u[i * s->rank + q];
            most = fmax(most, fabs(product));
        }
    return most;
}

enum { ROWS = 60, COLS = 24 };
static float w[ROWS * COLS], other[ROWS * COLS], u[ROWS * 2 * COLS], a[2 * COLS * COLS];

/* ---------------------------------------------------------------- latent */

Test(factor, full_rank_of_any_grouping_gives_the_matrix_back)
{
    srand48(1);
    fill(w, ROWS * COLS);
    for (int groups = 1; groups <= 8; groups *= 2)
        for (int rotated = 0; rotated < 2; rotated++) {
            const factor_shape s = {ROWS, COLS, groups, COLS, rotated};
            double lost = 1;
            error err = ERROR_INIT;
            cr_assert_eq(factor_latent(&s, w, u, a, &lost, &err), XQ_OK, "%s", err.message);
            cr_assert_lt(residual(&s, w, u, a), 1e-6, "%d groups", groups);
            cr_assert(rotated || skew(&s, u) < 1e-6, "%d groups", groups);
            cr_assert_lt(lost, 1e-7);
        }
}

/* The best approximation of rank r of each block loses the block's smallest singular values
 * (Eckart-Young). */
Test(factor, lower_ranks_lose_the_least_possible)
{
    srand48(2);
    fill(w, ROWS * COLS);
    for (int rotated = 0; rotated < 2; rotated++) {
        const factor_shape s = {ROWS, COLS, 2, 10, rotated}; /* 5 of 12 columns in each group */
        double lost, dropped = 0, all = 0;
        error err = ERROR_INIT;
        cr_assert_eq(factor_latent(&s, w, u, a, &lost, &err), XQ_OK, "%s", err.message);
        for (int g = 0; g < 2; g++) {
            static float block[ROWS * 12], full_u[ROWS * 12], full_a[12 * 12];
            for (int i = 0; i < ROWS; i++)
                memcpy(block + i * 12, w + i * COLS + g * 12, sizeof *block * 12);
            cr_assert_eq(svd_factor(block, ROWS, 12, 12, full_u, full_a, NULL, &err), XQ_OK);
            for (int k = 0; k < 12; k++) {
                double singular = 0; /* the square of the singular value: A = Σ·Bᵀ */
                for (int j = 0; j < 12; j++)
                    singular += pow(full_a[k * 12 + j], 2);
                all += singular;
                dropped += k >= 5 ? singular : 0;
            }
        }
        cr_assert_float_eq(residual(&s, w, u, a), sqrt(dropped / all), 1e-6);
        cr_assert_float_eq(lost, sqrt(dropped / all), 1e-6);
        cr_assert_gt(lost, 0.1);
        cr_assert(rotated || skew(&s, u) < 1e-6);
    }
}

/* This is the purpose of grouping: a head's columns have factors of their own, so that A has fewer rows. */
Test(factor, a_groups_factors_do_not_depend_on_the_other_groups)
{
    static float changed_u[ROWS * COLS], changed_a[COLS * COLS];
    const factor_shape s = {ROWS, COLS, 3, 12, false};
    error err = ERROR_INIT;
    srand48(3);
    fill(w, ROWS * COLS);
    cr_assert_eq(factor_latent(&s, w, u, a, NULL, &err), XQ_OK);
    for (int i = 0; i < ROWS; i++)
        for (int j = 16; j < COLS; j++)
            w[i * COLS + j] *= 3;
    cr_assert_eq(factor_latent(&s, w, changed_u, changed_a, NULL, &err), XQ_OK);
    for (int i = 0; i < ROWS; i++)
        cr_assert_eq(memcmp(u + i * 12, changed_u + i * 12, sizeof *u * 8), 0);
    for (int k = 0; k < 4; k++)
        cr_assert_eq(memcmp(a + k * COLS, changed_a + k * COLS, sizeof *a * 16), 0);
    cr_assert_float_eq(changed_a[20], 3 * a[20], 1e-5);
}

/* -------------------------------------------------------------- rotation */

Test(rotation, is_orthogonal_and_spreads_for_any_size)
{
    const int sizes[] = {1, 2, 3, 5, 12, 16, 63, 72, 96, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int n = sizes[i];
        double *r = calloc((size_t)(n * n), sizeof *r);
        error err = ERROR_INIT;
        for (int j = 0; j < n; j++)
            r[j * n + j] = 1;
        cr_assert_eq(rotation_apply(r, n, n, &err), XQ_OK); /* the rows of 1·R are R */
        for (int p = 0; p < n; p++)
            for (int q = 0; q < n; q++) {
                double product = 0;
                for (int k = 0; k < n; k++)
                    product += r[p * n + k] * r[q * n + k];
                cr_assert_float_eq(product, p == q, 1e-12, "size %d", n);
                cr_assert_leq(fabs(r[p * n + q]), sqrt(2.0 / n) + 1e-12, "size %d", n);
            }
        cr_assert_eq(rotation_undo(r, n, n, &err), XQ_OK);
        for (int p = 0; p < n * n; p++)
            cr_assert_float_eq(r[p], p % (n + 1) == 0, 1e-12, "size %d", n);
        free(r);
    }
}

Test(rotation, the_same_size_has_the_same_rotation_whatever_the_rows)
{
    double rows[3 * 24] = {0}, row[24] = {0};
    error err = ERROR_INIT;
    for (int i = 0; i < 24; i++)
        rows[2 * 24 + i] = row[i] = drand48();
    cr_assert_eq(rotation_apply(rows, 3, 24, &err), XQ_OK);
    cr_assert_eq(rotation_apply(row, 1, 24, &err), XQ_OK);
    for (int i = 0; i < 24; i++) {
        cr_assert_eq(rows[i], 0);
        cr_assert_float_eq(rows[2 * 24 + i], row[i], 1e-14);
    }
}

/* The first channel of a latent has the largest values (docs/method.md §2). After rotation no channel
 * has. */
Test(rotation, evens_out_the_channels_of_a_latent)
{
    double largest[2];
    srand48(4);
    fill(w, ROWS * COLS);
    for (int i = 0; i < ROWS; i++) /* one direction dominates */
        for (int j = 0; j < COLS; j++)
            w[i * COLS + j] = 0.05f * w[i * COLS + j] + 1 + 0.1f * (float)i;
    for (int rotated = 0; rotated < 2; rotated++) {
        const factor_shape s = {ROWS, COLS, 1, COLS, rotated};
        error err = ERROR_INIT;
        double most = 0, all = 0;
        cr_assert_eq(factor_latent(&s, w, u, a, NULL, &err), XQ_OK);
        for (int k = 0; k < COLS; k++) {
            double latent = 0; /* latent channel of x = 1, 1, 1, ... */
            for (int i = 0; i < ROWS; i++)
                latent += u[i * COLS + k];
            most = fmax(most, fabs(latent));
            all += latent * latent;
        }
        largest[rotated] = most / sqrt(all);
    }
    cr_assert_gt(largest[0], 0.9);
    cr_assert_lt(largest[1], 0.5);
}

/* ------------------------------------------------------- rotated activations */

/* Largest difference of left·right [rows, cols] from `product`. */
static double rebuilt(const float *left, const float *right, const float *product, int rows, int cols)
{
    double worst = 0;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            double sum = 0;
            for (int k = 0; k < rows; k++)
                sum += (double)left[i * rows + k] * right[k * cols + j];
            worst = fmax(worst, fabs(sum - product[i * cols + j]));
        }
    return worst;
}

/* The columns of the rotation have similar lengths, and the factors behind it turn it back. */
Test(factor, a_rotation_of_x_and_what_is_behind_it_make_the_projections_again)
{
    const layer_shape s = {.method = LAYER_X,
                           .hidden_size = ROWS,
                           .heads = 1,
                           .kv_heads = 1,
                           .head_dim = COLS,
                           .kv_width = COLS,
                           .rank_k = ROWS,
                           .groups_k = 1,
                           .groups_v = 1,
                           .quantization_group = 32,
                           .rotation = true};
    layer_weights x = {.wk = malloc(sizeof w), .wv = malloc(sizeof w)};
    error err = ERROR_INIT;
    srand48(7);
    fill(x.wk, ROWS * COLS);
    fill(x.wv, ROWS * COLS);
    cr_assert_eq(layer_factor(&s, &x, NULL, &err), XQ_OK, "%s", err.message);
    cr_assert_lt(rebuilt(x.uk, x.ak, x.wk, ROWS, COLS), 1e-4);
    cr_assert_lt(rebuilt(x.uk, x.av, x.wv, ROWS, COLS), 1e-4);
    double least = INFINITY, most = 0;
    for (int k = 0; k < 32; k++) {
        double length = 0;
        for (int i = 0; i < ROWS; i++)
            length += pow((double)x.uk[i * ROWS + k], 2);
        least = fmin(least, length);
        most = fmax(most, length);
    }
    cr_assert_lt(most, 3 * least, "columns of one group have lengths %g to %g", least, most);
    layer_weights_free(&x);
}

/* U may be any invertible matrix, not only an orthogonal one. */
Test(factor, coordinates_are_turned_back_by_the_inverse)
{
    static float square[ROWS * ROWS];
    double x[3 * ROWS], turned[3 * ROWS] = {0};
    error err = ERROR_INIT;
    srand48(8);
    fill(square, ROWS * ROWS);
    for (int i = 0; i < 3 * ROWS; i++)
        x[i] = drand48() - 0.5;
    for (int r = 0; r < 3; r++)
        for (int j = 0; j < ROWS; j++)
            for (int k = 0; k < ROWS; k++)
                turned[r * ROWS + j] += x[r * ROWS + k] * square[k * ROWS + j];
    cr_assert_eq(factor_turn_back(square, ROWS, 3, turned, &err), XQ_OK, "%s", err.message);
    for (int i = 0; i < 3 * ROWS; i++)
        cr_assert_float_eq(turned[i], x[i], 1e-9);
    memset(square, 0, sizeof(float) * ROWS);
    cr_assert_eq(factor_turn_back(square, ROWS, 3, turned, &err), XQ_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "uk [60, 60] has no inverse"), "%s", err.message);
}

/* ----------------------------------------------------------------- joint */

/* Returns ‖W - U·Uᵀ·W‖ / ‖W‖. */
static double outside(const float *matrix, const factor_shape *s)
{
    double difference = 0, norm = 0;
    for (int j = 0; j < s->cols; j++) {
        double product[2 * COLS] = {0};
        for (int k = 0; k < s->rank; k++)
            for (int i = 0; i < s->rows; i++)
                product[k] += (double)u[i * s->rank + k] * matrix[i * s->cols + j];
        for (int i = 0; i < s->rows; i++) {
            double sum = 0;
            for (int k = 0; k < s->rank; k++)
                sum += u[i * s->rank + k] * product[k];
            difference += pow(matrix[i * s->cols + j] - sum, 2);
            norm += pow(matrix[i * s->cols + j], 2);
        }
    }
    return sqrt(difference / norm);
}

Test(factor, the_joint_factor_spans_keys_and_values)
{
    srand48(5);
    fill(w, ROWS * COLS);
    fill(other, ROWS * COLS);
    for (int rotated = 0; rotated < 2; rotated++) {
        const factor_shape s = {ROWS, COLS, 1, 2 * COLS, rotated};
        double lost = 1;
        error err = ERROR_INIT;
        cr_assert_eq(factor_joint(&s, w, other, u, &lost, &err), XQ_OK, "%s", err.message);
        cr_assert(outside(w, &s) < 1e-6 && outside(other, &s) < 1e-6);
        cr_assert_lt(skew(&s, u), 1e-6);
        cr_assert_eq(lost, 0);
    }
    const factor_shape low = {ROWS, COLS, 1, 20, true};
    double lost;
    error err = ERROR_INIT;
    cr_assert_eq(factor_joint(&low, w, other, u, &lost, &err), XQ_OK);
    cr_assert_lt(skew(&low, u), 1e-6);
    cr_assert(lost > 0.1 && lost < 0.9);
    cr_assert_float_eq(sqrt((pow(outside(w, &low), 2) + pow(outside(other, &low), 2)) / 2), lost, 0.02);
}

Test(factor, impossible_ranks_are_refused)
{
    const factor_shape s = {ROWS, COLS, 2, 26, false};
    error err = ERROR_INIT;
    cr_assert_eq(factor_latent(&s, w, u, a, NULL, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "rank 13 of a 60 x 12 matrix is not valid; valid: 1 to 12");
}

/* ----------------------------------------------------------------- layer */

static layer_shape shape_of(const char *cache)
{
    char text[512];
    layer_shape shape;
    error err = ERROR_INIT;
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
             "\"head_dim\": 64, \"rope_theta\": 10000.0}, \"cache\": %s}",
             cache);
    char *completed = generator_complete(text);
    cr_assert_eq(layer_shape_read(completed, &shape, &err), XQ_OK, "%s", err.message);
    free(completed);
    return shape;
}

/* Checks the parts that kernels take, each as "name rows cols". */
static void check_parts(const char *cache, const char *expected)
{
    layer_shape shape = shape_of(cache);
    layer_part parts[LAYER_MOST_PARTS];
    char text[256] = "";
    for (int i = 0, count = layer_parts(&shape, parts); i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s %d %d, ", parts[i].name,
                 parts[i].rows, parts[i].cols);
    cr_assert_str_eq(text, expected);
}

Test(layer, every_method_has_its_matrices)
{
    check_parts("{\"method\": \"x\", \"rotation\": false}", "wk 128 128, wv 128 128, ");
    check_parts("{\"method\": \"x\", \"rotation\": true}", "uk 128 128, ak 128 128, av 128 128, ");
    check_parts("{\"method\": \"latent\", \"rank_k\": 64, \"rank_v\": 128}",
                "uk 128 64, ak 64 128, uv 128 128, av 128 128, ");
}

Test(layer, factors_that_are_there_are_kept)
{
    layer_shape shape = shape_of("{\"method\": \"latent\", \"rank_k\": 64, \"rank_v\": 64}");
    size_t count = (size_t)shape.hidden_size * (size_t)shape.kv_width;
    layer_weights layer = {
        .wk = malloc(4 * count), .wv = malloc(4 * count), .uk = malloc(4), .ak = malloc(4)};
    float *kept = layer.uk;
    double lost[2];
    error err = ERROR_INIT;
    srand48(6);
    fill(layer.wk, count);
    fill(layer.wv, count);
    cr_assert_eq(layer_factor(&shape, &layer, lost, &err), XQ_OK, "%s", err.message);
    cr_assert(layer.uk == kept && layer.uv && layer.av);
    cr_assert(lost[0] == 0 && lost[1] > 0.1);
    layer_weights_free(&layer);
}
