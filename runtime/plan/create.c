/* Makes a plan image from a spec, and a plan from the image. */
#include "create.h"
#include "../base/check.h"
#include "../base/descriptor.h"
#include "../device/arch.h"
#include "../launch/plan_image.h"
#include "spec_view.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- options */

static xq_status check_options(const xq_plan_options *o, error *err)
{
    if (!check_not_null("spec_json", o->spec_json, err) ||
        !check_range("implementation", (int64_t)o->implementation, XQ_FUSED, XQ_FP8_KV, err) ||
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

/* Kernels count tiles of a page table, and rows that they dequantize, in 32 bits. */
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
              "max_total_queries is 0, and max_batch * max_queries (%lld) is too large; valid: 1 to %d",
              (long long)p->max_total_queries, INT32_MAX);
    return error_field(err, "max_total_queries");
}

/* Returns the spec with "checked": true as a choice, unless the spec chooses "checked" itself. */
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

/* A plan that is being made. */
struct making {
    xq_context *context;
    const xq_plan_options *options;
    xq_plan stated;
    char *completed; /* completed spec */
    /* Completed specs of attention's kernels that have another spec: the kernels for many queries in a
     * plan that has both kinds, and the kernels for calls of other sizes. */
    char *attention[PLAN_QUERIES][PLAN_VARIANTS];
    kernel_build *kernels[PLAN_SLOTS];
    const char *failed; /* family whose kernel could not be built */
    /* Families that use their defaults because the parameters from a table of tuned parameters did not
     * work. */
    const char *untuned[PLAN_SLOTS];
    int untuned_count;
};

/* Drops everything that an attempt has made, so that another attempt can begin. */
static void forget(struct making *m)
{
    for (int i = 0; i < PLAN_SLOTS; i++) {
        kernel_build_destroy(m->kernels[i]);
        m->kernels[i] = NULL;
    }
    for (int i = 0; i < PLAN_ATTENTIONS; i++) {
        char **text = &m->attention[i / PLAN_VARIANTS][i % PLAN_VARIANTS];
        free(*text);
        *text = NULL;
    }
    free(m->completed);
    m->completed = NULL;
    m->failed = NULL;
    m->stated = (xq_plan){0};
}

static bool is_untuned(const struct making *m, const char *family)
{
    for (int i = 0; i < m->untuned_count; i++)
        if (strcmp(m->untuned[i], family) == 0)
            return true;
    return false;
}

static gen_size largest_calls(const struct making *m, int64_t queries)
{
    return (gen_size){m->options->max_tokens, m->options->max_batch, queries};
}

/* Completes a spec for the largest calls of the plan. */
static xq_status complete(const struct making *m, const char *spec_json, int64_t queries, char **completed,
                          error *err)
{
    const gen_completion how = {
        .calls = largest_calls(m, queries), .untuned = m->untuned, .untuned_count = m->untuned_count};
    return context_complete_with(m->context, spec_json, how, completed, err);
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
        kernel_build_number(k, "partial_share",
                            &p->attention[plan_queries_of(slot)][plan_variant_of(slot)].partial_share, err);
    return err->status;
}

/* Parameters that the caller chose for the one-query kernels do not apply to the many-query kernels, whose
 * blocks have other rows, tiles and splits: the best parameters of one kind are slow, or do not fit, in
 * the other. */
static const char for_many[] =
    "{\"queries\": \"many\", \"tuning\": {\"attend\": null, \"absorb\": null, \"kv_attend\": null, "
    "\"kv_attend_e4m3\": null}}";

/* Completes the spec of the kernels for many queries, if the plan has kernels for both kinds. */
static xq_status complete_for_many(struct making *m, error *err)
{
    char *many = NULL;
    if (m->stated.shape.many || m->stated.max_queries == 1)
        return XQ_OK;
    if (context_override(m->context, m->options->spec_json, for_many, &many, err) == XQ_OK)
        complete(m, many, m->options->max_queries, &m->attention[PLAN_MANY][0], err);
    free(many);
    return err->status;
}

/* Returns the completed spec that attention's kernels are made from. */
static const char *spec_of_attention(const struct making *m, enum plan_queries queries, int variant)
{
    return m->attention[queries][variant] ? m->attention[queries][variant] : m->completed;
}

