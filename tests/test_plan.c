/* Plans over the fake GPU: layout, weights, workspace, argument checks, and exactly what each launch
 * passes. What the kernels compute is tested on the software device. */
#include "../runtime/half.h"
#include "../runtime/plan.h"
#include "fake_cuda.h"
#include "files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, "                                                                                   \
    "\"rope_theta\": 10000}"
static const char latent_spec[] =
    "{" MODEL
    ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"rank_k\": 128, \"rank_v\": 64, "
    "\"page\": 32}}";
static const char x_spec[] =
    "{" MODEL ", \"cache\": {\"method\": \"x\", \"bits\": 8, \"group\": 128, \"page\": 64}}";

static struct fake_cuda_state *fake;
static xq_context *context;

/* A kernel cache beside the test programs: each test is a process of its own, and compiles the same. */
static const char *shared_cache(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);
    cr_assert_gt(n, 0);
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, "kernel-cache");
    return path;
}

static void open_context(void)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = "cuda";
    options.cache_dir = shared_cache();
    fake = fake_cuda_use();
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
}

static const xq_error_detail *last_error(void)
{
    static xq_error_detail detail;
    detail = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    return &detail;
}

static xq_plan_options plan_options(const char *spec, xq_implementation implementation)
{
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    o.spec_json = spec;
    o.implementation = implementation;
    o.max_batch = 3;
    o.max_tokens = 1000;
    o.max_append = 100;
    return o;
}

static xq_plan *make_plan(const char *spec, xq_implementation implementation)
{
    xq_plan_options o = plan_options(spec, implementation);
    xq_plan *plan = NULL;
    if (!context)
        open_context();
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_OK, "%s", last_error()->message);
    return plan;
}

static xq_plan_info query(const xq_plan *plan)
{
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    return info;
}

static void close_all(xq_plan *plan)
{
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    context = NULL;
    cr_assert_eq(fake->modules, 0, "a module was not unloaded");
    cr_assert_eq(fake->retained, 0);
}

/* Addresses that no kernel runs on: each tells in a failing test what it stands for. */
enum {
    X = 0x1000000,
    SEQUENCE = 0x2000000,
    POSITION = 0x3000000,
    INDPTR = 0x4000000,
    INDICES = 0x5000000,
    LAST = 0x6000000,
    PAGES = 0x7000000,
    WEIGHTS = 0x8000000,
    Q = 0x9000000,
    OUT = 0xa000000,
    LSE = 0xb000000,
    WORKSPACE = 0xc000000
};

static xq_page_table table_of(int32_t batch)
{
    return (xq_page_table){batch, INDPTR, INDICES, LAST};
}

static xq_append_args append_args(const xq_plan *plan)
{
    xq_append_args a = XQ_APPEND_ARGS_INIT;
    a.tokens = 40;
    a.x = X;
    a.token_sequence = SEQUENCE;
    a.token_position = POSITION;
    a.table = table_of(2);
    a.pages = PAGES;
    a.weights = WEIGHTS;
    a.workspace = WORKSPACE;
    a.workspace_bytes = query(plan).workspace_bytes;
    return a;
}

static xq_attend_args attend_args(const xq_plan *plan)
{
    xq_attend_args a = XQ_ATTEND_ARGS_INIT;
    a.max_tokens = 700;
    a.q = Q;
    a.out = OUT;
    a.lse = LSE;
    a.table = table_of(2);
    a.pages = PAGES;
    a.weights = WEIGHTS;
    a.workspace = WORKSPACE;
    a.workspace_bytes = query(plan).workspace_bytes;
    return a;
}

/* --------------------------------------------------------------------- info */

Test(plan, info_states_layout_and_sizes)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FUSED);
    xq_plan_info info = query(plan);
    cr_assert_eq(info.hidden_size, 256);
    cr_assert_eq(info.heads, 4);
    cr_assert_eq(info.kv_heads, 2);
    cr_assert_eq(info.head_dim, 64);
    cr_assert_eq(info.page_tokens, 32);
    cr_assert_eq(info.rank_k, 128);
    cr_assert_eq(info.rank_v, 64);
    /* 192 channels at half a byte and 3 groups of scale and offset, for each of 32 tokens. */
    cr_assert_eq(info.page_bytes, 32 * (96 + 3 * 4));
    cr_assert_eq(info.cache_bytes_per_token, 108.0);
    cr_assert_eq(info.weights_bytes, 2 * (256 * 128 + 256 * 64 + 128 * 128 + 64 * 128));
    cr_assert_eq(info.workspace_bytes % 256, 0);
    cr_assert(strstr(xq_plan_spec(plan), "\"rank_v\":64"));
    close_all(plan);
}

