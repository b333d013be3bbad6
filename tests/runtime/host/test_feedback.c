/* Feedback of quantization errors: the matrix of its factors, and the two quantizers that use it.
 * tests/templates/test_append.c checks the bytes of the kernel. */
#include "../../../runtime/base/half.h"
#include "../../../runtime/base/random.h"
#include "../../../runtime/host/cost.h"
#include "../../../runtime/host/feedback.h"
#include "../../../runtime/host/quantizer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xq/xq.h>

/* A stream, and the matrix that it is multiplied by. */
typedef struct problem {
    feedback_stream s;
    int cols, block, stored, groups;
    float *a, *cost, *feedback; /* cost: [cols, block], or NULL */
} problem;

/* Draws cost [cols, block]. Each block is positive semidefinite, random in size, and mixes its columns. */
static float *make_costs(random_stream *r, int cols, int block)
{
    float *cost = malloc(sizeof *cost * (size_t)(cols * block)), *root = malloc(sizeof *root * 48 * 48);
    for (int first = 0; first < cols; first += block) {
        for (int i = 0; i < block * block; i++)
            root[i] = random_normal(r) * expf(random_normal(r));
        for (int i = 0; i < block; i++)
            for (int j = 0; j < block; j++) {
                float *sum = &cost[(first + i) * block + j];
                *sum = 0;
                for (int k = 0; k < block; k++)
                    *sum += root[k * block + i] * root[k * block + j];
            }
    }
    free(root);
    return cost;
}

/* `block` is the size of a block of costs; 0: there are no costs. `decay`: in every row of a, column c is
 * smaller by exp(-decay * (c % 48) / 48). */
static problem problem_make(random_stream *r, int latents, int rank, int group, int block, float decay)
{
    problem p = {.s = {latents, rank, (rank + 63) / 64 * 64, group}, .cols = latents * 48, .block = block};
    p.stored = latents * p.s.latent_width;
    p.groups = latents * ((p.s.latent_width + group - 1) / group);
    p.a = malloc(sizeof *p.a * (size_t)(rank * p.cols));
    p.cost = block ? make_costs(r, p.cols, block) : NULL;
    for (int i = 0; i < rank; i++)
        for (int c = 0; c < p.cols; c++)
            p.a[i * p.cols + c] =
                random_normal(r) * expf(-decay * (float)(c % 48) / 48); /* the same decay in all rows */
    p.feedback = malloc(sizeof *p.feedback * (size_t)(p.groups * group * group));
    const feedback_source source = {p.a, p.cost, p.cols, block};
    cr_assert_eq(feedback_groups(&p.s), p.groups);
    cr_assert(feedback_make(&p.s, &source, 1, p.feedback));
    return p;
}

static void problem_free(problem *p)
{
    free(p->a);
    free(p->cost);
    free(p->feedback);
}

static bool is_data(const problem *p, int channel)
{
    return channel < p->stored && channel % p->s.latent_width < p->s.rank;
}

/* Joint cost of the errors of two stored channels. */
static double joint_cost(const problem *p, int i, int j)
{
    const int latent = i / p->s.latent_width, cols = p->cols / p->s.latents, block = p->cost ? p->block : 1;
    double sum = 0;
    if (!is_data(p, i) || !is_data(p, j) || j / p->s.latent_width != latent)
        return 0;
    for (int c = latent * cols; c < (latent + 1) * cols; c++)
        for (int k = 0; k < block; k++)
            sum += (double)p->a[i % p->s.latent_width * p->cols + c] *
                   (double)p->a[j % p->s.latent_width * p->cols + c / block * block + k] *
                   (p->cost ? (double)p->cost[c * block + k] : 1);
    return sum;
}

/* The stored channel that is number i of a group; `stored`, which holds no data, if there is none. */
static int channel_of(const problem *p, int group, int i)
{
    const int of_a_latent = p->groups / p->s.latents, latent = group / of_a_latent;
    const int channel = group % of_a_latent * p->s.group + i;
    return channel < p->s.latent_width ? latent * p->s.latent_width + channel : p->stored;
}

