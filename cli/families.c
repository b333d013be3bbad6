/* The kernel families that run and compare launch, and the check of their tuning. */
#include "../runtime/launch/plan_kernels.h"
#include "../runtime/plan/spec_view.h"
#include "../runtime/plan/toolchain.h"
#include "layers.h"

#include <stdlib.h>
#include <string.h>

static void add(struct cli_families *families, const char *name)
{
    int at = 0;
    while (at < families->count && strcmp(families->names[at], name) != 0)
        at++;
    families->names[at] = name;
    families->count += at == families->count;
}

xq_status cli_check_tuning(xq_context *context, const char *spec_json,
                           const xq_implementation *implementations, int count,
                           struct cli_families *families, error *err)
{
    const char *names[PLAN_MOST_FAMILIES];
    char *completed = NULL;
    struct spec_view view;
    if (context_complete(context, spec_json, &completed, err) == XQ_OK)
        spec_view_read(completed, &view, err);
    free(completed);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        for (int j = 0, found = plan_families(&view.shape, implementations[i], names); j < found; j++)
            add(families, names[j]);
    return err->status;
}
