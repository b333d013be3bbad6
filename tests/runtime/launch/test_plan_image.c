/* Tests plan images: saving and loading, damage, and other GPUs. The GPU is a fake. */
#include "../../../runtime/base/random.h"
#include "../../../runtime/host/pack.h"
#include "../../../runtime/launch/plan_image.h"
#include "../../support/plan_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Specs with features that an image holds: streams of two axes, base layers, biases, norms, sinks. */
#define PLAN_CHANNEL                                                                                       \
    "{" PLAN_MODEL                                                                                         \
    ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"rank_k\": 128, \"rank_v\": 64, "  \
    "\"page\": 32, \"axis_k\": \"channel\"}}"
#define PLAN_CROSS                                                                                         \
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"latent-cl\", \"rank_k\": 128, \"page\": 64}, "             \
    "\"weights\": \"int8\"}"
#define PLAN_FEATURES                                                                                      \
    "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "          \
    "\"head_dim\": 64, \"qk_norm\": \"row\", \"attention_bias\": true, \"attention_sinks\": true}, "       \
    "\"cache\": {\"method\": \"x\", \"rotation\": true, \"feedback\": true, \"group\": 64}}"

static const struct subject {
    const char *name, *spec;
    xq_implementation implementation;
    int64_t max_queries;
    int32_t checked;
} subjects[] = {
    {"latent", PLAN_LATENT, XQ_FUSED, 1, 0},     {"latent, unfused", PLAN_LATENT, XQ_UNFUSED, 1, 0},
    {"x, many queries", PLAN_X, XQ_FUSED, 8, 0}, {"fp16 KV", PLAN_X, XQ_FP16_KV, 1, 0},
    {"fp8 KV", PLAN_X, XQ_FP8_KV, 1, 0},         {"per-channel groups", PLAN_CHANNEL, XQ_FUSED, 1, 0},
    {"cross-layer", PLAN_CROSS, XQ_FUSED, 1, 0}, {"model features", PLAN_FEATURES, XQ_FUSED, 4, 0},
    {"checked", PLAN_LATENT, XQ_FUSED, 1, 1},
};
enum { SUBJECTS = sizeof subjects / sizeof subjects[0] };

static const struct subject *subject_named(const char *name)
{
    for (int i = 0; i < SUBJECTS; i++)
        if (strcmp(subjects[i].name, name) == 0)
            return &subjects[i];
    cr_assert_fail("%s", name);
    return NULL;
}

static xq_plan *make(const struct subject *s)
{
    xq_plan_options o = plan_options(s->spec, s->implementation);
    o.max_queries = s->max_queries;
    o.checked = s->checked;
    return plan_make_with(&o);
}

/* Returns the image of a plan; the caller frees it. */
static unsigned char *save(const xq_plan *plan, size_t *bytes)
{
    cr_assert_eq(xq_plan_save(plan, NULL, 0, bytes), XQ_OK);
    unsigned char *image = malloc(*bytes);
    cr_assert_eq(xq_plan_save(plan, image, *bytes, bytes), XQ_OK);
    return image;
}

static void sign(unsigned char *image, size_t bytes)
{
    uint64_t checksum = plan_image_checksum(image, bytes);
    memcpy(image + 16, &checksum, sizeof checksum);
}

static void expect_refused(const void *image, size_t bytes, xq_status status, const char *text,
                           const char *what)
{
    xq_plan *plan = NULL;
    cr_expect_eq(xq_plan_load(context, image, bytes, &plan), status, "%s: %s", what, plan_error()->message);
    cr_expect(strstr(plan_error()->message, text), "%s: %s", what, plan_error()->message);
    cr_expect_null(plan);
}

/* ------------------------------------------------------------- save and load */

