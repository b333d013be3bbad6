/* Every implementation, over random shapes, against the double-precision reference on the same cache. */
#include "../autotune/verify.h"
#include <criterion/criterion.h>
#include <stdlib.h>

/* Sanitizers look for faults of memory, not of arithmetic, and are slow: a few shapes show those. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CASES = 20 };
#else
enum { CASES = 200 };
#endif
enum { PARTS = 4 }; /* four tests, so that they run side by side */

static xq_context *software_device(void)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    options.device = "sim";
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    return context;
}

static void verify_part(int part)
{
    xq_context *context = software_device();
    verifier *v = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(verifier_create(context, NULL, 20260101, &v, &err), XQ_OK, "%s", err.message);
    for (int i = CASES * part / PARTS; i < CASES * (part + 1) / PARTS; i++) {
        verify_result r;
        verifier_run(v, i, &r, &err);
        cr_expect_eq(err.status, XQ_OK, "case %d: %s: %s", i, err.message, r.description);
        cr_expect(r.passed,
                  "case %d: out %.2e %.2e %.2e, lse %.2e %.2e %.2e, %d mismatches, append %.3f steps, kv "
                  "%.2e: %s",
                  i, r.out_error[0], r.out_error[1], r.out_error[2], r.lse_error[0], r.lse_error[1],
                  r.lse_error[2], r.quantizer_mismatches, r.append_error, r.kv_append_error, r.description);
        error_clear(&err);
    }
    verifier_destroy(v);
    xq_context_destroy(context);
}

Test(verify, random_shapes_stay_within_bounds_1, .timeout = 900)
{
    verify_part(0);
}

Test(verify, random_shapes_stay_within_bounds_2, .timeout = 900)
{
    verify_part(1);
}

Test(verify, random_shapes_stay_within_bounds_3, .timeout = 900)
{
    verify_part(2);
}

Test(verify, random_shapes_stay_within_bounds_4, .timeout = 900)
{
    verify_part(3);
}

Test(verify, a_case_is_the_same_every_time)
{
    xq_context *context = software_device();
    verifier *v = NULL;
    error err = ERROR_INIT;
    verify_result first, again, other;
    cr_assert_eq(verifier_create(context, NULL, 7, &v, &err), XQ_OK);
    cr_assert_eq(verifier_run(v, 3, &first, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(verifier_run(v, 4, &other, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(verifier_run(v, 3, &again, &err), XQ_OK, "%s", err.message);
    cr_expect_str_eq(first.description, again.description);
    cr_expect_str_neq(first.description, other.description);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(first.out_error[i], again.out_error[i]);
    verifier_destroy(v);
    xq_context_destroy(context);
}