Test(plan, fp16_kv_states_its_own_pages)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FP16_KV);
    xq_plan_info info = query(plan);
    cr_assert_eq(info.page_bytes, 2 * 32 * 128 * 2);
    cr_assert_eq(info.cache_bytes_per_token, 512.0);
    cr_assert_eq(info.weights_bytes, 2 * 2 * 256 * 128);
    close_all(plan);
}

Test(plan, an_older_callers_options_are_understood)
{
    open_context();
    xq_plan_options o = plan_options(x_spec, XQ_FUSED);
    xq_plan *plan = NULL;
    o.struct_size = offsetof(xq_plan_options, max_append); /* a header without it */
    o.max_append = -5;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_OK, "%s", last_error()->message);
    cr_assert_eq(plan->max_append, 1);
    close_all(plan);
}

Test(plan, bad_options_name_the_field)
{
    open_context();
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
        {"max_total_queries", offsetof(xq_plan_options, max_queries), 1 << 20, 8}, /* of 60000 sequences */
        {"spec_json", offsetof(xq_plan_options, spec_json), 0, sizeof(char *)},
        {"implementation", offsetof(xq_plan_options, implementation), 7, sizeof(xq_implementation)},
        {"max_pages", offsetof(xq_plan_options, max_tokens), 1 << 20, 8}, /* of 60000 sequences */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        xq_plan *plan = (xq_plan *)&cases;
        xq_plan_options o = plan_options(x_spec, XQ_UNFUSED);
        o.max_batch = 60000;
        o.max_tokens = 1;
        memcpy((char *)&o + cases[i].offset, &cases[i].value, cases[i].size);
        cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_ARGUMENT, "%s", cases[i].field);
        cr_assert_str_eq(last_error()->field, cases[i].field);
        cr_assert_eq(plan, (xq_plan *)&cases, "%s: the result was touched", cases[i].field);
    }
    xq_plan_options o = plan_options("{" MODEL ", \"cache\": {\"method\": \"x\", \"bits\": 5}}", XQ_FUSED);
    xq_plan *plan;
    cr_assert_neq(xq_plan_create(context, &o, &plan), XQ_OK);
    cr_assert_str_eq(last_error()->field, "cache.bits");
    close_all(NULL);
}

Test(plan, a_kernel_that_the_driver_refuses_fails_the_plan_and_leaks_nothing)
{
    open_context();
    xq_plan_options o = plan_options(x_spec, XQ_UNFUSED);
    xq_plan *plan = NULL;
    fake->fail_function = "cuFuncSetAttribute";
    fake->fail_result = 1;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_DEVICE);
    cr_assert_null(plan);
    close_all(NULL);
}

/* --------------------------------------------------------- broken templates */

/* A context whose templates/dequantize.cu.lt has `line` as its line number `number`. */
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
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = "cuda";
    options.cache_dir = shared_cache();
    options.template_dir = folder;
    fake = fake_cuda_use();
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
}

Test(plan, compiler_error_has_template_line_and_complete_log)
{
    open_context_with_broken_template(3, "int broken = undefined_thing;");
    xq_plan_options o = plan_options(x_spec, XQ_FUSED);
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_COMPILE);
    const xq_error_detail *detail = last_error();
    cr_assert_str_eq(detail->stage, "compile");
    cr_assert_str_eq(detail->file, "templates/dequantize.cu.lt");
    cr_assert_eq(detail->line, 3);
    cr_assert(strstr(detail->message, "undefined_thing"), "%s", detail->message);
    cr_assert_not(strchr(detail->message, '\n'));
    cr_assert_not_null(detail->log);
    cr_assert(strstr(detail->log, "int broken = undefined_thing;"), "%s", detail->log);
    close_all(NULL);
}

Test(plan, lua_error_has_template_line)
{
    open_context_with_broken_template(3, "% nothing.at.all()");
    xq_plan_options o = plan_options(x_spec, XQ_FUSED);
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_TEMPLATE);
    cr_assert_str_eq(last_error()->stage, "template");
    cr_assert_str_eq(last_error()->file, "templates/dequantize.cu.lt");
    cr_assert_eq(last_error()->line, 3);
    close_all(NULL);
}

