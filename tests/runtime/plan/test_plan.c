/* Tests plans over the fake GPU: sizes, options, splits, failures and threads. Other tests of plans are in
 * tests/runtime/launch and in test_pack.c; the results of kernels are tested on the software device. */
#include "../../support/files.h"
#include "../../support/plan_fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------- info */

Test(plan, info_states_layout_and_sizes)
{
    xq_plan *plan = plan_make(PLAN_LATENT, XQ_FUSED);
    xq_plan_info info = plan_info(plan);
    cr_assert_eq(info.hidden_size, 256);
    cr_assert_eq(info.heads, 4);
    cr_assert_eq(info.kv_heads, 2);
    cr_assert_eq(info.head_dim, 64);
    cr_assert_eq(info.page_tokens, 32);
    cr_assert_eq(info.rank_k, 128);
    cr_assert_eq(info.rank_v, 64);
    /* Each of 32 tokens has 192 channels of half a byte, and 3 groups with a scale and an offset. */
    cr_assert_eq(info.page_bytes, 32 * (96 + 3 * 4));
    cr_assert_eq(info.cache_bytes_per_token, 108.0);
    cr_assert_eq(info.weights_bytes, 2 * (256 * 128 + 256 * 64 + 128 * 128 + 64 * 128));
    cr_assert_eq(info.workspace_bytes % 256, 0);
    cr_assert(strstr(xq_plan_spec(plan), "\"rank_v\":64"));
    plan_close(plan);
}

Test(plan, fp16_kv_states_its_own_pages)
{
    xq_plan *plan = plan_make(PLAN_LATENT, XQ_FP16_KV);
    xq_plan_info info = plan_info(plan);
    cr_assert_eq(info.page_bytes, 2 * 32 * 128 * 2);
    cr_assert_eq(info.cache_bytes_per_token, 512.0);
    cr_assert_eq(info.weights_bytes, 2 * 2 * 256 * 128);
    plan_close(plan);
}

Test(plan, info_states_the_limits_of_calls)
{
    plan_open(NULL);
    xq_plan_options o = plan_options(PLAN_X, XQ_UNFUSED);
    o.max_batch = 3;
    o.max_tokens = 100;
    o.max_append = 5;
    o.max_queries = 2;
    o.checked = 1;
    o.pool_pages = 9;
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_OK, "%s", plan_error()->message);
    xq_plan_info info = plan_info(plan);
    cr_assert_eq(info.implementation, XQ_UNFUSED);
    cr_assert_eq(info.max_batch, 3);
    cr_assert_eq(info.max_tokens, 100);
    cr_assert_eq(info.max_pages, 3 * ((100 + info.page_tokens - 1) / info.page_tokens));
    cr_assert_eq(info.max_append, 5);
    cr_assert_eq(info.max_queries, 2);
    cr_assert_eq(info.max_total_queries, 6);
    cr_assert_eq(info.pool_pages, 9);
    plan_close(plan);
}

Test(plan, an_older_callers_options_are_understood)
{
    plan_open(NULL);
    xq_plan_options o = plan_options(PLAN_X, XQ_FUSED);
    xq_plan *plan = NULL;
    o.struct_size = offsetof(xq_plan_options, max_queries); /* the first header, which had no max_queries */
    o.max_queries = -5;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(plan->max_queries, 1);
    xq_plan_destroy(plan);
    o.struct_size--;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "struct_size");
    plan_close(NULL);
}

