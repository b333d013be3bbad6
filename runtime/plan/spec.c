/* The public interface for specs. */
#include "toolchain.h"

#include <stdlib.h>

xq_status xq_spec_complete(xq_context *context, const char *spec_json, char **completed)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (!spec_json || !completed) {
        const char *field = spec_json ? "completed" : "spec_json";
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "%s must not be NULL", field);
        error_field(&err, field);
        return context_fail(context, &err);
    }
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
    const char *missing = !spec_json ? "spec_json" : !overrides_json ? "overrides_json" : "completed";
    if (!spec_json || !overrides_json || !completed) {
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "%s must not be NULL", missing);
        error_field(&err, missing);
    } else if (context_override(context, spec_json, overrides_json, &chosen, &err) == XQ_OK) {
        context_complete(context, chosen, completed, &err);
    }
    free(chosen);
    return err.status == XQ_OK ? XQ_OK : context_fail(context, &err);
}

void xq_string_free(char *string)
{
    free(string);
}
