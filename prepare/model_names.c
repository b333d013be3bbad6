#include "model_names.h"

#include <stdio.h>
#include <string.h>

/* What Hugging Face calls the attention of a decoder layer, by model class. */
static const naming namings[] = {
    {"model.layers", "self_attn", NULL, SEPARATE},
    {"model.language_model.layers", "self_attn", NULL, SEPARATE},
    {"language_model.model.layers", "self_attn", NULL, SEPARATE},
    {"layers", "self_attn", NULL, SEPARATE},
    {"transformer.h", "self_attn", NULL, SEPARATE},
    {"model.layers", "self_attn", "qkv_proj", IN_BLOCKS},
    {"model.layers", "attention", "wqkv", BY_HEAD},
    {"gpt_neox.layers", "attention", "query_key_value", BY_HEAD},
    {"transformer.h", "self_attention", "query_key_value", BY_HEAD},
    {"h", "self_attention", "query_key_value", BY_HEAD},
    {"transformer.blocks", "attn", "Wqkv", IN_BLOCKS},
};
enum { NAMINGS = sizeof namings / sizeof namings[0] };

void model_tensor_name(const layer_name *l, const char *what, char *name, size_t size)
{
    snprintf(name, size, "%s.%d.%s.%s", l->naming->prefix, l->layer, l->naming->attention, what);
}

const tensor *model_find(const layer_name *l, const char *what)
{
    char name[128];
    model_tensor_name(l, what, name, sizeof name);
    return safetensors_find(l->m->weights, name);
}

static int first_layer(const model *m)
{
    int layer = 0;
    while (layer < m->layers - 1 && !m->attends[layer])
        layer++;
    return layer;
}

static const tensor *find_projection(const model *m, const naming *n, const char *suffix)
{
    const layer_name first = {m, n, first_layer(m)};
    char what[64];
    snprintf(what, sizeof what, "%s.%s", n->fused ? n->fused : "k_proj", suffix);
    return model_find(&first, what);
}

const naming *model_naming(const model *m)
{
    for (int i = 0; i < NAMINGS; i++)
        if (find_projection(m, &namings[i], "weight"))
            return &namings[i];
    return &namings[0];
}

/* ---------------------------------------------------------------- quantized ones */

/* What stands beside or in the place of a quantized projection. */
static const struct sign {
    const char *suffix, *method;
} signs[] = {
    {"qweight", "GPTQ or AWQ"},
    {"qzeros", "GPTQ or AWQ"},
    {"SCB", "bitsandbytes, 8 bits"},
    {"weight.absmax", "bitsandbytes, 4 bits"},
    {"weight.quant_state.bitsandbytes__nf4", "bitsandbytes, 4 bits"},
    {"weight.quant_state.bitsandbytes__fp4", "bitsandbytes, 4 bits"},
    {"weight_packed", "compressed-tensors"},
    {"weight_scale_inv", "8-bit floats with scales"},
    {"weight_scale", "8-bit numbers with scales"},
    {"W_q", "HQQ"},
    {"codes", "AQLM"},
};

static xq_status refuse(const model *m, const tensor *t, const char *method, error *err)
{
    error_set(
        err, XQ_ERROR_UNSUPPORTED, "file",
        "%s: tensor %s: the checkpoint is quantized (%s), and such projections cannot be read; prepare one "
        "that is not (F32, F16, BF16 or F64)",
        t->file, t->name, *m->method ? m->method : method);
    error_at(err, t->file, 0);
    return error_field(err, t->name);
}

xq_status model_refuse_quantized(const model *m, error *err)
{
    for (int i = 0; i < NAMINGS; i++) {
        const tensor *weight = find_projection(m, &namings[i], "weight");
        for (size_t j = 0; j < sizeof signs / sizeof signs[0]; j++) {
            const tensor *t = find_projection(m, &namings[i], signs[j].suffix);
            if (t)
                return refuse(m, t, signs[j].method, err);
        }
        if (weight && weight->type == TENSOR_OTHER && *m->method)
            return refuse(m, weight, m->method, err);
    }
    return XQ_OK;
}
