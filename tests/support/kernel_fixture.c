#include "kernel_fixture.h"
#include "elements.h"

#include "../../runtime/base/half.h"
#include "../../runtime/plan/spec_view.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(xq_status status, const error *err)
{
    cr_assert_eq(status, XQ_OK, "%s: %s:%d %s: %s\n%s", xq_status_name(status), err->file, err->line,
                 err->field, err->message, err->log ? err->log : "");
}

static void require_public(fixture *f, xq_status status)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    if (status != XQ_OK)
        xq_last_error(f->context, &detail);
    cr_assert_eq(status, XQ_OK, "%s: %s\n%s", xq_status_name(status), detail.message ? detail.message : "",
                 detail.log ? detail.log : "");
}

void fixture_open(fixture *f, const char *spec_json)
{
    fixture_open_on(f, "sim", spec_json);
}

void fixture_open_on(fixture *f, const char *device_name, const char *spec_json)
{
    memset(f, 0, sizeof *f);
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = device_name;
    require_public(f, xq_context_create(&options, &f->context));
    require_public(f, xq_spec_complete(f->context, spec_json, &f->completed));
    error err = ERROR_INIT;
    require(reference_model_read(f->completed, &f->model, &err), &err);
    cJSON *spec = cJSON_Parse(f->completed), *chosen = cJSON_GetObjectItem(spec, "cache");
    f->page = cJSON_GetObjectItem(chosen, "page")->valueint;
    f->group = cJSON_GetObjectItem(chosen, "group")->valueint;
    f->bits = cJSON_GetObjectItem(chosen, "bits")->valueint;
    cJSON_Delete(spec);
}

void test_kernel_close(test_kernel *k)
{
    kernel_destroy(k->loaded);
    kernel_build_destroy(k->build);
    *k = (test_kernel){0};
}

xq_status test_kernel_open(xq_context *context, const char *completed, const char *family, test_kernel *out,
                           error *err)
{
    struct spec_view view;
    *out = (test_kernel){0};
    if (spec_view_read(completed, &view, err) == XQ_OK &&
        kernel_build_create(context, completed, view.shape.arch, family, &out->build, err) == XQ_OK) {
        const struct kernel_code code = kernel_build_code(out->build);
        kernel_open(context->device, &code, out->build->target.text, &out->loaded, err);
    }
    if (err->status != XQ_OK)
        test_kernel_close(out);
    return err->status;
}

void fixture_close(fixture *f)
{
    fixture_release(f);
    for (int i = 0; i < f->kernel_count; i++)
        test_kernel_close(&f->kernels[i]);
    xq_string_free(f->completed);
    xq_context_destroy(f->context);
}

test_kernel *fixture_kernel(fixture *f, const char *family)
{
    error err = ERROR_INIT;
    test_kernel *k = &f->kernels[f->kernel_count++];
    require(test_kernel_open(f->context, f->completed, family, k, &err), &err);
    return k;
}

test_kernel *fixture_source(fixture *f, const char *source, int threads)
{
    error err = ERROR_INIT;
    const gen *generator = NULL;
    const nvrtc *library = NULL;
    compiled made = {0};
    const char *target = f->context->device->properties.ptx_target;
    test_kernel *k = &f->kernels[f->kernel_count++];
    if (context_generator(f->context, &generator, &err) == XQ_OK &&
        context_nvrtc(f->context, &library, &err) == XQ_OK)
        compile_source(library, f->context->toolchain->cache, generator, "test", source, target, &made,
                       &err);
    require(err.status, &err);
    const struct kernel_code code = {.family = "test",
                                     .entry = "test",
                                     .threads = (uint32_t)threads,
                                     .ptx = made.ptx,
                                     .ptx_bytes = strlen(made.ptx) + 1};
    require(kernel_open(f->context->device, &code, target, &k->loaded, &err), &err);
    compiled_free(&made);
    return k;
}

int fixture_constant(const test_kernel *k, const char *name)
{
    error err = ERROR_INIT;
    int64_t value = 0;
    require(kernel_build_constant(k->build, name, &value, &err), &err);
    return (int)value;
}

uint64_t fixture_filled(fixture *f, uint8_t value, size_t bytes)
{
    cr_assert_lt(f->buffer_count, FIXTURE_MAX_BUFFERS);
    uint64_t *pointer = &f->buffers[f->buffer_count];
    require_public(f, xq_device_alloc(f->context, bytes ? bytes : 1, pointer));
    f->buffer_count++;
    require_public(f, xq_device_fill(f->context, *pointer, value, bytes ? bytes : 1));
    return *pointer;
}

uint64_t fixture_upload(fixture *f, const void *data, size_t bytes)
{
    uint64_t pointer = fixture_filled(f, 0, bytes);
    if (bytes)
        require_public(f, xq_device_write(f->context, pointer, data, bytes));
    return pointer;
}

void *fixture_download(fixture *f, uint64_t pointer, size_t bytes)
{
    void *data = malloc(bytes + 1);
    cr_assert(data);
    require_public(f, xq_device_read(f->context, data, pointer, bytes));
    return data;
}

void fixture_release(fixture *f)
{
    while (f->buffer_count)
        xq_device_free(f->context, f->buffers[--f->buffer_count]);
}