Test(plan, bad_options_name_the_field)
{
    plan_open(NULL);
    const struct {
        const char *field;
        size_t offset;
        int64_t value;
        size_t size;
    } cases[] = {
        {"max_batch", offsetof(xq_plan_options, max_batch), 0, 4},
        {"max_batch", offsetof(xq_plan_options, max_batch), 65536, 4},
        {"max_tokens", offsetof(xq_plan_options, max_tokens), 0, 8},
        {"max_append", offsetof(xq_plan_options, max_append), 0, 8},
        {"max_queries", offsetof(xq_plan_options, max_queries), 0, 8},
        {"max_queries", offsetof(xq_plan_options, max_queries), (1 << 20) + 1, 8},
        {"max_total_queries", offsetof(xq_plan_options, max_total_queries), -1, 8},
        {"max_total_queries", offsetof(xq_plan_options, max_queries), 1 << 20, 8}, /* for 60000 sequences */
        {"checked", offsetof(xq_plan_options, checked), 2, 4},
        {"pool_pages", offsetof(xq_plan_options, pool_pages), -1, 8},
        {"pool_pages", offsetof(xq_plan_options, pool_pages), (int64_t)1 << 31, 8},
        {"spec_json", offsetof(xq_plan_options, spec_json), 0, sizeof(char *)},
        {"implementation", offsetof(xq_plan_options, implementation), 7, sizeof(xq_implementation)},
        {"max_pages", offsetof(xq_plan_options, max_tokens), 1 << 20, 8}, /* for 60000 sequences */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        xq_plan *plan = (xq_plan *)&cases;
        xq_plan_options o = plan_options(PLAN_X, XQ_UNFUSED);
        o.max_batch = 60000;
        o.max_tokens = 1;
        memcpy((char *)&o + cases[i].offset, &cases[i].value, cases[i].size);
        cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_ARGUMENT, "%s", cases[i].field);
        cr_assert_str_eq(plan_error()->field, cases[i].field);
        cr_assert_eq(plan, (xq_plan *)&cases, "%s: the result was touched", cases[i].field);
    }
    xq_plan_options o = plan_options(
        "{" PLAN_MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 5}}", XQ_FUSED);
    xq_plan *plan;
    cr_assert_neq(xq_plan_create(context, &o, &plan), XQ_OK);
    cr_assert_str_eq(plan_error()->field, "cache.bits");
    plan_close(NULL);
}

Test(plan, a_kernel_that_the_driver_refuses_fails_the_plan_and_leaks_nothing)
{
    plan_open(NULL);
    xq_plan_options o = plan_options(PLAN_X, XQ_UNFUSED);
    xq_plan *plan = NULL;
    fake->fail_function = "cuFuncSetAttribute";
    fake->fail_result = 1;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_DEVICE);
    cr_assert_null(plan);
    plan_close(NULL);
}

/* --------------------------------------------------------- broken templates */

/* Opens a context whose templates/dequantize.cu.lt has `line` instead of its line `number`. */
static void open_context_with_broken_template(int number, const char *line)
{
    size_t size;
    char *text = files_read("templates/dequantize.cu.lt", &size);
    char *broken = NULL, *rest = text;
    FILE *f = open_memstream(&broken, &size);
    for (int i = 1; i < number; i++) {
        size_t length = strcspn(rest, "\n") + 1;
        fwrite(rest, 1, length, f);
        rest += length;
    }
    fprintf(f, "%s\n%s", line, strchr(rest, '\n') + 1);
    fclose(f);
    const char *folder = files_directory();
    files_write(files_path(folder, "dequantize.cu.lt"), broken, size);
    free(broken);
    free(text);
    plan_open(folder);
}

Test(plan, compiler_error_has_template_line_and_complete_log)
{
    open_context_with_broken_template(3, "int broken = undefined_thing;");
    xq_plan_options o = plan_options(PLAN_X, XQ_FUSED);
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_COMPILE);
    const xq_error_detail *detail = plan_error();
    cr_assert_str_eq(detail->stage, "compile");
    cr_assert_str_eq(detail->file, "templates/dequantize.cu.lt");
    cr_assert_eq(detail->line, 3);
    cr_assert(strstr(detail->message, "undefined_thing"), "%s", detail->message);
    cr_assert_not(strchr(detail->message, '\n'));
    cr_assert_not_null(detail->log);
    cr_assert(strstr(detail->log, "int broken = undefined_thing;"), "%s", detail->log);
    plan_close(NULL);
}

Test(plan, lua_error_has_template_line)
{
    open_context_with_broken_template(3, "% nothing.at.all()");
    xq_plan_options o = plan_options(PLAN_X, XQ_FUSED);
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_TEMPLATE);
    cr_assert_str_eq(plan_error()->stage, "template");
    cr_assert_str_eq(plan_error()->file, "templates/dequantize.cu.lt");
    cr_assert_eq(plan_error()->line, 3);
    plan_close(NULL);
}

/* Opens a context whose templates/attend.spec.lua states `line` instead of its partial_share. */
static void open_context_with_share(const char *line)
{
    static const char stated[] = "partial_share = spec.queries == \"many\" and 0.5 or 0.047,";
    size_t size;
    char *text = files_read("templates/attend.spec.lua", &size), *place = strstr(text, stated);
    cr_assert_not_null(place);
    char *changed = NULL;
    FILE *f = open_memstream(&changed, &size);
    fprintf(f, "%.*s%s%s", (int)(place - text), text, line, place + strlen(stated));
    fclose(f);
    const char *folder = files_directory();
    files_write(files_path(folder, "attend.spec.lua"), changed, size);
    free(changed);
    free(text);
    plan_open(folder);
}

