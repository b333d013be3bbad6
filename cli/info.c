/* xq info: describes what this machine offers. */
#include "../autotune/measure/ceilings.h"
#include "../autotune/measure/watch.h"
#include "../runtime/plan/toolchain.h"
#include "../sim/ceilings.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const matrix_names[MATRIX_TYPES] = {"f16", "bf16", "s8", "e4m3"};

static void print_version(int number)
{
    printf("%d.%d", number / 1000, number % 1000 / 10);
}

/* Measures the ceilings of a GPU, which takes some tenths of a second. The software device has the
 * datasheet ceilings of the GPU that it stands in for. Where measuring fails, *why has the reason. */
static void measure_ceilings(xq_context *context, error *why)
{
    device_properties *p = &context->device->properties;
    measure_watch watch = {.waits = cli_show_waiting};
    ceilings measured;
    if (p->is_sim)
        return;
    ceilings_measure(context, &watch, &measured, why);
    measure_watch_close(&watch);
    if (why->status != XQ_OK)
        return;
    p->copy_bytes_per_second = measured.copy_bytes_per_second;
    p->matrix_flops_per_second[MATRIX_F16] = measured.f16_flops_per_second;
}

static const char *ceilings_kind(const device_properties *p)
{
    if (p->is_sim)
        return "datasheet";
    return p->copy_bytes_per_second > 0 ? "measured" : "unmeasured";
}

static void print_ceilings(const device_properties *p, const error *why)
{
    if (p->copy_bytes_per_second <= 0) {
        printf("ceilings   not measured: %s\n", why->message);
        return;
    }
    printf("ceilings   %s: copy %.2f TB/s",
           p->is_sim ? "from the GPU's datasheet (this device is software)" : "measured",
           p->copy_bytes_per_second * 1e-12);
    for (int i = 0; i < MATRIX_TYPES; i++)
        if (p->matrix_flops_per_second[i] > 0)
            printf(", %s %.0f TFLOP/s", matrix_names[i], p->matrix_flops_per_second[i] * 1e-12);
    putchar('\n');
}

static void add_device(cJSON *list, const char *name, const char *key, const char *text)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", name);
    cJSON_AddStringToObject(o, key, text);
    cJSON_AddItemToArray(list, o);
}

/* The names that --device takes here, and the GPUs that xq cannot use, with the reason. */
struct devices {
    cJSON *available, *unusable;
};

static struct devices find_devices(void)
{
    struct devices found = {cJSON_CreateArray(), cJSON_CreateArray()};
    error none = ERROR_INIT;
    char name[32];
    int count = 0;
    if (device_cuda_count(&count, &none) != XQ_OK)
        count = 0;
    for (int i = 0; i < count; i++) {
        error why = ERROR_INIT;
        device *d;
        snprintf(name, sizeof name, "cuda:%d", i);
        if (device_cuda_open(i, &d, &why) == XQ_OK) {
            add_device(found.available, name, "name", d->properties.name);
            d->ops->destroy(d);
        } else {
            add_device(found.unusable, name, "why", why.message);
        }
        error_clear(&why);
    }
    error_clear(&none);
    for (size_t i = 0; sim_ceilings_at(i); i++) {
        snprintf(name, sizeof name, "sim:%s", sim_ceilings_at(i)->gpu);
        add_device(found.available, name, "name", sim_ceilings_at(i)->name);
    }
    return found;
}

static void print_devices(const cJSON *devices, const char *label, const char *key)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, devices)
    {
        printf("%-10s %-13s %s\n", item == devices->child ? label : "",
               cJSON_GetObjectItem(item, "device")->valuestring,
               cJSON_GetObjectItem(item, key)->valuestring);
    }
}

/* The architecture that kernels are compiled for by default, and the architecture whose tuning they get. */
struct compilation {
    kernel_target chosen;
    error failed; /* why kernels cannot be compiled */
    const char *tuned_as;
};

static void find_compilation(xq_context *context, struct compilation *out)
{
    const gen *generator = NULL;
    error ignored = ERROR_INIT;
    *out = (struct compilation){.failed = ERROR_INIT, .tuned_as = context->arch};
    context_target(context, context->arch, &out->chosen, &out->failed);
    if (context_generator(context, &generator, &ignored) == XQ_OK)
        out->tuned_as = gen_tuned_as(generator);
    error_clear(&ignored);
}

static void print_compilation(const xq_context *context, const struct compilation *c)
{
    if (c->failed.status == XQ_OK)
        printf("compiles   for %s: %s\n", c->chosen.arch, c->chosen.why);
    else
        printf("compiles   nothing: %s\n", c->failed.message);
    if (strcmp(c->tuned_as, context->arch) != 0)
        printf("tuning     as for %s, the nearest architecture to %s that this version knows\n",
               c->tuned_as, context->arch);
}

