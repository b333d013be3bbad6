/* Device memory through the public API. */
#include "../base/check.h"
#include "fault_log.h"

static xq_status null_argument(xq_context *context, const char *name)
{
    error err = ERROR_INIT;
    check_not_null(name, NULL, &err);
    return context_fail(context, &err);
}

static xq_status finish(xq_context *context, error *err)
{
    return err->status == XQ_OK ? XQ_OK : context_fail(context, err);
}

xq_status xq_device_alloc(xq_context *context, size_t bytes, uint64_t *pointer)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    if (!pointer)
        return null_argument(context, "pointer");
    error err = ERROR_INIT;
    /* Callers of malloc expect that an empty allocation gets an address of its own, too. */
    context->device->ops->alloc(context->device, bytes ? bytes : 1, pointer, &err);
    return finish(context, &err);
}

xq_status xq_device_free(xq_context *context, uint64_t pointer)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    if (!pointer)
        return XQ_OK;
    error err = ERROR_INIT;
    context->device->ops->free(context->device, pointer, &err);
    return finish(context, &err);
}

xq_status xq_device_write(xq_context *context, uint64_t destination, const void *source, size_t bytes)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    if (bytes == 0)
        return XQ_OK;
    if (!destination || !source)
        return null_argument(context, source ? "destination" : "source");
    error err = ERROR_INIT;
    context->device->ops->write(context->device, destination, source, bytes, &err);
    return finish(context, &err);
}

xq_status xq_device_read(xq_context *context, void *destination, uint64_t source, size_t bytes)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    if (bytes == 0)
        return XQ_OK;
    if (!destination || !source)
        return null_argument(context, source ? "destination" : "source");
    error err = ERROR_INIT;
    if (context->device->ops->read(context->device, destination, source, bytes, &err) == XQ_OK)
        fault_log_take_any(context, &err);
    return finish(context, &err);
}

xq_status xq_device_fill(xq_context *context, uint64_t destination, uint8_t value, size_t bytes)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    if (bytes == 0)
        return XQ_OK;
    if (!destination)
        return null_argument(context, "destination");
    error err = ERROR_INIT;
    context->device->ops->fill(context->device, destination, value, bytes, &err);
    return finish(context, &err);
}

xq_status xq_device_synchronize(xq_context *context)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    if (context->device->ops->synchronize(context->device, &err) == XQ_OK)
        fault_log_take_any(context, &err);
    return finish(context, &err);
}