static void launch(xq_plan *plan)
{
    xq_append_args append = plan_append_args(plan);
    xq_attend_args attend = plan_attend_args(plan);
    cr_assert_eq(xq_plan_append(plan, &append, NULL), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(xq_plan_attend(plan, &attend, NULL), XQ_OK, "%s", plan_error()->message);
}

/* Returns the launches since number `first`; the caller frees them. */
static struct fake_cuda_launch *launches_since(int first, int *count)
{
    *count = fake->launch_count - first;
    cr_assert_leq(*count, FAKE_CUDA_LAUNCHES);
    struct fake_cuda_launch *all = calloc((size_t)*count, sizeof *all);
    for (int i = 0; i < *count; i++)
        all[i] = *fake_cuda_launched(fake, i);
    return all;
}

static void expect_same_launches(xq_plan *a, xq_plan *b, const char *what)
{
    int counts[2];
    struct fake_cuda_launch *all[2];
    xq_plan *plans[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        int before = fake->launch_count;
        launch(plans[i]);
        all[i] = launches_since(before, &counts[i]);
    }
    cr_assert_eq(counts[0], counts[1], "%s", what);
    cr_assert_gt(counts[0], 0, "%s", what);
    cr_expect_arr_eq(all[0], all[1], sizeof all[0][0] * (size_t)counts[0], "%s", what);
    free(all[0]);
    free(all[1]);
}

Test(plan_image, a_loaded_plan_launches_what_the_saved_one_does)
{
    plan_open_stubs();
    for (int i = 0; i < SUBJECTS; i++) {
        const struct subject *s = &subjects[i];
        size_t bytes, again;
        xq_plan *made = make(s), *loaded = NULL;
        unsigned char *image = save(made, &bytes);
        cr_assert_eq(xq_plan_load(context, image, bytes, &loaded), XQ_OK, "%s: %s", s->name,
                     plan_error()->message);
        cr_expect_str_eq(xq_plan_spec(made), xq_plan_spec(loaded), "%s", s->name);
        const xq_plan_info a = plan_info(made), b = plan_info(loaded);
        cr_expect_arr_eq(&a, &b, sizeof a, "%s", s->name);
        if (!s->checked) /* each checked plan has its own fault records */
            expect_same_launches(made, loaded, s->name);
        unsigned char *second = save(loaded, &again);
        cr_expect_eq(bytes, again, "%s", s->name);
        cr_expect_arr_eq(image, second, bytes, "%s", s->name);
        free(image);
        free(second);
        xq_plan_destroy(made);
        xq_plan_destroy(loaded);
    }
    plan_close(NULL);
}

/* The image is copied. The loaded plan needs neither the image nor the plan that was saved. */
Test(plan_image, a_loaded_plan_stands_alone)
{
    size_t bytes;
    plan_open_stubs();
    xq_plan *made = make(&subjects[0]), *loaded = NULL;
    unsigned char *image = save(made, &bytes);
    cr_assert_eq(xq_plan_load(context, image, bytes, &loaded), XQ_OK);
    memset(image, 0xa5, bytes);
    free(image);
    xq_plan_destroy(made);
    launch(loaded);
    plan_close(loaded);
}

Test(plan_image, packed_weights_of_a_loaded_plan_are_those_of_the_saved_one)
{
    enum { D = 256, KV = 128 };
    static float u[D * D], a[D * KV], bias[KV], norm[KV], sinks[4];
    random_stream r = random_begin(7, 0);
    size_t bytes;
    plan_open_stubs();
    xq_plan *plans[2] = {make(subject_named("model features")), NULL};
    unsigned char *image = save(plans[0], &bytes);
    cr_assert_eq(xq_plan_load(context, image, bytes, &plans[1]), XQ_OK);
    for (int i = 0; i < D * D; i++)
        u[i] = random_normal(&r);
    for (int i = 0; i < D * KV; i++)
        a[i] = random_normal(&r);
    for (int i = 0; i < KV; i++)
        bias[i] = norm[i] = random_normal(&r);
    xq_weights w = XQ_WEIGHTS_INIT;
    w.uk = u;
    w.ak = w.av = a;
    w.bk = w.bv = bias;
    w.k_norm = norm;
    w.sinks = sinks;
    size_t packed_bytes = plan_info(plans[0]).weights_bytes;
    unsigned char *packed[2];
    for (int i = 0; i < 2; i++) {
        packed[i] = calloc(1, packed_bytes);
        cr_assert_eq(xq_plan_pack_weights(plans[i], &w, packed[i], packed_bytes), XQ_OK, "%s",
                     plan_error()->message);
    }
    cr_expect_arr_eq(packed[0], packed[1], packed_bytes);
    free(packed[0]);
    free(packed[1]);
    free(image);
    xq_plan_destroy(plans[1]);
    plan_close(plans[0]);
}

Test(plan_image, arguments_are_checked)
{
    size_t bytes = 1, needed;
    plan_open_stubs();
    xq_plan *plan = make(&subjects[0]), *loaded = NULL;
    unsigned char *image = save(plan, &needed);
    memset(image, 0x5a, needed);
    cr_expect_eq(xq_plan_save(plan, image, needed - 1, &bytes), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(plan_error()->field, "capacity");
    cr_expect(image[0] == 0x5a && image[needed - 1] == 0x5a && bytes == 1);
    cr_expect_eq(xq_plan_save(plan, NULL, 1, &bytes), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(plan_error()->field, "buffer");
    cr_expect_eq(xq_plan_save(plan, image, needed, NULL), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(plan_error()->field, "bytes");
    cr_expect_eq(xq_plan_save(NULL, image, needed, &bytes), XQ_ERROR_ARGUMENT);
    cr_expect_eq(xq_plan_load(context, NULL, needed, &loaded), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(plan_error()->field, "image");
    cr_expect_eq(xq_plan_load(context, image, needed, NULL), XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(plan_error()->field, "plan");
    cr_expect_eq(xq_plan_load(NULL, image, needed, &loaded), XQ_ERROR_ARGUMENT);
    /* A wrong length is compared with the length in the image before anything behind its end is read. */
    cr_assert_eq(xq_plan_save(plan, image, needed, &needed), XQ_OK);
    expect_refused(image, SIZE_MAX, XQ_ERROR_FORMAT, "18446744073709551615 bytes are given", "endless");
    expect_refused(image, needed + (1 << 20), XQ_ERROR_FORMAT, "bytes are given", "beyond the buffer");
    free(image);
    plan_close(plan);
}

/* ------------------------------------------------------------------- damage */

Test(plan_image, an_image_cut_anywhere_is_refused)
{
    size_t bytes;
    plan_open_stubs();
    xq_plan *plan = make(&subjects[2]);
    unsigned char *image = save(plan, &bytes);
    for (size_t cut = 0; cut < bytes; cut += cut < 4096 ? 1 : 997) {
        unsigned char *part = malloc(cut + 1); /* its own allocation, for the address sanitizer */
        memcpy(part, image, cut);
        expect_refused(part, cut, XQ_ERROR_FORMAT, cut < 32 ? "do not begin" : "bytes are given", "cut");
        free(part);
    }
    /* Here the length and the checksum in the image are made to match, as any program could do. */
    for (uint64_t cut = 32; cut < bytes; cut += cut < 4096 ? 8 : 997) {
        unsigned char *part = malloc(cut);
        memcpy(part, image, cut);
        memcpy(part + 24, &cut, sizeof cut);
        sign(part, cut);
        expect_refused(part, cut, XQ_ERROR_FORMAT, "plan image: ", "cut and signed");
        free(part);
    }
    free(image);
    plan_close(plan);
}

Test(plan_image, every_damaged_byte_is_noticed)
{
    size_t bytes;
    plan_open_stubs();
    xq_plan *plan = make(&subjects[0]);
    unsigned char *image = save(plan, &bytes);
    for (size_t i = 0; i < bytes; i += i < 4096 ? 1 : 101) {
        image[i] ^= 1 << i % 8;
        expect_refused(image, bytes, XQ_ERROR_FORMAT, "plan image: ", "damaged");
        image[i] ^= 1 << i % 8;
    }
    free(image);
    plan_close(plan);
}

Test(plan_image, other_files_and_versions_are_told_apart)
{
    size_t bytes;
    plan_open_stubs();
    xq_plan *plan = make(&subjects[0]);
    unsigned char *image = save(plan, &bytes);
    expect_refused("\177ELF, 64 bits, and some more bytes of it", 39, XQ_ERROR_FORMAT,
                   "the 39 bytes do not begin like a plan image", "foreign");
    image[8]++;
    sign(image, bytes);
    expect_refused(image, bytes, XQ_ERROR_FORMAT, "it has version 7, and this library reads version 6",
                   "newer");
    image[8]--;
    sign(image, bytes);
    unsigned char *longer = malloc(bytes + 8);
    memcpy(longer, image, bytes);
    memset(longer + bytes, 0, 8);
    expect_refused(longer, bytes + 8, XQ_ERROR_FORMAT, "bytes are given", "longer");
    uint64_t all = bytes + 8;
    memcpy(longer + 24, &all, sizeof all);
    sign(longer, all);
    expect_refused(longer, all, XQ_ERROR_FORMAT, "8 bytes follow its end", "longer and signed");
    free(longer);
    free(image);
    plan_close(plan);
}

/* Reads the info of a plan, packs weights and launches. Whether these calls succeed does not matter. */
static void use(xq_plan *plan)
{
    enum { MOST = 512 };
    static float some[MOST * MOST];
    const xq_plan_info info = plan_info(plan);
    bool small = info.hidden_size <= MOST && info.kv_heads * info.head_dim <= MOST && info.heads <= MOST;
    void *packed = small && info.weights_bytes < 1 << 24 ? malloc(info.weights_bytes + 1) : NULL;
    xq_weights w = XQ_WEIGHTS_INIT;
    w.wk = w.wv = w.uk = w.ak = w.uv = w.av = w.ukv = w.bk = w.bv = w.k_norm = w.sinks = some;
    pack_keep_used(&plan->shape, plan->implementation, &w);
    if (packed)
        xq_plan_pack_weights(plan, &w, packed, info.weights_bytes);
    free(packed);
    xq_append_args append = plan_append_args(plan);
    xq_attend_args attend = plan_attend_args(plan);
    xq_plan_append(plan, &append, NULL);
    xq_plan_attend(plan, &attend, NULL);
}

/* Numbers are replaced by others, with a checksum that matches. If such an image loads, its plan must be
 * safe to inspect, to pack weights for, and to launch. */
Test(plan_image, invented_numbers_do_no_harm, .timeout = 300)
{
    static const uint64_t strange[] = {0,          1,          2,          15,         16,
                                       17,         64,         255,        256,        4096,
                                       65535,      1ull << 20, 1ull << 30, 1ull << 31, UINT32_MAX,
                                       1ull << 46, 1ull << 62, 1ull << 63, UINT64_MAX, 0x7ff0000000000000};
    enum { COUNT = sizeof strange / sizeof strange[0] };
    int refused = 0, taken = 0;
    xq_plan *plans[SUBJECTS];
    plan_open_stubs();
    for (int i = 0; i < SUBJECTS; i++) /* the fake driver must know true entries before it sees others */
        plans[i] = make(&subjects[i]);
    for (int i = 0; i < SUBJECTS; i++) {
        size_t bytes;
        unsigned char *image = save(plans[i], &bytes);
        random_stream r = random_begin(11, (uint64_t)i);
        for (int round = 0; round < 1500; round++) {
            unsigned char *copy = malloc(bytes);
            memcpy(copy, image, bytes);
            size_t units = (bytes < 6000 ? bytes : 6000) / 8;
            for (int n = random_between(&r, 1, 3); n > 0; n--) {
                size_t at = 32 + (size_t)random_between(&r, 0, (int)units - 5) * 8;
                uint64_t value = strange[random_between(&r, 0, COUNT - 1)];
                memcpy(copy + at, &value, sizeof value);
            }
            sign(copy, bytes);
            xq_plan *loaded = NULL;
            xq_status status = xq_plan_load(context, copy, bytes, &loaded);
            refused += status != XQ_OK;
            taken += status == XQ_OK;
            if (status == XQ_OK)
                use(loaded);
            xq_plan_destroy(loaded);
            free(copy);
        }
        free(image);
        xq_plan_destroy(plans[i]);
    }
    cr_log_info("%d images refused, %d taken", refused, taken);
    cr_expect_gt(refused, SUBJECTS * 300);
    cr_expect_gt(taken, SUBJECTS * 30);
    plan_close(NULL);
}

/* --------------------------------------------------------------- other GPUs */

/* Returns the image of a plan that was made on a GPU of this capability; the caller frees it. */
static unsigned char *image_for(int capability, const char *arch, size_t *bytes)
{
    char spec[1024];
    fake_cuda_use()->capability[0] = capability;
    snprintf(spec, sizeof spec, "%.*s, \"arch\": \"%s\"}", (int)strlen(PLAN_LATENT) - 1, PLAN_LATENT, arch);
    plan_open_stubs();
    xq_plan *plan = plan_make(spec, XQ_FUSED);
    unsigned char *image = save(plan, bytes);
    plan_close(plan);
    return image;
}

/* Expects that a GPU of this capability loads the image as machine code, as PTX, or not at all. */
static void expect_loads(const unsigned char *image, size_t bytes, int capability, const char *as)
{
    xq_plan *plan = NULL;
    fake_cuda_use()->capability[0] = capability;
    plan_open(NULL);
    fake->ptx_modules = 0;
    xq_status status = xq_plan_load(context, image, bytes, &plan);
    const char *how = status != XQ_OK ? "refused" : fake->ptx_modules ? "PTX" : "machine code";
    cr_expect_str_eq(how, as, "on %d", capability);
    if (status != XQ_OK) {
        cr_expect_eq(status, XQ_ERROR_UNSUPPORTED, "on %d", capability);
        cr_expect(strstr(plan_error()->message, "was compiled for"), "%s", plan_error()->message);
    }
    plan_close(plan);
}

Test(plan_image, runs_where_its_code_runs)
{
    static const struct {
        int made_on;
        const char *arch;
        struct {
            int capability;
            const char *as;
        } on[6];
    } cases[] = {
        {80,
         "sm_80",
         {{80, "machine code"}, {86, "machine code"}, {89, "machine code"}, {90, "PTX"}, {120, "PTX"}}},
        {86, "sm_86", {{80, "refused"}, {86, "machine code"}, {89, "machine code"}, {90, "PTX"}}},
        {90, "sm_90", {{80, "refused"}, {89, "refused"}, {90, "machine code"}, {100, "PTX"}}},
        {90, "sm_90a", {{89, "refused"}, {90, "machine code"}, {100, "refused"}, {120, "refused"}}},
        {100, "sm_90", {{89, "refused"}, {90, "PTX"}, {100, "PTX"}, {120, "PTX"}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bytes;
        unsigned char *image = image_for(cases[i].made_on, cases[i].arch, &bytes);
        for (int k = 0; k < 6 && cases[i].on[k].capability; k++)
            expect_loads(image, bytes, cases[i].on[k].capability, cases[i].on[k].as);
        free(image);
    }
}

/* A GPU with another number of multiprocessors has other splits, and so a workspace of another size. */
Test(plan_image, the_gpu_that_loads_it_decides_the_splits)
{
    size_t bytes;
    xq_plan *plan = NULL;
    fake_cuda_use()->sm_count = 64;
    unsigned char *image = image_for(80, "sm_80", &bytes);
    int64_t resident[2];
    for (int i = 0; i < 2; i++) {
        fake_cuda_use()->sm_count = 64 << i;
        plan_open(NULL);
        cr_assert_eq(xq_plan_load(context, image, bytes, &plan), XQ_OK, "%s", plan_error()->message);
        resident[i] = plan->attention[PLAN_ONE][0].split.resident;
        plan_close(plan);
    }
    cr_expect_eq(resident[1], 2 * resident[0]);
    free(image);
}

Test(plan_image, pool_pages_need_somebody_who_looks)
{
    size_t bytes;
    xq_plan *plan = NULL;
    plan_open_stubs_on_sim();
    xq_plan_options o = plan_options(PLAN_LATENT, XQ_FUSED);
    o.pool_pages = 100;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_OK, "%s", plan_error()->message);
    unsigned char *image = save(plan, &bytes);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    plan_open(NULL);
    expect_refused(image, bytes, XQ_ERROR_ARGUMENT, "pool_pages is 100", "on a GPU");
    free(image);
    plan_close(NULL);
}
