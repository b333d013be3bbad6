/* xq run: one attention layer on tensors of a safetensors file. */
#include "../gen/gen.h"
#include "../prepare/safetensors.h"
#include "../runtime/half.h"
#include "../runtime/last_error.h"
#include "step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char description[] =
    "Reads x [tokens, d], wk and wv [d, dkv], q [queries, H, dh] (before RoPE; f32, f16, bf16 or f64), "
    "appends x\n"
    "to a cache, and attends: query j stands at position tokens - queries + j and sees the tokens up to "
    "its\n"
    "own. Writes o [queries, H, dh] (f16) and lse [queries, H] (f32, natural logarithm). The weights are\n"
    "prepared on the way (an SVD for method latent).\n\n"
    "--dump-cache adds what the kernels computed with, in f16: x_hat [tokens, d], wk, wv for method x; "
    "lk_hat\n"
    "[tokens, rank_k], lv_hat [tokens, rank_v], ak [rank_k, dkv], av [rank_v, dkv] for method latent.";

/* Queries of one attend call. They share pages, but the unfused pipeline works on a copy for each. */
#define BATCH 16

struct options {
    struct cli_common common;
    struct cli_spec spec;
    const char *input, *output;
    bool fused, unfused, fp16_kv, dump;
    int64_t layer;
};

struct run {
    struct options *o;
    xq_context *context;
    char *spec; /* as given: the plan completes it for its device */
    struct cli_shape shape;
    struct cli_weights weights;
    int64_t tokens, queries;
    uint16_t *x, *q, *out; /* f16 bits */
    float *lse;
    uint16_t *dump[4];
    step layer;
};

/* ------------------------------------------------------------------ input */

/* Tensor NAME, or NAME.LAYER with --layer. */
static xq_status find(const struct run *r, const safetensors *file, const char *name, int rank,
                      const int64_t *shape, const tensor **out, error *err)
{
    char full[64];
    if (r->o->layer >= 0)
        snprintf(full, sizeof full, "%s.%lld", name, (long long)r->o->layer);
    else
        snprintf(full, sizeof full, "%s", name);
    if (safetensors_need(file, full, out, err) != XQ_OK)
        return err->status;
    return tensor_expect_shape(*out, rank, shape, err);
}

/* The values in f16; those that f16 cannot hold are refused. */
static xq_status read_halves(const tensor *t, uint16_t **out, error *err)
{
    float *values;
    size_t count = tensor_count(t);
    if (tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    uint16_t *halves = malloc(2 * count + 1);
    if (!halves)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    for (size_t i = 0; halves && i < count; i++) {
        halves[i] = half_from_float(values[i]);
        if ((halves[i] & 0x7fff) == 0x7c00) {
            error_set(err, XQ_ERROR_FORMAT, "file",
                      "%s: tensor %s holds %g at index %zu; f16 holds up to 65504", t->file, t->name,
                      (double)values[i], i);
            error_field(err, t->name);
            break;
        }
    }
    free(values);
    if (err->status == XQ_OK)
        *out = halves;
    else
        free(halves);
    return err->status;
}

static xq_status refuse_extras(const safetensors *file, error *err)
{
    static const char *const extras[][2] = {{"bk", "a bias on the key projection"},
                                            {"bv", "a bias on the value projection"},
                                            {"k_norm", "QK-norm"}};
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        const tensor *t = safetensors_find(file, extras[i][0]);
        if (t) {
            error_set(err, XQ_ERROR_UNSUPPORTED, "file", "%s: tensor %s: no kernel supports %s yet",
                      t->file, t->name, extras[i][1]);
            return error_field(err, t->name);
        }
    }
    return XQ_OK;
}