/* ------------------------------------------------------------------ weights */

/* The place of W[k, n] in packed order, from the definition in docs/layout.md. */
static size_t packed_index(int rows, int k, int n)
{
    int tile = n / 16, step = k / 16;
    int lane = n % 8 * 4 + k % 8 / 2, reg = (n % 16 >= 8 ? 2 : 0) + (k % 16 >= 8 ? 1 : 0), half = k % 2;
    return ((((size_t)tile * (size_t)(rows / 16) + (size_t)step) * 32 + (size_t)lane) * 4 + (size_t)reg) *
               2 +
           (size_t)half;
}

static float *random_matrix(int rows, int cols)
{
    float *m = malloc(sizeof *m * (size_t)(rows * cols));
    for (int i = 0; i < rows * cols; i++)
        m[i] = (float)(rand() % 20001 - 10000) / 777;
    return m;
}

static void assert_packed(const uint16_t *packed, const float *w, int rows, int cols, const char *name)
{
    for (int k = 0; k < rows; k++)
        for (int n = 0; n < cols; n++)
            cr_assert_eq(packed[packed_index(rows, k, n)], half_from_float(w[k * cols + n]), "%s[%d, %d]",
                         name, k, n);
}

Test(pack, every_weight_is_where_the_layout_says)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FUSED);
    size_t bytes = query(plan).weights_bytes;
    uint16_t *packed = malloc(bytes);
    xq_weights w = XQ_WEIGHTS_INIT;
    float *uk = random_matrix(256, 128), *uv = random_matrix(256, 64);
    float *ak = random_matrix(128, 128), *av = random_matrix(64, 128);
    w.uk = uk;
    w.uv = uv;
    w.ak = ak;
    w.av = av;
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK, "%s", last_error()->message);
    assert_packed(packed, uk, 256, 128, "uk");
    assert_packed(packed + 256 * 128, uv, 256, 64, "uv");
    assert_packed(packed + 256 * 192, ak, 128, 128, "ak");
    assert_packed(packed + 256 * 192 + 128 * 128, av, 64, 128, "av");
    free(uk);
    free(uv);
    free(ak);
    free(av);
    free(packed);
    close_all(plan);
}

Test(pack, missing_or_unrepresentable_weights_are_refused_and_nothing_is_written)
{
    xq_plan *plan = make_plan(x_spec, XQ_FUSED);
    size_t bytes = query(plan).weights_bytes;
    unsigned char *packed = malloc(bytes);
    memset(packed, 0xee, bytes);
    xq_weights w = XQ_WEIGHTS_INIT;
    float *wk = random_matrix(256, 128), *wv = random_matrix(256, 128);
    w.wk = wk;
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(last_error()->field, "weights.wv");
    w.wv = wv;
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes - 1), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(last_error()->field, "destination_bytes");
    cr_assert_eq(xq_plan_pack_weights(plan, &w, NULL, bytes), XQ_ERROR_ARGUMENT);
    const float bad[] = {NAN, INFINITY, -INFINITY, 65520.0f, -1e30f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wv[3 * 128 + 5] = bad[i];
        cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_ERROR_ARGUMENT, "%g",
                     (double)bad[i]);
        cr_assert_str_eq(last_error()->field, "weights.wv");
        cr_assert(strstr(last_error()->message, "[3, 5]"), "%s", last_error()->message);
    }
    for (size_t i = 0; i < bytes; i++)
        cr_assert_eq(packed[i], 0xee);
    wv[3 * 128 + 5] = 65519.0f; /* rounds to 65504 */
    cr_assert_eq(xq_plan_pack_weights(plan, &w, packed, bytes), XQ_OK);
    free(wk);
    free(wv);
    free(packed);
    close_all(plan);
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

/* One query of each of `batch` sequences. */
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
        /* Beyond what the kernel itself asks for: one split in most_tokens. */
        double allowed = fmax(l.share * others, (double)(tokens / l.most_tokens) * l.partial_bytes);
        cr_assert_leq((double)count * l.partial_bytes, allowed, "%ld tokens: %ld splits", (long)tokens,
                      (long)count);
    }
}

