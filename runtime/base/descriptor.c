#include "descriptor.h"
#include "check.h"

#include <string.h>

/* No descriptor will ever be larger. A larger struct_size was not initialized. */
enum { LARGEST = 4096 };

static xq_status given_size(const void *given, size_t first, const char *name, size_t *bytes, error *err)
{
    if (!check_not_null(name, given, err))
        return err->status;
    memcpy(bytes, given, sizeof *bytes);
    /* Every version of a descriptor ends at the end of its padding. A size between two such ends cuts a
     * field. */
    if (*bytes >= first && *bytes <= LARGEST && *bytes % sizeof *bytes == 0)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "%s: struct_size is %zu, which is the size of no version of it (the first had %zu bytes); "
              "initialize it with its XQ_..._INIT",
              name, *bytes, first);
    return error_field(err, "struct_size");
}

xq_status descriptor_read(void *full, size_t size, size_t first, const void *given, const char *name,
                          error *err)
{
    size_t bytes = 0;
    if (given_size(given, first, name, &bytes, err) != XQ_OK)
        return err->status;
    for (size_t i = size; i < bytes; i++)
        if (((const char *)given)[i]) {
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "%s sets a field that this version of the library (%s) does not know", name,
                      xq_version());
            return error_field(err, "struct_size");
        }
    memcpy(full, given, bytes < size ? bytes : size);
    memcpy(full, &size, sizeof size);
    return XQ_OK;
}

xq_status descriptor_write(void *given, const void *full, size_t size, size_t first, const char *name,
                           error *err)
{
    size_t bytes = 0;
    if (given_size(given, first, name, &bytes, err) != XQ_OK)
        return err->status;
    size_t known = bytes < size ? bytes : size;
    memcpy((char *)given + sizeof(size_t), (const char *)full + sizeof(size_t), known - sizeof(size_t));
    return XQ_OK;
}
