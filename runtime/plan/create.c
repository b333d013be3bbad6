/* From a spec to a plan image, and so to a plan. */
#include "../base/check.h"
#include "../base/descriptor.h"
#include "../launch/plan_image.h"
#include "kernel_build.h"
#include "spec_view.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- options */

static xq_status check_options(const xq_plan_options *o, error *err)
{
    if (!check_not_null("spec_json", o->spec_json, err) ||
        !check_range("implementation", (int64_t)o->implementation, XQ_FUSED, XQ_FP16_KV, err) ||
        !check_range("max_batch", o->max_batch, 1, PLAN_MOST_BLOCKS, err) ||
        !check_range("max_tokens", o->max_tokens, 1, PLAN_MOST_TOKENS, err) ||
        !check_range("max_pages", o->max_pages, 0, INT32_MAX, err) ||
        !check_range("max_append", o->max_append, 1, PLAN_MOST_TOKENS, err) ||
        !check_range("max_queries", o->max_queries, 1, PLAN_MOST_QUERIES, err) ||
        !check_range("max_total_queries", o->max_total_queries, 0, INT32_MAX, err) ||
        !check_range("checked", o->checked, 0, 1, err) ||
        !check_range("pool_pages", o->pool_pages, 0, INT32_MAX, err))
        return err->status;
    return XQ_OK;
}

/* Kernels count tiles of a page table, and rows of what they dequantize, in 32 bits. */
static xq_status set_pages(xq_plan *p, int64_t given, error *err)
{
    int64_t enough = p->max_batch * ((p->max_tokens + p->shape.page - 1) / p->shape.page);
    int64_t most = INT32_MAX / p->shape.page;
    p->max_pages = given ? given : enough;
    bool counts = p->implementation == XQ_UNFUSED ||
                  (p->implementation == XQ_FUSED && (p->shape.cross_layer || p->shape.key_norm_row));
    if (!counts || p->max_pages <= most)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "max_pages is %lld; valid with pages of %d tokens: 1 to %lld", (long long)p->max_pages,
              p->shape.page, (long long)most);
    return error_field(err, "max_pages");
}

static xq_status set_queries(xq_plan *p, const xq_plan_options *o, error *err)
{
    p->max_queries = o->max_queries;
    p->max_total_queries = o->max_total_queries ? o->max_total_queries : p->max_batch * o->max_queries;
    if (p->max_total_queries <= INT32_MAX)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "max_total_queries is left 0, and max_batch * max_queries (%lld) is too much; valid: 1 to %d",
              (long long)p->max_total_queries, INT32_MAX);
    return error_field(err, "max_total_queries");
}

/* The spec with "checked" chosen, where it does not choose that itself. */
static char *checked_spec(xq_context *context, const char *spec_json, error *err)
{
    char *chosen = NULL, *checked = NULL;
    if (context_override(context, spec_json, "{}", &chosen, err) != XQ_OK)
        return NULL;
    cJSON *choices = cJSON_Parse(chosen);
    if (cJSON_HasObjectItem(choices, "checked"))
        checked = chosen;
    else
        context_override(context, chosen, "{\"checked\": true}", &checked, err);
    cJSON_Delete(choices);
    if (checked != chosen)
        free(chosen);
    return checked;
}

/* ----------------------------------------------------------------- kernels */

/* The compiled kernels of a plan, whose code its image holds. */
struct builds {
    kernel_build *kernels[PLAN_SLOTS];
};

static void free_builds(struct builds *b)
{
    for (int i = 0; i < PLAN_SLOTS; i++)
        kernel_build_destroy(b->kernels[i]);
}

/* Reads the numbers that a kernel states about its launches. */
static xq_status read_constants(xq_plan *p, int slot, const kernel_build *k, error *err)
{
    struct plan_constant constants[PLAN_CONSTANTS];
    plan_constants(p, constants);
    for (int i = 0; i < PLAN_CONSTANTS && err->status == XQ_OK; i++) {
        const struct plan_constant *c = &constants[i];
        if (c->slot == slot && kernel_build_constant(k, c->name, c->value, err) == XQ_OK &&
            (*c->value < 1 || *c->value > INT32_MAX))
            error_set(err, XQ_ERROR_INTERNAL, "template", "templates/%s.spec.lua: '%s' must be positive",
                      k->family, c->name);
    }
    if (slot >= PLAN_ATTEND && slot < PLAN_ABSORB)
        kernel_build_number(k, "partial_share", &p->attention[slot - PLAN_ATTEND].partial_share, err);
    return err->status;
}

