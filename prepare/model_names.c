#include "model_names.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The names of attention tensors in decoder layers of Hugging Face models, by model class. */
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

/* Finds a tensor of the projection of keys, or of values; a fused projection has one tensor for both. */
static const tensor *find_projection(const layer_name *l, bool value, const char *suffix)
{
    char what[64];
    const char *name = l->naming->fused ? l->naming->fused : value ? "v_proj" : "k_proj";
    snprintf(what, sizeof what, "%s.%s", name, suffix);
    return model_find(l, what);
}

const naming *model_naming(const model *m)
{
    layer_name first = {m, NULL, 0};
    while (first.layer < m->layers - 1 && !m->attends[first.layer])
        first.layer++;
    for (int i = 0; i < NAMINGS; i++) {
        first.naming = &namings[i];
        if (find_projection(&first, false, "weight"))
            return &namings[i];
    }
    return &namings[0];
}

/* ---------------------------------------------------------------- tensors that would be ignored */

/* Any tensor that a layer has by this naming; NULL if there is none. */
static const tensor *find_any(const layer_name *l)
{
    static const char *const suffixes[] = {"weight", "bias"};
    const tensor *t = NULL;
    for (int i = 0; i < 4 && !t; i++)
        t = find_projection(l, i % 2, suffixes[i / 2]);
    return t;
}

/* Refuses layers with two namings: only one is read, so the other's tensors would be left out. */
static xq_status refuse_two_namings(const model *m, int layer, error *err)
{
    const tensor *first = NULL;
    for (int i = 0; i < NAMINGS; i++) {
        const tensor *t = find_any(&(layer_name){m, &namings[i], layer});
        if (first && t) {
            error_set(err, XQ_ERROR_FORMAT, "file",
                      "%s: tensors %s and %s name the projections of layer %d in two ways, and one of them "
                      "would be ignored; remove one of the two from the checkpoint",
                      t->file, first->name, t->name, layer);
            error_at(err, t->file, 0);
            return error_field(err, t->name);
        }
        first = first ? first : t;
    }
    return XQ_OK;
}

/* Suffixes of tensors that a quantized projection has beside its weight, or in the weight's place. */
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

/* `weight`: the weight beside which the tensor stands, or NULL. */
static xq_status refuse(const model *m, const tensor *t, const tensor *weight, const char *method,
                        error *err)
{
    bool beside = weight && weight != t;
    error_set(err, XQ_ERROR_UNSUPPORTED, "file",
              "%s: tensor %s%s%s: the checkpoint is quantized (%s), and such projections cannot be read; "
              "valid: a checkpoint in F32, F16, BF16 or F64",
              t->file, t->name, beside ? ", beside " : "", beside ? weight->name : "",
              *m->method ? m->method : method);
    error_at(err, t->file, 0);
    return error_field(err, t->name);
}

static xq_status refuse_quantized(const layer_name *l, bool value, error *err)
{
    const tensor *weight = find_projection(l, value, "weight");
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        const tensor *t = find_projection(l, value, signs[i].suffix);
        if (t)
            return refuse(l->m, t, weight, signs[i].method, err);
    }
    if (weight && weight->type == TENSOR_OTHER && *l->m->method)
        return refuse(l->m, weight, weight, l->m->method, err);
    return XQ_OK;
}

/* The part of a tensor's name after the layer's number and its attention. NULL if the name is not of this
 * naming, or if the layer is not read. */
static const char *within_attention(const model *m, const naming *n, const char *name)
{
    size_t length = strlen(n->prefix);
    char *end;
    if (strncmp(name, n->prefix, length) != 0 || name[length] != '.')
        return NULL;
    long layer = strtol(name + length + 1, &end, 10);
    length = strlen(n->attention);
    bool fits = *end == '.' && layer >= 0 && layer < m->layers && m->attends[layer] &&
                strncmp(end + 1, n->attention, length) == 0 && end[1 + length] == '.';
    return fits ? end + 2 + length : NULL;
}

/* Whether a tensor belongs to a projection of this naming, but is neither its weight nor its bias. */
static bool is_part(const naming *n, const char *what)
{
    const char *const names[] = {n->fused ? n->fused : "k_proj", n->fused ? n->fused : "v_proj"};
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(what, names[i], length) == 0 && what[length] == '.')
            return strcmp(what + length, ".weight") != 0 && strcmp(what + length, ".bias") != 0;
    }
    return false;
}

/* Refuses parts that change a projection beyond its weight: adapters that were not merged, factors of a
 * norm of the weights, scales. */
static xq_status refuse_parts(const model *m, error *err)
{
    for (int i = 0; i < safetensors_count(m->weights); i++) {
        const tensor *t = safetensors_at(m->weights, i);
        for (int k = 0; k < NAMINGS; k++) {
            const char *what = within_attention(m, &namings[k], t->name);
            if (!what || !is_part(&namings[k], what))
                continue;
            error_set(err, XQ_ERROR_UNSUPPORTED, "file",
                      "%s: tensor %s would be ignored, because only the weight and bias of a projection "
                      "are read; merge an adapter (LoRA) into the weights first",
                      t->file, t->name);
            error_at(err, t->file, 0);
            return error_field(err, t->name);
        }
    }
    return XQ_OK;
}

xq_status model_check_names(const model *m, error *err)
{
    for (int layer = 0; layer < m->layers && err->status == XQ_OK; layer++) {
        for (int i = 0; m->attends[layer] && i < 2 * NAMINGS && err->status == XQ_OK; i++)
            refuse_quantized(&(layer_name){m, &namings[i / 2], layer}, i % 2, err);
        if (m->attends[layer] && err->status == XQ_OK)
            refuse_two_namings(m, layer, err);
    }
    return err->status == XQ_OK ? refuse_parts(m, err) : err->status;
}
