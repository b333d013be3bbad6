/* libxqrt: what it needs, what leaves it, and that it attends with a plan image as libxq does with the
 * plan. This program links neither. It loads libxq.so, libxqrt.so, and libxqrt with the software device
 * linked in. */
#include "../runtime/base/half.h"
#include "../runtime/base/random.h"
#include "fake_cuda.h"
#include "files.h"
#include "shell.h"
#include "xq/xq.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- libraries */

#define FUNCTIONS(F)                                                                                       \
    F(xq_context_create)                                                                                   \
    F(xq_context_destroy)                                                                                  \
    F(xq_context_device)                                                                                   \
    F(xq_last_error)                                                                                       \
    F(xq_device_alloc)                                                                                     \
    F(xq_device_fill)                                                                                      \
    F(xq_device_free)                                                                                      \
    F(xq_device_read)                                                                                      \
    F(xq_device_write)                                                                                     \
    F(xq_plan_load)                                                                                        \
    F(xq_plan_save)                                                                                        \
    F(xq_plan_destroy)                                                                                     \
    F(xq_plan_query)                                                                                       \
    F(xq_plan_pack_weights)                                                                                \
    F(xq_plan_append)                                                                                      \
    F(xq_plan_accumulate)                                                                                  \
    F(xq_plan_attend)

#define MEMBER(NAME) __typeof__(&NAME) NAME;
struct library {
    void *handle;
    FUNCTIONS(MEMBER)
};

#define FIND(NAME)                                                                                         \
    do {                                                                                                   \
        void *found = dlsym(l.handle, #NAME);                                                              \
        cr_assert_not_null(found, "%s", dlerror());                                                        \
        memcpy(&l.NAME, &found, sizeof found);                                                             \
    } while (0);

/* `name` is below the folder of the build. */
static struct library load(const char *name)
{
    struct library l = {NULL};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", shell_build_folder(), name);
    l.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(l.handle, "%s", dlerror());
    FUNCTIONS(FIND)
    return l;
}

static const char *message(const struct library *l, xq_context *context)
{
    static xq_error_detail detail;
    detail = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    return l->xq_last_error(context, &detail) == XQ_OK ? detail.message : "no error";
}

static xq_context *open_device(const struct library *l, const char *device)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    options.device = device;
    cr_assert_eq(l->xq_context_create(&options, &context), XQ_OK, "%s", message(l, context));
    return context;
}

/* ---------------------------------------------------------------- attention */

enum { D = 256, KV = 128, HEADS = 4, HEAD_DIM = 64, TOKENS = 150, BATCH = 2, PAGE = 32, PAGES = 12 };

#define MODEL                                                                                              \
    "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "          \
    "\"head_dim\": 64, \"rope_theta\": 10000}, "
static const struct method {
    const char *name, *spec;
    xq_implementation implementation;
} methods[] = {
    {"latent", MODEL "\"cache\": {\"method\": \"latent\", \"rank_k\": 128, \"rank_v\": 64, \"page\": 32}}",
     XQ_FUSED},
    {"latent, unfused",
     MODEL "\"cache\": {\"method\": \"latent\", \"rank_k\": 128, \"rank_v\": 64, \"page\": 32}}",
     XQ_UNFUSED},
    {"x, by channel",
     MODEL "\"cache\": {\"method\": \"x\", \"rotation\": false, \"axis_k\": \"channel\", \"group\": 32, "
           "\"page\": 32}, \"weights\": \"int8\"}",
     XQ_FUSED},
    {"x-cl", MODEL "\"cache\": {\"method\": \"x-cl\", \"base\": true, \"page\": 32}}", XQ_FUSED},
    {"fp16 KV", MODEL "\"cache\": {\"method\": \"x\", \"page\": 32}}", XQ_FP16_KV},
};
enum { METHODS = sizeof methods / sizeof methods[0] };

/* What attention gives. */
struct result {
    uint16_t out[BATCH * HEADS * HEAD_DIM];
    float lse[BATCH * HEADS];
};