/* Parameters that the caller chose for the kernels of one query are not those of the kernels of many, whose
 * blocks have other rows, tiles and splits: what is best for one is slow, or does not fit, in the other. */
static const char for_many[] =
    "{\"queries\": \"many\", \"tuning\": {\"attend\": null, \"absorb\": null, \"kv_attend\": null}}";

/* The spec of the kernels for many queries, where the plan has kernels for both; else NULL. */
static char *complete_for_many(const xq_plan *p, xq_context *context, const char *spec_json, error *err)
{
    char *completed = NULL, *many = NULL;
    if (p->shape.many || p->max_queries == 1)
        return NULL;
    if (context_override(context, spec_json, for_many, &many, err) == XQ_OK)
        context_complete(context, many, &completed, err);
    free(many);
    return completed;
}

static xq_status build_kernels(xq_plan *p, xq_context *context, const char *completed,
                               const char *spec_json, struct builds *out, error *err)
{
    char *many = complete_for_many(p, context, spec_json, err);
    for (int i = 0; i < PLAN_SLOTS && err->status == XQ_OK; i++) {
        bool of_many = i == PLAN_ATTEND + PLAN_MANY || i == PLAN_ABSORB + PLAN_MANY;
        if (plan_needs(p, i) &&
            kernel_build_create(context, of_many && many ? many : completed, p->shape.arch,
                                plan_family(p, i), &out->kernels[i], err) == XQ_OK)
            read_constants(p, i, out->kernels[i], err);
    }
    free(many);
    return err->status;
}

/* ------------------------------------------------------------------- image */

/* What the options and the spec say of a plan. */
static xq_status state(xq_plan *p, const xq_plan_options *o, const char *completed, error *err)
{
    p->implementation = o->implementation;
    p->max_batch = o->max_batch;
    p->max_tokens = o->max_tokens;
    p->max_append = o->max_append;
    p->pool_pages = o->pool_pages;
    struct spec_view view;
    if (spec_view_read(completed, &view, err) != XQ_OK)
        return err->status;
    p->shape = view.shape;
    if (set_pages(p, o->max_pages, err) != XQ_OK || set_queries(p, o, err) != XQ_OK)
        return err->status;
    if (o->checked && !p->shape.checked) {
        error_set(err, XQ_ERROR_SPEC, "spec",
                  "checked is false, and the plan's options ask for it; leave it out");
        return error_field(err, "checked");
    }
    return XQ_OK;
}

static xq_status write_image(const xq_plan *p, const char *completed, const struct builds *b,
                             unsigned char **image, size_t *bytes, error *err)
{
    struct plan_code code = {.spec = completed};
    for (int i = 0; i < PLAN_SLOTS; i++)
        if (b->kernels[i]) {
            code.kernels[i] = kernel_build_code(b->kernels[i]);
            snprintf(code.target, sizeof code.target, "%s", b->kernels[i]->target.arch);
        }
    return plan_image_write(p, &code, image, bytes, err);
}

static xq_status build_image(xq_context *context, const xq_plan_options *o, unsigned char **image,
                             size_t *bytes, error *err)
{
    xq_plan stated = {0};
    struct builds builds = {0};
    char *completed = NULL;
    if (context_complete(context, o->spec_json, &completed, err) == XQ_OK &&
        state(&stated, o, completed, err) == XQ_OK &&
        build_kernels(&stated, context, completed, o->spec_json, &builds, err) == XQ_OK)
        write_image(&stated, completed, &builds, image, bytes, err);
    free_builds(&builds);
    free(completed);
    return err->status;
}

/* ------------------------------------------------------------------ public */

xq_status xq_plan_create(xq_context *context, const xq_plan_options *options, xq_plan **plan)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    if (!check_not_null("plan", plan, &err) ||
        descriptor_read(&o, sizeof o, DESCRIPTOR_UP_TO(xq_plan_options, max_queries), options, "options",
                        &err) != XQ_OK ||
        check_options(&o, &err) != XQ_OK)
        return context_fail(context, &err);
    char *spec = o.checked ? checked_spec(context, o.spec_json, &err) : NULL;
    o.spec_json = spec ? spec : o.spec_json;
    unsigned char *image = NULL;
    size_t bytes = 0;
    xq_plan *opened = NULL;
    if (err.status == XQ_OK && build_image(context, &o, &image, &bytes, &err) == XQ_OK)
        plan_from_image(context, image, bytes, &opened, &err);
    free(spec);
    if (err.status != XQ_OK)
        return context_fail(context, &err);
    *plan = opened;
    return XQ_OK;
}
