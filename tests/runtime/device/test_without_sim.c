/* Tests the runtime linked without the software device (the Makefile has a rule of its own for this
 * program). GPUs work, and an error names the software device as missing. */
#include "../../support/fake_cuda.h"
#include "xq/xq.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static xq_status open_device(const char *device, xq_context **context, xq_error_detail *detail)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = device;
    options.cache_dir = "";
    xq_status status = xq_context_create(&options, context);
    xq_last_error(*context, detail);
    return status;
}

Test(without_sim, a_gpu_is_opened)
{
    fake_cuda_use();
    xq_context *context = NULL;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_device_info info = XQ_DEVICE_INFO_INIT;
    cr_assert_eq(open_device("auto", &context, &detail), XQ_OK, "%s", detail.message);
    cr_assert_eq(xq_context_device(context, &info), XQ_OK);
    cr_expect_eq(info.is_sim, 0);
    xq_context_destroy(context);
}

Test(without_sim, the_software_device_is_missed)
{
    static const char *const names[] = {"sim", "sim:h100"};
    for (int i = 0; i < 2; i++) {
        xq_context *context = NULL;
        xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
        cr_expect_eq(open_device(names[i], &context, &detail), XQ_ERROR_NO_DEVICE);
        cr_expect_str_eq(detail.message,
                         "this library has no software device; valid devices: auto, cuda, cuda:N");
        cr_expect_str_eq(detail.field, "device");
        xq_context_destroy(context);
    }
}

Test(without_sim, auto_says_why_there_is_no_gpu)
{
    fake_cuda_use()->device_count = 0;
    xq_context *context = NULL;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_expect_eq(open_device("auto", &context, &detail), XQ_ERROR_NO_DEVICE);
    cr_expect(strstr(detail.message, "GPU"), "%s", detail.message);
    xq_context_destroy(context);
}

/* No message may advise to use the device that is not there. */
Test(without_sim, no_message_offers_the_software_device)
{
    for (int i = 0; i < 4; i++) {
        xq_context *context = NULL;
        xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
        if (i == 0)
            unsetenv("XQ_LIBCUDA"); /* this machine may have a driver */
        else
            fake_cuda_use()->device_count = 0;
        xq_status status = open_device(i == 3 ? "gpu" : i == 2 ? "cuda" : "auto", &context, &detail);
        if (i > 0)
            cr_expect_neq(status, XQ_OK);
        if (status != XQ_OK)
            cr_expect(!strstr(detail.message, "sim"), "%s", detail.message);
        xq_context_destroy(context);
    }
}
