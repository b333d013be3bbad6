/* A libFuzzer target: any text, taken as PTX, either loads and runs, or is refused with a message. To
 * build it alone:
 *     clang -fsanitize=fuzzer,address ... tests/sim/fuzz_ptx.c (the library's sources)
 * test_sim_fuzz.c drives it with mutations of known modules. */
#include "fuzz_ptx.h"
#include "../../sim/sim.h"

#include <stdlib.h>
#include <string.h>

static void launch(device *sim, device_module *module, error *err)
{
    const device_ops *ops = sim->ops;
    device_function *function = NULL;
    device_function_attributes attributes;
    struct {
        uint64_t in, out, scratch;
    } params = {0};
    if (ops->function_get(module, "test", 0, &function, err) != XQ_OK ||
        ops->function_attributes(function, &attributes, err) != XQ_OK ||
        ops->alloc(sim, 1 << 18, &params.in, err) != XQ_OK ||
        ops->alloc(sim, 1 << 18, &params.out, err) != XQ_OK ||
        ops->alloc(sim, 1 << 14, &params.scratch, err) != XQ_OK)
        return;
    device_launch what = {.function = function,
                          .grid = {1, 1, 1},
                          .block = {32, 1, 1},
                          .params = &params,
                          .params_bytes = sizeof params};
    if (ops->launch(sim, &what, err) == XQ_OK)
        ops->synchronize(sim, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    error err = ERROR_INIT;
    device *sim = NULL;
    device_module *module = NULL;
    char *text = malloc(bytes + 1);
    if (text && device_sim_open(NULL, &sim, &err) == XQ_OK) {
        sim_set_instruction_budget(sim, 100000);
        memcpy(text, data, bytes);
        text[bytes] = '\0';
        if (sim->ops->module_load(sim, text, bytes + 1, "fuzz.ptx", &module, &err) == XQ_OK) {
            launch(sim, module, &err);
            sim->ops->module_unload(module);
        }
        if (err.status != XQ_OK && !err.message[0])
            abort(); /* refused without a message */
        sim->ops->destroy(sim);
    }
    free(text);
    error_clear(&err);
    return 0;
}
