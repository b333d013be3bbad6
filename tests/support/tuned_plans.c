#include "tuned_plans.h"
#include "command.h"
#include "files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

const char *tuned_spec_file(void)
{
    static const char text[] = TUNED_SPEC_FOR("sm_89");
    const char *path = files_path(files_directory(), "spec.json");
    files_write(path, text, strlen(text));
    return path;
}

void tuned_gen_prints(const char *part)
{
    struct command_result r = command_run("gen --print-spec --spec %s", tuned_spec_file());
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, part), "'%s' is not in %s", part, r.out);
}

char tuned_log[4096];

static void keep_log(void *user, xq_log_level level, const char *message)
{
    (void)user;
    if (level == XQ_LOG_WARNING)
        snprintf(tuned_log + strlen(tuned_log), sizeof tuned_log - strlen(tuned_log), "%s\n", message);
}

xq_context *tuned_context(const char *templates)
{
    xq_context *context;
    xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
    o.device = "sim:rtx4090";
    o.template_dir = templates;
    o.log = keep_log;
    cr_assert_eq(xq_context_create(&o, &context), XQ_OK);
    return context;
}

xq_plan *tuned_plan(xq_context *context, const char *spec_json, int64_t tokens)
{
    xq_plan *plan = NULL;
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_error_detail detail = {.struct_size = sizeof detail};
    o.spec_json = spec_json;
    o.max_tokens = tokens;
    xq_status status = xq_plan_create(context, &o, &plan);
    if (status != XQ_OK)
        xq_last_error(context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    return plan;
}
