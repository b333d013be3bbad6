/* Mistakes in the arguments of calls, planted one by one. The host finds them on the software device, and
 * the kernel `check` finds them in checked plans, and both report them in the same words. The kernels of
 * the calls are stubs (plan_fixture.h); test_checked_kernels.c has real ones. */
#include "checked_call.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char latent[] = PLAN_LATENT;
static const char channel[] =
    "{" PLAN_MODEL
    ", \"cache\": {\"method\": \"latent\", \"group\": 32, \"axis_k\": \"channel\", \"page\": 32, "
    "\"rank_k\": 128, \"rank_v\": 64}}";
static const char delta[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"x-cl\", \"axis_k\": \"channel\", \"page\": 32, "
    "\"group\": 32}}";

/* ------------------------------------------------------------------ the mistakes */

/* One wrong number in the arrays, and the error that it must cause. */
struct mistake {
    enum checked_kind kind;
    size_t place;
    int32_t value;
    const char *field, *message;
};
#define AT(member) offsetof(struct checked_arrays, member)

static const struct mistake of_table[] = {
    {CHECKED_ATTEND, AT(indptr[0]), 1, "table.indptr", "table.indptr[0] is 1; valid: 0"},
    {CHECKED_ATTEND, AT(indptr[0]), -1, "table.indptr", "table.indptr[0] is -1; valid: 0"},
    {CHECKED_ATTEND, AT(indptr[2]), 1, "table.indptr",
     "table.indptr[2], where the pages of sequence 1 end, is 1; valid: at least 2"},
    {CHECKED_ATTEND, AT(indptr[3]), -2, "table.indptr",
     "table.indptr[3], where the pages of sequence 2 end, is -2; valid: at least 2"},
    {CHECKED_ATTEND, AT(indptr[3]), 6, "table.indptr",
     "table.indptr[3], the pages of all sequences, is 6; valid: at most the plan's max_pages, 5"},
    {CHECKED_ATTEND, AT(last_page_len[0]), 33, "table.last_page_len",
     "table.last_page_len[0] (sequence 0) is 33; valid: 1 to 32"},
    {CHECKED_ATTEND, AT(last_page_len[2]), 0, "table.last_page_len",
     "table.last_page_len[2] (sequence 2) is 0; valid: 1 to 32"},
    {CHECKED_ATTEND, AT(last_page_len[2]), -1, "table.last_page_len", "(sequence 2) is -1"},
    {CHECKED_ATTEND, AT(indices[3]), -1, "table.indices",
     "table.indices[3] (sequence 2) is -1; valid: 0 to 5, the pages of the pool"},
    {CHECKED_ATTEND, AT(indices[1]), 6, "table.indices",
     "table.indices[1] (sequence 0) is 6; valid: 0 to 5"},
    {CHECKED_APPEND, AT(last_page_len[2]), 33, "table.last_page_len", "(sequence 2) is 33"},
    {CHECKED_APPEND, AT(indices[0]), 6, "table.indices", "table.indices[0] (sequence 0) is 6"},
    {CHECKED_DEQUANTIZE, AT(last_page_len[0]), 0, "table.last_page_len", "(sequence 0) is 0"},
    {CHECKED_DEQUANTIZE, AT(indices[2]), -3, "table.indices", "table.indices[2] (sequence 2) is -3"},
    {CHECKED_DEQUANTIZE, AT(indptr[1]), 5, "table.indptr", "sequence 1 end, is 2; valid: at least 5"},
};

static const struct mistake of_queries[] = {
    {CHECKED_ATTEND, AT(query_indptr[0]), -1, "query_indptr", "query_indptr[0] is -1; valid: 0 to 4"},
    {CHECKED_ATTEND, AT(query_indptr[1]), 3, "query_indptr",
     "query_indptr[2], where the queries of sequence 1 end, is 2; valid: at least 3"},
    {CHECKED_ATTEND, AT(query_indptr[3]), 5, "query_indptr",
     "query_indptr[3] (sequence 2) is 5; valid: at most `queries`, 4"},
    {CHECKED_ATTEND, AT(query_position[2]), -1, "query_position",
     "query_position[2] (sequence 2) is -1; valid: 0 and above"},
    {CHECKED_ATTEND, AT(token_offset[2]), -5, "token_offset",
     "token_offset[2] (sequence 2, of 33 tokens) is -5; valid: 0 to 2147483615"},
    {CHECKED_ATTEND, AT(token_offset[0]), INT32_MAX - 38, "token_offset",
     "token_offset[0] (sequence 0, of 40 tokens) is 2147483609; valid: 0 to 2147483608"},
};

static const struct mistake of_tokens[] = {
    {CHECKED_APPEND, AT(token_sequence[4]), 3, "token_sequence", "token_sequence[4] is 3; valid: 0 to 2"},
    {CHECKED_APPEND, AT(token_sequence[0]), -1, "token_sequence", "token_sequence[0] is -1; valid: 0 to 2"},
    {CHECKED_APPEND, AT(token_sequence[3]), 1, "token_position",
     "token_position[3] is 31, and sequence 1 has no tokens"},
    {CHECKED_APPEND, AT(token_position[2]), 40, "token_position",
     "token_position[2] (sequence 0) is 40; valid: 0 to 39"},
    {CHECKED_APPEND, AT(token_position[1]), -1, "token_position", "token_position[1] (sequence 0) is -1"},
    {CHECKED_APPEND, AT(token_position[4]), 31, "token_position",
     "token_position[4] (sequence 2) is 31, as token_position[3] is; valid: each token of a sequence once"},
    {CHECKED_APPEND, AT(indices[3]), 1, "table.indices",
     "table.indices[3] (sequence 2) is 1, as table.indices[1] is, and the call writes tokens to both"},
};

static const struct mistake of_tails[] = {
    {CHECKED_APPEND, AT(append_indptr[0]), 1, "append_indptr", "append_indptr[0] is 1; valid: 0"},
    {CHECKED_APPEND, AT(append_indptr[1]), 4, "append_indptr",
     "append_indptr[2], where the rows of sequence 1 end, is 3; valid: at least 4"},
    {CHECKED_APPEND, AT(append_indptr[3]), 4, "append_indptr",
     "append_indptr[3], the rows of all sequences, is 4; valid: `tokens`, 5"},
    {CHECKED_APPEND, AT(append_indptr[2]), 4, "append_indptr",
     "append_indptr gives sequence 1 1 rows; valid: at most 0"},
    {CHECKED_APPEND, AT(token_sequence[3]), 0, "token_sequence",
     "token_sequence[3] is 0; valid: 2, the sequence that append_indptr gives row 3"},
    {CHECKED_APPEND, AT(token_position[1]), 36, "token_position",
     "token_position[1] (sequence 0) is 36; valid: 38"},
    {CHECKED_APPEND, AT(slots[2]), 4, "tails.slots",
     "tails.slots[2] (sequence 2) is 4, which sequence 0 has too"},
    {CHECKED_APPEND, AT(slots[0]), -4, "tails.slots", "tails.slots[0] (sequence 0) is -4"},
    {CHECKED_ATTEND, AT(slots[0]), -1, "tails.slots", "tails.slots[0] (sequence 0) is -1"},
    {CHECKED_ATTEND, AT(slots[2]), -4, "tails.slots", "tails.slots[2] (sequence 2) is -4"},
    {CHECKED_DEQUANTIZE, AT(slots[0]), -2, "tails.slots", "tails.slots[0] (sequence 0) is -2"},
};

static const struct mistake of_accumulate[] = {
    {CHECKED_ACCUMULATE, AT(indptr[0]), 1, "table.indptr", "table.indptr[0] is 1"},
    {CHECKED_ACCUMULATE, AT(last_page_len[0]), 33, "table.last_page_len", "(sequence 0) is 33"},
    {CHECKED_ACCUMULATE, AT(indices[3]), -1, "table.indices", "table.indices[3] (sequence 2) is -1"},
    {CHECKED_ACCUMULATE, AT(indices[3]), 1, "table.indices",
     "table.indices[3] (sequence 2) is 1, as table.indices[1] is, and the deltas would be added twice"},
    {CHECKED_ACCUMULATE, AT(slots[2]), -4, "tails.slots", "tails.slots[2] (sequence 2) is -4"},
};

static const struct mistake of_fp16_kv[] = {
    {CHECKED_APPEND, AT(rotary_position[3]), -1, "rotary_position",
     "rotary_position[3] (sequence 2) is -1; valid: 0 and above"},
    {CHECKED_APPEND, AT(token_position[4]), 33, "token_position", "token_position[4] (sequence 2) is 33"},
    {CHECKED_ATTEND, AT(indices[0]), 7, "table.indices", "table.indices[0] (sequence 0) is 7"},
    {CHECKED_ATTEND, AT(query_indptr[3]), 5, "query_indptr", "query_indptr[3] (sequence 2) is 5"},
};

/* ------------------------------------------------------------------- the plans */

static uint64_t launches(void)
{
    device_counters counters;
    error err = ERROR_INIT;
    cr_assert_eq(context->device->ops->counters(context->device, &counters, &err), XQ_OK);
    return counters.launches;
}

static struct checked_call open_call(const char *spec, xq_implementation implementation, int checked)
{
    struct checked_call c;
    xq_plan_options o = checked_options(spec, implementation);
    o.checked = checked;
    if (!context)
        plan_open_stubs_on_sim();
    checked_open(&c, plan_make_with(&o));
    return c;
}

static void close_call(struct checked_call *c)
{
    xq_plan_destroy(c->plan);
    xq_context_destroy(context);
    context = NULL;
}

static void assert_said(const struct mistake *m, const char *by)
{
    const xq_error_detail *e = plan_error();
    cr_assert_eq(e->status, XQ_ERROR_ARGUMENT, "%s, %s: %s", by, m->message, e->message);
    cr_assert(e->field && strcmp(e->field, m->field) == 0, "%s, %s: field is %s", by, m->message, e->field);
    cr_assert(strstr(e->message, m->message), "%s: %s\n    is not: %s", by, e->message, m->message);
}

/* The host finds the mistake: the call itself fails and launches nothing. */
static void assert_refused(const struct checked_call *c, const struct mistake *m)
{
    uint64_t before = launches();
    cr_assert_eq(checked_run(c, m->kind), XQ_ERROR_ARGUMENT, "%s: accepted", m->message);
    assert_said(m, "host");
    cr_assert_eq(launches(), before, "%s: launched", m->message);
}

/* The device finds the mistake when the host does not check: the next synchronization fails, once, in the
 * same words. */
static void assert_reported(const struct checked_call *c, const struct mistake *m)
{
    char words[1024];
    snprintf(words, sizeof words, "%s", plan_error()->message);
    c->plan->checks = PLAN_CHECKS_ON_DEVICE;
    cr_assert_eq(checked_run(c, m->kind), XQ_OK, "%s: %s", m->message, plan_error()->message);
    cr_assert_eq(xq_device_synchronize(context), XQ_ERROR_ARGUMENT, "%s: not found", m->message);
    assert_said(m, "device");
    cr_assert_str_eq(plan_error()->message, words);
    cr_assert_eq(xq_device_synchronize(context), XQ_OK, "the fault is reported once");
    c->plan->checks = PLAN_CHECKS_ON_HOST | PLAN_CHECKS_ON_DEVICE;
}

static void assert_all_found(const char *spec, xq_implementation implementation,
                             const struct mistake *mistakes, size_t count)
{
    struct checked_call c = open_call(spec, implementation, 1);
    for (size_t i = 0; i < count; i++) {
        struct checked_arrays arrays = checked_arrays;
        memcpy((char *)&arrays + mistakes[i].place, &mistakes[i].value, sizeof(int32_t));
        checked_write(&c, &arrays);
        assert_refused(&c, &mistakes[i]);
        assert_reported(&c, &mistakes[i]);
        checked_write(&c, &checked_arrays);
        cr_assert_eq(checked_run(&c, mistakes[i].kind), XQ_OK, "%s", plan_error()->message);
        cr_assert_eq(xq_device_synchronize(context), XQ_OK);
    }
    close_call(&c);
}
#define ALL_FOUND(spec, implementation, mistakes)                                                          \
    assert_all_found(spec, implementation, mistakes, sizeof mistakes / sizeof mistakes[0])

Test(checked, faults_of_page_tables_are_found)
{
    ALL_FOUND(latent, XQ_FUSED, of_table);
}

Test(checked, faults_of_queries_are_found)
{
    ALL_FOUND(latent, XQ_FUSED, of_queries);
}

Test(checked, faults_of_appended_tokens_are_found)
{
    ALL_FOUND(latent, XQ_FUSED, of_tokens);
}

Test(checked, faults_of_tails_and_their_rows_are_found)
{
    ALL_FOUND(channel, XQ_FUSED, of_tails);
}

Test(checked, faults_are_found_by_every_implementation)
{
    ALL_FOUND(latent, XQ_UNFUSED, of_table);
    ALL_FOUND(channel, XQ_UNFUSED, of_tails);
    ALL_FOUND(latent, XQ_FP16_KV, of_fp16_kv);
    ALL_FOUND(latent, XQ_FP8_KV, of_fp16_kv);
    ALL_FOUND(delta, XQ_FUSED, of_accumulate);
}

/* ------------------------------------------------------- faults of arguments against arrays */

/* Checks that a mistake in the arguments of `c`, or in its workspace, is found. */
static void assert_found(const struct checked_call *c, enum checked_kind kind, const char *field,
                         const char *message)
{
    struct mistake m = {.kind = kind, .field = field, .message = message};
    assert_refused(c, &m);
    if (c->plan->checks & PLAN_CHECKS_ON_DEVICE)
        assert_reported(c, &m);
}

Test(checked, a_sequence_longer_than_max_tokens_is_named)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 1);
    c.attend.max_tokens = 39;
    assert_found(&c, CHECKED_ATTEND, "max_tokens", "max_tokens is 39, and sequence 0 of the table has 40");
    c.attend.max_tokens = 0;
    assert_found(&c, CHECKED_ATTEND, "max_tokens", "max_tokens is 0, and sequence 0 of the table has 40");
    c.attend.max_tokens = 40;
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    close_call(&c);
    c = open_call(delta, XQ_FUSED, 1);
    c.accumulate.max_tokens = 32;
    assert_found(&c, CHECKED_ACCUMULATE, "max_tokens", "max_tokens is 32, and sequence 0");
    c.accumulate.max_tokens = 0;
    c.accumulate.tails = (xq_tail_pool){0, 0};
    assert_found(&c, CHECKED_ACCUMULATE, "max_tokens", "max_tokens is 0, and sequence 0");
    close_call(&c);
}

