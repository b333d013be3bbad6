/* Checked plans on a GPU, with the fake driver: which kernels are launched in which order, that no call
 * waits, and how a fault that the device finds is returned. The test writes faults where the kernel `check`
 * would write them. */
#include "../../support/plan_fixture.h"
#include "call_check.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char latent[] = PLAN_LATENT;

static xq_plan *make_checked(xq_implementation implementation)
{
    xq_plan_options o = plan_options(latent, implementation);
    o.checked = 1;
    o.pool_pages = 77;
    if (!context)
        plan_open_stubs();
    return plan_make_with(&o);
}

/* Checks that the kernel `check` was launched `back` launches before the last; returns the gate of its
 * call. */
static uint64_t assert_checked(int back)
{
    const struct xq_check_params *p = plan_launched(back, "xq_check", 1, 1, 1);
    cr_assert_eq(fake_cuda_launched(fake, back)->params_bytes, sizeof *p);
    return p->gate;
}

/* Checks the gate after a kernel's parameters, and the stream that the kernel was launched on. */
static void assert_guarded(int back, const char *name, size_t params_bytes, uint64_t gate)
{
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, back);
    uint64_t found;
    cr_assert_str_eq(l->name, name);
    cr_assert_eq(l->params_bytes, params_bytes + sizeof found);
    memcpy(&found, l->params + params_bytes, sizeof found);
    cr_assert_eq(found, gate, "%s has the gate of another call", name);
    cr_assert_eq(l->stream, (void *)0x55);
}

static xq_status append(xq_plan *plan)
{
    xq_append_args a = plan_append_args(plan);
    return xq_plan_append(plan, &a, (void *)0x55);
}

/* Does what the kernel `check` that was launched `back` launches before the last does if it finds token
 * `row` at fault. */
static void plant(int back, int row)
{
    const struct xq_check_params *p = plan_launched(back, "xq_check", 1, 1, 1);
    struct xq_fault_record *record = (struct xq_fault_record *)(uintptr_t)p->record;
    xq_fault_set(&record->fault, XQ_FAULT_TOKEN_SEQUENCE, 0, row, 9, 0, 3);
    record->call = p->call;
    record->full = 1;
    *(int *)(uintptr_t)p->bell = 1;
}

