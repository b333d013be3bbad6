#include "model.h"
#include "arithmetic.h"
#include "fail.h"
#include "tensors.h"

#include <stdio.h>
#include <stdlib.h>

/* ----------------------------------------------------------------- loading */

typedef struct loader {
    const tensors *tensors;
    const config *config;
    int layer;
} loader;

static float *load(const loader *l, const char *name, int rows, int cols)
{
    char full[256];
    snprintf(full, sizeof full, "model.layers.%d.%s.weight", l->layer, name);
    return tensors_read(l->tensors, full, rows, cols);
}

/* Turns a norm's stored weights, in place, into the gains that it multiplies by: Gemma stores gain - 1. */
static float *gain(const config *c, float *w, int width)
{
    for (int i = 0; c->gemma && i < width; i++)
        w[i] += 1;
    return w;
}

static float *load_norm(const loader *l, const char *name, int width)
{
    return gain(l->config, load(l, name, 0, width), width);
}

/* Loads a matrix that is stored as [out, in], and returns it as [in, out]. */
static float *load_transposed(const loader *l, const char *name, int out, int in)
{
    float *w = load(l, name, out, in), *t = room((size_t)out * (size_t)in, sizeof *t);
    for (int o = 0; o < out; o++)
        for (int i = 0; i < in; i++)
            t[(size_t)i * (size_t)out + (size_t)o] = w[(size_t)o * (size_t)in + (size_t)i];
    free(w);
    return t;
}

static void load_layer(const loader *l, model_layer *layer)
{
    const config *c = l->config;
    const int d = c->hidden, dh = c->head_dim;
    layer->attention_norm = load_norm(l, "input_layernorm", d);
    layer->q = load(l, "self_attn.q_proj", c->heads * dh, d);
    layer->wk = load_transposed(l, "self_attn.k_proj", c->kv_heads * dh, d);
    layer->wv = load_transposed(l, "self_attn.v_proj", c->kv_heads * dh, d);
    layer->o = load(l, "self_attn.o_proj", d, c->heads * dh);
    if (c->gemma) {
        layer->q_norm = load_norm(l, "self_attn.q_norm", dh);
        layer->k_norm = load_norm(l, "self_attn.k_norm", dh);
        layer->after_attention_norm = load_norm(l, "post_attention_layernorm", d);
        layer->after_mlp_norm = load_norm(l, "post_feedforward_layernorm", d);
    }
    layer->mlp_norm = load_norm(l, c->gemma ? "pre_feedforward_layernorm" : "post_attention_layernorm", d);
    layer->gate = load(l, "mlp.gate_proj", c->intermediate, d);
    layer->up = load(l, "mlp.up_proj", c->intermediate, d);
    layer->down = load(l, "mlp.down_proj", d, c->intermediate);
}

model *model_open(const char *directory)
{
    model *m = room(1, sizeof *m);
    config_read(directory, &m->config);
    const config *c = &m->config;
    tensors *t = tensors_open(directory);
    m->embedding = tensors_read(t, "model.embed_tokens.weight", c->vocabulary, c->hidden);
    m->output = c->tied ? m->embedding : tensors_read(t, "lm_head.weight", c->vocabulary, c->hidden);
    m->norm = gain(c, tensors_read(t, "model.norm.weight", 0, c->hidden), c->hidden);
    m->layers = room((size_t)c->layers, sizeof *m->layers);
    for (int i = 0; i < c->layers; i++)
        load_layer(&(loader){t, c, i}, &m->layers[i]);
    tensors_close(t);
    return m;
}

void model_close(model *m)
{
    for (int i = 0; i < m->config.layers; i++) {
        model_layer *l = &m->layers[i];
        float *all[] = {l->attention_norm,
                        l->mlp_norm,
                        l->after_attention_norm,
                        l->after_mlp_norm,
                        l->q,
                        l->o,
                        l->gate,
                        l->up,
                        l->down,
                        l->q_norm,
                        l->k_norm,
                        l->wk,
                        l->wv};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            free(all[j]);
    }
    if (m->output != m->embedding)
        free(m->output);
    free(m->embedding);
    free(m->norm);
    free(m->layers);
    config_free(&m->config);
    free(m);
}

/* ----------------------------------------------------------------- forward */

/* Activations of the tokens of one forward pass, one row per token. */
typedef struct rows {
    float *hidden, *x, *q, *attended, *gate, *up;
    int count;
} rows;

