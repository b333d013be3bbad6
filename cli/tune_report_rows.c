/* Makes the rows of the report: each contest with its default, its gain, its limit. */
#include "../autotune/search/canonical.h"
#include "layers.h"
#include "tune_kernels.h"
#include "tune_report.h"

#include <stdlib.h>
#include <string.h>

struct tune_report_kernel {
    int device, spec;
    bool many; /* several queries of each sequence */
    const char *family;
    char *chosen, *why; /* exactly one of them is not NULL */
    int candidates;
    bool has_traits;
    struct cli_traits traits;
    double page_bytes_per_token, kv_bytes_per_token[SHAPE_IMPLEMENTATIONS], accumulator_bytes_per_token;
};

/* ------------------------------------------------------------------ kernels */

static xq_status read_sizes(struct tune_report_kernel *k, const char *completed, error *err)
{
    struct spec_view view;
    if (cli_traits_of(completed, &k->traits, err) != XQ_OK ||
        spec_view_read(completed, &view, err) != XQ_OK)
        return err->status;
    k->page_bytes_per_token = view.shape.bytes_per_token;
    for (int i = XQ_FP16_KV; i <= XQ_FP8_KV; i++)
        k->kv_bytes_per_token[i] =
            (double)shape_kv_page_bytes(&view.shape, (xq_implementation)i) / view.shape.page;
    k->accumulator_bytes_per_token = view.shape.accumulator_bytes_per_token;
    k->has_traits = true;
    return XQ_OK;
}

static xq_status read_default(struct tune_report_kernel *k, const char *space, error *err)
{
    cJSON *root = cJSON_Parse(space);
    const cJSON *combinations = cJSON_GetObjectItemCaseSensitive(root, "combinations");
    char *chosen = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(root, "chosen"));
    if (chosen)
        canonical_object(chosen, "parameters", &k->chosen, err);
    else
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    k->candidates = (int)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(combinations, "valid"));
    free(chosen);
    cJSON_Delete(root);
    return err->status;
}

/* A spec that today's generator refuses does not fail the report, which states the reason. */
static void fill_kernel(struct tune_report_kernel *k, struct tune_generators *g,
                        const struct tune_report *r)
{
    const char *arch = r->survey.devices[k->device].arch;
    char *completed = NULL, *space = NULL;
    error why = ERROR_INIT;
    if (tune_kernel_spec(g, r->survey.specs[k->spec], arch, k->many, &completed, &why) == XQ_OK &&
        read_sizes(k, completed, &why) == XQ_OK &&
        gen_space(g->generator, completed, k->family, &space, &why) == XQ_OK)
        read_default(k, space, &why);
    if (why.status != XQ_OK)
        k->why = strdup(why.message);
    error_clear(&why);
    free(completed);
    free(space);
}

/* The kernel of a contest. Contests of one family, spec, device and kind of queries share a kernel. Returns
 * NULL on an error. */
static const struct tune_report_kernel *kernel_of(struct tune_report *r, struct tune_generators *g,
                                                  const survey_contest *c, error *err)
{
    const bool many = c->bucket.queries > 1;
    for (int i = r->kernel_count - 1; i >= 0; i--) {
        const struct tune_report_kernel *k = r->kernels[i];
        if (k->device == c->device && k->spec == c->spec && k->many == many &&
            strcmp(k->family, c->family) == 0)
            return k;
    }
    struct tune_report_kernel **more = survey_grow(r->kernels, r->kernel_count, sizeof *more, err);
    struct tune_report_kernel *k = more ? calloc(1, sizeof *k) : NULL;
    r->kernels = more ? more : r->kernels;
    if (!k) {
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
        return NULL;
    }
    *k = (struct tune_report_kernel){
        .device = c->device, .spec = c->spec, .many = many, .family = c->family};
    fill_kernel(k, g, r);
    return r->kernels[r->kernel_count++] = k;
}

/* --------------------------------------------------------------------- rows */

/* The parameters of `best` that are not in `chosen`, or have another value there; caller frees. */
static char *difference(const char *best, const char *chosen)
{
    cJSON *changed = cJSON_Parse(best), *other = cJSON_Parse(chosen);
    const cJSON *item;
    cJSON_ArrayForEach(item, other)
    {
        if (cJSON_Compare(cJSON_GetObjectItemCaseSensitive(changed, item->string), item, 1))
            cJSON_DeleteItemFromObjectCaseSensitive(changed, item->string);
    }
    char *text = cJSON_PrintUnformatted(changed);
    cJSON_Delete(changed);
    cJSON_Delete(other);
    return text;
}

