/* Runs a sample of the correctness matrix on the software device, and proves that it finds faults: faults
 * that are planted in templates are reported. `xq verify` runs the whole matrix. */
#include "../../../autotune/verify/axes.h"
#include "../../../autotune/verify/case.h"
#include "../../../autotune/verify/verify.h"
#include "../../support/files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sanitizers look for faults of memory, not of arithmetic, and are slow. A few cases are enough to find
 * those faults. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STEP = 12 };
#else
enum { STEP = 1 };
#endif
enum { PARTS = 3, SEED = 20260101 }; /* parts run side by side */

static xq_context *software_device(const char *templates)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    options.device = "sim";
    options.template_dir = templates;
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    return context;
}

typedef struct session {
    xq_context *context;
    verifier *v;
} session;

static session begin(const char *templates, uint64_t seed)
{
    session s = {software_device(templates), NULL};
    error err = ERROR_INIT;
    cr_assert_eq(verifier_create(s.context, templates, seed, &s.v, &err), XQ_OK, "%s", err.message);
    return s;
}

static void end(session *s)
{
    verifier_destroy(s->v);
    xq_context_destroy(s->context);
}

static verify_result run(session *s, int64_t index)
{
    verify_result result;
    error err = ERROR_INIT;
    cr_assert_eq(verifier_run(s->v, index, &result, &err), XQ_OK, "case %lld: %s", (long long)index,
                 err.message);
    return result;
}

/* ---------------------------------------------------------------- the matrix */

static void verify_part_of_tier(int part)
{
    session s = begin(NULL, SEED);
    int64_t cases = verifier_tier_cases(s.v, VERIFY_SMALL);
    int passed = 0;
    for (int64_t i = part * STEP; i < cases; i += PARTS * STEP) {
        int64_t index = verifier_tier_case(VERIFY_SMALL, i);
        if (i + PARTS * STEP < cases)
            verifier_expect(s.v, verifier_tier_case(VERIFY_SMALL, i + PARTS * STEP));
        verify_result r = run(&s, index);
        for (int j = 0; j < VERIFY_IMPLEMENTATIONS; j++) {
            cr_expect_neq(r.part[j].outcome, VERIFY_FAILED, "case %lld: %s: %s: %s", (long long)index,
                          verify_implementation_names[j], r.part[j].message, r.description);
            passed += r.part[j].outcome == VERIFY_PASSED;
        }
    }
    cr_expect_gt(passed, 0);
    end(&s);
}

Test(verify, the_small_tier_passes_1)
{
    verify_part_of_tier(0);
}

Test(verify, the_small_tier_passes_2)
{
    verify_part_of_tier(1);
}

Test(verify, the_small_tier_passes_3)
{
    verify_part_of_tier(2);
}

Test(verify, a_case_is_the_same_every_time)
{
    session s = begin(NULL, 7);
    verify_result first = run(&s, 3), other = run(&s, 4), again = run(&s, 3);
    cr_expect_str_eq(first.description, again.description);
    cr_expect_str_neq(first.description, other.description);
    for (int i = 0; i < VERIFY_IMPLEMENTATIONS; i++)
        cr_expect_eq(first.part[i].out_error, again.part[i].out_error);
    end(&s);
}

/* docs/verify.md has this table. */
Test(verify, bounds_are_those_of_the_types)
{
    static const rounding_type f16_products[] = {ROUNDING_F16, ROUNDING_INT8, ROUNDING_E4M3};
    for (int i = 0; i < 3; i++) {
        const rounding_type t = f16_products[i];
        for (int implementation = XQ_FUSED; implementation <= XQ_FP8_KV; implementation++)
            cr_expect_eq(verify_bound((xq_implementation)implementation, false, t, true, 1), 2e-3);
        cr_expect_eq(verify_bound(XQ_FUSED, true, t, false, 1), 2e-3 + 0x1p-9);
        cr_expect_eq(verify_bound(XQ_FUSED, true, t, true, 1), 2e-3 + 0x1p-8);
        cr_expect_eq(verify_bound(XQ_UNFUSED, true, t, false, 1), 1.5e-2);
        cr_expect_eq(verify_bound(XQ_FP16_KV, true, t, false, 1), 1.5e-2);
        cr_expect_eq(verify_bound_rows(false, t), 2e-3);
    }
    cr_expect_eq(verify_bound(XQ_FUSED, false, ROUNDING_BF16, false, 1), 1.5e-2);
    cr_expect_eq(verify_bound(XQ_UNFUSED, false, ROUNDING_BF16, false, 1), 1.5e-2);
    cr_expect_eq(verify_bound(XQ_FP16_KV, false, ROUNDING_BF16, false, 1), 2e-3,
                 "it multiplies by no weights");
    cr_expect_eq(verify_bound(XQ_FUSED, true, ROUNDING_BF16, false, 1), 1.5e-2);
    cr_expect_eq(verify_bound_rows(false, ROUNDING_BF16), 2e-3 + 3 * 0x1p-9);
}