Test(checked, a_sequence_longer_than_the_plan_takes_is_named)
{
    struct checked_call c;
    xq_plan_options o = checked_options(latent, XQ_FUSED);
    o.checked = 1;
    o.max_tokens = 39;
    plan_open_stubs_on_sim();
    checked_open(&c, plan_make_with(&o));
    assert_found(&c, CHECKED_APPEND, "table.indptr",
                 "give sequence 0 40 tokens; valid: at most the plan's max_tokens, 39");
    assert_found(&c, CHECKED_DEQUANTIZE, "table.indptr", "give sequence 0 40 tokens");
    close_call(&c);
}

Test(checked, a_sequence_with_more_queries_than_max_queries_is_named)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 1);
    c.attend.max_queries = 1;
    assert_found(&c, CHECKED_ATTEND, "max_queries",
                 "max_queries is 1, and query_indptr gives sequence 0 2 queries");
    close_call(&c);
}

Test(checked, drafts_that_a_sequence_does_not_have_are_named)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 1);
    struct checked_arrays arrays = checked_arrays;
    arrays.indptr[3] = 3; /* sequence 2 then has one token */
    checked_write(&c, &arrays);
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    c.attend.tree_mask = c.arrays + offsetof(struct checked_arrays, tree_mask);
    c.attend.mask_words = 1;
    assert_found(&c, CHECKED_ATTEND, "tree_mask",
                 "sequence 2 has 1 tokens, and with tree_mask its 2 queries are its last tokens");
    close_call(&c);
}

