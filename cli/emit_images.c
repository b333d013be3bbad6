/* Makes the images of a bundle: each plan, compiled for each architecture. */
#include "../runtime/plan/absent.h"
#include "emit.h"

#include <stdio.h>
#include <string.h>

static xq_status open_context(const struct emitting *e, const char *arch, xq_context **context, error *err)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    cli_context_options("emit", &e->o->common, &options);
    options.kernels = ""; /* so that this NVRTC compiles everything that is emitted */
    const absent_gpu gpu = {.arch = arch, .name = arch};
    if (absent_context(&options, &gpu, context, err) != XQ_OK)
        return err->status;
    return e->o->table ? context_add_table(*context, e->o->table, err) : XQ_OK;
}

/* NVRTC may compile for an older architecture than was asked for. The bundle would then not be the
 * requested one. */
static xq_status check_target(const struct blueprint *b, const char *arch, error *err)
{
    for (int i = 0; i < b->kernel_count; i++)
        if (strcmp(b->kernels[i].target, arch) != 0)
            return error_set(
                err, XQ_ERROR_NO_TOOLCHAIN, "compile",
                "--arch: NVRTC does not know %s; leave it out, or install a newer CUDA toolkit", arch);
    return XQ_OK;
}

static xq_status make_image(struct emitting *e, xq_context *context, int plan, int arch, error *err)
{
    const struct emit_options *o = e->o;
    struct cli_plan *p = &e->plans.plans[plan];
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = p->spec;
    options.max_batch = (int32_t)o->max_batch;
    options.max_tokens = o->max_tokens;
    options.max_pages = o->max_pages;
    options.max_append = o->max_append;
    options.max_queries = o->max_queries;
    options.max_total_queries = o->max_total_queries;
    if (plan_blueprint(context, &options, &e->images[plan][arch], err) == XQ_OK)
        check_target(&e->images[plan][arch], e->archs[arch], err);
    if (err->status != XQ_OK)
        error_within(err, "plan %s for %s", p->name, e->archs[arch]);
    return err->status;
}

xq_status emit_make_images(struct emitting *e, error *err)
{
    int done = 0, all = e->arch_count * e->plans.count;
    for (int a = 0; a < e->arch_count && err->status == XQ_OK; a++) {
        xq_context *context = NULL;
        if (open_context(e, e->archs[a], &context, err) == XQ_OK &&
            cli_require_toolchain(context, err) == XQ_OK)
            e->nvrtc = context_toolchain->nvrtc(context);
        for (int p = 0; p < e->plans.count && err->status == XQ_OK; p++) {
            char detail[128];
            snprintf(detail, sizeof detail, "%s for %s", e->plans.plans[p].name, e->archs[a]);
            cli_progress_update(&e->progress, (double)done++ / all, detail);
            make_image(e, context, p, a, err);
        }
        xq_context_destroy(context);
    }
    return err->status;
}