Test(split, a_long_sequence_fills_the_gpu)
{
    struct split_limits l = some_limits();
    l.share = 1; /* no other limit */
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
    cr_assert_eq(tokens_of_one(&l, 1, 513), 384); /* two of 384 and 129, not 512 and 1 */
    cr_assert_eq(tokens_of_one(&l, 1, 0), 128);
    cr_assert_eq(split_count(0, 128), 1);
}

/* ----------------------------------------------------------------- launches */

static void assert_grid(const struct fake_cuda_launch *l, const char *name, unsigned x, unsigned y,
                        unsigned z)
{
    cr_assert_str_eq(l->name, name);
    cr_assert(l->grid[0] == x && l->grid[1] == y && l->grid[2] == z, "%s: grid is %u %u %u, not %u %u %u",
              name, l->grid[0], l->grid[1], l->grid[2], x, y, z);
}

static void assert_table(const struct xq_table *table, uint64_t indices)
{
    cr_assert_eq(table->indptr, INDPTR);
    cr_assert_eq(table->indices, indices);
    cr_assert_eq(table->last_page_len, LAST);
}

Test(launch, append_passes_projections_and_covers_all_tokens)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FUSED);
    xq_append_args a = append_args(plan);
    cr_assert_eq(xq_plan_append(plan, &a, (void *)0x55), XQ_OK, "%s", last_error()->message);
    cr_assert_eq(fake->launch_count, 1);
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 0);
    const struct xq_append_params *p = (const void *)l->params;
    assert_grid(l, "xq_append", 3, (unsigned)plan->append_columns, 1);
    cr_assert_eq(l->block[0], plan->kernels[PLAN_APPEND]->threads);
    cr_assert_eq(l->shared_bytes, plan->kernels[PLAN_APPEND]->shared_bytes);
    cr_assert_eq(l->stream, (void *)0x55);
    cr_assert_eq(l->params_bytes, sizeof *p);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->x, X);
    cr_assert_eq(p->token_sequence, SEQUENCE);
    cr_assert_eq(p->token_position, POSITION);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->uk.data, WEIGHTS);
    cr_assert_eq(p->uv.data, WEIGHTS + 2 * 256 * 128);
    cr_assert_eq(p->tokens, 40);
    close_all(plan);
}

Test(launch, append_of_method_x_needs_no_weights)
{
    xq_plan *plan = make_plan(x_spec, XQ_FUSED);
    xq_append_args a = append_args(plan);
    a.weights = a.workspace = 0;
    cr_assert_eq(xq_plan_append(plan, &a, NULL), XQ_OK, "%s", last_error()->message);
    const struct xq_append_params *p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->uk.data, 0);
    cr_assert_eq(p->uv.data, 0);
    close_all(plan);
}

Test(launch, fused_attend_is_one_kernel_over_splits_heads_and_sequences)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FUSED);
    xq_attend_args a = attend_args(plan);
    cr_assert_eq(xq_plan_attend(plan, &a, NULL), XQ_OK, "%s", last_error()->message);
    cr_assert_eq(fake->launch_count, 1);
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 0);
    const struct xq_attend_params *p = (const void *)l->params;
    int64_t tokens = tokens_of_one(&plan->attention[PLAN_ONE].split, 2, 700);
    assert_grid(l, "xq_attend", (unsigned)split_count(700, tokens), 2, 2);
    cr_assert_eq(l->params_bytes, sizeof *p);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->tokens_per_split, tokens);
    cr_assert_eq(p->wk.data, WEIGHTS + 2 * 256 * 192);
    cr_assert_eq(p->wv.data, WEIGHTS + 2 * (256 * 192 + 128 * 128));
    cr_assert_eq(p->q, Q);
    cr_assert_eq(p->out, OUT);
    cr_assert_eq(p->lse, LSE);
    cr_assert_eq(p->counters, WORKSPACE + plan->workspace.counters);
    cr_assert_eq(p->partial_out, WORKSPACE + plan->workspace.partial_out);
    cr_assert_eq(p->partial_lse, WORKSPACE + plan->workspace.partial_lse);
    close_all(plan);
}