static xq_status read_tensors(struct run *r, const safetensors *file, error *err)
{
    const struct cli_shape *s = &r->shape;
    const int64_t x_shape[2] = {-1, s->hidden_size}, w_shape[2] = {s->hidden_size, s->kv_width};
    const int64_t q_shape[3] = {-1, s->heads, s->head_dim};
    const tensor *x, *wk, *wv, *q;
    if (refuse_extras(file, err) != XQ_OK || find(r, file, "x", 2, x_shape, &x, err) != XQ_OK ||
        find(r, file, "wk", 2, w_shape, &wk, err) != XQ_OK ||
        find(r, file, "wv", 2, w_shape, &wv, err) != XQ_OK ||
        find(r, file, "q", 3, q_shape, &q, err) != XQ_OK)
        return err->status;
    r->tokens = x->shape[0];
    r->queries = q->shape[0];
    if (r->tokens < 1 || r->queries < 1 || r->queries > r->tokens) {
        error_set(
            err, XQ_ERROR_FORMAT, "file",
            "%s: %lld queries over %lld tokens; valid are 1 token or more, and 1 to that many queries",
            q->file, (long long)r->queries, (long long)r->tokens);
        return error_at(err, q->file, 0);
    }
    if (tensor_to_floats(wk, 1, &r->weights.wk, err) != XQ_OK ||
        tensor_to_floats(wv, 1, &r->weights.wv, err) != XQ_OK || read_halves(x, &r->x, err) != XQ_OK)
        return err->status;
    return read_halves(q, &r->q, err);
}

static xq_status read_input(struct run *r, error *err)
{
    safetensors *file = NULL;
    if (safetensors_open(r->o->input, &file, err) == XQ_OK && read_tensors(r, file, err) == XQ_OK)
        cli_weights_factor(&r->shape, &r->weights, err);
    safetensors_close(file);
    return err->status;
}

/* ------------------------------------------------------------------- work */

static xq_status append(struct run *r)
{
    const int64_t first = 0;
    int32_t *sequence = calloc((size_t)r->tokens, 2 * sizeof *sequence);
    if (!sequence)
        return XQ_ERROR_MEMORY;
    int32_t *position = sequence + r->tokens;
    for (int64_t t = 0; t < r->tokens; t++)
        position[t] = (int32_t)t;
    xq_status status = step_set_table(&r->layer, 0, 1, &r->tokens, &first);
    if (status == XQ_OK)
        status = step_append(&r->layer, 0, r->tokens, r->x, sequence, position);
    free(sequence);
    return status;
}

static xq_status attend(struct run *r, struct cli_progress *progress)
{
    size_t row = (size_t)r->shape.heads * (size_t)r->shape.head_dim;
    for (int64_t begin = 0; begin < r->queries; begin += BATCH) {
        int64_t lengths[BATCH], first[BATCH] = {0};
        int batch = (int)(r->queries - begin < BATCH ? r->queries - begin : BATCH);
        for (int i = 0; i < batch; i++)
            lengths[i] = r->tokens - r->queries + begin + i + 1;
        xq_status status = step_set_table(&r->layer, 0, batch, lengths, first);
        if (status == XQ_OK)
            status = step_set_queries(&r->layer, batch, r->q + (size_t)begin * row);
        if (status == XQ_OK)
            status = step_attend(&r->layer, 0);
        if (status == XQ_OK)
            status = step_results(&r->layer, batch, r->out + (size_t)begin * row,
                                  r->lse + begin * r->shape.heads);
        if (status != XQ_OK)
            return status;
        cli_progress_update(progress, (double)(begin + batch) / (double)r->queries, "attend");
    }
    return XQ_OK;
}

/* The dequantized cache, row t for token t. */
static xq_status dequantize(struct run *r)
{
    const int64_t first = 0;
    size_t rows = (size_t)((r->tokens + r->layer.info.page_tokens - 1) / r->layer.info.page_tokens) *
                  (size_t)r->layer.info.page_tokens;
    size_t width[2] = {(size_t)r->layer.info.rank_k, (size_t)r->layer.info.rank_v};
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    uint64_t *pointers[2] = {&args.k, &args.v};
    xq_status status = step_set_table(&r->layer, 0, 1, &r->tokens, &first);
    for (int i = 0; i < 2 && status == XQ_OK && width[i]; i++)
        status = xq_device_alloc(r->context, 2 * rows * width[i], pointers[i]);
    args.table_entries = r->layer.tables[0].entries;
    args.table = r->layer.tables[0].device;
    args.pages = r->layer.pages;
    if (status == XQ_OK)
        status = xq_plan_dequantize(r->layer.plan, &args, NULL);
    if (status == XQ_OK)
        status = xq_device_synchronize(r->context);
    for (int i = 0; i < 2 && status == XQ_OK && width[i]; i++) {
        r->dump[i] = malloc(2 * (size_t)r->tokens * width[i]);
        status = r->dump[i] ? xq_device_read(r->context, r->dump[i], *pointers[i],
                                             2 * (size_t)r->tokens * width[i])
                            : XQ_ERROR_MEMORY;
    }
    for (int i = 0; i < 2; i++)
        if (*pointers[i])
            xq_device_free(r->context, *pointers[i]);
    return status;
}

