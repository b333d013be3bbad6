/* Tests plans with tuned parameters: where they come from, tables that are built in, and parameters that do
 * not work. */
#include "../../support/files.h"
#include "../../support/generator.h"
#include "../../support/tuned_plans.h"
#include "../../support/tuned_table.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static error err = ERROR_INIT;

static void expect_plan(const xq_plan *plan, xq_parameters_from from, int warps)
{
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    cr_expect_eq(info.parameters_from, from);
    cJSON *spec = cJSON_Parse(xq_plan_spec(plan));
    cr_expect_eq(generator_number(spec, "tuning.attend.warps"), warps);
    cJSON_Delete(spec);
}

Test(tuned_plans, plans_say_where_their_parameters_come_from, .timeout = 120)
{
    const struct tuned_result results[] = {
        {.device = "NVIDIA GeForce RTX 4090 (software device)", .multiprocessors = 128},
        {.device = "NVIDIA GeForce RTX 4090 (software device)",
         .multiprocessors = 128,
         .tokens = 256,
         .warps = 8},
    };
    tuned_table_use(TUNED_SPEC_FOR("sm_80"), results, 2);
    xq_context *context = tuned_context(NULL);
    static const char spec[] = TUNED_SPEC_FOR("sm_89");
    xq_plan *plan = tuned_plan(context, spec, 4096);
    expect_plan(plan, XQ_FROM_DEVICE, 4);

    /* A plan of this plan's completed spec, for another size, looks up its parameters again. */
    xq_plan *other = tuned_plan(context, xq_plan_spec(plan), 256);
    expect_plan(other, XQ_FROM_DEVICE, 8);
    xq_plan_destroy(other);

    /* An image keeps the parameters and their level. */
    size_t bytes;
    cr_assert_eq(xq_plan_save(plan, NULL, 0, &bytes), XQ_OK);
    void *image = malloc(bytes);
    cr_assert_eq(xq_plan_save(plan, image, bytes, &bytes), XQ_OK);
    cr_assert_eq(xq_plan_load(context, image, bytes, &other), XQ_OK);
    expect_plan(other, XQ_FROM_DEVICE, 4);
    xq_plan_destroy(other);
    free(image);
    xq_plan_destroy(plan);

    char *chosen;
    cr_assert_eq(xq_spec_override(context, spec, "{\"tuning\": {\"attend\": {\"warps\": 4}}}", &chosen),
                 XQ_OK);
    plan = tuned_plan(context, chosen, 4096);
    expect_plan(plan, XQ_FROM_SPEC, 4);
    xq_plan_destroy(plan);
    xq_string_free(chosen);
    plan = tuned_plan(context, TUNED_SPEC_FOR("sm_80"), 4096); /* an older architecture than the device's */
    expect_plan(plan, XQ_FROM_FAMILY, 4);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    cr_expect_str_eq(tuned_log, "");
}

static void expect_built_in(bool used)
{
    xq_context *context = tuned_context(NULL);
    xq_plan *plan = tuned_plan(context, "{\"model\": \"smollm2-135m\"}", 512);
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(plan, &info), XQ_OK);
    cr_expect_eq(info.parameters_from, used ? XQ_FROM_DEVICE : XQ_FROM_DEFAULT);
    cr_expect_eq(strstr(xq_plan_spec(plan), "\"table\":\"built in\"") != NULL, used);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}

Test(tuned_plans, tables_that_are_built_in_serve_without_being_asked_for, .timeout = 120)
{
    setenv("XDG_CONFIG_HOME", files_directory(), 1);
    unsetenv("XQ_TUNED");
    expect_built_in(true);
    setenv("XQ_TUNED", "", 1);
    expect_built_in(false);
}

/* Makes a folder of templates in which attend does not compile with four warps, the number in the tuned
 * result. It compiles with the defaults. */
static const char *templates_that_fail(void)
{
    const char *folder = files_directory();
    char command[8192];
    snprintf(command, sizeof command,
             "cp templates/attend.cu.lt templates/attend.spec.lua %s/ && printf '%%s\\n' '%% if "
             "tuning.warps == 4 then' "
             "'#error four warps' '%% end' >>%s/attend.cu.lt",
             folder, folder);
    cr_assert_eq(system(command), 0);
    return folder;
}

Test(tuned_plans, a_kernel_that_does_not_compile_gives_way_to_the_default, .timeout = 120)
{
    const char *templates = templates_that_fail();
    gen *g = NULL;
    cr_assert_eq(gen_create(templates, &g, &err), XQ_OK, "%s", err.message);
    const struct tuned_result result = {.source = tuned_source(g)};
    tuned_table_use(TUNED_SPEC_FOR("sm_80"), &result, 1);
    gen_destroy(g);
    xq_context *context = tuned_context(templates);
    xq_plan *plan = tuned_plan(context, TUNED_SPEC_FOR("sm_89"), 4096);
    expect_plan(plan, XQ_FROM_DEFAULT, 8);
    cr_expect(strstr(tuned_log, "attend: its parameters from a table of tuned parameters do not work here, "
                                "so its defaults are used: "),
              "%s", tuned_log);
    xq_plan_destroy(plan);

    /* If the spec chooses them, such parameters are an error. */
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    o.spec_json =
        "{\"model\": " TUNED_MODEL ", \"cache\": {\"method\": \"latent\", \"group\": 64, \"page\": 16}, "
        "\"tuning\": {\"attend\": {\"warps\": 4}}}";
    cr_expect_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_COMPILE);
    xq_context_destroy(context);
}
