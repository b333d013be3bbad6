/* xq info: what this machine offers. */
#include "../runtime/context.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const matrix_names[MATRIX_TYPES] = {"f16", "bf16", "s8", "e4m3"};

static void print_version(int number)
{
    printf("%d.%d", number / 1000, number % 1000 / 10);
}

/* Datasheet figures stand behind the software device; a GPU's own are 0 until `xq tune` measures them. */
static const char *ceilings_kind(const device_properties *p)
{
    if (p->is_sim)
        return "datasheet";
    return p->copy_bytes_per_second > 0 ? "measured" : "unmeasured";
}

static void print_ceilings(const device_properties *p)
{
    if (p->copy_bytes_per_second <= 0) {
        printf("ceilings   not measured on this GPU yet\n");
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

static void print_text(const xq_context *context, const nvrtc *library, const error *missing)
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
    print_ceilings(p);
    if (library) {
        printf("toolchain  NVRTC ");
        print_version(nvrtc_version(library));
        printf(" (%s)\n", nvrtc_path(library));
    } else {
        printf("toolchain  none: %s\n", missing->message);
    }
    const char *dir = cache_dir(context->cache);
    printf("cache      %s\n", *dir ? dir : "none");
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
    cJSON *ceilings = cJSON_AddObjectToObject(o, "ceilings");
    cJSON_AddStringToObject(ceilings, "kind", ceilings_kind(p));
    cJSON_AddNumberToObject(ceilings, "copy_bytes_per_second", p->copy_bytes_per_second);
    cJSON *matrix = cJSON_AddObjectToObject(ceilings, "matrix_flops_per_second");
    for (int i = 0; i < MATRIX_TYPES; i++)
        cJSON_AddNumberToObject(matrix, matrix_names[i], p->matrix_flops_per_second[i]);
    return o;
}

static cJSON *info_json(const xq_context *context, const nvrtc *library, const error *missing)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", xq_version());
    cJSON_AddItemToObject(root, "device", device_json(context));
    cJSON *toolchain = cJSON_AddObjectToObject(root, "toolchain");
    if (library) {
        cJSON_AddNumberToObject(toolchain, "nvrtc", nvrtc_version(library));
        cJSON_AddStringToObject(toolchain, "path", nvrtc_path(library));
    } else {
        cJSON_AddNullToObject(toolchain, "nvrtc");
        cJSON_AddStringToObject(toolchain, "error", missing->message);
    }
    cJSON_AddStringToObject(root, "cache_dir", cache_dir(context->cache));
    return root;
}

int cli_info(int argc, char **argv)
{
    struct cli_common common = {0};
    cli_command command = {
        .name = "info",
        .description = "Shows the device that --device picks, with its ceilings (from datasheets for the\n"
                       "software device), the NVRTC that was found, and where compiled kernels are kept.",
        .common = &common,
    };
    int status;
    xq_context *context;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    status = cli_open("info", &common, &context);
    if (status != CLI_OK)
        return status;

    nvrtc *library = NULL;
    error missing = ERROR_INIT, err = ERROR_INIT;
    context_lock(context);
    context_nvrtc(context, &library, &missing);
    context_unlock(context);
    if (!cli_json_to_stdout(&common))
        print_text(context, library, &missing);
    cJSON *json = info_json(context, library, &missing);
    if (cli_write_json(&common, json, &err) != XQ_OK)
        status = cli_fail("info", &common, &err);
    cJSON_Delete(json);
    error_clear(&missing);
    error_clear(&err);
    xq_context_destroy(context);
    return status;
}