/* ----------------------------------------------------------------- output */

static tensor halves(const char *name, int rank, int64_t a, int64_t b, int64_t c, const uint16_t *data)
{
    tensor t = {.name = name, .type = TENSOR_F16, .rank = rank, .shape = {a, b, c}, .data = data};
    t.bytes = 2 * tensor_count(&t);
    return t;
}

static uint16_t *rounded(const float *values, int rows, int cols)
{
    size_t count = (size_t)rows * (size_t)cols;
    uint16_t *out = malloc(2 * count);
    if (out)
        half_from_floats(out, values, count);
    return out;
}

static xq_status write_output(struct run *r, error *err)
{
    const struct cli_shape *s = &r->shape;
    tensor all[6];
    int count = 0;
    all[count++] = halves("o", 3, r->queries, s->heads, s->head_dim, r->out);
    all[count++] = (tensor){.name = "lse",
                            .type = TENSOR_F32,
                            .rank = 2,
                            .shape = {r->queries, s->heads},
                            .data = r->lse,
                            .bytes = 4 * (size_t)r->queries * (size_t)s->heads};
    if (r->o->dump) {
        int inner_k = s->latent ? s->rank_k : s->hidden_size,
            inner_v = s->latent ? s->rank_v : s->hidden_size;
        r->dump[2] = rounded(s->latent ? r->weights.ak : r->weights.wk, inner_k, s->kv_width);
        r->dump[3] = rounded(s->latent ? r->weights.av : r->weights.wv, inner_v, s->kv_width);
        if (!r->dump[2] || !r->dump[3])
            return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
        all[count++] = halves(s->latent ? "lk_hat" : "x_hat", 2, r->tokens, inner_k, 0, r->dump[0]);
        if (s->latent)
            all[count++] = halves("lv_hat", 2, r->tokens, inner_v, 0, r->dump[1]);
        all[count++] = halves(s->latent ? "ak" : "wk", 2, inner_k, s->kv_width, 0, r->dump[2]);
        all[count++] = halves(s->latent ? "av" : "wv", 2, inner_v, s->kv_width, 0, r->dump[3]);
    }
    return safetensors_write(r->o->output, all, count, NULL, err);
}

static const char *implementation_name(const struct options *o)
{
    return o->fp16_kv ? "fp16-kv" : o->unfused ? "unfused" : "fused";
}

static xq_status report(const struct run *r, error *err)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "output", r->o->output);
    cJSON_AddStringToObject(json, "implementation", implementation_name(r->o));
    cJSON_AddNumberToObject(json, "tokens", (double)r->tokens);
    cJSON_AddNumberToObject(json, "queries", (double)r->queries);
    cJSON_AddNumberToObject(json, "cache_bytes_per_token", r->layer.info.cache_bytes_per_token);
    cli_write_json(&r->o->common, json, err);
    cJSON_Delete(json);
    if (err->status == XQ_OK && !r->o->common.quiet && !cli_json_to_stdout(&r->o->common))
        printf("%s: %s attention of %lld quer%s over %lld tokens; the cache takes %.4g bytes a token\n",
               r->o->output, implementation_name(r->o), (long long)r->queries,
               r->queries == 1 ? "y" : "ies", (long long)r->tokens, r->layer.info.cache_bytes_per_token);
    return err->status;
}

/* ---------------------------------------------------------------- command */

/* The shape, before any device is asked for: bad input is found first. */
static xq_status read_spec(struct run *r, error *err)
{
    gen *g = NULL;
    char *completed = NULL;
    if (cli_spec_json(&r->o->spec, &r->o->common, NULL, &r->spec, err) == XQ_OK &&
        gen_create(r->o->common.templates, &g, err) == XQ_OK &&
        gen_complete(g, r->spec, &completed, err) == XQ_OK)
        cli_shape_read(completed, &r->shape, err);
    gen_destroy(g);
    free(completed);
    return err->status;
}