static float entry(const problem *p, int group, int j, int i)
{
    return p->feedback[(group * p->s.group + j) * p->s.group + i];
}

/* The errors of channels before i are given, and feedback moves the later channels. The moves are the best
 * if no other moves cost less. That is so if the derivative of the cost by every moved channel is 0, where
 * e holds the errors so far and the moves of the rest. */
static void expect_no_slope(const problem *p, int group, int i, random_stream *r)
{
    const int n = p->s.group;
    int *at = malloc(sizeof *at * (size_t)n);
    double *e = calloc((size_t)n, sizeof *e), scale = 0, ridge = 0;
    int channels = 0;
    for (int j = 0; j < n; j++) {
        at[j] = channel_of(p, group, j);
        ridge += joint_cost(p, at[j], at[j]);
        channels += is_data(p, at[j]);
    }
    ridge *= channels ? 1e-3 / channels : 0;
    for (int j = 0; j < i; j++)
        e[j] = is_data(p, at[j]) ? (double)random_normal(r) : 0;
    for (int j = i; j < n; j++) /* later channels have no error except their moves */
        for (int k = 0; k < j; k++)
            e[j] += (double)entry(p, group, k, j) * e[k];
    for (int j = 0; j < n; j++)
        for (int k = 0; k < n; k++)
            scale = fmax(scale, fabs(joint_cost(p, at[j], at[k]) * e[k]));
    for (int j = i; j < n; j++) {
        double slope = ridge * e[j];
        for (int k = 0; k < n; k++)
            slope += joint_cost(p, at[j], at[k]) * e[k];
        cr_assert(fabs(slope) <= 0.005 * scale * sqrt(n), "group %d, channel %d of %d: slope %g of %g",
                  group, j, i, slope, scale);
    }
    free(at);
    free(e);
}

Test(feedback, later_channels_make_up_for_errors_as_well_as_they_can)
{
    static const struct {
        int latents, rank, group, block;
    } cases[] = {{1, 40, 64, 0},  {1, 128, 128, 1}, {2, 64, 128, 48}, {3, 50, 128, 0},
                 {2, 96, 32, 24}, {2, 180, 128, 1}, {1, 128, 64, 16}};
    random_stream r = random_begin(5, 1);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        problem p = problem_make(&r, cases[c].latents, cases[c].rank, cases[c].group, cases[c].block, 1);
        for (int g = 0; g < p.groups; g++)
            for (int i = 1; i < p.s.group; i += 13)
                expect_no_slope(&p, g, i, &r);
        problem_free(&p);
    }
}

Test(feedback, goes_to_later_channels_of_the_same_latent_alone)
{
    random_stream r = random_begin(6, 1);
    problem p = problem_make(&r, 3, 50, 128, 16, 1);
    int some = 0;
    for (int g = 0; g < p.groups; g++)
        for (int j = 0; j < p.s.group; j++)
            for (int i = 0; i < p.s.group; i++) {
                int from = channel_of(&p, g, j), to = channel_of(&p, g, i);
                float f = entry(&p, g, j, i);
                bool may = i > j && is_data(&p, from) && is_data(&p, to) &&
                           from / p.s.latent_width == to / p.s.latent_width;
                cr_assert(may || f == 0, "from %d to %d: %g", from, to, (double)f);
                cr_assert_eq(f, half_round(f));
                some += f != 0;
            }
    cr_assert_gt(some, 3 * 50 * 49 / 2 - 50);
    problem_free(&p);
}

/* ---------------------------------------------------------------- the quantizers */

static double cost_of(const problem *p, const double *e)
{
    double sum = 0;
    for (int i = 0; i < p->stored; i++)
        for (int j = 0; j < p->stored && e[i] != 0; j++)
            sum += e[i] * e[j] * joint_cost(p, i, j);
    return sum;
}

static void draw_row(random_stream *r, const problem *p, uint16_t *x)
{
    for (int i = 0; i < p->stored; i++)
        x[i] = half_from_float(is_data(p, i) ? random_normal(r) + 0.5f : 0);
}

