/* Tests contexts: devices by name, contexts that were not created, device memory, and errors by thread. */
#include "../../../runtime/plan/toolchain.h"
#include "../../support/fake_cuda.h"
#include "../../support/files.h"
#include "xq/xq.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static xq_context *open_context(const char *name)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = name;
    options.cache_dir = files_directory();
    xq_context *context = NULL;
    fake_cuda_use();
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    return context;
}

Test(context, bad_device_names_list_the_valid_ones)
{
    static const char *const names[] = {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
        xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
        xq_context *context = NULL;
        options.device = names[i];
        cr_assert_eq(xq_context_create(&options, &context), XQ_ERROR_ARGUMENT, "'%s'", names[i]);
        cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
        cr_assert_eq(detail.status, XQ_ERROR_ARGUMENT);
        cr_assert_str_eq(detail.field, "device");
        cr_assert(strstr(detail.message, "cuda:N") && strstr(detail.message, "sim:GPU"), "%s",
                  detail.message);
        xq_context_destroy(context);
    }
}

struct use {
    xq_context *context;
    int call;
};

enum { USES = 10 };

static xq_status use_context(xq_context *context, int call)
{
    static xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    static xq_device_info info = XQ_DEVICE_INFO_INIT;
    char *text = NULL;
    xq_plan *plan = NULL;
    xq_prepared *prepared = NULL;
    uint64_t pointer;
    options.spec_json = "{}";
    switch (call) {
    case 0:
        return xq_device_alloc(context, 16, &pointer);
    case 1:
        return xq_device_free(context, 16);
    case 2:
        return xq_device_write(context, 16, "", 1);
    case 3:
        return xq_device_fill(context, 16, 0, 1);
    case 4:
        return xq_device_synchronize(context);
    case 5:
        return xq_context_device(context, &info);
    case 6:
        return xq_spec_complete(context, "{}", &text);
    case 7:
        return xq_plan_create(context, &options, &plan);
    case 8:
        return xq_plan_load(context, "", 1, &plan);
    default:
        return xq_prepared_open(context, "/nowhere", &prepared);
    }
}

/* Runs in a thread of its own, which has seen no failure before. */
static void *use_what_was_not_created(void *argument)
{
    const struct use *u = argument;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_expect_eq(use_context(u->context, u->call), XQ_ERROR_ARGUMENT, "call %d", u->call);
    cr_assert_eq(xq_last_error(u->context, &detail), XQ_OK);
    cr_assert_eq(detail.status, XQ_ERROR_ARGUMENT, "call %d", u->call);
    cr_expect(strstr(detail.message, "context: it was not created: device 'gpu' is not valid"), "%s",
              detail.message);
    cr_expect_str_eq(detail.field, "context", "call %d", u->call);
    return NULL;
}

Test(context, one_that_was_not_created_says_why_to_every_call)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    struct use u = {NULL, 0};
    options.device = "gpu";
    cr_assert_eq(xq_context_create(&options, &u.context), XQ_ERROR_ARGUMENT);
    for (; u.call < USES; u.call++) {
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, use_what_was_not_created, &u), 0);
        pthread_join(thread, NULL);
    }
    xq_context_destroy(u.context);
}

Test(context, cuda_without_a_driver_is_no_device)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_context *context = NULL;
    setenv("XQ_LIBCUDA", "/nowhere/libcuda.so.1", 1);
    options.device = "cuda";
    cr_assert_eq(xq_context_create(&options, &context), XQ_ERROR_NO_DEVICE);
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    cr_assert_str_eq(detail.stage, "device");
    cr_assert(strstr(detail.message, "libcuda"), "%s", detail.message);
    xq_context_destroy(context);
}

Test(context, auto_takes_the_gpu_and_compiles_for_it)
{
    xq_context *context = open_context(NULL);
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    cr_assert_eq(xq_context_device(context, &info), XQ_OK);
    cr_assert_eq(info.is_sim, 0);
    cr_assert_eq(info.ordinal, 0);
    cr_assert_str_eq(info.name, "Fake GPU 0");
    cr_assert_str_eq(info.arch, "sm_90a");
    cr_assert_eq(info.driver, 12040);
    cr_assert_geq(info.nvrtc, 12000);
    char *completed = NULL;
    cr_assert_eq(xq_spec_complete(context,
                                  "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\"}}",
                                  &completed),
                 XQ_OK);
    cr_assert(strstr(completed, "\"arch\":\"sm_90a\""), "%s", completed);
    xq_string_free(completed);
    xq_context_destroy(context);
}