struct session {
    const struct library *library;
    xq_context *context;
};

static void must(const struct session *s, xq_status status)
{
    cr_assert_eq(status, XQ_OK, "%s", message(s->library, s->context));
}

static uint64_t filled(const struct session *s, size_t bytes)
{
    uint64_t pointer = 0;
    must(s, s->library->xq_device_alloc(s->context, bytes + 1, &pointer));
    must(s, s->library->xq_device_fill(s->context, pointer, 0, bytes));
    return pointer;
}

static uint64_t uploaded(const struct session *s, const void *data, size_t bytes)
{
    uint64_t pointer = filled(s, bytes);
    must(s, s->library->xq_device_write(s->context, pointer, data, bytes));
    return pointer;
}

static void fill_floats(float *values, int count, uint64_t stream)
{
    random_stream r = random_begin(1, stream);
    for (int i = 0; i < count; i++)
        values[i] = 0.1f * random_normal(&r);
}

static void fill_halves(uint16_t *values, int count, uint64_t stream)
{
    random_stream r = random_begin(2, stream);
    for (int i = 0; i < count; i++)
        values[i] = half_from_float(random_normal(&r));
}

static uint64_t packed_weights(const struct session *s, xq_plan *plan, const xq_plan_info *info,
                               const struct method *m)
{
    static float wk[D * KV], wv[D * KV], uk[D * KV], ak[KV * KV], uv[D * 64], av[64 * KV];
    float *const all[] = {wk, wv, uk, ak, uv, av};
    const int counts[] = {D * KV, D * KV, D * KV, KV * KV, D * 64, 64 * KV};
    for (int n = 0; n < 6; n++)
        fill_floats(all[n], counts[n], (uint64_t)n);
    xq_weights w = XQ_WEIGHTS_INIT;
    if (strstr(m->name, "latent")) {
        w.uk = uk;
        w.ak = ak;
        w.uv = uv;
        w.av = av;
    } else {
        w.wk = wk;
        w.wv = wv;
    }
    void *packed = malloc(info->weights_bytes);
    must(s, s->library->xq_plan_pack_weights(plan, &w, packed, info->weights_bytes));
    uint64_t pointer = uploaded(s, packed, info->weights_bytes);
    free(packed);
    return pointer;
}

/* Sequences of TOKENS and TOKENS - 37 tokens. */
static xq_page_table page_table(const struct session *s)
{
    static const int32_t indptr[] = {0, 5, 9}, indices[] = {3, 1, 7, 2, 11, 0, 4, 10, 6},
                         last[] = {TOKENS - 4 * PAGE, TOKENS - 37 - 3 * PAGE};
    return (xq_page_table){BATCH, uploaded(s, indptr, sizeof indptr), uploaded(s, indices, sizeof indices),
                           uploaded(s, last, sizeof last)};
}