Test(plan, the_share_of_partial_results_is_what_the_spec_file_states)
{
    open_context_with_share("partial_share = 0.25,");
    xq_plan_options o = plan_options(PLAN_X, XQ_FUSED);
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(plan->attention[PLAN_ONE][0].split.share, 0.25);
    plan_close(plan);
}

Test(plan, a_share_that_is_missing_or_negative_is_an_error_of_the_spec_file)
{
    static const char *const lines[] = {"", "partial_share = -0.1,", "partial_share = \"half\","};
    for (int i = 0; i < 3; i++) {
        open_context_with_share(lines[i]);
        xq_plan_options o = plan_options(PLAN_X, XQ_FUSED);
        xq_plan *plan = NULL;
        cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_INTERNAL);
        cr_assert(strstr(plan_error()->message, "templates/attend.spec.lua: resources state no number "
                                                "'partial_share'"),
                  "%s", plan_error()->message);
        plan_close(NULL);
    }
}

/* ------------------------------------------------------------------- splits */

static struct split_limits some_limits(void)
{
    return (struct split_limits){.tile_tokens = 128,
                                 .most_tokens = 512,
                                 .resident = 264,
                                 .kv_heads = 8,
                                 .partial_bytes = 2 * 32 * (128 * 2 + 4),
                                 .token_bytes = 1088,
                                 .shared_bytes = 4 << 20,
                                 .share = 0.04,
                                 .partials = 1 << 20};
}

/* Returns the tokens per split for one query of each of `batch` sequences. */
static int64_t tokens_of_one(const struct split_limits *l, int64_t batch, int64_t max_tokens)
{
    struct split_load load = {batch, batch, batch, max_tokens};
    return split_tokens(l, &load);
}

Test(split, sizes_are_valid_and_the_workspace_bound_holds)
{
    srand(1);
    for (int i = 0; i < 20000; i++) {
        struct split_limits l = some_limits();
        l.tile_tokens = 16 << rand() % 5;
        l.most_tokens = l.tile_tokens * (int64_t)(1 + rand() % 16);
        l.resident = 1 + rand() % 600;
        l.kv_heads = 1 + rand() % 64;
        l.share = rand() % 100 * 0.01;
        int64_t max_queries = 1 + rand() % 300, max_tokens = 1 + rand() % 20000, of_block = 1 + rand() % 64;
        l.partials = split_partials(&l, max_queries, of_block, max_tokens);
        struct split_load load = {.queries = 1 + rand() % max_queries,
                                  .max_tokens = rand() % (max_tokens + 1)};
        load.batch = 1 + rand() % load.queries;
        load.blocks = load.batch + rand() % (load.queries - load.batch + 1);
        int64_t tokens = split_tokens(&l, &load);
        cr_assert_gt(tokens, 0);
        cr_assert_eq(tokens % l.tile_tokens, 0);
        cr_assert_leq(tokens, l.most_tokens);
        int64_t count = split_count(load.max_tokens, tokens);
        cr_assert_geq(count * tokens, load.max_tokens);
        cr_assert(count == 1 || load.queries * count <= l.partials,
                  "%ld queries of %ld, %ld of %ld tokens, resident %ld, %d heads", (long)load.queries,
                  (long)max_queries, (long)load.max_tokens, (long)max_tokens, (long)l.resident, l.kv_heads);
    }
}

Test(split, small_batches_find_room_for_all_splits_that_fill_the_gpu)
{
    struct split_limits l = some_limits(), roomy = l;
    l.share = roomy.share = 1;
    l.partials = split_partials(&l, 64, 1, 4096);
    for (int64_t batch = 1; batch <= 64; batch++)
        for (int64_t tokens = 128; tokens <= 4096; tokens += 128)
            cr_assert_eq(tokens_of_one(&l, batch, tokens), tokens_of_one(&roomy, batch, tokens),
                         "%ld sequences of %ld tokens", (long)batch, (long)tokens);
}

Test(split, queries_that_fill_the_gpu_are_not_split)
{
    struct split_limits l = some_limits();
    l.most_tokens = 1 << 20;
    l.share = 1;
    struct split_load prefill = {.batch = 1, .queries = 2048, .blocks = 128, .max_tokens = 32768};
    cr_assert_eq(split_count(32768, split_tokens(&l, &prefill)), 1);
    struct split_load drafts = {.batch = 1, .queries = 8, .blocks = 1, .max_tokens = 32768};
    cr_assert_gt(split_count(32768, split_tokens(&l, &drafts)), 16);
}

