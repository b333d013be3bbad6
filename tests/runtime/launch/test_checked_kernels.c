/* Checked plans on the software device with the real kernels. In a call at fault the kernels do nothing; in
 * a correct call they compute the same as the kernels of other plans. And the two checks of a call, on the
 * host and by the kernel `check`, agree about any mistake. */
#include "../../support/generator.h"
#include "checked_call.h"

#include "../../../runtime/base/half.h"
#include "../../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
static const char spec[] = "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 8, "
                           "\"group\": 64, \"page\": 32}}";

enum { D = 128, KV = 64, MEMORY = 1 << 18 };

static void open_sim(void)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = "sim";
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
}

/* ------------------------------------------------------------------ real kernels */

/* Pages and outputs of one plan, and the arguments of its calls. */
struct layer {
    struct checked_call call;
    uint64_t pages, out, lse, rows;
    size_t pages_bytes, out_bytes;
};

static uint64_t allocate(size_t bytes, int value)
{
    uint64_t p;
    cr_assert_eq(xq_device_alloc(context, bytes, &p), XQ_OK);
    cr_assert_eq(xq_device_fill(context, p, (uint8_t)value, bytes), XQ_OK);
    return p;
}

static uint64_t upload_halves(int count, uint64_t seed)
{
    random_stream r = random_begin(seed, 0);
    uint16_t *x = malloc(sizeof *x * (size_t)count);
    for (int i = 0; i < count; i++)
        x[i] = half_from_float(random_normal(&r));
    uint64_t p = allocate(sizeof *x * (size_t)count, 0);
    cr_assert_eq(xq_device_write(context, p, x, sizeof *x * (size_t)count), XQ_OK);
    free(x);
    return p;
}

static uint64_t upload_weights(const xq_plan *plan)
{
    random_stream r = random_begin(3, 0);
    float *w = malloc(sizeof *w * D * KV);
    for (int i = 0; i < D * KV; i++)
        w[i] = 0.1f * random_normal(&r);
    xq_weights weights = XQ_WEIGHTS_INIT;
    weights.wk = weights.wv = w;
    size_t bytes = plan_info(plan).weights_bytes;
    void *packed = malloc(bytes);
    cr_assert_eq(xq_plan_pack_weights(plan, &weights, packed, bytes), XQ_OK, "%s", plan_error()->message);
    uint64_t p = allocate(bytes, 0);
    cr_assert_eq(xq_device_write(context, p, packed, bytes), XQ_OK);
    free(packed);
    free(w);
    return p;
}

/* Opens a plan with real memory for its calls: pages of zeros, random x and queries, and outputs filled
 * with 0x5a. */
static struct layer open_layer(xq_implementation implementation, int checked)
{
    struct layer l;
    xq_plan_options o = checked_options(spec, implementation);
    o.max_queries = 1;
    o.checked = checked;
    checked_open(&l.call, plan_make_with(&o));
    if (checked)
        l.call.plan->checks = PLAN_CHECKS_ON_DEVICE;
    l.pages_bytes = CHECKED_POOL * plan_info(l.call.plan).page_bytes;
    l.out_bytes = CHECKED_BATCH * 2 * 64 * 2;
    l.pages = allocate(l.pages_bytes, 0);
    l.out = allocate(l.out_bytes, 0x5a);
    l.lse = allocate(CHECKED_BATCH * 2 * 4, 0x5a);
    l.rows = allocate(CHECKED_PAGES * 32 * D * 2, 0x5a);
    l.call.append.x = upload_halves(CHECKED_TOKENS * D, 1);
    l.call.attend.q = upload_halves(CHECKED_BATCH * D, 2);
    l.call.append.weights = l.call.attend.weights = upload_weights(l.call.plan);
    l.call.append.pages = l.call.attend.pages = l.call.dequantize.pages = l.pages;
    l.call.append.accumulator = l.call.attend.accumulator = 0;
    l.call.attend.out = l.out;
    l.call.attend.lse = l.lse;
    l.call.attend.queries = 0;
    l.call.attend.query_indptr = l.call.attend.query_position = 0;
    l.call.dequantize.k = l.rows;
    return l;
}