static struct result attend(const struct session *s, xq_plan *plan, const struct method *m)
{
    enum { ROWS = 2 * TOKENS - 37 };
    static uint16_t x[ROWS * D], q[BATCH * HEADS * HEAD_DIM];
    static int32_t sequence[ROWS], position[ROWS];
    static const int32_t rows[] = {0, TOKENS, ROWS}, slots[] = {1, 0};
    const struct library *l = s->library;
    struct result result;
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    must(s, l->xq_plan_query(plan, &info));
    fill_halves(x, ROWS * D, 0);
    fill_halves(q, BATCH * HEADS * HEAD_DIM, 1);
    for (int i = 0; i < ROWS; i++) {
        sequence[i] = i >= TOKENS;
        position[i] = i - (i >= TOKENS ? TOKENS : 0);
    }
    xq_page_table table = page_table(s);
    uint64_t weights = packed_weights(s, plan, &info, m), pages = filled(s, PAGES * info.page_bytes);
    uint64_t workspace = filled(s, info.workspace_bytes);
    uint64_t accumulator = info.accumulator_page_bytes ? filled(s, PAGES * info.accumulator_page_bytes) : 0;
    xq_tail_pool tails = {0, 0};
    if (info.tail_bytes)
        tails = (xq_tail_pool){filled(s, 2 * info.tail_bytes), uploaded(s, slots, sizeof slots)};
    xq_append_args append = XQ_APPEND_ARGS_INIT;
    append.tokens = ROWS;
    append.x = uploaded(s, x, sizeof x);
    append.token_sequence = uploaded(s, sequence, sizeof sequence);
    append.token_position = uploaded(s, position, sizeof position);
    append.append_indptr = uploaded(s, rows, sizeof rows);
    append.table = table;
    append.pages = pages;
    append.tails = tails;
    append.accumulator = accumulator;
    append.weights = weights;
    append.workspace = workspace;
    append.workspace_bytes = info.workspace_bytes;
    must(s, l->xq_plan_append(plan, &append, NULL));
    if (accumulator) {
        xq_accumulate_args a = XQ_ACCUMULATE_ARGS_INIT;
        a.max_tokens = TOKENS;
        a.table = table;
        a.pages = pages;
        a.weights = weights;
        a.accumulator = accumulator;
        must(s, l->xq_plan_accumulate(plan, &a, NULL));
    }
    xq_attend_args a = XQ_ATTEND_ARGS_INIT;
    a.max_tokens = TOKENS;
    a.q = uploaded(s, q, sizeof q);
    a.out = filled(s, sizeof result.out);
    a.lse = filled(s, sizeof result.lse);
    a.table = table;
    a.pages = pages;
    a.tails = tails;
    a.accumulator = accumulator;
    a.weights = weights;
    a.workspace = workspace;
    a.workspace_bytes = info.workspace_bytes;
    must(s, l->xq_plan_attend(plan, &a, NULL));
    must(s, l->xq_device_read(s->context, result.out, a.out, sizeof result.out));
    must(s, l->xq_device_read(s->context, result.lse, a.lse, sizeof result.lse));
    return result;
}

/* ------------------------------------------------------------------- tests */

/* A plan of libxq, and its image, which the caller frees. */
static xq_plan *create(const struct session *s, const struct method *m, unsigned char **image,
                       size_t *bytes)
{
    __typeof__(&xq_plan_create) create_plan;
    void *found = dlsym(s->library->handle, "xq_plan_create");
    memcpy(&create_plan, &found, sizeof found);
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_plan *plan = NULL;
    o.spec_json = m->spec;
    o.implementation = m->implementation;
    o.max_batch = BATCH;
    o.max_tokens = TOKENS;
    o.max_append = 2 * TOKENS;
    must(s, create_plan(s->context, &o, &plan));
    must(s, s->library->xq_plan_save(plan, NULL, 0, bytes));
    *image = malloc(*bytes);
    must(s, s->library->xq_plan_save(plan, *image, *bytes, bytes));
    return plan;
}

Test(xqrt, attends_bit_for_bit_as_libxq_does, .timeout = 300)
{
    const struct library xq = load("libxq.so"), xqrt = load("tests/libxqrt_sim.so");
    const struct session whole = {&xq, open_device(&xq, "sim")}, part = {&xqrt, open_device(&xqrt, "sim")};
    for (int i = 0; i < METHODS; i++) {
        unsigned char *image;
        size_t bytes;
        xq_plan *made = create(&whole, &methods[i], &image, &bytes), *loaded = NULL;
        must(&part, xqrt.xq_plan_load(part.context, image, bytes, &loaded));
        const struct result a = attend(&whole, made, &methods[i]), b = attend(&part, loaded, &methods[i]);
        cr_expect_arr_eq(a.out, b.out, sizeof a.out, "%s", methods[i].name);
        cr_expect_arr_eq(a.lse, b.lse, sizeof a.lse, "%s", methods[i].name);
        int zeros = 0; /* attention took place */
        for (size_t k = 0; k < sizeof a.out / sizeof a.out[0]; k++)
            zeros += (a.out[k] & 0x7fff) == 0;
        cr_expect_lt(zeros, 20, "%s", methods[i].name);
        xq.xq_plan_destroy(made);
        xqrt.xq_plan_destroy(loaded);
        free(image);
    }
    xq.xq_context_destroy(whole.context);
    xqrt.xq_context_destroy(part.context);
}