static const char *spec_of_slot(const struct making *m, int slot)
{
    return slot < PLAN_ATTEND ? m->completed
                              : spec_of_attention(m, plan_queries_of(slot), plan_variant_of(slot));
}

/* ------------------------------------------- attention's kernels for calls of several sizes */

/* Completes the spec of kernels for smaller calls, with these parameters of attention. */
static xq_status add_variant(struct making *m, enum plan_queries queries, const cJSON *parameters,
                             error *err)
{
    xq_plan *p = &m->stated;
    cJSON *patch = cJSON_CreateObject(), *tuning = cJSON_AddObjectToObject(patch, "tuning");
    char *text = NULL, *chosen = NULL;
    if (cJSON_AddItemToObject(tuning, plan_family(p, PLAN_ATTEND), cJSON_Duplicate(parameters, 1)))
        text = cJSON_PrintUnformatted(patch);
    if (!text)
        error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
    else if (context_override(m->context, spec_of_attention(m, queries, 0), text, &chosen, err) == XQ_OK)
        complete(m, chosen, queries == PLAN_ONE ? 1 : m->options->max_queries,
                 &m->attention[queries][p->variants[queries]++], err);
    free(chosen);
    cJSON_free(text);
    cJSON_Delete(patch);
    return err->status;
}

static void read_picks(xq_plan *p, enum plan_queries queries, const cJSON *rows)
{
    const cJSON *row, *number;
    int t = 0;
    cJSON_ArrayForEach(row, rows)
    {
        int b = 0;
        cJSON_ArrayForEach(number, row)
        {
            if (t < PLAN_TOKEN_CLASSES && b < PLAN_BATCH_CLASSES)
                p->pick[queries][t][b++] = (uint8_t)number->valueint;
        }
        t++;
    }
}

/* Adds the variants that tables of tuned parameters have for calls smaller than the largest. */
static xq_status choose_variants(struct making *m, enum plan_queries queries, error *err)
{
    xq_plan *p = &m->stated;
    const char *family = plan_family(p, PLAN_ATTEND);
    const gen_size largest = largest_calls(m, queries == PLAN_ONE ? 1 : m->options->max_queries);
    char *json = NULL;
    p->variants[queries] = plan_serves(p, queries);
    if (!p->variants[queries] || is_untuned(m, family))
        return XQ_OK;
    if (context_sizes(m->context, spec_of_attention(m, queries, 0), family, &largest, PLAN_VARIANTS, &json,
                      err) != XQ_OK)
        return err->status;
    cJSON *sizes = cJSON_Parse(json);
    const cJSON *variants = cJSON_GetObjectItem(sizes, "variants"), *parameters;
    cJSON_ArrayForEach(parameters, variants)
    {
        if (parameters != variants->child && err->status == XQ_OK)
            add_variant(m, queries, parameters, err);
    }
    read_picks(p, queries, cJSON_GetObjectItem(sizes, "pick"));
    cJSON_Delete(sizes);
    free(json);
    return err->status;
}

static xq_status build_kernels(struct making *m, error *err)
{
    xq_plan *p = &m->stated;
    for (int i = 0; i < PLAN_SLOTS && err->status == XQ_OK; i++) {
        if (!plan_needs(p, i))
            continue;
        if (kernel_build_create(m->context, spec_of_slot(m, i), p->shape.arch, plan_family(p, i),
                                &m->kernels[i], err) == XQ_OK)
            read_constants(p, i, m->kernels[i], err);
        else
            m->failed = plan_family(p, i);
    }
    return err->status;
}

/* ------------------------------------------------------------------- image */

/* Returns the source of a family's parameters, as a completed spec states it. */
static xq_parameters_from parameters_from(const char *completed, const char *family)
{
    static const char *const levels[] = {"device", "capability", "family"};
    cJSON *spec = cJSON_Parse(completed);
    const cJSON *used = cJSON_GetObjectItem(cJSON_GetObjectItem(spec, "tuned"), family);
    const cJSON *chosen = cJSON_GetObjectItem(cJSON_GetObjectItem(spec, "choices"), "tuning");
    const char *from = cJSON_GetStringValue(cJSON_GetObjectItem(used, "from"));
    xq_parameters_from result = cJSON_HasObjectItem(chosen, family) ? XQ_FROM_SPEC : XQ_FROM_DEFAULT;
    for (int i = 0; from && i < 3; i++)
        if (strcmp(from, levels[i]) == 0)
            result = (xq_parameters_from)(XQ_FROM_DEVICE + i);
    cJSON_Delete(spec);
    return result;
}