static void close_layer(struct layer *l)
{
    xq_plan_destroy(l->call.plan);
}

static bool same(uint64_t a, uint64_t b, size_t bytes)
{
    void *x = malloc(bytes), *y = malloc(bytes);
    cr_assert_eq(xq_device_read(context, x, a, bytes), XQ_OK);
    cr_assert_eq(xq_device_read(context, y, b, bytes), XQ_OK);
    bool equal = memcmp(x, y, bytes) == 0;
    free(x);
    free(y);
    return equal;
}

static bool is_filled(uint64_t pointer, int value, size_t bytes)
{
    uint64_t filled = allocate(bytes, value);
    bool equal = same(pointer, filled, bytes);
    cr_assert_eq(xq_device_free(context, filled), XQ_OK);
    return equal;
}

/* Runs a call at fault: the synchronization reports it, and the `bytes` at `pointer` still have the value
 * `value`. */
static void assert_nothing_written(const struct layer *l, enum checked_kind kind, uint64_t pointer,
                                   int value, size_t bytes)
{
    struct checked_arrays arrays = checked_arrays;
    arrays.indices[3] = CHECKED_POOL;
    checked_write(&l->call, &arrays);
    cr_assert_eq(checked_run(&l->call, kind), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(xq_device_synchronize(context), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "table.indices");
    cr_assert(is_filled(pointer, value, bytes), "a call at fault wrote something");
    checked_write(&l->call, &checked_arrays);
}

static void assert_good(const struct layer *l, enum checked_kind kind)
{
    cr_assert_eq(checked_run(&l->call, kind), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(xq_device_synchronize(context), XQ_OK, "%s", plan_error()->message);
}

static void assert_guarded(xq_implementation implementation)
{
    open_sim();
    struct layer l = open_layer(implementation, 1), plain = open_layer(implementation, 0);
    bool quantized = !shape_is_kv(implementation);
    assert_nothing_written(&l, CHECKED_APPEND, l.pages, 0, l.pages_bytes);
    assert_good(&l, CHECKED_APPEND);
    assert_good(&plain, CHECKED_APPEND);
    cr_assert(same(l.pages, plain.pages, l.pages_bytes));
    cr_assert_not(is_filled(l.pages, 0, l.pages_bytes));
    assert_nothing_written(&l, CHECKED_ATTEND, l.out, 0x5a, l.out_bytes);
    assert_good(&l, CHECKED_ATTEND);
    assert_good(&plain, CHECKED_ATTEND);
    cr_assert(same(l.out, plain.out, l.out_bytes));
    if (quantized) {
        assert_nothing_written(&l, CHECKED_DEQUANTIZE, l.rows, 0x5a, 64 * D * 2);
        assert_good(&l, CHECKED_DEQUANTIZE);
        assert_good(&plain, CHECKED_DEQUANTIZE);
        cr_assert(same(l.rows, plain.rows, CHECKED_PAGES * 32 * D * 2));
    }
    close_layer(&l);
    close_layer(&plain);
    xq_context_destroy(context);
}

Test(checked_kernels, fused_ones_do_nothing_in_a_call_at_fault, .timeout = 600)
{
    assert_guarded(XQ_FUSED);
}

Test(checked_kernels, unfused_ones_do_nothing_in_a_call_at_fault, .timeout = 600)
{
    assert_guarded(XQ_UNFUSED);
}

Test(checked_kernels, those_of_fp16_kv_do_nothing_in_a_call_at_fault, .timeout = 600)
{
    assert_guarded(XQ_FP16_KV);
}

Test(checked_kernels, those_of_fp8_kv_do_nothing_in_a_call_at_fault, .timeout = 600)
{
    assert_guarded(XQ_FP8_KV);
}

/* ------------------------------------------------------------------ every family */

static void assert_family_is_guarded(const char *completed, const char *plain, const char *family)
{
    gen_kernel guarded, bare;
    error err = ERROR_INIT;
    cr_assert_eq(gen_render(generator(), completed, family, &guarded, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_render(generator(), plain, family, &bare, &err), XQ_OK, "%s", err.message);
    cr_assert(strstr(guarded.source, "guarded<xq_") && strstr(guarded.source, "{ if (is_shut(p)) return;"),
              "%s has no guard", family);
    cr_assert(!strstr(bare.source, "guard"), "%s has a guard that nobody asked for", family);
    gen_kernel_free(&guarded);
    gen_kernel_free(&bare);
}

Test(checked_kernels, every_family_has_a_guard_where_it_is_asked_for)
{
    static const char *const rest[] = {
        "\"cache\": {\"method\": \"latent\"}, \"model\": \"olmo-2-7b\"",
        "\"cache\": {\"method\": \"x-cl\", \"axis_k\": \"channel\"}, \"model\": \"llama-2-7b\"",
        "\"cache\": {\"method\": \"latent-cl\"}, \"model\": \"bloom-7b1\"",
    };
    int families = 0;
    for (int i = 0; i < 3; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"checked\": true, %s}", rest[i]);
        cJSON *completed = generator_complete_parsed(text);
        char *checked = cJSON_PrintUnformatted(completed);
        snprintf(text, sizeof text, "{%s}", rest[i]);
        char *plain = generator_complete(text);
        cr_assert_null(strstr(plain, "check"), "a spec that does not ask for it says nothing of it");
        const cJSON *family;
        cJSON_ArrayForEach(family, generator_member(completed, "tuning"))
        {
            if (strcmp(family->string, "check") == 0)
                continue;
            assert_family_is_guarded(checked, plain, family->string);
            families++;
        }
        cJSON_Delete(completed);
        free(checked);
        free(plain);
    }
    cr_assert_gt(families, 20);
}

/* ------------------------------------------------------------------ host and device agree */

static int32_t wrong_number(random_stream *r)
{
    static const int32_t numbers[] = {-1, 0, 1, 2, 3, 4, 5, 6, 31, 32, 33, 38, 40, INT32_MAX, INT32_MIN};
    return numbers[random_between(r, 0, sizeof numbers / sizeof numbers[0] - 1)];
}

static void keep_words(xq_status status, char words[1024])
{
    snprintf(words, 1024, "%s", status == XQ_OK ? "" : plan_error()->message);
}

/* Runs a call twice and keeps both messages, "" if there is no fault: the host reports one at the call, and
 * the device at the synchronization. */
static void run_both(const struct checked_call *c, enum checked_kind kind, char said[2][1024])
{
    c->plan->checks = PLAN_CHECKS_ON_HOST | PLAN_CHECKS_ON_DEVICE;
    keep_words(checked_run(c, kind), said[0]);
    keep_words(xq_device_synchronize(context), said[1]);
    cr_assert_str_eq(said[1], "", "the device found what the host did not");
    c->plan->checks = PLAN_CHECKS_ON_DEVICE;
    cr_assert_eq(checked_run(c, kind), XQ_OK, "%s", plan_error()->message);
    keep_words(xq_device_synchronize(context), said[1]);
}

Test(checked_kernels, host_and_device_say_the_same_of_any_arrays, .timeout = 600)
{
    static const char channel[] =
        "{" PLAN_MODEL
        ", \"cache\": {\"method\": \"latent\", \"group\": 32, \"axis_k\": \"channel\", \"page\": 32, "
        "\"rank_k\": 128, \"rank_v\": 64}}";
    struct checked_call c;
    xq_plan_options o = checked_options(channel, XQ_FUSED);
    random_stream r = random_begin(11, 0);
    int faults = 0;
    o.checked = 1;
    plan_open_stubs_on_sim();
    checked_open(&c, plan_make_with(&o));
    for (int i = 0; i < 400; i++) {
        struct checked_arrays arrays = checked_arrays;
        char said[2][1024];
        for (int n = random_between(&r, 1, 3); n > 0; n--) {
            int32_t number = wrong_number(&r);
            size_t place = (size_t)random_between(&r, 0, sizeof arrays / sizeof number - 1);
            memcpy((char *)&arrays + place * sizeof number, &number, sizeof number);
        }
        checked_write(&c, &arrays);
        enum checked_kind kind = i % 2 ? CHECKED_ATTEND : CHECKED_APPEND;
        run_both(&c, kind, said);
        cr_assert_str_eq(said[0], said[1], "case %d", i);
        faults += said[0][0] != 0;
    }
    cr_assert(faults > 100 && faults < 400, "%d of 400 are at fault", faults);
    xq_plan_destroy(c.plan);
    xq_context_destroy(context);
}

/* There are more tokens than the kernel checks at once, all of one sequence, in any order. */
Test(checked_kernels, one_token_of_many_that_comes_twice_is_found, .timeout = 600)
{
    enum { TOKENS = 3000, TABLE = (TOKENS + 31) / 32 };
    static const char small[] = "{" PLAN_MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, "
                                "\"page\": 32}}";
    xq_plan_options o = plan_options(small, XQ_FUSED);
    o.max_tokens = o.max_append = TOKENS;
    o.checked = 1;
    plan_open_stubs_on_sim();
    xq_plan *plan = plan_make_with(&o);
    int32_t sequence[TOKENS] = {0}, position[TOKENS], indices[TABLE], indptr[2] = {0, TABLE};
    int32_t last = TOKENS - (TABLE - 1) * 32;
    for (int i = 0; i < TOKENS; i++)
        position[i] = (int)((int64_t)i * 1009 % TOKENS);
    for (int i = 0; i < TABLE; i++)
        indices[i] = TABLE - 1 - i;
    uint64_t memory = allocate(1 << 16, 0), at = memory;
    struct checked_call c = {.plan = plan, .append = XQ_APPEND_ARGS_INIT};
    c.append.tokens = TOKENS;
    c.append.x = c.append.pages = memory;
    const struct {
        uint64_t *pointer;
        const void *from;
        size_t bytes;
    } parts[] = {{&c.append.token_sequence, sequence, sizeof sequence},
                 {&c.append.token_position, position, sizeof position},
                 {&c.append.table.indptr, indptr, sizeof indptr},
                 {&c.append.table.indices, indices, sizeof indices},
                 {&c.append.table.last_page_len, &last, sizeof last}};
    for (int i = 0; i < 5; i++) {
        *parts[i].pointer = at;
        cr_assert_eq(xq_device_write(context, at, parts[i].from, parts[i].bytes), XQ_OK);
        at += parts[i].bytes;
    }
    c.append.table.batch = 1;
    char said[2][1024], words[128];
    run_both(&c, CHECKED_APPEND, said);
    cr_assert(!said[0][0] && !said[1][0], "%s%s", said[0], said[1]);
    cr_assert_eq(xq_device_write(context, c.append.token_position + 4 * 2990, &position[1234], 4), XQ_OK);
    run_both(&c, CHECKED_APPEND, said);
    snprintf(words, sizeof words, "token_position[2990] (sequence 0) is %d, as token_position[1234] is",
             position[1234]);
    cr_assert(strstr(said[0], words), "%s", said[0]);
    cr_assert_str_eq(said[1], said[0]);
    cr_assert_eq(xq_device_write(context, c.append.token_position, position, sizeof position), XQ_OK);
    cr_assert_eq(xq_device_write(context, c.append.table.indices + 4 * 70, &indices[20], 4), XQ_OK);
    run_both(&c, CHECKED_APPEND, said);
    cr_assert(strstr(said[0], "as table.indices[20] is, and the call writes tokens to both"), "%s",
              said[0]);
    cr_assert_str_eq(said[1], said[0]);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}