Test(checked, table_entries_are_those_of_the_table)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 1);
    for (int entries = 0; entries <= 5; entries++) {
        char message[64];
        snprintf(message, sizeof message, "table_entries is %d; valid: 4", entries);
        c.dequantize.table_entries = entries;
        if (entries != 4)
            assert_found(&c, CHECKED_DEQUANTIZE, "table_entries", message);
    }
    close_call(&c);
}

Test(checked, a_workspace_that_was_not_zeroed_is_named)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 1);
    size_t at = c.plan->workspace.counters;
    int32_t one = 1, zero = 0;
    cr_assert_eq(xq_device_fill(context, c.workspace, 0xff, c.workspace_bytes), XQ_OK);
    assert_found(&c, CHECKED_ATTEND, "workspace",
                 "workspace was not zeroed: a counter of sequence 0, at byte 0, is -1");
    cr_assert_eq(xq_device_fill(context, c.workspace, 0, c.workspace_bytes), XQ_OK);
    cr_assert_eq(xq_device_write(context, c.workspace + at + 4 * 4, &one, 4), XQ_OK);
    assert_found(&c, CHECKED_ATTEND, "workspace", "a counter of sequence 2, at byte 16, is 1");
    cr_assert_eq(xq_device_write(context, c.workspace + at + 4 * 4, &zero, 4), XQ_OK);
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    close_call(&c);
}