/* Fills in what the options and the spec say about a plan. */
static xq_status state(struct making *m, error *err)
{
    const xq_plan_options *o = m->options;
    xq_plan *p = &m->stated;
    p->implementation = o->implementation;
    p->max_batch = o->max_batch;
    p->max_tokens = o->max_tokens;
    p->max_append = o->max_append;
    p->pool_pages = o->pool_pages;
    struct spec_view view;
    if (spec_view_read(m->completed, &view, err) != XQ_OK)
        return err->status;
    p->shape = view.shape;
    p->parameters_from = parameters_from(m->completed, plan_family(p, PLAN_ATTEND));
    if (set_pages(p, o->max_pages, err) != XQ_OK || set_queries(p, o, err) != XQ_OK)
        return err->status;
    if (o->checked && !p->shape.checked) {
        error_set(err, XQ_ERROR_SPEC, "spec",
                  "checked is false, and the plan's options set it; leave it out");
        return error_field(err, "checked");
    }
    return XQ_OK;
}

/* Whether code for `target` runs on fewer GPUs than code for `other`; "" stands for no code. A store may
 * have a cubin of one kernel and only PTX of another. The plan is then for the cubin's architecture, which
 * also runs that PTX. */
static bool demands_more(const char *target, const char *other)
{
    bool real = strncmp(target, "sm_", 3) == 0, other_real = strncmp(other, "sm_", 3) == 0;
    return real != other_real ? real : arch_number(target) > arch_number(other);
}

static xq_status write_image(const struct making *m, unsigned char **image, size_t *bytes, error *err)
{
    struct plan_code code = {.spec = m->completed};
    for (int i = 0; i < PLAN_SLOTS; i++)
        if (m->kernels[i]) {
            code.kernels[i] = kernel_build_code(m->kernels[i]);
            if (demands_more(m->kernels[i]->target.text, code.target))
                snprintf(code.target, sizeof code.target, "%s", m->kernels[i]->target.text);
        }
    return plan_image_write(&m->stated, &code, image, bytes, err);
}

/* The task of make(). One of the first three members is set: it asks for a plan, for a plan's image and
 * sources, or for a visit of each kernel. */
struct product {
    xq_plan **plan;
    struct blueprint *blueprint;
    plan_visit *visit;
    void *user;
};

static void name_kernel(int slot, const char *family, char *name, size_t size)
{
    int variant = slot < PLAN_ATTEND ? 0 : plan_variant_of(slot);
    bool many = slot >= PLAN_ATTEND && plan_queries_of(slot) == PLAN_MANY;
    int length = snprintf(name, size, "%s%s", family, many ? "-many" : "");
    if (variant > 0)
        snprintf(name + length, size - (size_t)length, "-%d", variant + 1);
}

/* Moves the results of an attempt into a blueprint. */
static void take_blueprint(struct making *m, struct blueprint *b)
{
    b->spec = m->completed;
    m->completed = NULL;
    for (int i = 0; i < PLAN_SLOTS; i++) {
        kernel_build *k = m->kernels[i];
        if (!k)
            continue;
        struct blueprint_kernel *to = &b->kernels[b->kernel_count++];
        name_kernel(i, k->family, to->name, sizeof to->name);
        snprintf(to->target, sizeof to->target, "%s", k->target.text);
        to->source = k->source;
        k->source = NULL;
    }
}

static xq_status visit_all(const struct making *m, plan_visit *visit, void *user, error *err)
{
    for (int i = 0; i < PLAN_SLOTS && err->status == XQ_OK; i++)
        if (m->kernels[i])
            visit(user, m->kernels[i], err);
    return err->status;
}

