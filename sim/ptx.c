#include "ptx.h"

#include <string.h>

static const struct {
    const char *name;
    int bits;
} ptx_type_table[PTX_TYPES] = {
    [PTX_NONE] = {"", 0},          [PTX_B8] = {"b8", 8},      [PTX_B16] = {"b16", 16},
    [PTX_B32] = {"b32", 32},       [PTX_B64] = {"b64", 64},   [PTX_B128] = {"b128", 128},
    [PTX_U8] = {"u8", 8},          [PTX_U16] = {"u16", 16},   [PTX_U32] = {"u32", 32},
    [PTX_U64] = {"u64", 64},       [PTX_S8] = {"s8", 8},      [PTX_S16] = {"s16", 16},
    [PTX_S32] = {"s32", 32},       [PTX_S64] = {"s64", 64},   [PTX_F16] = {"f16", 16},
    [PTX_F16X2] = {"f16x2", 32},   [PTX_BF16] = {"bf16", 16}, [PTX_BF16X2] = {"bf16x2", 32},
    [PTX_F32] = {"f32", 32},       [PTX_F64] = {"f64", 64},   [PTX_TF32] = {"tf32", 32},
    [PTX_E4M3] = {"e4m3", 8},      [PTX_E5M2] = {"e5m2", 8},  [PTX_E4M3X2] = {"e4m3x2", 16},
    [PTX_E5M2X2] = {"e5m2x2", 16}, [PTX_PRED] = {"pred", 1},
};

int ptx_type_bits(enum ptx_type type)
{
    return ptx_type_table[type].bits;
}

enum ptx_type ptx_type_named(const char *text, int length)
{
    for (int t = 1; t < PTX_TYPES; t++)
        if ((int)strlen(ptx_type_table[t].name) == length &&
            !memcmp(ptx_type_table[t].name, text, (size_t)length))
            return (enum ptx_type)t;
    return PTX_NONE;
}

ptx_function *ptx_module_function(const ptx_module *module, const char *name)
{
    ptx_function *found = NULL;
    for (int i = 0; i < module->function_count; i++)
        if (!strcmp(module->functions[i]->name, name) && (!found || module->functions[i]->is_defined))
            found = module->functions[i];
    return found;
}

int ptx_function_label(const ptx_function *function, const char *name, int scope)
{
    for (; scope >= 0; scope = function->scope_parent[scope])
        for (int i = 0; i < function->label_count; i++)
            if (function->labels[i].scope == scope && !strcmp(function->labels[i].name, name))
                return function->labels[i].at;
    return -1;
}