Test(launch, unfused_attend_is_dequantize_two_products_rope_and_attention)
{
    xq_plan *plan = make_plan(latent_spec, XQ_UNFUSED);
    xq_attend_args a = attend_args(plan);
    cr_assert_eq(xq_plan_attend(plan, &a, NULL), XQ_OK, "%s", last_error()->message);
    cr_assert_eq(fake->launch_count, 5);
    unsigned entries = 2 * 22; /* of 32 tokens, for 700 tokens in each of 2 sequences */
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 4);
    const struct xq_dequantize_params *d = (const void *)l->params;
    assert_grid(l, "xq_dequantize", entries * 2, (unsigned)plan->dequantize_columns, 1);
    assert_table(&d->table, INDICES);
    cr_assert_eq(d->pages, PAGES);
    cr_assert_eq(d->k, WORKSPACE + plan->workspace.rows_k);
    cr_assert_eq(d->v, WORKSPACE + plan->workspace.rows_v);
    cr_assert_eq(d->batch, 2);
    cr_assert_eq(d->entries, (int)entries);

    unsigned row_tiles = (unsigned)((entries * 32 + plan->gemm_rows - 1) / plan->gemm_rows);
    unsigned col_tiles = (unsigned)((128 + plan->gemm_cols - 1) / plan->gemm_cols);
    for (int v = 0; v < 2; v++) { /* keys, then values */
        l = fake_cuda_launched(fake, 3 - v);
        const struct xq_gemm_params *g = (const void *)l->params;
        assert_grid(l, "xq_gemm", row_tiles, col_tiles, 1);
        cr_assert_eq(g->x, v ? d->v : d->k);
        cr_assert_eq(g->w.data, v ? WEIGHTS + 2 * (256 * 192 + 128 * 128) : WEIGHTS + 2 * 256 * 192);
        cr_assert_eq(g->y, WORKSPACE + plan->workspace.kv + (v ? 2 * 32 * 128 : 0));
        cr_assert_eq(g->page_stride, 2 * 32 * 128);
        cr_assert_eq(g->rows, (int)entries * 32);
        cr_assert_eq(g->k, v ? 64 : 128);
        cr_assert_eq(g->n, 128);
        cr_assert_eq(g->page, 32);
        cr_assert_eq(g->row_stride, 128);
    }
    l = fake_cuda_launched(fake, 1);
    const struct xq_rope_params *r = (const void *)l->params;
    assert_grid(l, "xq_rope", entries * 2, 2, 1);
    cr_assert_eq(r->kv, WORKSPACE + plan->workspace.kv);
    cr_assert_eq(r->entries, (int)entries);
    l = fake_cuda_launched(fake, 0);
    const struct xq_kv_attend_params *p = (const void *)l->params;
    assert_grid(l, "xq_kv_attend",
                (unsigned)split_count(700, tokens_of_one(&plan->attention[PLAN_ONE].split, 2, 700)), 2, 2);
    assert_table(&p->table, 0); /* entry p is page p of the workspace */
    cr_assert_eq(p->kv, WORKSPACE + plan->workspace.kv);
    close_all(plan);
}

Test(launch, unfused_method_x_takes_both_products_from_the_same_rows)
{
    xq_plan *plan = make_plan(x_spec, XQ_UNFUSED);
    xq_attend_args a = attend_args(plan);
    cr_assert_eq(xq_plan_attend(plan, &a, NULL), XQ_OK, "%s", last_error()->message);
    const struct xq_gemm_params *k = (const void *)fake_cuda_launched(fake, 3)->params;
    const struct xq_gemm_params *v = (const void *)fake_cuda_launched(fake, 2)->params;
    cr_assert_eq(k->x, v->x);
    cr_assert_eq(k->k, 256);
    cr_assert_eq(v->k, 256);
    cr_assert_eq(v->w.data, WEIGHTS + 2 * 256 * 128);
    close_all(plan);
}