Test(checked, page_numbers_have_no_end_where_the_pool_is_unknown)
{
    struct checked_call c;
    struct checked_arrays arrays = checked_arrays;
    xq_plan_options o = checked_options(latent, XQ_FUSED);
    o.checked = 1;
    o.pool_pages = 0;
    plan_open_stubs_on_sim();
    checked_open(&c, plan_make_with(&o));
    arrays.indices[0] = INT32_MAX;
    checked_write(&c, &arrays);
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    arrays.indices[0] = -1;
    checked_write(&c, &arrays);
    assert_found(&c, CHECKED_ATTEND, "table.indices", "is -1; valid: 0 and above");
    close_call(&c);
}

/* ------------------------------------------------------------------- without `checked` */

Test(checked, the_software_device_always_looks)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 0);
    cr_assert_eq(c.plan->checks, PLAN_CHECKS_ON_HOST);
    cr_assert_null(c.plan->kernels[PLAN_CHECK]);
    c.attend.max_tokens = 39;
    assert_found(&c, CHECKED_ATTEND, "max_tokens", "max_tokens is 39");
    c.attend.max_tokens = 64;
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    close_call(&c);
}

Test(checked, an_array_that_is_not_all_there_is_named)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 0);
    uint64_t two;
    cr_assert_eq(xq_device_alloc(context, 2 * sizeof(int32_t), &two), XQ_OK);
    c.attend.table.last_page_len = two;
    struct mistake m = {
        .kind = CHECKED_ATTEND,
        .field = "table.last_page_len",
        .message = "table.last_page_len must point to 3 int32 on the device; read from the device"};
    assert_refused(&c, &m);
    close_call(&c);
}

Test(checked, arrays_that_a_call_does_not_use_are_not_looked_at)
{
    struct checked_call c = open_call(latent, XQ_FUSED, 1);
    c.append.tokens = 0;
    c.append.x = c.append.token_sequence = c.append.token_position = 0;
    cr_assert_eq(checked_run(&c, CHECKED_APPEND), XQ_OK, "%s", plan_error()->message);
    c.attend.queries = 0;
    c.attend.query_indptr = c.attend.query_position = c.attend.token_offset = 0;
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    c.attend.table = c.append.table = (xq_page_table){0, 0, 0, 0};
    cr_assert_eq(checked_run(&c, CHECKED_APPEND), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(checked_run(&c, CHECKED_ATTEND), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(xq_device_synchronize(context), XQ_OK, "%s", plan_error()->message);
    close_call(&c);
}
