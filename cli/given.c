#include "given.h"

#include <stdio.h>

static const tensor *find(const safetensors *file, const char *name, const char *suffix)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    return safetensors_find(file, full);
}

/* A vector that the spec does not use would be left out, and the result would be wrong. */
static xq_status refuse_unknown(const safetensors *file, const layer_shape *s, const char *suffix,
                                error *err)
{
    const struct {
        const char *name, *field;
        bool known;
    } vectors[] = {{"bk", "model.attention_bias", s->bias},
                   {"bv", "model.attention_bias", s->bias},
                   {"k_norm", "model.qk_norm", s->k_norm > 0},
                   {"sinks", "model.attention_sinks", s->sinks}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const tensor *t = vectors[i].known ? NULL : find(file, vectors[i].name, suffix);
        if (t) {
            error_set(err, XQ_ERROR_FORMAT, "file", "%s: tensor %s: the spec has no %s that would use it",
                      t->file, t->name, vectors[i].field);
            return error_field(err, t->name);
        }
    }
    return XQ_OK;
}

xq_status cli_refuse_unread(const safetensors *file, const layer_shape *shape, const char *suffix,
                            const char *model, const char *why, error *err)
{
    layer_part parts[LAYER_MOST_PARTS];
    int count = model ? layer_given(shape, parts) : 0;
    if (refuse_unknown(file, shape, suffix, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < count; i++) {
        const tensor *t = find(file, parts[i].name, suffix);
        if (t) {
            error_set(err, XQ_ERROR_FORMAT, "file",
                      "%s: tensor %s would be ignored: the layer's weights come from --model %s, %s",
                      t->file, t->name, model, why);
            return error_field(err, t->name);
        }
    }
    return XQ_OK;
}