void fixture_launch(fixture *f, const test_kernel *k, int grid_x, int grid_y, int grid_z,
                    const void *params, size_t params_bytes)
{
    error err = ERROR_INIT;
    const uint32_t grid[3] = {(uint32_t)grid_x, (uint32_t)grid_y, (uint32_t)grid_z};
    require(kernel_launch(k->loaded, grid, params, params_bytes, NULL, &err), &err);
    require_public(f, xq_device_synchronize(f->context));
}

const char *fixture_spec(const char *method, int hidden, int heads, int kv_heads, int head_dim, int page,
                         int bits, int group, const char *tuning)
{
    static char text[1024];
    int dkv = kv_heads * head_dim;
    char ranks[64] = "";
    if (!strcmp(method, "latent"))
        snprintf(ranks, sizeof ranks, ", \"rank_k\": %d, \"rank_v\": %d", dkv > 64 ? dkv - 64 : dkv, dkv);
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d,"
             " \"head_dim\": %d, \"rope_theta\": 500000.0},"
             " \"cache\": {\"method\": \"%s\", \"bits\": %d, \"group\": %d, \"page\": %d%s}, \"weights\": "
             "\"f16\", \"tuning\": {%s}}",
             hidden, heads, kv_heads, head_dim, method, bits, group, page, ranks, tuning);
    return text;
}

double *fixture_rotated(const fixture *f, const uint16_t *halves, int rows, int heads, int first)
{
    double *values = elements_doubles(halves, false, (size_t)(rows * heads * f->model.head_dim));
    reference_rotate(&f->model, values, rows, heads, first);
    return values;
}

device_counters fixture_counters(fixture *f)
{
    error err = ERROR_INIT;
    device_counters counters;
    device *d = f->context->device;
    require(d->ops->counters(d, &counters, &err), &err);
    require(d->ops->counters_reset(d, &err), &err);
    return counters;
}

/* A random length, often next to the edge of a page or a tile. */
static int draw_length(random_stream *r, int page, int longest)
{
    int length = random_between(r, 0, longest);
    switch (random_between(r, 0, 4)) {
    case 0:
        length = 0;
        break;
    case 1:
        length = length / page * page + random_between(r, -1, 1);
        break;
    case 2:
        length = length / 16 * 16 + random_between(r, -1, 1);
        break;
    }
    return length < 0 ? 0 : length > longest ? longest : length;
}

void paged_draw(random_stream *r, paged *p, int batch, int page, int longest, bool in_order)
{
    memset(p, 0, sizeof *p);
    p->batch = batch;
    p->page = page;
    for (int i = 0; i < batch; i++) {
        p->lengths[i] = draw_length(r, page, longest);
        p->longest = p->lengths[i] > p->longest ? p->lengths[i] : p->longest;
        int pages = (p->lengths[i] + page - 1) / page;
        p->indptr[i + 1] = p->indptr[i] + pages;
        p->last_page_len[i] =
            pages ? p->lengths[i] - (pages - 1) * page : random_between(r, -1000000, 1000000);
    }
    p->entries = p->indptr[batch];
    p->pool = in_order ? p->entries : p->entries + 3;
    p->indices = malloc(sizeof *p->indices * (size_t)(p->pool + 1));
    cr_assert(p->indices);
    for (int i = 0; i < p->pool; i++)
        p->indices[i] = i;
    if (!in_order)
        random_shuffle(r, p->indices, (size_t)p->pool);
    for (int i = p->entries; i <= p->pool; i++)
        p->indices[i] = 0x7ffffff0;
}

void paged_free(paged *p)
{
    free(p->indices);
}

struct xq_table paged_upload(fixture *f, const paged *p, bool without_indices)
{
    struct xq_table table;
    table.indptr = fixture_upload(f, p->indptr, sizeof(int32_t) * (size_t)(p->batch + 1));
    table.indices =
        without_indices ? 0 : fixture_upload(f, p->indices, sizeof(int32_t) * (size_t)(p->pool + 1));
    table.last_page_len = fixture_upload(f, p->last_page_len, sizeof(int32_t) * (size_t)p->batch);
    return table;
}

int paged_page(const paged *p, int sequence, int token)
{
    return p->indices[p->indptr[sequence] + token / p->page];
}

size_t kv_row(const fixture *f, int page, int which, int slot)
{
    size_t width = (size_t)(f->model.kv_heads * f->model.head_dim);
    return ((size_t)(page * 2 + which) * (size_t)f->page + (size_t)slot) * width;
}

uint8_t *kv_narrow(const fixture *f, const uint16_t *kv, int pages, bool bf16, float k_scale, float v_scale)
{
    const size_t part = kv_row(f, 0, 1, 0), count = kv_row(f, pages, 0, 0);
    uint8_t *codes = malloc(count + 1);
    uint16_t *rounded = malloc((count + 1) * sizeof *rounded);
    cr_assert(codes && rounded);
    memcpy(rounded, kv, count * sizeof *rounded);
    for (size_t at = 0; at < count; at += part)
        elements_narrow(rounded + at, bf16, part, at / part % 2 ? v_scale : k_scale, codes + at);
    free(rounded);
    return codes;
}
