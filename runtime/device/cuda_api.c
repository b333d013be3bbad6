#include "cuda_api.h"
#include "device.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void *find_symbol(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    /* This is the one function whose plain name a later driver may drop; the signature of the other name
     * is the same. */
    if (!symbol && strcmp(name, "cuEventElapsedTime") == 0)
        symbol = dlsym(library, "cuEventElapsedTime_v2");
    return symbol;
}

static xq_status resolve(void *library, cuda_api *api, error *err)
{
    const struct {
        const char *name;
        void *pointer; /* address of the function pointer to fill */
    } symbols[] = {
#define CUDA_API_SYMBOL(field, symbol, parameters) {symbol, &api->field},
        CUDA_API_FUNCTIONS(CUDA_API_SYMBOL)
#undef CUDA_API_SYMBOL
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = find_symbol(library, symbols[i].name);
        if (!symbol)
            return error_set(err, XQ_ERROR_NO_DEVICE, "device",
                             "the NVIDIA driver has no %s; a driver of CUDA 12 or newer is needed",
                             symbols[i].name);
        memcpy(symbols[i].pointer, &symbol, sizeof symbol);
    }
    return XQ_OK;
}

xq_status cuda_api_load(cuda_api *api, error *err)
{
    const char *chosen = getenv("XQ_LIBCUDA");
    const char *name = chosen && *chosen ? chosen : "libcuda.so.1";
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library && name == chosen)
        return error_set(err, XQ_ERROR_NO_DEVICE, "device",
                         "the NVIDIA driver that XQ_LIBCUDA names cannot be loaded: %s", dlerror());
    if (!library)
        return error_set(err, XQ_ERROR_NO_DEVICE, "device",
                         "the NVIDIA driver (%s) was not found; %sinstall the driver", name,
                         device_software ? "use --device sim, or " : "");
    if (resolve(library, api, err) != XQ_OK)
        return err->status;
    return cuda_api_check(api, api->init(0), XQ_ERROR_NO_DEVICE, "the NVIDIA driver cannot be used: cuInit",
                          err);
}

xq_status cuda_api_check(const cuda_api *api, cuda_result result, xq_status status, const char *what,
                         error *err)
{
    if (result == CUDA_RESULT_SUCCESS)
        return XQ_OK;
    const char *name = NULL, *text = NULL;
    if (api->error_name(result, &name) != CUDA_RESULT_SUCCESS || !name)
        name = "unknown error";
    if (api->error_string(result, &text) != CUDA_RESULT_SUCCESS || !text)
        text = "no description";
    if (result == CUDA_RESULT_OUT_OF_MEMORY)
        status = XQ_ERROR_DEVICE_MEMORY;
    return error_set(err, status, "device", "%s: %s (%d): %s", what, name, result, text);
}