/* Mean cost of the errors of a row. */
static double mean_cost(const problem *p, quantizer q, int rows)
{
    random_stream r = random_begin(8, 8);
    uint16_t x[512], scale[16], zero[16];
    uint8_t codes[512];
    double e[512], sum = 0;
    for (int row = 0; row < rows; row++) {
        draw_row(&r, p, x);
        quantizer_encode(&q, x, (size_t)p->stored, codes, scale, zero);
        for (int i = 0; i < p->stored; i++) {
            const size_t group = quantizer_group_of(&q, (size_t)i);
            e[i] = quantizer_value(&q, codes[i], scale[group], zero[group]) - (double)half_to_float(x[i]);
            e[i] = is_data(p, i) ? e[i] : 0;
        }
        sum += cost_of(p, e);
    }
    return sum / rows;
}

Test(feedback, makes_errors_cost_less)
{
    for (int block = 1; block <= 24; block += 23) {
        random_stream r = random_begin(7, 1);
        problem p = problem_make(&r, 1, 128, 128, block, 2);
        for (int bits = 2; bits <= 8; bits += bits == 4 ? 4 : 1) {
            quantizer q = {.bits = bits, .group = 128, .rank = 128, .latent_width = 128};
            double plain = mean_cost(&p, q, 12);
            q.feedback = p.feedback;
            double fed = mean_cost(&p, q, 12);
            cr_expect_lt(fed, 0.5 * plain, "blocks of %d, %d bits: %g with, %g without", block, bits, fed,
                         plain);
        }
        problem_free(&p);
    }
}

/* The values of quantizer_encode's codes, read as kernels read them, must be those of xq_simulate_cache. */
Test(feedback, both_quantizers_agree_bit_for_bit)
{
    static const int shapes[][3] = {{1, 192, 128}, {2, 100, 128}, {1, 75, 32},
                                    {1, 256, 256}, {3, 64, 64},   {2, 180, 128}};
    random_stream r = random_begin(9, 1);
    for (size_t c = 0; c < 2 * sizeof shapes / sizeof shapes[0]; c++) {
        const int *shape = shapes[c / 2];
        problem p = problem_make(&r, shape[0], shape[1], shape[2], 0, 1);
        for (int bits = 2; bits <= 8; bits += bits == 4 ? 4 : 1) {
            quantizer q = {.bits = bits,
                           .group = (size_t)shape[2],
                           .integer_zero = c % 2,
                           .clip = 0.7f,
                           .rank = (size_t)p.s.rank,
                           .latent_width = (size_t)p.s.latent_width,
                           .feedback = p.feedback};
            xq_quantizer s = XQ_QUANTIZER_INIT;
            s.bits = bits, s.group = shape[2], s.integer_zero = c % 2, s.latents = shape[0], s.clip = 0.7f;
            s.feedback = p.feedback;
            for (int row = 0; row < 6; row++) {
                uint16_t x[512], scale[16], zero[16];
                uint8_t codes[512];
                float compact[512], got[512];
                int used = 0;
                draw_row(&r, &p, x);
                if (row == 4)
                    x[p.s.rank / 2] = 0x7fff; /* NaN */
                if (row == 5)
                    for (int i = 0; i < p.stored; i++)
                        x[i] = is_data(&p, i) ? 0x4200 : 0; /* 3 */
                quantizer_encode(&q, x, (size_t)p.stored, codes, scale, zero);
                for (int i = 0; i < p.stored; i++)
                    if (is_data(&p, i))
                        compact[used++] = half_to_float(x[i]);
                cr_assert_eq(xq_simulate_cache(&s, 1, used, compact, got), XQ_OK);
                for (int i = 0, k = 0; i < p.stored; i++) {
                    if (!is_data(&p, i)) {
                        cr_assert_eq(codes[i], 0);
                        continue;
                    }
                    const size_t g = quantizer_group_of(&q, (size_t)i);
                    float want = half_to_float(quantizer_kernel_value(&q, codes[i], scale[g], zero[g]));
                    cr_assert((isnan(want) && isnan(got[k])) || want == got[k],
                              "%d bits, row %d, channel %d: %g, not %g", bits, row, i, (double)got[k],
                              (double)want);
                    k++;
                }
            }
        }
        problem_free(&p);
    }
}

