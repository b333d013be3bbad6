/* Opens contexts for the subcommands. */
#include "../runtime/launch/last_error.h"
#include "../runtime/plan/toolchain.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>

struct log_settings {
    const char *subcommand;
    xq_log_level least;
};

/* Contexts keep a pointer to these settings, so they must outlive the calls here. A process has one setting
 * for all contexts. */
static struct log_settings settings;

/* A kernel that is being compiled (runtime/compile/compile.c) is shown as a step of the command's current
 * work. */
static void on_message(void *user, xq_log_level level, const char *message)
{
    const struct log_settings *s = user;
    char kernel[48], step[64];
    int end = 0;
    if (level == XQ_LOG_DEBUG) {
        sscanf(message, "kernel %47[^:]: compiling%n", kernel, &end);
        snprintf(step, sizeof step, "compiling %s", end ? kernel : "");
        cli_progress_step(end ? step : NULL);
    }
    if (level < s->least)
        return;
    cli_progress_pause();
    fprintf(stderr, "xq %s: %s%s\n", s->subcommand, level == XQ_LOG_WARNING ? "warning: " : "", message);
    cli_progress_resume();
}

void cli_context_options(const char *subcommand, const struct cli_common *common,
                         xq_context_options *options)
{
    settings = (struct log_settings){subcommand, common->verbose ? XQ_LOG_DEBUG : XQ_LOG_WARNING};
    options->device = common->device;
    options->cache_dir = common->cache_dir;
    options->template_dir = common->templates;
    options->kernels = common->kernels;
    options->no_compile = common->no_compile;
    if (common->quiet)
        return;
    options->log = on_message;
    options->log_user = &settings;
}

int cli_open(const char *subcommand, const struct cli_common *common, xq_context **context)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    cli_context_options(subcommand, common, &options);
    xq_context *opened = NULL;
    *context = NULL;
    xq_status created = xq_context_create(&options, &opened);
    if (created != XQ_OK) {
        error err = ERROR_INIT;
        last_error_read(opened, created, &err);
        int status = cli_fail(subcommand, common, &err);
        error_clear(&err);
        xq_context_destroy(opened);
        return status;
    }
    *context = opened;
    return CLI_OK;
}

xq_status cli_require_toolchain(xq_context *context, error *err)
{
    const nvrtc *library;
    const struct toolchain *t = context->toolchain;
    if (t->no_compile || stores_count(t->stores) > 0)
        return XQ_OK; /* kernels may be in a store, and errors will name a missing one */
    return context_nvrtc(context, &library, err);
}
