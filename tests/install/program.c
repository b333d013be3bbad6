/* Calls functions that both libraries have: it prints the version, and the status of a context on a device
 * that does not exist. */
#include <stdio.h>
#include <xq/xq.h>

int main(void)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = "nothing";
    xq_context *context = NULL;
    xq_status status = xq_context_create(&options, &context);
    xq_context_destroy(context);
    printf("%s %s\n", xq_version(), xq_status_name(status));
    return 0;
}