static rows rows_make(const config *c, int count)
{
    size_t n = (size_t)count, d = (size_t)c->hidden, heads = (size_t)c->heads * (size_t)c->head_dim;
    return (rows){.hidden = room(n * d, sizeof(float)),
                  .x = room(n * d, sizeof(float)),
                  .q = room(n * heads, sizeof(float)),
                  .attended = room(n * heads, sizeof(float)),
                  .gate = room(n * (size_t)c->intermediate, sizeof(float)),
                  .up = room(n * (size_t)c->intermediate, sizeof(float)),
                  .count = count};
}

static void rows_free(rows *r)
{
    float *all[] = {r->hidden, r->x, r->q, r->attended, r->gate, r->up};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void embed(const model *m, const int32_t *ids, rows *r)
{
    const size_t d = (size_t)m->config.hidden;
    const float scale = m->config.gemma ? sqrtf((float)d) : 1;
    for (int t = 0; t < r->count; t++)
        for (size_t i = 0; i < d; i++)
            r->hidden[(size_t)t * d + i] = m->embedding[(size_t)ids[t] * d + i] * scale;
}

/* Adds a block's output, r->x, to the residual stream, after the output norm that Gemma has. */
static void add(const config *c, const float *after_norm, rows *r)
{
    if (after_norm)
        rms_norm(r->x, after_norm, c->epsilon, r->count, c->hidden, r->x);
    for (size_t i = 0; i < (size_t)r->count * (size_t)c->hidden; i++)
        r->hidden[i] += r->x[i];
}

static void attention_block(const model *m, cache *memory, int i, rows *r)
{
    const config *c = &m->config;
    const model_layer *l = &m->layers[i];
    rms_norm(r->hidden, l->attention_norm, c->epsilon, r->count, c->hidden, r->x);
    project(r->x, l->q, r->count, c->hidden, c->heads * c->head_dim, r->q);
    if (l->q_norm)
        rms_norm(r->q, l->q_norm, c->epsilon, (int64_t)r->count * c->heads, c->head_dim, r->q);
    memory->append(memory, i, r->x, r->count);
    memory->attend(memory, i, r->q, r->count, r->attended);
    project(r->attended, l->o, r->count, c->heads * c->head_dim, c->hidden, r->x);
    add(c, l->after_attention_norm, r);
}

/* gate = activation(gate) * up. The activation is SiLU, or for Gemma the tanh form of GELU, which is
 * x * sigmoid(u) for the u below. */
static void activate(const config *c, rows *r)
{
    const size_t count = (size_t)r->count * (size_t)c->intermediate;
    float *gate = r->gate, *up = r->up;
    if (c->gemma)
        for (size_t i = 0; i < count; i++) {
            float u = 1.5957691216f * (gate[i] + 0.044715f * gate[i] * gate[i] * gate[i]);
            gate[i] = gate[i] / (1 + exp_of(-u)) * up[i];
        }
    else
        for (size_t i = 0; i < count; i++)
            gate[i] = gate[i] / (1 + exp_of(-gate[i])) * up[i];
}

static void mlp_block(const model *m, int i, rows *r)
{
    const config *c = &m->config;
    const model_layer *l = &m->layers[i];
    rms_norm(r->hidden, l->mlp_norm, c->epsilon, r->count, c->hidden, r->x);
    project(r->x, l->gate, r->count, c->hidden, c->intermediate, r->gate);
    project(r->x, l->up, r->count, c->hidden, c->intermediate, r->up);
    activate(c, r);
    project(r->gate, l->down, r->count, c->intermediate, c->hidden, r->x);
    add(c, l->after_mlp_norm, r);
}

void model_forward(const model *m, cache *memory, const int32_t *ids, int count, float *hidden)
{
    rows r = rows_make(&m->config, count);
    embed(m, ids, &r);
    for (int i = 0; i < m->config.layers; i++) {
        attention_block(m, memory, i, &r);
        mlp_block(m, i, &r);
    }
    memory->advance(memory, count);
    rms_norm(r.hidden, m->norm, m->config.epsilon, count, m->config.hidden, hidden);
    rows_free(&r);
}

void model_logits(const model *m, const float *hidden, int count, float *logits)
{
    project(hidden, m->output, count, m->config.hidden, m->config.vocabulary, logits);
}
