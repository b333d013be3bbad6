/* examples/llama: KL divergence and agreement of two rows of logits, compared with their formulas in double
 * precision, and the percentile over tokens. */
#include "../../examples/llama/divergence.h"
#include "../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { MOST = 49152 };

static float p[MOST], q[MOST];

/* Draws logits of a vocabulary, a few likely tokens and a long tail, and the same logits moved by up to
 * `apart`. */
static void fill(int vocabulary, double apart, uint64_t seed)
{
    random_stream r = random_begin(seed, 0);
    for (int i = 0; i < vocabulary; i++) {
        p[i] = (float)(25 * pow(random_unit(&r), 3)) - 40;
        q[i] = p[i] + (float)(apart * random_unit(&r)) + 7; /* 7 is the same for all and changes nothing */
    }
}

static double log_sum(const float *row, int count)
{
    double sum = exp((double)row[0]);
    for (int i = 1; i < count; i++)
        sum += exp((double)row[i]);
    return log(sum);
}

static double expected(int count)
{
    const double log_p = log_sum(p, count), log_q = log_sum(q, count);
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += exp((double)p[i] - log_p) * (((double)p[i] - log_p) - ((double)q[i] - log_q));
    return sum;
}

static double of_one(int vocabulary, int64_t *agreed)
{
    divergence d = divergence_make(1);
    divergence_add(&d, p, q, 1, vocabulary);
    const double kl = d.each[0];
    *agreed = d.agreed;
    free(d.each);
    return kl;
}

Test(llama_divergence, is_its_formula_for_vocabularies_of_all_lengths)
{
    static const int sizes[] = {2, 15, 16, 17, 258, 1023, 1024, 1025, 40000, MOST};
    static const double apart[] = {0, 1e-2, 1, 30};
    int64_t agreed;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (size_t a = 0; a < sizeof apart / sizeof apart[0]; a++) {
            fill(sizes[s], apart[a], 100 * s + a + 1);
            const double kl = of_one(sizes[s], &agreed), exact = expected(sizes[s]);
            cr_assert(fabs(kl - exact) <= 2e-6 + 2e-6 * exact, "%d tokens, %g apart: %.9g, not %.9g",
                      sizes[s], apart[a], kl, exact);
            cr_assert_geq(kl, 0);
        }
}

Test(llama_divergence, is_exactly_zero_for_equal_logits)
{
    int64_t agreed;
    fill(MOST, 0, 5);
    for (int i = 0; i < MOST; i++)
        q[i] = p[i];
    cr_assert_eq(of_one(MOST, &agreed), 0);
    cr_assert_eq(agreed, 1);
}

Test(llama_divergence, is_directed)
{
    int64_t agreed;
    p[0] = 0, p[1] = 0;                         /* 1/2, 1/2 */
    q[0] = logf(3), q[1] = 0;                   /* 3/4, 1/4 */
    const double wanted = -log(3) / 2 + log(2); /* log(2/3)/2 + log(2)/2 */
    cr_assert_float_eq(of_one(2, &agreed), wanted, 1e-6);
}

Test(llama_divergence, agreement_is_about_the_first_of_the_greatest)
{
    int64_t agreed;
    for (int i = 0; i < 40; i++)
        p[i] = q[i] = 0;
    p[20] = p[39] = 1;
    q[20] = 3;
    of_one(40, &agreed);
    cr_assert_eq(agreed, 1);
    q[39] = 4;
    of_one(40, &agreed);
    cr_assert_eq(agreed, 0);
}

Test(llama_divergence, what_is_not_a_number_stays_so)
{
    int64_t agreed;
    for (int i = 0; i < 40; i++)
        p[i] = q[i] = 0;
    q[20] = NAN;
    cr_assert(isnan(of_one(40, &agreed)));
    p[3] = NAN;
    cr_assert(isnan(of_one(40, &agreed)));
}

/* The summary of `count` tokens with divergences count - 1, …, 1, 0, a quarter of which agrees. */
static divergence_summary summary_of(int count)
{
    divergence d = divergence_make(count);
    for (int i = 0; i < count; i++)
        d.each[d.count++] = count - 1 - i;
    d.agreed = count / 4;
    divergence_summary s = divergence_summarize(&d);
    free(d.each);
    return s;
}

Test(llama_divergence, percentile_is_by_nearest_rank)
{
    /* the smallest value that 99 % of the tokens do not exceed */
    static const struct {
        int tokens, p99;
    } cases[] = {{1, 0}, {2, 1}, {99, 98}, {100, 98}, {101, 99}, {200, 197}, {201, 198}, {10230, 10127}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const divergence_summary s = summary_of(cases[i].tokens);
        cr_assert_eq(s.tokens, cases[i].tokens);
        cr_assert_eq(s.p99, cases[i].p99, "%d tokens: %g", cases[i].tokens, s.p99);
        cr_assert_float_eq(s.mean, (cases[i].tokens - 1) / 2.0, 1e-9);
    }
    cr_assert_float_eq(summary_of(200).top1, 0.25, 1e-12);
    cr_assert_eq(summary_of(0).tokens, 0);
}