static void find_limit(struct tune_report_row *row, const struct tune_report_kernel *k,
                       const ceilings *best)
{
    const survey_contest *c = row->contest;
    const bool kv = shape_is_kv(c->implementation);
    const roofline_load load = {c->bucket.tokens, c->bucket.batch, c->bucket.queries,
                                kv ? k->kv_bytes_per_token[c->implementation] : k->page_bytes_per_token,
                                kv ? 0 : k->accumulator_bytes_per_token};
    if (k->has_traits && c->bucket.queries <= c->bucket.tokens)
        roofline(&k->traits.shape, &k->traits.costs, kv, &load, best, &row->limit);
}

static void compare_with_default(struct tune_report_row *row)
{
    const survey_answer *best = row->best, *standard = row->standard;
    if (!best || !standard || standard->outcome != STORE_MEASURED)
        return;
    row->gain = standard->seconds / best->seconds;
    row->is_certain = survey_is_faster(best, standard);
}

static xq_status fill_row(struct tune_report *r, struct tune_generators *g, int index, error *err)
{
    const survey_contest *c = &r->survey.contests[index];
    struct tune_report_row *row = &r->rows[index];
    const struct tune_report_kernel *k = kernel_of(r, g, c, err);
    *row = (struct tune_report_row){.contest = c, .best = c->best < 0 ? NULL : &c->answers[c->best]};
    if (!k)
        return err->status;
    row->chosen = k->chosen;
    row->why = k->why;
    row->candidates = k->candidates;
    row->standard = k->chosen ? survey_find(c, k->chosen) : NULL;
    row->changed = k->chosen && row->best ? difference(row->best->parameters, k->chosen) : NULL;
    compare_with_default(row);
    find_limit(row, k, &r->ceilings[c->device]);
    survey_parameters_make(c, &row->parameters, err);
    return survey_reasons_make(c, 1, &row->reasons, err);
}

/* The ceilings that were stored with the measurements. Where the store has none, those of the datasheet, if
 * there is one. */
static void find_ceilings(const survey *s, int device, ceilings *out)
{
    const store_device *d = &s->devices[device];
    const store_ceilings *c = &s->ceilings[device];
    if (c->taken)
        *out = (ceilings){.copy_bytes_per_second = c->copy_bytes_per_second,
                          .f16_flops_per_second = c->f16_flops_per_second,
                          .source = c->origin};
    else
        ceilings_of_datasheet(d->name, d->multiprocessors, out);
}

xq_status tune_report_rows(struct tune_report *r, const char *template_dir, error *err)
{
    const survey *s = &r->survey;
    struct tune_generators g = {.template_dir = template_dir};
    r->ceilings = calloc((size_t)s->device_count + 1, sizeof *r->ceilings);
    r->rows = calloc((size_t)s->contest_count + 1, sizeof *r->rows);
    if (!r->ceilings || !r->rows)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    for (int i = 0; i < s->device_count; i++)
        find_ceilings(s, i, &r->ceilings[i]);
    for (int i = 0; i < s->contest_count && err->status == XQ_OK; i++)
        fill_row(r, &g, i, err);
    tune_generators_close(&g);
    if (err->status == XQ_OK &&
        survey_reasons_make(s->contests, s->contest_count, &r->reasons, err) == XQ_OK)
        survey_matches_make(s, &r->matches, err);
    return err->status;
}

void tune_report_free(struct tune_report *r)
{
    for (int i = 0; i < r->kernel_count; i++) {
        free(r->kernels[i]->chosen);
        free(r->kernels[i]->why);
        free(r->kernels[i]);
    }
    free(r->kernels);
    for (int i = 0; r->rows && i < r->survey.contest_count; i++) {
        free(r->rows[i].changed);
        survey_parameters_free(&r->rows[i].parameters);
        survey_reasons_free(&r->rows[i].reasons);
    }
    free(r->rows);
    free(r->ceilings);
    survey_reasons_free(&r->reasons);
    survey_matches_free(&r->matches);
    survey_free(&r->survey);
}

int tune_report_failed(const survey_contest *c)
{
    return c->count - c->outcomes[STORE_MEASURED] - c->outcomes[STORE_WRONG];
}