Test(xqrt, the_library_as_it_ships_loads_an_image_on_a_gpu)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    const struct library xq = load("libxq.so"), xqrt = load("libxqrt.so");
    const struct session whole = {&xq, open_device(&xq, "cuda")},
                         part = {&xqrt, open_device(&xqrt, "auto")};
    unsigned char *image;
    size_t bytes;
    xq_plan *made = create(&whole, &methods[0], &image, &bytes), *loaded = NULL;
    int modules = fake->modules;
    must(&part, xqrt.xq_plan_load(part.context, image, bytes, &loaded));
    cr_expect_eq(fake->modules, 2 * modules);
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    must(&part, xqrt.xq_context_device(part.context, &info));
    cr_expect_eq(info.nvrtc, 0);
    xq.xq_plan_destroy(made);
    xqrt.xq_plan_destroy(loaded);
    xq.xq_context_destroy(whole.context);
    xqrt.xq_context_destroy(part.context);
    cr_expect_eq(fake->modules, 0);
    free(image);
}

Test(xqrt, options_for_compiling_are_refused)
{
    fake_cuda_use();
    const struct library xqrt = load("libxqrt.so");
    static const char *const names[] = {"template_dir", "cache_dir", "kernels", "no_compile"};
    for (int i = 0; i < 5; i++) {
        xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
        xq_context *context = NULL;
        char expected[64];
        o.device = "cuda";
        o.template_dir = i == 0 ? "templates" : NULL;
        o.cache_dir = i == 1 ? "cache" : "";
        o.kernels = i == 2 ? "/opt/kernels" : "";
        o.no_compile = i == 3;
        xq_status status = xqrt.xq_context_create(&o, &context);
        cr_expect_eq(status, i < 4 ? XQ_ERROR_ARGUMENT : XQ_OK);
        snprintf(expected, sizeof expected, "%s would have no effect", i < 4 ? names[i] : "");
        if (i < 4)
            cr_expect(strstr(message(&xqrt, context), expected), "%s", message(&xqrt, context));
        xqrt.xq_context_destroy(context);
    }
}

static void expect_output(const char *format, const char *expected)
{
    char command[8192], *output = NULL;
    snprintf(command, sizeof command, format, shell_build_folder());
    cr_assert_eq(shell_run(command, &output), 0, "%s: %s", command, output);
    cr_expect_str_eq(output, expected, "%s", command);
    free(output);
}

#define SHORT_NAMES " | awk '{ print $NF }' | grep -v '^__[atu]*san' | LC_ALL=C sort"

Test(xqrt, exports_the_reviewed_symbols_alone)
{
    size_t size;
    char *listed = files_read("tests/abi-xqrt.txt", &size);
    expect_output("nm -D --defined-only %s/libxqrt.so" SHORT_NAMES, listed);
    expect_output("nm -g --defined-only %s/libxqrt.a | awk 'NF == 3'" SHORT_NAMES, listed);
    free(listed);
    expect_output("LC_ALL=C comm -23 tests/abi-xqrt.txt tests/abi.txt # %s", ""); /* libxq has them all */
}

Test(xqrt, needs_the_c_library_alone)
{
    expect_output("objdump -p %s/libxqrt.so | awk '$1 == \"NEEDED\" && "
                  "$2 !~ /^lib(dl|m|pthread|asan|ubsan|tsan)[.]so|^ld-linux/ { print $2 }'",
                  "libc.so.6\n");
    expect_output("objdump -p %s/libxqrt.so | awk '/SONAME/ { print $2 }'", "libxqrt.so.0\n");
}