/* Case 1162 of seed 1 has YaRN's factor 1.35, and a log-sum-exp that is 0.0323 off. */
Test(verify, logits_that_the_model_makes_larger_may_be_off_by_more)
{
    const reference_model plain = {.attention_factor = 0}, small = {.attention_factor = 0.5},
                          large = {.attention_factor = 1.5};
    cr_expect_eq(verify_logit_scale(&plain), 1);
    cr_expect_eq(verify_logit_scale(&small), 1);
    cr_expect_eq(verify_logit_scale(&large), 2.25);
    cr_expect_eq(verify_bound(XQ_UNFUSED, true, ROUNDING_F16, false, 2.25), 1.5e-2 * 2.25);
    cr_expect_eq(verify_bound(XQ_FUSED, true, ROUNDING_F16, false, 2.25), 2e-3 + 0x1p-9);
}

Test(verify, bad_arguments_are_counted)
{
    session s = begin(NULL, SEED);
    cr_expect_gt(run(&s, 0).refused_arguments, 30);
    end(&s);
}

/* ---------------------------------------------------------------- choices */

typedef bool pairs[VERIFY_AXES][VERIFY_MAX_VALUES][VERIFY_AXES][VERIFY_MAX_VALUES];

static void mark(pairs *seen, const verify_choice *c)
{
    for (int a = 0; a < VERIFY_AXES; a++)
        for (int b = 0; b < VERIFY_AXES; b++)
            if (verify_axis_applies((enum verify_axis)a, c) && verify_axis_applies((enum verify_axis)b, c))
                (*seen)[a][c->value[a]][b][c->value[b]] = true;
}

static bool interact(int a, int b)
{
    int both = verify_axis_interacts((enum verify_axis)a) & verify_axis_interacts((enum verify_axis)b);
    return both & VERIFY_CORE || (both && (a == AXIS_QUERIES || b == AXIS_QUERIES)) || a == b;
}

Test(verify, the_small_tier_has_every_value_and_every_pair_that_interacts)
{
    for (uint64_t seed = 0; seed < 4; seed++) {
        pairs *small = calloc(1, sizeof *small), *any = calloc(1, sizeof *any);
        verify_sequence *sequence = verify_sequence_create(seed);
        int64_t cover = verify_sequence_cover(sequence);
        for (int64_t i = 0; i < 20 * cover; i++) {
            verify_choice c = verify_sequence_at(sequence, i);
            mark(any, &c);
            if (i < cover)
                mark(small, &c);
        }
        for (int a = 0; a < VERIFY_AXES; a++)
            for (int b = 0; b < VERIFY_AXES; b++)
                for (int i = 0; interact(a, b) && i < VERIFY_MAX_VALUES; i++)
                    for (int j = 0; j < VERIFY_MAX_VALUES; j++)
                        cr_expect_eq((*small)[a][i][b][j], (*any)[a][i][b][j], "seed %d: %s %s, %s %s",
                                     (int)seed, verify_axis_name((enum verify_axis)a),
                                     verify_value_name((enum verify_axis)a, i),
                                     verify_axis_name((enum verify_axis)b),
                                     verify_value_name((enum verify_axis)b, j));
        for (int a = 0; a < VERIFY_AXES; a++)
            for (int i = 0; i < verify_axis_values((enum verify_axis)a); i++)
                cr_expect((*small)[a][i][a][i], "%s %s", verify_axis_name((enum verify_axis)a),
                          verify_value_name((enum verify_axis)a, i));
        verify_sequence_destroy(sequence);
        free(small);
        free(any);
    }
}

/* Half of the specs have parameters of their own for all of their kernels. */
Test(verify, schedules_are_drawn)
{
    session s = begin(NULL, SEED);
    verify_sequence *sequence = verify_sequence_create(SEED);
    int drawn = 0, plain = 0;
    for (int64_t i = verify_sequence_cover(sequence) - 8; i < verify_sequence_cover(sequence); i++) {
        verify_choice c = verify_sequence_at(sequence, i);
        verify_result r = run(&s, i * VERIFY_SPEC_CASES);
        const bool has = strstr(r.description, "\"tuning\": {") && strstr(r.description, "\"attend\"");
        cr_expect_eq(has, verify_chosen(&c, AXIS_SCHEDULE, "drawn"), "%s", r.description);
        drawn += has;
        plain += !has;
    }
    cr_expect(drawn > 0 && plain > 0);
    verify_sequence_destroy(sequence);
    end(&s);
}