Test(launch, fp16_kv_projects_then_appends_and_attends_over_its_pages)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FP16_KV);
    xq_append_args a = append_args(plan);
    cr_assert_eq(xq_plan_append(plan, &a, NULL), XQ_OK, "%s", last_error()->message);
    cr_assert_eq(fake->launch_count, 3);
    for (int v = 0; v < 2; v++) {
        const struct xq_gemm_params *g = (const void *)fake_cuda_launched(fake, 2 - v)->params;
        cr_assert_eq(g->x, X);
        cr_assert_eq(g->w.data, WEIGHTS + (v ? 2 * 256 * 128 : 0));
        cr_assert_eq(g->y, WORKSPACE + (v ? plan->workspace.new_v : plan->workspace.new_k));
        cr_assert_eq(g->rows, 40);
        cr_assert_eq(g->page, 40);
        cr_assert_eq(g->k, 256);
    }
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 0);
    const struct xq_kv_append_params *k = (const void *)l->params;
    assert_grid(l, "xq_kv_append", 40, 1, 1);
    cr_assert_eq(k->k, WORKSPACE + plan->workspace.new_k);
    cr_assert_eq(k->v, WORKSPACE + plan->workspace.new_v);
    cr_assert_eq(k->kv, PAGES);
    xq_attend_args b = attend_args(plan);
    b.weights = 0;
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_OK, "%s", last_error()->message);
    l = fake_cuda_launched(fake, 0);
    const struct xq_kv_attend_params *p = (const void *)l->params;
    cr_assert_eq(fake->launch_count, 4);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->kv, PAGES);
    close_all(plan);
}

Test(launch, nothing_to_do_launches_nothing)
{
    xq_plan *plan = make_plan(latent_spec, XQ_UNFUSED);
    xq_append_args a = append_args(plan);
    a.tokens = 0;
    a.x = 0;
    cr_assert_eq(xq_plan_append(plan, &a, NULL), XQ_OK);
    xq_attend_args b = attend_args(plan);
    b.table = (xq_page_table){0};
    b.q = b.out = 0;
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_OK);
    cr_assert_eq(fake->launch_count, 0);
    b = attend_args(plan);
    b.max_tokens = 0; /* all sequences empty: outputs are still written */
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_OK);
    cr_assert_eq(fake->launch_count, 1);
    assert_grid(fake_cuda_launched(fake, 0), "xq_kv_attend", 1, 2, 2);
    close_all(plan);
}

Test(launch, regions_of_the_workspace_do_not_overlap)
{
    xq_plan *plan = make_plan(latent_spec, XQ_UNFUSED);
    const struct plan_workspace *w = &plan->workspace;
    int64_t splits = plan->attention[PLAN_ONE].split.partials;
    cr_assert_geq(w->partial_out - w->counters, 3 * 2 * 4);
    cr_assert_geq(w->partial_lse - w->partial_out, (size_t)splits * 4 * 64 * 2);
    cr_assert_geq(w->rows_k - w->partial_lse, (size_t)splits * 4 * 4);
    cr_assert_geq(w->rows_v - w->rows_k, (size_t)plan->max_pages * 32 * 128 * 2);
    cr_assert_geq(w->kv - w->rows_v, (size_t)plan->max_pages * 32 * 64 * 2);
    cr_assert_geq(w->bytes - w->kv, (size_t)plan->max_pages * 2 * 32 * 128 * 2);
    cr_assert_eq(plan->max_pages, 3 * 32);
    close_all(plan);
}

/* ---------------------------------------------------------------- arguments */