/* The tables in which parameters of kernels are looked up. *out is NULL where `failed` has an error. */
static void list_tables(xq_context *context, cJSON **out, error *failed)
{
    char *json = NULL;
    *out = context_list_tables(context, &json, failed) == XQ_OK ? cJSON_Parse(json) : NULL;
    free(json);
}

static int number_of(const cJSON *o, const char *name)
{
    return (int)cJSON_GetNumberValue(cJSON_GetObjectItem(o, name));
}

static void print_tables(const cJSON *tables, const error *failed)
{
    const cJSON *t;
    if (!tables)
        printf("tuned      none: %s\n", failed->message);
    else if (!tables->child)
        printf("tuned      nothing: XQ_TUNED is empty, so kernels have their families' defaults\n");
    cJSON_ArrayForEach(t, tables)
    {
        const int stale = number_of(t, "stale");
        printf(
            "%-10s %s: %d result%s, for this device %d, for others of its capability %d, of its family %d",
            t == tables->child ? "tuned" : "",
            cli_show(cJSON_GetStringValue(cJSON_GetObjectItem(t, "table"))).text, number_of(t, "results"),
            number_of(t, "results") == 1 ? "" : "s", number_of(t, "device"), number_of(t, "capability"),
            number_of(t, "family"));
        if (stale)
            printf("; %d are for kernels that have changed since", stale);
        putchar('\n');
    }
}

/* [{"dir", "kernels"}] */
static cJSON *stores_json(const struct toolchain *t)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < stores_count(t->stores); i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "dir", cache_dir(stores_at(t->stores, i)));
        cJSON_AddNumberToObject(o, "kernels", cache_count(stores_at(t->stores, i)));
        cJSON_AddItemToArray(list, o);
    }
    return list;
}

static void print_stores(const struct toolchain *t)
{
    for (int i = 0; i < stores_count(t->stores); i++) {
        const cache *c = stores_at(t->stores, i);
        const int count = cache_count(c);
        printf("%-10s %s: %d kernel%s, read only\n", i ? "" : "stores", cli_show(cache_dir(c)).text, count,
               count == 1 ? "" : "s");
    }
}

static void print_cache(const cache *c)
{
    const char *dir = cache_dir(c), *why = cache_why_none(c);
    if (why)
        printf("cache      none: %s, and XQ_CACHE_DIR and XDG_CACHE_HOME are not set\n",
               cli_show(why).text);
    else
        printf("cache      %s\n", *dir ? cli_show(dir).text : "none");
}

static void print_text(const xq_context *context, const nvrtc *library,
                       const struct compilation *compilation, const error *missing, const error *why,
                       const struct devices *devices, const cJSON *tables, const error *untuned)
{
    const device_properties *p = &context->device->properties;
    printf("xq         %s\n", xq_version());
    printf("device     %s, %s, %d SMs, %.1f GiB, L2 %.1f MiB, %zu KiB shared memory a block\n", p->name,
           context->arch, p->sm_count, (double)p->memory_bytes / (1 << 30), (double)p->l2_bytes / (1 << 20),
           p->shared_bytes_per_block / 1024);
    if (!p->is_sim) {
        printf("driver     CUDA ");
        print_version(p->driver);
        putchar('\n');
    }
    if (context->no_gpu)
        printf("no GPU     %s\n", context->no_gpu);
    print_ceilings(p, why);
    if (library) {
        printf("toolchain  NVRTC ");
        print_version(nvrtc_version(library));
        printf(" (%s)\n", cli_show(nvrtc_path(library)).text);
    } else {
        printf("toolchain  none: %s\n", missing->message);
    }
    if (context->toolchain->no_compile)
        printf("compiles   nothing: %s is set; kernels come from the stores and the cache\n",
               context->toolchain->no_compile);
    else
        print_compilation(context, compilation);
    print_tables(tables, untuned);
    print_stores(context->toolchain);
    print_cache(context->toolchain->cache);
    print_devices(devices->available, "available", "name");
    print_devices(devices->unusable, "unusable", "why");
}

static cJSON *device_json(const xq_context *context)
{
    const device_properties *p = &context->device->properties;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", p->name);
    cJSON_AddStringToObject(o, "kind", p->is_sim ? "sim" : "cuda");
    cJSON_AddStringToObject(o, "arch", context->arch);
    cJSON_AddNumberToObject(o, "driver", p->driver);
    cJSON_AddNumberToObject(o, "sm_count", p->sm_count);
    cJSON_AddNumberToObject(o, "memory_bytes", (double)p->memory_bytes);
    cJSON_AddNumberToObject(o, "l2_bytes", (double)p->l2_bytes);
    cJSON_AddNumberToObject(o, "shared_bytes_per_block", (double)p->shared_bytes_per_block);
    cJSON *rates = cJSON_AddObjectToObject(o, "ceilings");
    cJSON_AddStringToObject(rates, "kind", ceilings_kind(p));
    cJSON_AddNumberToObject(rates, "copy_bytes_per_second", p->copy_bytes_per_second);
    cJSON *matrix = cJSON_AddObjectToObject(rates, "matrix_flops_per_second");
    for (int i = 0; i < MATRIX_TYPES; i++)
        cJSON_AddNumberToObject(matrix, matrix_names[i], p->matrix_flops_per_second[i]);
    return o;
}