Test(context, device_info_says_the_gpus_number)
{
    fake_cuda_use()->device_count = 2;
    xq_context *gpu = open_context("cuda:1"), *sim = open_context("sim");
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    cr_assert_eq(xq_context_device(gpu, &info), XQ_OK);
    cr_assert_eq(info.ordinal, 1);
    cr_assert_eq(xq_context_device(sim, &info), XQ_OK);
    cr_assert_eq(info.ordinal, -1);
    info.struct_size = offsetof(xq_device_info, ordinal); /* the first header, which had no ordinal */
    info.ordinal = 7;
    cr_assert_eq(xq_context_device(sim, &info), XQ_OK);
    cr_assert_eq(info.ordinal, 7);
    xq_context_destroy(gpu);
    xq_context_destroy(sim);
}

Test(context, device_memory_round_trip_and_null_arguments)
{
    xq_context *context = open_context("cuda:0");
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    uint64_t p = 0;
    int in[3] = {1, 2, 3}, out[3] = {0};
    cr_assert_eq(xq_device_alloc(context, sizeof in, &p), XQ_OK);
    cr_assert_eq(xq_device_write(context, p, in, sizeof in), XQ_OK);
    cr_assert_eq(xq_device_fill(context, p, 0, 4), XQ_OK);
    cr_assert_eq(xq_device_read(context, out, p, sizeof out), XQ_OK);
    cr_assert_eq(out[0], 0);
    cr_assert_eq(out[2], 3);
    cr_assert_eq(xq_device_synchronize(context), XQ_OK);
    cr_assert_eq(xq_device_free(context, p), XQ_OK);
    cr_assert_eq(xq_device_free(context, 0), XQ_OK);
    cr_assert_eq(xq_device_read(context, NULL, p, 4), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    cr_assert_str_eq(detail.field, "destination");
    cr_assert_eq(xq_device_write(context, 0, in, 4), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_device_fill(context, 0, 0, 4), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_device_alloc(context, 4, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_device_read(context, NULL, 0, 0), XQ_OK);
    xq_context_destroy(context);
}

static void *fail_in_a_thread(void *argument)
{
    xq_context *context = argument;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    cr_assert_eq(detail.status, XQ_OK, "a new thread sees another's error");
    cr_assert_eq(xq_device_fill(context, 0, 0, 4), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    cr_assert_str_eq(detail.field, "destination");
    return NULL;
}

Test(context, last_error_is_the_calling_threads_own)
{
    xq_context *context = open_context("cuda");
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_device_alloc(context, 4, NULL), XQ_ERROR_ARGUMENT);
    for (int i = 0; i < 200; i++) { /* more errors than are kept for finished threads */
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, fail_in_a_thread, context), 0);
        pthread_join(thread, NULL);
    }
    cr_assert_eq(xq_last_error(context, &detail), XQ_OK);
    cr_assert_str_eq(detail.field, "pointer");
    xq_context_destroy(context);
}

Test(context, null_is_refused_everywhere)
{
    uint64_t p;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    cr_assert_eq(xq_context_create(NULL, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_last_error(NULL, &detail), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_context_device(NULL, &info), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_device_alloc(NULL, 1, &p), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_spec_complete(NULL, "{}", NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_plan_create(NULL, NULL, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_plan_query(NULL, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_plan_append(NULL, NULL, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_plan_attend(NULL, NULL, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_plan_dequantize(NULL, NULL, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_plan_pack_weights(NULL, NULL, NULL, 0), XQ_ERROR_ARGUMENT);
    cr_assert_null(xq_plan_spec(NULL));
    xq_context_destroy(NULL);
    xq_plan_destroy(NULL);
    xq_string_free(NULL);
}
