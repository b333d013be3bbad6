/* The images of a bundle: each plan, compiled for each architecture. */
#include "../runtime/launch/last_error.h"
#include "../runtime/plan/toolchain.h"
#include "emit.h"

#include <stdio.h>
#include <string.h>

static void on_message(void *user, xq_log_level level, const char *message)
{
    const struct cli_common *common = user;
    if (level < (common->verbose ? XQ_LOG_DEBUG : XQ_LOG_WARNING))
        return;
    cli_progress_pause();
    fprintf(stderr, "xq emit: %s%s\n", level == XQ_LOG_WARNING ? "warning: " : "", message);
    cli_progress_resume();
}

static xq_status open_context(const struct emitting *e, const char *arch, xq_context **context, error *err)
{
    const struct cli_common *common = &e->o->common;
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.cache_dir = common->cache_dir;
    options.template_dir = common->templates;
    if (!common->quiet) {
        options.log = on_message;
        options.log_user = (void *)common;
    }
    xq_status status = blueprint_context(arch, &options, context);
    if (status != XQ_OK)
        return last_error_read(*context, status, err);
    return e->o->table ? context_add_table(*context, e->o->table, err) : XQ_OK;
}

/* An image for an older architecture than was asked for would be another bundle. */
static xq_status check_target(const struct blueprint *b, const char *arch, error *err)
{
    for (int i = 0; i < b->kernel_count; i++)
        if (strcmp(b->kernels[i].target, arch) != 0)
            return error_set(err, XQ_ERROR_NO_TOOLCHAIN, "compile",
                             "--arch: NVRTC does not know %s; a newer CUDA toolkit does, or leave it out",
                             arch);
    return XQ_OK;
}

static xq_status make_image(struct emitting *e, xq_context *context, int plan, int arch, error *err)
{
    const struct emit_options *o = e->o;
    struct emit_plan *p = &e->plans[plan];
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = p->spec;
    options.max_batch = (int32_t)o->max_batch;
    options.max_tokens = o->max_tokens;
    options.max_pages = o->max_pages;
    options.max_append = o->max_append;
    options.max_queries = o->max_queries;
    options.max_total_queries = o->max_total_queries;
    if (blueprint_make(context, &options, &p->images[arch], err) == XQ_OK)
        check_target(&p->images[arch], e->archs[arch], err);
    if (err->status != XQ_OK)
        error_within(err, "plan %s for %s", p->name, e->archs[arch]);
    return err->status;
}

xq_status emit_make_images(struct emitting *e, error *err)
{
    int done = 0, all = e->arch_count * e->plan_count;
    for (int a = 0; a < e->arch_count && err->status == XQ_OK; a++) {
        xq_context *context = NULL;
        if (open_context(e, e->archs[a], &context, err) == XQ_OK &&
            cli_require_toolchain(context, err) == XQ_OK)
            e->nvrtc = context_toolchain->nvrtc(context);
        for (int p = 0; p < e->plan_count && err->status == XQ_OK; p++) {
            char detail[128];
            snprintf(detail, sizeof detail, "%s for %s", e->plans[p].name, e->archs[a]);
            cli_progress_update(&e->progress, (double)done++ / all, detail);
            make_image(e, context, p, a, err);
        }
        xq_context_destroy(context);
    }
    return err->status;
}
