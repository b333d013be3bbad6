/* The public interface for specs. */
#include "../base/check.h"
#include "toolchain.h"

#include <stdlib.h>

xq_status xq_spec_complete(xq_context *context, const char *spec_json, char **completed)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (!check_not_null("spec_json", spec_json, &err) || !check_not_null("completed", completed, &err))
        return context_fail(context, &err);
    if (context_complete(context, spec_json, completed, &err) != XQ_OK)
        return context_fail(context, &err);
    return XQ_OK;
}

xq_status xq_spec_override(xq_context *context, const char *spec_json, const char *overrides_json,
                           char **completed)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    char *chosen = NULL;
    if (check_not_null("spec_json", spec_json, &err) &&
        check_not_null("overrides_json", overrides_json, &err) &&
        check_not_null("completed", completed, &err) &&
        context_override(context, spec_json, overrides_json, &chosen, &err) == XQ_OK)
        context_complete(context, chosen, completed, &err);
    free(chosen);
    return err.status == XQ_OK ? XQ_OK : context_fail(context, &err);
}

void xq_string_free(char *string)
{
    free(string);
}