static void same_choice(const verify_choice *a, const verify_choice *b, int64_t index)
{
    for (int axis = 0; axis < VERIFY_AXES; axis++)
        cr_expect_eq(a->value[axis], b->value[axis], "choice %lld: %s", (long long)index,
                     verify_axis_name((enum verify_axis)axis));
}

Test(verify, a_choice_is_the_same_alone_and_among_others)
{
    for (uint64_t seed = 0; seed < 2; seed++) {
        verify_sequence *in_order = verify_sequence_create(seed), *alone = verify_sequence_create(seed);
        for (int64_t i = 0; i < 300; i++) {
            int64_t index = i * 7 % 300; /* any order */
            verify_choice first = verify_sequence_at(alone, index), second;
            for (int64_t j = index < 70 ? 0 : index - 70; j <= index; j++)
                second = verify_sequence_at(in_order, j);
            same_choice(&first, &second, index);
        }
        verify_sequence_destroy(in_order);
        verify_sequence_destroy(alone);
    }
}

/* Tokens at f16's limit come with every method, if codes span a group's range. With latent-cl, such a token
 * is one latent of U, whose columns are orthonormal. */
static void check_limits(const case_spec *spec, int seen[5], error *err)
{
    const int method = spec->choice.value[AXIS_METHOD], c = spec->limit_channel, rank = spec->rank_k;
    case_weights w;
    if (spec->size != 0 || !verify_chosen(&spec->choice, AXIS_CLIP, "1")) {
        cr_expect_eq(c, -1);
        return;
    }
    seen[method]++;
    cr_assert(c >= 0 && c < spec->hidden, "%s", spec->json);
    random_stream r = random_begin(SEED, (uint64_t)seen[method]);
    cr_assert_eq(case_weights_draw(&r, spec, &w, err), XQ_OK);
    for (int k = 0; spec->latent_cross && k < rank; k++) {
        double dot = 0, length = 0;
        for (int i = 0; i < spec->hidden; i++) {
            dot += (double)w.ukv[i * rank] * (double)w.ukv[i * rank + k];
            length += (double)w.ukv[i * rank + k] * (double)w.ukv[i * rank + k];
        }
        cr_expect_float_eq(dot, k == 0, 1e-5);
        cr_expect_float_eq(length, 1, 1e-5);
        cr_expect_eq(w.ukv[c * rank + k], k == 0);
    }
    case_weights_free(&w);
}

Test(verify, tokens_at_the_limit_are_drawn_for_every_method)
{
    int seen[5] = {0};
    error err = ERROR_INIT;
    verify_sequence *s = verify_sequence_create(SEED);
    for (int64_t i = 0; i < 150; i++) {
        case_spec spec;
        case_spec_make(SEED, i, verify_sequence_at(s, i), &spec);
        check_limits(&spec, seen, &err);
    }
    cr_assert_eq(verify_axis_values(AXIS_METHOD), 5);
    for (int m = 0; m < 5; m++)
        cr_expect_geq(seen[m], 3, "%s", verify_value_name(AXIS_METHOD, m));
    verify_sequence_destroy(s);
}

/* Stepping one by one to the largest index would take years. */
Test(verify, a_choice_takes_no_longer_for_a_large_index, .timeout = 30)
{
    verify_sequence *s = verify_sequence_create(1);
    const int64_t largest = VERIFY_MOST_CASE / VERIFY_SPEC_CASES;
    verify_choice last = verify_sequence_at(s, largest), before = verify_sequence_at(s, largest - 1000);
    verify_choice again = verify_sequence_at(s, largest);
    same_choice(&last, &again, largest);
    cr_expect_neq(memcmp(&last, &before, sizeof last), 0);
    verify_sequence_destroy(s);
}

Test(verify, tiers_have_names_and_number_their_cases)
{
    session s = begin(NULL, SEED);
    verify_tier tier;
    error err = ERROR_INIT;
    cr_assert_eq(verify_tier_named("full", &tier, &err), XQ_OK);
    cr_assert_eq(tier, VERIFY_FULL);
    cr_assert_geq(verifier_tier_cases(s.v, VERIFY_FULL), 300);
    cr_assert_geq(verifier_tier_cases(s.v, VERIFY_EXHAUSTIVE), 2000);
    cr_assert_leq(verifier_tier_cases(s.v, VERIFY_SMALL), 120);
    cr_assert_eq(verifier_tier_case(VERIFY_FULL, 4), VERIFY_SPEC_CASES + 1, "three shapes of a spec");
    cr_assert_eq(verify_tier_named("huge", &tier, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "'huge' is no tier; valid: small, full, exhaustive");
    end(&s);
}