static xq_status compute(struct run *r, error *err)
{
    struct cli_progress progress;
    xq_implementation implementation = r->o->fp16_kv ? XQ_FP16_KV : r->o->unfused ? XQ_UNFUSED : XQ_FUSED;
    int page = r->shape.page;
    struct step_size size = {.max_batch = (int)(r->queries < BATCH ? r->queries : BATCH),
                             .max_tokens = r->tokens,
                             .max_append = r->tokens,
                             .pool_pages = (r->tokens + page - 1) / page,
                             .tables = 1};
    size_t rows = (size_t)r->queries * (size_t)r->shape.heads;
    r->out = malloc(2 * rows * (size_t)r->shape.head_dim);
    r->lse = malloc(4 * rows);
    if (!r->out || !r->lse)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    cli_progress_begin(&progress, &r->o->common, "running");
    xq_status status = step_open(r->context, r->spec, implementation, &size, &r->weights,
                                 (uint64_t)r->o->common.seed, &r->layer);
    if (status == XQ_OK)
        status = append(r);
    if (status == XQ_OK)
        status = attend(r, &progress);
    if (status == XQ_OK && r->o->dump)
        status = dequantize(r);
    cli_progress_end(&progress);
    return status == XQ_OK ? XQ_OK : last_error_read(r->context, status, err);
}

static void release(struct run *r)
{
    if (r->layer.context)
        step_close(&r->layer);
    cli_weights_free(&r->weights);
    for (int i = 0; i < 4; i++)
        free(r->dump[i]);
    free(r->x);
    free(r->q);
    free(r->out);
    free(r->lse);
    free(r->spec);
    xq_context_destroy(r->context);
}

static int check_usage(const struct options *o)
{
    if (!o->input || !o->output)
        return cli_usage("run",
                         "%s is missing; usage: xq run --input FILE --output FILE --model NAME|DIR|FILE",
                         o->input ? "--output" : "--input");
    if (o->fused + o->unfused + o->fp16_kv > 1)
        return cli_usage("run", "--fused, --unfused, --fp16-kv: give one of them");
    if (o->fp16_kv && o->dump)
        return cli_usage(
            "run", "--dump-cache: an fp16 KV cache holds nothing quantized; use --fused or --unfused");
    return CLI_OK;
}

int cli_run(int argc, char **argv)
{
    struct options o = {.layer = -1};
    const cli_option own[] = {
        {"--input", CLI_STRING, &o.input, "FILE", "safetensors file with x, wk, wv, q"},
        {"--output", CLI_STRING, &o.output, "FILE", "safetensors file to write"},
        {"--fused", CLI_FLAG, &o.fused, NULL, "one kernel, nothing in between in device memory (default)"},
        {"--unfused", CLI_FLAG, &o.unfused, NULL,
         "dequantize, GEMM, RoPE, attention, through device memory"},
        {"--fp16-kv", CLI_FLAG, &o.fp16_kv, NULL, "the baseline: an fp16 cache of keys and values"},
        {"--dump-cache", CLI_FLAG, &o.dump, NULL, "write the dequantized cache and the matrices used, too"},
        {"--layer", CLI_INT, &o.layer, "L", "read x.L, wk.L, wv.L, q.L (as activation files name them)"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "run", .description = description, .options = own, .common = &o.common, .spec = &o.spec};
    int status;
    if (!cli_parse(&command, argc, argv, &status) || (status = check_usage(&o)) != CLI_OK)
        return status;
    struct run r = {.o = &o};
    error err = ERROR_INIT;
    if (read_spec(&r, &err) == XQ_OK && read_input(&r, &err) == XQ_OK &&
        (status = cli_open("run", &o.common, &r.context)) == CLI_OK && compute(&r, &err) == XQ_OK &&
        write_output(&r, &err) == XQ_OK)
        report(&r, &err);
    if (err.status != XQ_OK)
        status = cli_fail("run", &o.common, &err);
    error_clear(&err);
    release(&r);
    return status;
}
