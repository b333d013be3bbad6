/* Tests libxqrt: what it needs, what it exports, and that it attends with a plan image as libxq does with
 * the plan. This program links neither library. It loads libxq.so, libxqrt.so, and libxqrt with the
 * software device linked in. */
#include "../support/fake_cuda.h"
#include "../support/files.h"
#include "../support/library_session.h"
#include "../support/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct method {
    const char *name, *spec;
    xq_implementation implementation;
} methods[] = {
    {"latent",
     "{" SESSION_MODEL
     ", \"cache\": {\"method\": \"latent\", \"rank_k\": 128, \"rank_v\": 64, \"page\": 32}}",
     XQ_FUSED},
    {"latent, unfused",
     "{" SESSION_MODEL
     ", \"cache\": {\"method\": \"latent\", \"rank_k\": 128, \"rank_v\": 64, \"page\": 32}}",
     XQ_UNFUSED},
    {"x, by channel",
     "{" SESSION_MODEL
     ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"axis_k\": \"channel\", \"group\": 32, "
     "\"page\": 32}, \"weights\": \"int8\"}",
     XQ_FUSED},
    {"x-cl", "{" SESSION_MODEL ", \"cache\": {\"method\": \"x-cl\", \"base\": true, \"page\": 32}}",
     XQ_FUSED},
    {"fp16 KV", "{" SESSION_MODEL ", \"cache\": {\"method\": \"x\", \"page\": 32}}", XQ_FP16_KV},
    {"fp8 KV", "{" SESSION_MODEL ", \"cache\": {\"method\": \"x\", \"page\": 32}}", XQ_FP8_KV},
};
enum { METHODS = sizeof methods / sizeof methods[0] };

/* Loads the library `name`, a path below the build folder. */
static struct library load(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", shell_build_folder(), name);
    return library_load(path, "xq");
}

/* ------------------------------------------------------------------- tests */

/* Makes a plan of libxq, and its image, which the caller frees. */
static xq_plan *create(const struct session *s, const struct method *m, unsigned char **image,
                       size_t *bytes)
{
    __typeof__(&xq_plan_create) create_plan;
    void *found = library_find(s->library, "xq", "plan_create");
    memcpy(&create_plan, &found, sizeof found);
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_plan *plan = NULL;
    o.spec_json = m->spec;
    o.implementation = m->implementation;
    o.max_batch = SESSION_BATCH;
    o.max_tokens = SESSION_TOKENS;
    o.max_append = 2 * SESSION_TOKENS;
    session_must(s, create_plan(s->context, &o, &plan));
    session_must(s, s->library->plan_save(plan, NULL, 0, bytes));
    *image = malloc(*bytes);
    session_must(s, s->library->plan_save(plan, *image, *bytes, bytes));
    return plan;
}

Test(xqrt, attends_bit_for_bit_as_libxq_does, .timeout = 300)
{
    const struct library xq = load("libxq.so"), xqrt = load("tests/libxqrt_sim.so");
    const struct session whole = session_open(&xq, "sim"), part = session_open(&xqrt, "sim");
    for (int i = 0; i < METHODS; i++) {
        unsigned char *image;
        size_t bytes;
        xq_plan *made = create(&whole, &methods[i], &image, &bytes), *loaded = NULL;
        session_must(&part, xqrt.plan_load(part.context, image, bytes, &loaded));
        const int latent = strstr(methods[i].name, "latent") != NULL;
        const struct session_result a = session_attend(&whole, made, latent),
                                    b = session_attend(&part, loaded, latent);
        session_expect_same(&a, &b, methods[i].name);
        xq.plan_destroy(made);
        xqrt.plan_destroy(loaded);
        free(image);
    }
    xq.context_destroy(whole.context);
    xqrt.context_destroy(part.context);
}

Test(xqrt, the_library_as_it_ships_loads_an_image_on_a_gpu)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    const struct library xq = load("libxq.so"), xqrt = load("libxqrt.so");
    const struct session whole = session_open(&xq, "cuda"), part = session_open(&xqrt, "auto");
    unsigned char *image;
    size_t bytes;
    xq_plan *made = create(&whole, &methods[0], &image, &bytes), *loaded = NULL;
    int modules = fake->modules;
    session_must(&part, xqrt.plan_load(part.context, image, bytes, &loaded));
    cr_expect_eq(fake->modules, 2 * modules);
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    session_must(&part, xqrt.context_device(part.context, &info));
    cr_expect_eq(info.nvrtc, 0);
    xq.plan_destroy(made);
    xqrt.plan_destroy(loaded);
    xq.context_destroy(whole.context);
    xqrt.context_destroy(part.context);
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
        xq_status status = xqrt.context_create(&o, &context);
        cr_expect_eq(status, i < 4 ? XQ_ERROR_ARGUMENT : XQ_OK);
        snprintf(expected, sizeof expected, "%s would have no effect", i < 4 ? names[i] : "");
        if (i < 4)
            cr_expect(strstr(library_message(&xqrt, context), expected), "%s",
                      library_message(&xqrt, context));
        xqrt.context_destroy(context);
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
    char *listed = files_read("tests/include/abi-xqrt.txt", &size);
    expect_output("nm -D --defined-only %s/libxqrt.so" SHORT_NAMES, listed);
    expect_output("nm -g --defined-only %s/libxqrt.a | awk 'NF == 3'" SHORT_NAMES, listed);
    free(listed);
    expect_output("LC_ALL=C comm -23 tests/include/abi-xqrt.txt tests/include/abi.txt # %s",
                  ""); /* libxq has them all */
}

Test(xqrt, needs_the_c_library_alone)
{
    expect_output("objdump -p %s/libxqrt.so | awk '$1 == \"NEEDED\" && "
                  "$2 !~ /^lib(dl|m|pthread|asan|ubsan|tsan)[.]so|^ld-linux/ { print $2 }'",
                  "libc.so.6\n");
    expect_output("objdump -p %s/libxqrt.so | awk '/SONAME/ { print $2 }'", "libxqrt.so.0\n");
}