static xq_status try_to_build(struct making *m, error *err)
{
    if (complete(m, m->options->spec_json, 1, &m->completed, err) == XQ_OK && state(m, err) == XQ_OK &&
        complete_for_many(m, err) == XQ_OK && choose_variants(m, PLAN_ONE, err) == XQ_OK &&
        choose_variants(m, PLAN_MANY, err) == XQ_OK)
        build_kernels(m, err);
    return err->status;
}

static xq_status try_to_make(struct making *m, const struct product *to, error *err)
{
    unsigned char *image = NULL;
    size_t bytes = 0;
    if (try_to_build(m, err) != XQ_OK || to->visit || write_image(m, &image, &bytes, err) != XQ_OK)
        return err->status;
    if (to->plan)
        return plan_from_image(m->context, image, bytes, to->plan, err);
    *to->blueprint = (struct blueprint){.image = image, .bytes = bytes};
    take_blueprint(m, to->blueprint);
    return XQ_OK;
}

/* ---------------------------------------------------------------- fallback */

static bool is_from_table(const struct making *m, int slot)
{
    const char *spec = spec_of_slot(m, slot);
    if (slot >= PLAN_ATTEND && plan_variant_of(slot) > 0)
        return slot < PLAN_ABSORB;
    return spec && parameters_from(spec, plan_family(&m->stated, slot)) >= XQ_FROM_DEVICE;
}

/* Makes the family that failed use its defaults; or, if a plan's kernels could not be loaded, all families
 * whose parameters are from a table. False: there is no such family. */
static bool give_up_tuning(struct making *m, const error *why)
{
    int before = m->untuned_count;
    bool not_loaded = why->status == XQ_ERROR_DEVICE || why->status == XQ_ERROR_UNSUPPORTED;
    if (!not_loaded && why->status != XQ_ERROR_COMPILE)
        return false;
    for (int i = 0; i < PLAN_SLOTS; i++) {
        const char *family = plan_family(&m->stated, i);
        if (!plan_needs(&m->stated, i) || (m->failed && strcmp(m->failed, family) != 0) ||
            is_untuned(m, family) || !is_from_table(m, i))
            continue;
        m->untuned[m->untuned_count++] = family;
        log_message(&m->context->log, XQ_LOG_WARNING,
                    "%s: its parameters from a table of tuned parameters do not work here, so its defaults "
                    "are used: %s",
                    family, why->message);
    }
    return m->untuned_count > before;
}

static xq_status make(xq_context *context, const xq_plan_options *options, const struct product *to,
                      error *err)
{
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    if (descriptor_read(&o, sizeof o, DESCRIPTOR_UP_TO(xq_plan_options, max_queries), options, "options",
                        err) != XQ_OK ||
        check_options(&o, err) != XQ_OK)
        return err->status;
    char *spec = o.checked ? checked_spec(context, o.spec_json, err) : NULL;
    o.spec_json = spec ? spec : o.spec_json;
    struct making m = {.context = context, .options = &o};
    while (err->status == XQ_OK && try_to_make(&m, to, err) != XQ_OK && give_up_tuning(&m, err)) {
        error_clear(err);
        forget(&m);
    }
    if (to->visit && err->status == XQ_OK)
        visit_all(&m, to->visit, to->user, err);
    forget(&m);
    free(spec);
    return err->status;
}

xq_status plan_visit_kernels(xq_context *context, const xq_plan_options *options, plan_visit *visit,
                             void *user, error *err)
{
    return make(context, options, &(struct product){.visit = visit, .user = user}, err);
}

xq_status plan_blueprint(xq_context *context, const xq_plan_options *options, struct blueprint *out,
                         error *err)
{
    return make(context, options, &(struct product){.blueprint = out}, err);
}

void blueprint_free(struct blueprint *b)
{
    for (int i = 0; i < b->kernel_count; i++)
        free(b->kernels[i].source);
    free(b->image);
    free(b->spec);
    *b = (struct blueprint){0};
}

/* ------------------------------------------------------------------ public */

xq_status xq_plan_create(xq_context *context, const xq_plan_options *options, xq_plan **plan)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_plan *opened = NULL;
    if (!check_not_null("plan", plan, &err) ||
        make(context, options, &(struct product){.plan = &opened}, &err) != XQ_OK)
        return context_fail(context, &err);
    *plan = opened;
    return XQ_OK;
}