Test(checked_gpu, calls_are_looked_through_before_their_kernels_in_the_callers_stream)
{
    xq_plan *plan = make_checked(XQ_FUSED);
    cr_assert_eq(append(plan), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(fake->launch_count, 2);
    uint64_t gate = assert_checked(1);
    cr_assert_eq(fake_cuda_launched(fake, 1)->stream, (void *)0x55);
    assert_guarded(0, "xq_append", sizeof(struct xq_append_params), gate);
    const struct xq_check_params *p = plan_launched(1, "xq_check", 1, 1, 1);
    cr_assert(p->table.indptr == INDPTR && p->table.indices == INDICES && p->table.last_page_len == LAST);
    cr_assert(p->token_sequence == SEQUENCE && p->token_position == POSITION && p->tokens == 40);
    cr_assert(p->batch == 2 && p->page == 32 && p->max_tokens == 1000 && p->pool_pages == 77);
    cr_assert(!p->slots && !p->append_indptr && !p->rotary_position && !p->counters,
              "what the plan does not use is not looked at");
    plan_close(plan);
}

Test(checked_gpu, all_kernels_of_a_call_share_its_gate)
{
    xq_plan *plan = make_checked(XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    cr_assert_eq(xq_plan_attend(plan, &a, (void *)0x55), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(fake->launch_count, 6);
    uint64_t gate = assert_checked(5);
    const struct xq_check_params *p = plan_launched(5, "xq_check", 1, 1, 1);
    cr_assert(p->counters == WORKSPACE + plan->workspace.counters && p->counter_sequences == 2);
    cr_assert(p->max_tokens == 700 && p->own_max_tokens && p->queries.queries == 2);
    assert_guarded(4, "xq_dequantize", sizeof(struct xq_dequantize_params), gate);
    assert_guarded(3, "xq_gemm", sizeof(struct xq_gemm_params), gate);
    assert_guarded(2, "xq_gemm", sizeof(struct xq_gemm_params), gate);
    assert_guarded(1, "xq_rope", sizeof(struct xq_rope_params), gate);
    assert_guarded(0, "xq_kv_attend", sizeof(struct xq_kv_attend_params), gate);
    cr_assert_eq(xq_plan_attend(plan, &a, (void *)0x55), XQ_OK, "%s", plan_error()->message);
    cr_assert_neq(assert_checked(5), gate, "each call has a gate of its own");
    plan_close(plan);
}

Test(checked_gpu, merging_has_nothing_to_look_at)
{
    xq_plan *plan = make_checked(XQ_FUSED);
    xq_merge_args a = XQ_MERGE_ARGS_INIT;
    a.queries = 2;
    a.out_a = a.out_b = a.out = OUT;
    a.lse_a = a.lse_b = LSE;
    cr_assert_eq(append(plan), XQ_OK);
    uint64_t gate = assert_checked(1);
    cr_assert_eq(xq_plan_merge(plan, &a, (void *)0x55), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(fake->launch_count, 3);
    assert_guarded(0, "xq_merge", sizeof(struct xq_merge_params), fault_log_open_gate(plan->faults));
    cr_assert_neq(fault_log_open_gate(plan->faults), gate);
    plan_close(plan);
}

Test(checked_gpu, a_call_only_launches_so_that_a_graph_can_capture_it)
{
    xq_plan *plan = make_checked(XQ_FUSED);
    fake->calls[0] = 0;
    cr_assert_eq(append(plan), XQ_OK);
    cr_assert_str_eq(fake->calls, "cuCtxPushCurrent cuLaunchKernel cuCtxPopCurrent "
                                  "cuCtxPushCurrent cuLaunchKernel cuCtxPopCurrent ");
    plan_close(plan);
}

Test(checked_gpu, the_next_call_returns_the_fault_and_launches_nothing)
{
    xq_plan *plan = make_checked(XQ_FUSED);
    cr_assert_eq(append(plan), XQ_OK);
    plant(1, 12);
    cr_assert_eq(append(plan), XQ_ERROR_ARGUMENT);
    cr_assert_eq(fake->launch_count, 2);
    cr_assert_str_eq(plan_error()->field, "token_sequence");
    cr_assert_str_eq(plan_error()->message,
                     "token_sequence[12] is 9; valid: 0 to 2, the sequences of the table");
    cr_assert_eq(append(plan), XQ_OK, "the fault is returned once");
    cr_assert_eq(fake->launch_count, 4);
    cr_assert_eq(xq_device_synchronize(context), XQ_OK);
    plan_close(plan);
}

Test(checked_gpu, the_first_of_several_faults_is_returned_and_the_others_are_forgotten)
{
    xq_plan *plan = make_checked(XQ_FUSED);
    cr_assert_eq(append(plan), XQ_OK);
    cr_assert_eq(append(plan), XQ_OK);
    cr_assert_eq(append(plan), XQ_OK);
    plant(1, 3);
    plant(3, 2);
    cr_assert_eq(xq_device_synchronize(context), XQ_ERROR_ARGUMENT);
    cr_assert(strstr(plan_error()->message, "token_sequence[2]"), "%s", plan_error()->message);
    cr_assert_eq(xq_device_synchronize(context), XQ_OK);
    cr_assert_eq(append(plan), XQ_OK);
    plan_close(plan);
}

Test(checked_gpu, whoever_waits_for_the_device_is_told_whatever_the_plan)
{
    xq_plan *one = make_checked(XQ_FUSED), *other = make_checked(XQ_FUSED);
    uint64_t memory;
    char byte;
    cr_assert_eq(xq_device_alloc(context, 1, &memory), XQ_OK);
    cr_assert_eq(append(one), XQ_OK);
    cr_assert_eq(append(other), XQ_OK);
    plant(3, 1);
    cr_assert_eq(append(other), XQ_OK, "the fault is the other plan's");
    cr_assert_eq(xq_device_read(context, &byte, memory, 1), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "token_sequence");
    cr_assert_eq(xq_device_read(context, &byte, memory, 1), XQ_OK);
    cr_assert_eq(xq_device_free(context, memory), XQ_OK);
    xq_plan_destroy(other);
    plan_close(one);
}

static void keep_warning(void *user, xq_log_level level, const char *message)
{
    if (level == XQ_LOG_WARNING)
        snprintf(user, 256, "%s", message);
}

Test(checked_gpu, a_fault_that_nobody_asked_for_is_logged)
{
    char warning[256] = "";
    xq_plan *plan = make_checked(XQ_FUSED);
    context->log = (logger){keep_warning, warning};
    cr_assert_eq(append(plan), XQ_OK);
    plant(1, 5);
    plan_close(plan);
    cr_assert(strstr(warning, "token_sequence[5]"), "%s", warning);
}

Test(checked_gpu, tickets_are_used_again)
{
    xq_plan *plan = make_checked(XQ_FUSED);
    cr_assert_eq(append(plan), XQ_OK);
    uint64_t first = assert_checked(1);
    for (int i = 0; i < FAULT_TICKETS; i++) {
        cr_assert_neq(i && assert_checked(1) == first, 1);
        cr_assert_eq(append(plan), XQ_OK);
    }
    cr_assert_eq(assert_checked(1), first);
    plan_close(plan);
}

/* ------------------------------------------------------------------- options */

Test(checked_gpu, other_plans_launch_what_they_always_did)
{
    plan_open_stubs();
    xq_plan *plan = plan_make(latent, XQ_FUSED);
    cr_assert(!plan->checks && !plan->faults && !plan->kernels[PLAN_CHECK]);
    cr_assert_null(strstr(xq_plan_spec(plan), "checked"));
    cr_assert_eq(append(plan), XQ_OK);
    cr_assert_eq(fake->launch_count, 1);
    cr_assert_eq(fake_cuda_launched(fake, 0)->params_bytes, sizeof(struct xq_append_params));
    plan_close(plan);
}

Test(checked_gpu, the_size_of_the_pool_is_refused_where_nothing_looks_at_it)
{
    plan_open_stubs();
    xq_plan *plan = NULL;
    xq_plan_options o = plan_options(latent, XQ_FUSED);
    o.pool_pages = 10;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "pool_pages");
    cr_assert(strstr(plan_error()->message, "without `checked`; valid: 0"), "%s", plan_error()->message);
    plan_close(NULL);
}

Test(checked_gpu, a_spec_may_ask_for_it_but_not_against_the_options)
{
    static const char asking[] = "{\"checked\": true, " PLAN_MODEL
                                 ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"page\": 32}}";
    static const char against[] = "{\"checked\": false, " PLAN_MODEL "}";
    plan_open_stubs();
    xq_plan *plan = plan_make(asking, XQ_FUSED);
    cr_assert_eq(plan->checks, PLAN_CHECKS_ON_DEVICE);
    cr_assert_eq(append(plan), XQ_OK);
    assert_checked(1);
    xq_plan_options o = plan_options(against, XQ_FUSED);
    o.checked = 1;
    xq_plan *none = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &none), XQ_ERROR_SPEC);
    cr_assert_str_eq(plan_error()->field, "checked");
    o.spec_json = "{\"checked\": null, " PLAN_MODEL "}";
    cr_assert_eq(xq_plan_create(context, &o, &none), XQ_OK, "%s", plan_error()->message);
    xq_plan_destroy(none);
    plan_close(plan);
}

Test(checked_gpu, memory_that_is_not_there_fails_the_plan_and_leaks_nothing)
{
    static const char *const calls[] = {"cuMemAlloc", "cuMemHostAlloc", "cuMemHostGetDevicePointer"};
    plan_open_stubs();
    for (int i = 0; i < 3; i++) {
        xq_plan *plan = NULL;
        xq_plan_options o = plan_options(latent, XQ_FUSED);
        o.checked = 1;
        fake->fail_function = calls[i];
        fake->fail_result = 2;
        cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_DEVICE_MEMORY, "%s", calls[i]);
        cr_assert_null(plan);
        fake->fail_function = NULL;
        cr_assert_eq(xq_device_synchronize(context), XQ_OK);
    }
    plan_close(NULL);
}