/* ---------------------------------------------------------------- the interface */

Test(feedback, the_interface_gives_the_same_and_refuses_what_makes_no_sense)
{
    random_stream r = random_begin(10, 1);
    problem p = problem_make(&r, 2, 64, 64, 16, 1); /* like groups of 128 in latents of 64 */
    float *got = malloc(sizeof *got * 2 * 64 * 64);
    xq_quantizer q = XQ_QUANTIZER_INIT;
    q.bits = 2, q.group = 128, q.latents = 2;
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, p.a, 16, p.cost, got), XQ_OK);
    cr_expect_eq(memcmp(got, p.feedback, sizeof *got * 2 * 64 * 64), 0);
    cr_expect_eq(xq_simulate_feedback(NULL, 128, p.cols, p.a, 16, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 127, p.cols, p.a, 16, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, 95, p.a, 16, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, 0, p.a, 16, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, NULL, 16, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, p.a, 16, p.cost, NULL), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, p.a, 0, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, p.a, 32, p.cost, got), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, p.a, 96, p.cost, got), XQ_ERROR_ARGUMENT);
    p.a[5] = INFINITY;
    cr_expect_eq(xq_simulate_feedback(&q, 128, p.cols, p.a, 0, NULL, got), XQ_ERROR_ARGUMENT);
    float x[128] = {0};
    q.feedback = p.feedback;
    cr_expect_eq(xq_simulate_cache(&q, 1, 128, x, x), XQ_OK);
    q.by_channel = 1;
    cr_expect_eq(xq_simulate_cache(&q, 1, 128, x, x), XQ_ERROR_ARGUMENT);
    q.by_channel = 0, q.group = 0;
    cr_expect_eq(xq_simulate_cache(&q, 1, 128, x, x), XQ_ERROR_ARGUMENT);
    q.group = 257;
    cr_expect_eq(xq_simulate_cache(&q, 1, 128, x, x), XQ_ERROR_ARGUMENT);
    free(got);
    problem_free(&p);
}

/* ---------------------------------------------------------------- costs */

static void expect_refused(const float *cost, int block, const char *text)
{
    error err = ERROR_INIT;
    cr_expect_not(cost_check("cost", cost, 6, block, &err), "%s", text);
    cr_expect(strstr(err.message, text), "'%s' is not in: %s", text, err.message);
    cr_expect_str_eq(err.field, "cost");
    error_clear(&err);
}

Test(feedback, costs_are_symmetric_and_positive_semidefinite)
{
    const float good[] = {2, -1, 0, -1, 2, -1, 0, -1, 2, /* */ 1, 1, 1, 1, 1, 1, 1, 1, 1}, zero[18] = {0};
    float bad[18];
    error err = ERROR_INIT;
    cr_expect(cost_check("cost", good, 6, 3, &err), "%s", err.message);
    cr_expect(cost_check("cost", zero, 6, 3, &err), "%s", err.message);
    cr_expect(cost_check("cost", zero, 6, 1, &err), "%s", err.message);
    memcpy(bad, good, sizeof bad);
    bad[11] = 0.9f;
    expect_refused(bad, 3, "cost[3, 2] is 0.9; costs must be symmetric");
    bad[15] = 0.9f;
    expect_refused(bad, 3, "cost is not positive semidefinite in rows 3 to 5");
    bad[3] = NAN;
    expect_refused(bad, 3, "cost[1, 0] is nan; costs must be finite");
    bad[0] = -2;
    expect_refused(bad, 3, "cost[0, 0] is -2; costs must be at least 0 on the diagonal");
    memcpy(bad, zero, sizeof bad);
    bad[1] = bad[3] = 1e-3f;
    expect_refused(bad, 3, "not positive semidefinite in rows 0 to 1");
    expect_refused((const float[]){1, 0, INFINITY, 1, 1, 1}, 1, "cost[2, 0] is inf");
}
