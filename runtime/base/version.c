/* Version and status names of the public header. */
#include "xq/xq.h"

#define TEXT(x)  #x
#define VALUE(x) TEXT(x)

const char *xq_version(void)
{
    return VALUE(XQ_VERSION_MAJOR) "." VALUE(XQ_VERSION_MINOR) "." VALUE(XQ_VERSION_PATCH);
}

const char *xq_status_name(xq_status status)
{
    static const char *const names[] = {
        "XQ_OK",
        "XQ_ERROR_ARGUMENT",
        "XQ_ERROR_SPEC",
        "XQ_ERROR_UNSUPPORTED",
        "XQ_ERROR_TEMPLATE",
        "XQ_ERROR_COMPILE",
        "XQ_ERROR_NO_DEVICE",
        "XQ_ERROR_NO_TOOLCHAIN",
        "XQ_ERROR_DEVICE",
        "XQ_ERROR_MEMORY",
        "XQ_ERROR_DEVICE_MEMORY",
        "XQ_ERROR_IO",
        "XQ_ERROR_FORMAT",
        "XQ_ERROR_INTERNAL",
    };
    unsigned index = (unsigned)status;
    return index < sizeof names / sizeof names[0] ? names[index] : "unknown status";
}
