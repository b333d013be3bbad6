#include "../../../autotune/measure/ceilings.h"
#include "../../../runtime/plan/toolchain.h"

#include <criterion/criterion.h>

/* Times on the software device are modelled from the datasheet of its GPU, so a measurement there cannot
 * find more. */
Test(ceilings, a_measurement_stays_below_the_datasheet)
{
    xq_context *context;
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    ceilings measured = {0};
    error err = ERROR_INIT;
    options.device = "sim:a100";
    options.cache_dir = "";
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
    cr_assert_eq(ceilings_measure(context, NULL, &measured, &err), XQ_OK, "%s", err.message);
    const device_properties *p = &context->device->properties;
    cr_assert_gt(measured.copy_bytes_per_second, 0);
    cr_assert_lt(measured.copy_bytes_per_second, p->copy_bytes_per_second);
    cr_assert_gt(measured.f16_flops_per_second, 0);
    cr_assert_lt(measured.f16_flops_per_second, p->matrix_flops_per_second[MATRIX_F16]);
    xq_context_destroy(context);
}

/* mma.sync does not reach the whole rate of an H100's matrix units. */
Test(ceilings, mma_reaches_its_share_of_the_matrix_rate)
{
    static const struct {
        const char *device;
        double share;
    } devices[] = {{"sim:h100", 0.629}, {"sim:rtx4090", 1}};
    for (int i = 0; i < 2; i++) {
        xq_context *context;
        xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
        ceilings found = {0};
        error err = ERROR_INIT;
        options.device = devices[i].device;
        options.cache_dir = "";
        cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
        cr_assert_eq(ceilings_find(context, NULL, &found, &err), XQ_OK, "%s", err.message);
        cr_expect_float_eq(found.mma_flops_per_second, devices[i].share * found.f16_flops_per_second, 1);
        cr_expect_gt(context->device->properties.clock_hz, 1e9);
        xq_context_destroy(context);
    }
}
