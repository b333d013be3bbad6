#include "ceilings.h"

#include "../../runtime/plan/toolchain.h"
#include "../../sim/ceilings.h"
#include "params.h"
#include "time.h"

#include <string.h>

enum { THREADS = 256, COPY_UNROLL = 8, MATRIX_CHAINS = 8, REPEATS = 9 };
#define PRODUCT_FLOPS (2.0 * 16 * 8 * 16)

static const char source[] = "#include \"ceilings.cuh\"\n";

/* The measuring kernels on their device. */
struct bench {
    device *device;
    device_module *module;
    measure_watch *watch;
};

static xq_status load(xq_context *context, struct bench *b, error *err)
{
    compiled kernels = {0};
    cache_arch target;
    device *d = b->device = context->device;
    if (context_compile(context, "ceilings", source, context->arch, &target, &kernels, err) == XQ_OK) {
        size_t bytes;
        const void *image = compiled_image(&kernels, &bytes);
        d->ops->module_load(d, image, bytes, "ceilings", &b->module, err);
    }
    compiled_free(&kernels);
    return err->status;
}

/* A launch of one of the kernels, to be repeated. */
struct launched {
    device *device;
    device_launch launch;
};

static xq_status launch(void *user, void *stream, int copy, error *err)
{
    struct launched *l = user;
    (void)copy;
    l->launch.stream = stream;
    return l->device->ops->launch(l->device, &l->launch, err);
}

/* The median seconds of a launch. */
static xq_status time_kernel(const struct bench *b, const char *entry, uint32_t blocks, const void *params,
                             size_t params_bytes, double *seconds, error *err)
{
    device_function *function;
    measure_times times;
    if (b->device->ops->function_get(b->module, entry, 0, &function, err) != XQ_OK)
        return err->status;
    struct launched l = {b->device,
                         {.function = function,
                          .grid = {blocks, 1, 1},
                          .block = {THREADS, 1, 1},
                          .cluster = 1,
                          .params = params,
                          .params_bytes = params_bytes}};
    const measure_repeats repeats = {.warm_up = 1, .repeats = REPEATS, .watch = b->watch};
    if (measure_time(b->device, &(measure_step){launch, &l, 1}, &repeats, &times, err) != XQ_OK)
        return err->status;
    *seconds = times.median;
    if (!(*seconds > 0))
        return error_set(err, XQ_ERROR_DEVICE, "device",
                         "%s took no time: the device's clock does not work", entry);
    return XQ_OK;
}

static xq_status measure_copy(const struct bench *b, double *rate, error *err)
{
    device *d = b->device;
    const device_properties *p = &d->properties;
    uint32_t blocks = p->is_sim ? 4 : (uint32_t)p->sm_count * 8;
    size_t round = (size_t)blocks * THREADS * COPY_UNROLL * 16;
    /* far larger than L2, but no large part of a small card's memory */
    size_t wanted = p->is_sim                                ? round
                    : 16 * p->l2_bytes < p->memory_bytes / 8 ? 16 * p->l2_bytes
                                                             : p->memory_bytes / 8;
    size_t bytes = wanted / round * round + (wanted < round ? round : 0);
    uint64_t from = 0, to = 0;
    double seconds;
    if (d->ops->alloc(d, bytes, &from, err) == XQ_OK && d->ops->alloc(d, bytes, &to, err) == XQ_OK &&
        d->ops->fill(d, from, 1, bytes, err) == XQ_OK) {
        struct xq_ceiling_copy_params params = {
            .source = from, .destination = to, .count = (long long)(bytes / 16)};
        if (time_kernel(b, "xq_ceiling_copy", blocks, &params, sizeof params, &seconds, err) == XQ_OK)
            *rate = 2.0 * (double)bytes / seconds;
    }
    error ignored = ERROR_INIT;
    if (from)
        d->ops->free(d, from, &ignored);
    if (to)
        d->ops->free(d, to, &ignored);
    error_clear(&ignored);
    return err->status;
}

static xq_status measure_matrix(const struct bench *b, double *rate, error *err)
{
    device *d = b->device;
    const device_properties *p = &d->properties;
    uint32_t blocks = p->is_sim ? 2 : (uint32_t)p->sm_count * 8;
    struct xq_ceiling_matrix_params params = {.rounds = p->is_sim ? 4 : 4096};
    double seconds, products = (double)blocks * (THREADS / 32) * params.rounds * MATRIX_CHAINS;
    uint64_t out = 0;
    if (d->ops->alloc(d, (size_t)blocks * THREADS * sizeof(float), &out, err) != XQ_OK)
        return err->status;
    params.out = out;
    if (time_kernel(b, "xq_ceiling_matrix", blocks, &params, sizeof params, &seconds, err) == XQ_OK)
        *rate = products * PRODUCT_FLOPS / seconds;
    error ignored = ERROR_INIT;
    d->ops->free(d, out, &ignored);
    error_clear(&ignored);
    return err->status;
}

xq_status ceilings_measure(xq_context *context, measure_watch *watch, ceilings *out, error *err)
{
    struct bench b = {.watch = watch};
    ceilings measured = {.source = "both measured"};
    if (load(context, &b, err) == XQ_OK &&
        measure_copy(&b, &measured.copy_bytes_per_second, err) == XQ_OK &&
        measure_matrix(&b, &measured.mma_flops_per_second, err) == XQ_OK) {
        measured.f16_flops_per_second = measured.mma_flops_per_second;
        *out = measured;
    }
    if (b.module)
        b.device->ops->module_unload(b.module);
    return err->status;
}

/* The datasheet of a GPU, found by the name that its driver reports and by its number of SMs, in which
 * variants differ; or NULL. */
static const struct sim_ceilings *datasheet(const char *name, int sm_count)
{
    static const char *const names[][2] = {
        {"h100", "H100"}, {"h200", "H200"}, {"a100", "A100"}, {"rtx4090", "RTX 4090"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct sim_ceilings *sheet = sim_ceilings_find(names[i][0]);
        if (sheet && strstr(name, names[i][1]) && sheet->sm_count == sm_count)
            return sheet;
    }
    return NULL;
}

xq_status ceilings_find(xq_context *context, measure_watch *watch, ceilings *out, error *err)
{
    const device_properties *p = &context->device->properties;
    const struct sim_ceilings *sheet = datasheet(p->name, p->sm_count);
    if (p->is_sim) {
        double rate = p->matrix_flops_per_second[MATRIX_F16];
        *out = (ceilings){p->copy_bytes_per_second, rate, rate * (sheet ? sheet->mma_sync_fraction : 1),
                          "from the GPU's datasheet"};
        return XQ_OK;
    }
    if (ceilings_measure(context, watch, out, err) != XQ_OK)
        return err->status;
    if (sheet && sheet->matrix_flops_per_second[MATRIX_F16] > out->f16_flops_per_second) {
        out->f16_flops_per_second = sheet->matrix_flops_per_second[MATRIX_F16];
        out->source = "the bandwidth measured, the rate from the GPU's datasheet";
    }
    return XQ_OK;
}

bool ceilings_of_datasheet(const char *name, int sm_count, ceilings *out)
{
    const struct sim_ceilings *sheet = datasheet(name, sm_count);
    if (sheet)
        *out = (ceilings){.copy_bytes_per_second = sheet->memory_bytes_per_second,
                          .f16_flops_per_second = sheet->matrix_flops_per_second[MATRIX_F16],
                          .mma_flops_per_second =
                              sheet->matrix_flops_per_second[MATRIX_F16] * sheet->mma_sync_fraction,
                          .source = "from the GPU's datasheet"};
    return sheet != NULL;
}