Test(split, partial_results_stay_within_their_share)
{
    struct split_limits l = some_limits();
    for (int64_t tokens = 512; tokens <= 16384; tokens *= 2) {
        int64_t count = split_count(tokens, tokens_of_one(&l, 1, tokens));
        double others = l.shared_bytes + (double)tokens * l.token_bytes;
        /* The kernel itself needs one split per most_tokens; the share limits only the splits beyond
         * these. */
        double allowed = fmax(l.share * others, (double)(tokens / l.most_tokens) * l.partial_bytes);
        cr_assert_leq((double)count * l.partial_bytes, allowed, "%ld tokens: %ld splits", (long)tokens,
                      (long)count);
    }
}

Test(split, a_long_sequence_fills_the_gpu)
{
    struct split_limits l = some_limits();
    l.share = 1; /* sets no other limit */
    int64_t count = split_count(8192, tokens_of_one(&l, 1, 8192));
    cr_assert_geq(count * l.kv_heads, 200);
    cr_assert_leq(count * l.kv_heads, 264);
    cr_assert_eq(split_count(8192, tokens_of_one(&l, 33, 8192)), 16,
                 "a large batch takes the longest splits");
}

Test(split, tokens_are_spread_evenly)
{
    struct split_limits l = some_limits();
    l.share = 0; /* as few splits as the kernel allows */
    l.resident = 8;
    cr_assert_eq(tokens_of_one(&l, 1, 513), 384); /* two splits of 384 and 129 tokens, not of 512 and 1 */
    cr_assert_eq(tokens_of_one(&l, 1, 0), 128);
    cr_assert_eq(split_count(0, 128), 1);
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 4, ROUNDS = 20 };

/* Uses a plan of this thread and the shared plan. Some calls are mistakes, and their error detail must be
 * that of this thread. */
static void *use_plans(void *argument)
{
    xq_plan *shared = argument, *own = NULL;
    xq_plan_options o = plan_options(PLAN_LATENT, XQ_FUSED);
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    intptr_t failures = xq_plan_create(context, &o, &own) != XQ_OK;
    for (int i = 0; i < ROUNDS && !failures; i++) {
        xq_append_args a = plan_append_args(own);
        xq_attend_args b = plan_attend_args(shared);
        failures += xq_plan_append(own, &a, NULL) != XQ_OK;
        failures += xq_plan_attend(shared, &b, NULL) != XQ_OK;
        b.q = 8;
        failures += xq_plan_attend(shared, &b, NULL) != XQ_ERROR_ARGUMENT;
        failures +=
            xq_last_error(context, &detail) != XQ_OK || !detail.field || strcmp(detail.field, "q") != 0;
    }
    xq_plan_destroy(own);
    return (void *)failures; /* NOLINT(performance-no-int-to-ptr) */
}

Test(plan, several_threads_create_plans_and_launch_at_once)
{
    pthread_t threads[THREADS];
    xq_plan *plan = plan_make(PLAN_LATENT, XQ_UNFUSED);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, use_plans, plan), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failures = NULL;
        pthread_join(threads[i], &failures);
        cr_assert_null(failures);
    }
    cr_assert_eq(fake->launch_count, THREADS * ROUNDS * (1 + 5));
    plan_close(plan);
}

/* A thread that makes a plan on the software device at the same time as other threads. */
typedef struct maker {
    xq_context *on;
    const char *spec;
    pthread_barrier_t *start;
    xq_plan *plan;
    xq_status status;
} maker;

static void *make_plan(void *argument)
{
    maker *m = argument;
    xq_plan_options o = plan_options(m->spec, XQ_FUSED);
    if (m->start)
        pthread_barrier_wait(m->start);
    m->status = xq_plan_create(m->on, &o, &m->plan);
    return NULL;
}

static xq_context *software_device(const char *cache_dir)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *made = NULL;
    options.device = "sim";
    options.cache_dir = cache_dir;
    cr_assert_eq(xq_context_create(&options, &made), XQ_OK);
    return made;
}

static void expect_same_kernels(const xq_plan *a, const xq_plan *b)
{
    cr_assert_eq(a->image_bytes, b->image_bytes);
    cr_expect_arr_eq(a->image, b->image, a->image_bytes);
}