static void assert_append_refused(xq_plan *plan, const xq_append_args *a, const char *field)
{
    cr_assert_eq(xq_plan_append(plan, a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted", field);
    cr_assert_str_eq(last_error()->field, field);
    cr_assert_str_eq(last_error()->stage, "argument");
}

Test(arguments, append_names_what_is_wrong)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FP16_KV);
    const struct {
        size_t offset;
        uint64_t value;
        size_t size;
        const char *field;
    } cases[] = {
        {offsetof(xq_append_args, tokens), 101, 8, "tokens"},
        {offsetof(xq_append_args, tokens), (uint64_t)-1, 8, "tokens"},
        {offsetof(xq_append_args, x), 0, 8, "x"},
        {offsetof(xq_append_args, x), X + 8, 8, "x"},
        {offsetof(xq_append_args, token_sequence), SEQUENCE + 2, 8, "token_sequence"},
        {offsetof(xq_append_args, token_position), 0, 8, "token_position"},
        {offsetof(xq_append_args, table.batch), 4, 4, "table.batch"},
        {offsetof(xq_append_args, table.batch), 0, 4, "table.batch"},
        {offsetof(xq_append_args, table.indptr), 0, 8, "table.indptr"},
        {offsetof(xq_append_args, table.indices), INDICES + 1, 8, "table.indices"},
        {offsetof(xq_append_args, table.last_page_len), 0, 8, "table.last_page_len"},
        {offsetof(xq_append_args, pages), PAGES + 64, 8, "pages"},
        {offsetof(xq_append_args, weights), 0, 8, "weights"},
        {offsetof(xq_append_args, workspace), WORKSPACE + 16, 8, "workspace"},
        {offsetof(xq_append_args, workspace_bytes), 100, 8, "workspace_bytes"},
        {offsetof(xq_append_args, struct_size), 3, 8, "struct_size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        xq_append_args a = append_args(plan);
        memcpy((char *)&a + cases[i].offset, &cases[i].value, cases[i].size);
        assert_append_refused(plan, &a, cases[i].field);
    }
    assert_append_refused(plan, NULL, "args");
    cr_assert_eq(fake->launch_count, 0);
    close_all(plan);
}

Test(arguments, attend_names_what_is_wrong)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FUSED);
    const struct {
        size_t offset;
        uint64_t value;
        size_t size;
        const char *field;
    } cases[] = {
        {offsetof(xq_attend_args, max_tokens), 1001, 8, "max_tokens"},
        {offsetof(xq_attend_args, max_tokens), (uint64_t)-1, 8, "max_tokens"},
        {offsetof(xq_attend_args, q), 0, 8, "q"},
        {offsetof(xq_attend_args, out), OUT + 2, 8, "out"},
        {offsetof(xq_attend_args, lse), LSE + 2, 8, "lse"},
        {offsetof(xq_attend_args, table.batch), (uint32_t)-1, 4, "table.batch"},
        {offsetof(xq_attend_args, table.indices), 0, 8, "table.indices"},
        {offsetof(xq_attend_args, pages), 0, 8, "pages"},
        {offsetof(xq_attend_args, weights), WEIGHTS + 128, 8, "weights"},
        {offsetof(xq_attend_args, workspace), 0, 8, "workspace"},
        {offsetof(xq_attend_args, workspace_bytes), 0, 8, "workspace_bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        xq_attend_args a = attend_args(plan);
        memcpy((char *)&a + cases[i].offset, &cases[i].value, cases[i].size);
        cr_assert_eq(xq_plan_attend(plan, &a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted", cases[i].field);
        cr_assert_str_eq(last_error()->field, cases[i].field);
    }
    xq_attend_args a = attend_args(plan);
    a.lse = 0; /* optional */
    cr_assert_eq(xq_plan_attend(plan, &a, NULL), XQ_OK);
    close_all(plan);
}

Test(arguments, dequantize_names_what_is_wrong)
{
    xq_plan *plan = make_plan(latent_spec, XQ_FUSED);
    xq_dequantize_args a = XQ_DEQUANTIZE_ARGS_INIT;
    a.table_entries = 5;
    a.table = table_of(2);
    a.pages = PAGES;
    a.k = X;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(last_error()->field, "v");
    a.v = Q;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_OK);
    assert_grid(fake_cuda_launched(fake, 0), "xq_dequantize", 10, (unsigned)plan->dequantize_columns, 1);
    a.table_entries = 97; /* max_pages is 96 */
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(last_error()->field, "table_entries");
    close_all(plan);

    plan = make_plan(latent_spec, XQ_FP16_KV);
    a.table_entries = 5;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_ERROR_UNSUPPORTED);
    cr_assert_str_eq(last_error()->field, "implementation");
    close_all(plan);
}

/* ------------------------------------------------------------------ threads */

enum { THREADS = 4, ROUNDS = 20 };

/* A plan of its own, and the shared one; now and then a mistake, whose detail must be this thread's. */
static void *use_plans(void *argument)
{
    xq_plan *shared = argument, *own = NULL;
    xq_plan_options o = plan_options(latent_spec, XQ_FUSED);
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    intptr_t failures = xq_plan_create(context, &o, &own) != XQ_OK;
    for (int i = 0; i < ROUNDS && !failures; i++) {
        xq_append_args a = append_args(own);
        xq_attend_args b = attend_args(shared);
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
    xq_plan *plan = make_plan(latent_spec, XQ_UNFUSED);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, use_plans, plan), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failures = NULL;
        pthread_join(threads[i], &failures);
        cr_assert_null(failures);
    }
    cr_assert_eq(fake->launch_count, THREADS * ROUNDS * (1 + 5));
    close_all(plan);
}