static cJSON *compilation_json(const struct compilation *c)
{
    cJSON *o = cJSON_CreateObject();
    bool failed = c->failed.status != XQ_OK;
    cJSON_AddItemToObject(o, "target", failed ? cJSON_CreateNull() : cJSON_CreateString(c->chosen.arch));
    cJSON_AddStringToObject(o, "why", failed ? c->failed.message : c->chosen.why);
    cJSON_AddStringToObject(o, "tuned_as", c->tuned_as);
    return o;
}

static cJSON *info_json(const xq_context *context, const nvrtc *library,
                        const struct compilation *compilation, const error *missing)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", xq_version());
    cJSON_AddItemToObject(root, "device", device_json(context));
    cJSON_AddItemToObject(root, "no_gpu",
                          context->no_gpu ? cJSON_CreateString(context->no_gpu) : cJSON_CreateNull());
    cJSON *toolchain = cJSON_AddObjectToObject(root, "toolchain");
    if (library) {
        cJSON_AddNumberToObject(toolchain, "nvrtc", nvrtc_version(library));
        cJSON_AddStringToObject(toolchain, "path", nvrtc_path(library));
    } else {
        cJSON_AddNullToObject(toolchain, "nvrtc");
        cJSON_AddStringToObject(toolchain, "error", missing->message);
    }
    cJSON_AddItemToObject(root, "compilation", compilation_json(compilation));
    cJSON_AddBoolToObject(root, "no_compile", context->toolchain->no_compile != NULL);
    cJSON_AddItemToObject(root, "stores", stores_json(context->toolchain));
    cJSON_AddStringToObject(root, "cache_dir", cache_dir(context->toolchain->cache));
    return root;
}

const char cli_info_summary[] = "show devices, toolchain, ceilings and cache location";

int cli_info(int argc, char **argv)
{
    struct cli_common common = {0};
    cli_command command = {
        .name = "info",
        .summary = cli_info_summary,
        .description =
            "Shows the device that --device picks, with its ceilings (measured on a GPU, from the\n"
            "datasheet on the software device), the NVRTC that was found, the architecture that kernels\n"
            "are compiled for and why, the kernel stores, the folder of compiled kernels, and the\n"
            "devices of this machine. For each GPU that cannot be used, it says why. If --device is\n"
            "left to xq and no GPU was taken, it says why.",
        .common = &common,
        .unused = (const cli_unused[]){{"--seed", "nothing is random here"},
                                       {"--templates", "no kernel is generated here"},
                                       {NULL, NULL}},
    };
    int status;
    xq_context *context;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    error missing = ERROR_INIT, why = ERROR_INIT, untuned = ERROR_INIT, err = ERROR_INIT;
    cJSON *tables = NULL;
    cli_reads_common(&common, NULL);
    if (cli_begin_json(&common, &err) != XQ_OK)
        return cli_fail("info", &common, &err);
    status = cli_open("info", &common, &context);
    if (status != CLI_OK)
        return status;

    const nvrtc *library = NULL;
    struct cli_progress progress;
    cli_progress_begin(&progress, &common, "inspecting");
    cli_progress_update(&progress, 0, "looking for NVRTC");
    context_nvrtc(context, &library, &missing);
    struct compilation compilation;
    find_compilation(context, &compilation);
    list_tables(context, &tables, &untuned);
    cli_progress_update(&progress, 0, "measuring the ceilings");
    measure_ceilings(context, &why);
    cJSON *json = info_json(context, library, &compilation, &missing);
    struct devices devices = find_devices();
    cli_progress_end(&progress);
    if (!cli_json_to_stdout(&common))
        print_text(context, library, &compilation, &missing, &why, &devices, tables, &untuned);
    cJSON_AddItemToObject(json, "tuned_tables", tables ? tables : cJSON_CreateNull());
    if (!tables)
        cJSON_AddStringToObject(json, "tuned_error", untuned.message);
    cJSON_AddItemToObject(json, "devices", devices.available);
    cJSON_AddItemToObject(json, "unusable_gpus", devices.unusable);
    if (cli_write_json(&common, json, &err) != XQ_OK)
        status = cli_fail("info", &common, &err);
    cJSON_Delete(json);
    error_clear(&why);
    error_clear(&compilation.failed);
    error_clear(&missing);
    error_clear(&untuned);
    error_clear(&err);
    xq_context_destroy(context);
    return status;
}