/* Two of the threads compile the same kernels at the same time. */
Test(plan, threads_that_begin_with_an_empty_kernel_cache_compile_what_one_alone_does)
{
    enum { MAKERS = 3 };
    const char *specs[MAKERS] = {PLAN_X, PLAN_X, PLAN_LATENT};
    pthread_barrier_t start;
    pthread_t threads[MAKERS];
    maker makers[MAKERS], alone[MAKERS];
    xq_context *shared = software_device(files_directory()), *other = software_device(NULL);
    pthread_barrier_init(&start, NULL, MAKERS);
    for (int i = 0; i < MAKERS; i++) {
        makers[i] = (maker){shared, specs[i], &start, NULL, XQ_OK};
        cr_assert_eq(pthread_create(&threads[i], NULL, make_plan, &makers[i]), 0);
    }
    for (int i = 0; i < MAKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i < MAKERS; i++) {
        alone[i] = (maker){other, specs[i], NULL, NULL, XQ_OK};
        make_plan(&alone[i]);
        cr_assert_eq(alone[i].status, XQ_OK);
    }
    for (int i = 0; i < MAKERS; i++) {
        cr_assert_eq(makers[i].status, XQ_OK);
        expect_same_kernels(makers[i].plan, alone[i ? i : 1].plan);
        xq_plan_destroy(makers[i].plan);
    }
    for (int i = 1; i < MAKERS; i++)
        xq_plan_destroy(alone[i].plan);
    xq_context_destroy(other);
    xq_context_destroy(shared);
    pthread_barrier_destroy(&start);
}

/* -------------------------------------------------------- order of destruction */

Test(plan, a_context_may_be_destroyed_before_its_plans)
{
    xq_plan *first = plan_make(PLAN_LATENT, XQ_FUSED), *second = plan_make(PLAN_X, XQ_FUSED);
    xq_append_args good = plan_append_args(first), bad = good;
    xq_context_destroy(context);
    context = NULL;
    bad.x = 1;
    cr_assert_eq(plan_info(first).hidden_size, 256);
    cr_assert_eq(xq_plan_append(first, &good, NULL), XQ_OK);
    xq_plan_destroy(first);
    bad.workspace_bytes = plan_info(second).workspace_bytes;
    cr_assert_eq(xq_plan_append(second, &bad, NULL), XQ_ERROR_ARGUMENT, "a failure is still recorded");
    cr_assert_eq(fake->retained, 1, "the device is still in use");
    xq_plan_destroy(second);
    cr_assert_eq(fake->modules, 0);
    cr_assert_eq(fake->retained, 0);
}

Test(plan, a_plan_that_cannot_be_made_does_not_keep_its_context)
{
    plan_open(NULL);
    xq_plan *plan = NULL;
    xq_plan_options o = plan_options("{\"model\": \"no such model\"}", XQ_FUSED);
    cr_assert_neq(xq_plan_create(context, &o, &plan), XQ_OK);
    plan_close(NULL);
}

/* The memory of the device also stays: kernels run and write it. */
Test(plan, the_software_device_lasts_as_long_as_its_plans)
{
    xq_context *made = software_device(NULL);
    xq_plan_options o = plan_options(PLAN_X, XQ_FUSED);
    xq_plan *plan;
    cr_assert_eq(xq_plan_create(made, &o, &plan), XQ_OK);
    xq_plan_info info = plan_info(plan);
    uint64_t memory;
    size_t room = 1 << 16;
    const int32_t table[] = {0, 1, 0, 1}; /* indptr, indices, last_page_len */
    cr_assert_eq(xq_device_alloc(made, room + info.page_bytes + info.workspace_bytes, &memory), XQ_OK);
    cr_assert_eq(xq_device_fill(made, memory, 0, room + info.page_bytes + info.workspace_bytes), XQ_OK);
    cr_assert_eq(xq_device_write(made, memory, table, sizeof table), XQ_OK);
    xq_context_destroy(made);
    xq_append_args a = XQ_APPEND_ARGS_INIT;
    a.tokens = 1;
    a.x = memory + 4096; /* zeros, as are the token's sequence and position */
    a.token_sequence = a.token_position = memory + 2048;
    a.table = (xq_page_table){1, memory, memory + 8, memory + 12};
    a.pages = memory + room;
    a.weights = memory + 8192;
    a.workspace = memory + room + (info.page_bytes + 255) / 256 * 256;
    a.workspace_bytes = info.workspace_bytes;
    cr_assert_eq(info.page_bytes % 256, 0);
    cr_assert_eq(xq_plan_append(plan, &a, NULL), XQ_OK);
    xq_plan_destroy(plan);
}
