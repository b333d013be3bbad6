#include "plan_image.h"
#include "image_codec.h"

#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'x', 'q', '-', 'p', 'l', 'a', 'n', '\n'};

/* Offsets in the header. */
enum { AT_VERSION = 8, AT_CHECKSUM = 16, AT_BYTES = 24, HEADER_BYTES = 32 };

/* Limits of the numbers in an image. No size that is computed from three numbers of a shape overflows with
 * them. */
enum { MOST_WIDTH = 1 << 20 };
static const int64_t most_bytes = (int64_t)1 << 46, most_pages = (int64_t)1 << 46;

static int32_t number(struct image_codec *c, const char *name, int32_t value, int32_t least, int32_t most)
{
    return (int32_t)image_integer(c, name, value, least, most);
}

static size_t size(struct image_codec *c, const char *name, size_t value)
{
    return (size_t)image_integer(c, name, (int64_t)value, 0, most_bytes);
}

static void begin(struct image_codec *c, const char *part, int index)
{
    c->part = part;
    c->index = index;
}

/* ------------------------------------------------------------------- shape */

static void visit_model(struct image_codec *c, struct shape *s)
{
    begin(c, "model", -1);
    s->hidden_size = number(c, "hidden_size", s->hidden_size, 1, MOST_WIDTH);
    s->heads = number(c, "heads", s->heads, 1, MOST_WIDTH);
    s->kv_heads = number(c, "kv_heads", s->kv_heads, 1, s->heads);
    s->head_dim = number(c, "head_dim", s->head_dim, 1, SHAPE_KEY_COLUMNS);
    s->kv_width = number(c, "kv_width", s->kv_width, 1, MOST_WIDTH);
    s->rotary = image_flag(c, "rotary", s->rotary);
    s->key_norm = image_flag(c, "key_norm", s->key_norm);
    s->key_norm_row = image_flag(c, "key_norm_row", s->key_norm_row);
    s->sinks = image_flag(c, "sinks", s->sinks);
    s->many = image_flag(c, "many", s->many);
    s->checked = image_flag(c, "checked", s->checked);
    if (s->kv_heads > 0 && s->heads % s->kv_heads != 0)
        image_refuse(c, "heads", "is no multiple of kv_heads");
    if (s->kv_width != s->kv_heads * (int64_t)s->head_dim)
        image_refuse(c, "kv_width", "is not kv_heads * head_dim");
}

static void visit_stream(struct image_codec *c, struct shape_stream *s)
{
    s->width = number(c, "width", s->width, 1, MOST_WIDTH);
    s->latents = number(c, "latents", s->latents, 1, s->width);
    s->rank = number(c, "rank", s->rank, 1, s->width);
    s->latent_width = number(c, "latent_width", s->latent_width, s->rank, s->width);
    s->group = number(c, "group", s->group, 1, MOST_WIDTH);
    s->by_channel = image_flag(c, "by_channel", s->by_channel);
    if (s->width != s->latents * (int64_t)s->latent_width)
        image_refuse(c, "width", "is not latents * latent_width");
}

static void visit_cache(struct image_codec *c, struct shape *s)
{
    begin(c, "cache", -1);
    s->latent = image_flag(c, "latent", s->latent);
    s->cross_layer = image_flag(c, "cross_layer", s->cross_layer);
    s->base = image_flag(c, "base", s->base);
    s->page = number(c, "page", s->page, 16, 1 << 16);
    s->rank_k = number(c, "rank_k", s->rank_k, 1, MOST_WIDTH);
    s->rank_v = number(c, "rank_v", s->rank_v, 0, MOST_WIDTH);
    s->by_token = image_flag(c, "by_token", s->by_token);
    s->by_channel = image_flag(c, "by_channel", s->by_channel);
    s->page_bytes = size(c, "page_bytes", s->page_bytes);
    s->kv_page_bytes = size(c, "kv_page_bytes", s->kv_page_bytes);
    s->kv_e4m3_page_bytes = size(c, "kv_e4m3_page_bytes", s->kv_e4m3_page_bytes);
    s->tail_bytes = size(c, "tail_bytes", s->tail_bytes);
    s->accumulator_page_bytes = size(c, "accumulator_page_bytes", s->accumulator_page_bytes);
    s->bytes_per_token = image_real(c, "bytes_per_token", s->bytes_per_token, 0, 1e9);
    s->accumulator_bytes_per_token =
        image_real(c, "accumulator_bytes_per_token", s->accumulator_bytes_per_token, 0, 1e9);
    if (s->page % 16 != 0)
        image_refuse(c, "page", "is no multiple of 16");
    s->stream_count = number(c, "streams", s->stream_count, 1, SHAPE_STREAMS);
    for (int i = 0; i < s->stream_count; i++) {
        begin(c, "streams", i);
        visit_stream(c, &s->streams[i]);
    }
}

static void visit_columns(struct image_codec *c, const char *part, int32_t *count, int16_t *columns,
                          int32_t head_dim)
{
    begin(c, part, -1);
    *count = number(c, "count", *count, 0, SHAPE_KEY_COLUMNS);
    for (int i = 0; i < *count; i++) {
        begin(c, part, i);
        columns[i] = (int16_t)image_integer(c, "dimension", columns[i], -1, head_dim - 1);
    }
}

/* ----------------------------------------------------------------- weights */

/* Checks that `bytes` bytes at `offset` end within the packed weights. */
static void check_place(struct image_codec *c, const char *name, size_t offset, int64_t bytes, size_t all)
{
    if (c->err->status == XQ_OK && (offset > all || (size_t)bytes > all - offset))
        image_refuse(c, name, "is beyond the packed weights");
}

static void visit_matrix(struct image_codec *c, const struct shape *s, struct shape_matrix *m, size_t all)
{
    image_text(c, "name", m->name, sizeof m->name);
    image_text(c, "source", m->source, sizeof m->source);
    m->columns = (enum shape_columns)number(c, "columns", (int32_t)m->columns, SHAPE_ALL, SHAPE_FEEDBACK);
    m->type = (enum weight_type)number(c, "type", (int32_t)m->type, WEIGHT_F16, WEIGHT_E4M3);
    m->rows = number(c, "rows", m->rows, 16, MOST_WIDTH);
    m->cols = number(c, "cols", m->cols, 16, MOST_WIDTH);
    m->offset = size(c, "offset", m->offset);
    m->scale_offset = size(c, "scale_offset", m->scale_offset);
    m->sum_rows = number(c, "sum_rows", m->sum_rows, 0, MOST_WIDTH);
    m->sum_offset = size(c, "sum_offset", m->sum_offset);
    int bytes = weight_bytes(m->type);
    check_place(c, "offset", m->offset, (int64_t)m->rows * m->cols * bytes, all);
    if (bytes == 1)
        check_place(c, "scale_offset", m->scale_offset, (int64_t)m->cols * 4, all);
    if (m->sum_rows > 0 && m->type != WEIGHT_INT8)
        image_refuse(c, "sum_rows", "is for int8 weights only");
    if (m->sum_rows > 0)
        check_place(c, "sum_offset", m->sum_offset,
                    ((int64_t)m->rows + m->sum_rows - 1) / m->sum_rows * m->cols * 4, all);
    if (m->rows % 16 || m->cols % 16)
        image_refuse(c, "rows", "and cols must be multiples of 16");
    if (m->columns != SHAPE_FEEDBACK)
        return;
    const struct shape_stream *stream = &s->streams[strcmp(m->source, "av") == 0 ? 1 : 0];
    int64_t groups = 0;
    if (stream->group > 0 && stream->latent_width > 0)
        groups = (int64_t)stream->latents * ((stream->latent_width + stream->group - 1) / stream->group);
    if (bytes != 2 || m->cols > 256 || m->cols < stream->group || m->rows != groups * m->cols)
        image_refuse(c, "rows", "are not those of the stream's groups");
}

static void visit_vector(struct image_codec *c, struct shape_vector *v, size_t all)
{
    image_text(c, "name", v->name, sizeof v->name);
    image_text(c, "source", v->source, sizeof v->source);
    v->columns = (enum shape_columns)number(c, "columns", (int32_t)v->columns, SHAPE_ALL, SHAPE_TRANSPOSED);
    v->count = number(c, "count", v->count, 1, MOST_WIDTH);
    v->offset = size(c, "offset", v->offset);
    check_place(c, "offset", v->offset, (int64_t)v->count * 4, all);
}

static void visit_weights(struct image_codec *c, const struct shape *s, struct shape_weights *w)
{
    begin(c, "weights", -1);
    w->bytes = size(c, "bytes", w->bytes);
    w->matrix_count = number(c, "matrices", w->matrix_count, 0, SHAPE_MATRICES);
    w->vector_count = number(c, "vectors", w->vector_count, 0, SHAPE_VECTORS);
    for (int i = 0; i < w->matrix_count; i++) {
        begin(c, "weights.matrices", i);
        visit_matrix(c, s, &w->matrices[i], w->bytes);
    }
    for (int i = 0; i < w->vector_count; i++) {
        begin(c, "weights.vectors", i);
        visit_vector(c, &w->vectors[i], w->bytes);
    }
}

/* ----------------------------------------------------------------- kernels */

static void visit_constants(struct image_codec *c, xq_plan *p, int slot)
{
    struct plan_constant constants[PLAN_CONSTANTS];
    plan_constants(p, constants);
    for (int i = 0; i < PLAN_CONSTANTS; i++)
        if (constants[i].slot == slot)
            *constants[i].value = image_integer(c, constants[i].name, *constants[i].value, 1, INT32_MAX);
}

static void visit_kernel(struct image_codec *c, xq_plan *p, int slot, struct kernel_code *k)
{
    int64_t params = (int64_t)plan_params_bytes(p, slot);
    begin(c, plan_family(p, slot), -1);
    image_text(c, "family", k->family, sizeof k->family);
    image_text(c, "entry", k->entry, sizeof k->entry);
    /* If an image's kernels take other parameters than this library's launches pass, the image is of
     * another version. */
    image_integer(c, "params_bytes", params, params, params);
    k->threads = (uint32_t)image_integer(c, "threads", k->threads, 1, 1024);
    k->shared_bytes = (uint32_t)image_integer(c, "shared_bytes", k->shared_bytes, 0, INT32_MAX);
    visit_constants(c, p, slot);
    image_block(c, "cubin", &k->cubin, &k->cubin_bytes, 16);
    image_block(c, "ptx", &k->ptx, &k->ptx_bytes, 16);
    if (strcmp(k->family, plan_family(p, slot)) != 0)
        image_refuse(c, "family", "is that of another kernel");
    if (c->bytes && c->err->status == XQ_OK &&
        (!k->ptx || memchr(k->ptx, 0, k->ptx_bytes) != (const char *)k->ptx + k->ptx_bytes - 1))
        image_refuse(c, "ptx", "does not end with its only NUL");
}

/* -------------------------------------------------------------------- plan */

static void visit_limits(struct image_codec *c, xq_plan *p)
{
    begin(c, NULL, -1);
    p->implementation =
        (xq_implementation)number(c, "implementation", (int32_t)p->implementation, XQ_FUSED, XQ_FP8_KV);
    p->max_batch = number(c, "max_batch", p->max_batch, 1, PLAN_MOST_BLOCKS);
    p->max_tokens = image_integer(c, "max_tokens", p->max_tokens, 1, PLAN_MOST_TOKENS);
    p->max_pages = image_integer(c, "max_pages", p->max_pages, 1, most_pages);
    p->max_append = image_integer(c, "max_append", p->max_append, 1, PLAN_MOST_TOKENS);
    p->max_queries = image_integer(c, "max_queries", p->max_queries, 1, PLAN_MOST_QUERIES);
    p->max_total_queries = image_integer(c, "max_total_queries", p->max_total_queries, 1, INT32_MAX);
    p->pool_pages = image_integer(c, "pool_pages", p->pool_pages, 0, INT32_MAX);
    p->parameters_from = (xq_parameters_from)number(c, "parameters_from", (int32_t)p->parameters_from,
                                                    XQ_FROM_DEFAULT, XQ_FROM_FAMILY);
}

/* The number of attention's kernels, and the kernel that serves each class of calls. */
static void visit_variants(struct image_codec *c, xq_plan *p)
{
    for (int q = 0; q < PLAN_QUERIES; q++) {
        const int least = plan_serves(p, (enum plan_queries)q);
        const void *picks = p->pick[q];
        size_t bytes = p->variants[q] > 1 ? sizeof p->pick[q] : 0;
        begin(c, "attention", q);
        p->variants[q] = number(c, "variants", p->variants[q], least, least * PLAN_VARIANTS);
        image_block(c, "pick", &picks, &bytes, 8);
        if (c->err->status != XQ_OK)
            return;
        if (bytes != (p->variants[q] > 1 ? sizeof p->pick[q] : 0))
            image_refuse(c, "pick", "is not of the size of its table");
        else if (c->reading && bytes)
            memcpy(p->pick[q], picks, bytes);
        for (size_t i = 0; i < sizeof p->pick[q]; i++)
            if ((&p->pick[q][0][0])[i] >= (p->variants[q] ? p->variants[q] : 1))
                image_refuse(c, "pick", "names a kernel that does not exist");
        for (int v = 0; v < p->variants[q]; v++)
            p->attention[q][v].partial_share =
                image_real(c, "partial_share", p->attention[q][v].partial_share, 0, 1e3);
    }
}

/* Everything in an image after its header. */
static void visit_plan(struct image_codec *c, xq_plan *p, struct plan_code *code)
{
    struct shape *s = &p->shape;
    const void *spec = code->spec;
    size_t spec_bytes = code->spec ? strlen(code->spec) + 1 : 0;
    visit_limits(c, p);
    image_text(c, "target", code->target, sizeof code->target);
    image_block(c, "spec", &spec, &spec_bytes, 8);
    code->spec = (const char *)spec;
    if (c->bytes && (!spec || memchr(spec, 0, spec_bytes) != (const char *)spec + spec_bytes - 1))
        image_refuse(c, "spec", "does not end with its only NUL");
    visit_model(c, s);
    visit_cache(c, s);
    visit_columns(c, "keys", &s->keys.columns, s->keys.rematerialized, s->head_dim);
    visit_columns(c, "absorbed", &s->keys.absorbed_columns, s->keys.absorbed, s->head_dim);
    visit_variants(c, p);
    visit_weights(c, s, &s->weights[p->implementation]);
    for (int i = 0; i < PLAN_SLOTS && c->err->status == XQ_OK; i++)
        if (plan_needs(p, i))
            visit_kernel(c, p, i, &code->kernels[i]);
}

/* ----------------------------------------------------------------- writing */

static void put(unsigned char *image, int at, uint64_t value)
{
    memcpy(image + at, &value, sizeof value);
}

static uint64_t get(const unsigned char *image, int at)
{
    uint64_t value;
    memcpy(&value, image + at, sizeof value);
    return value;
}

/* FNV-1a over words of 8 bytes, with zeros after the end. Each step is a bijection of the sum, so a change
 * within one word always shows. */
uint64_t plan_image_checksum(const unsigned char *image, size_t bytes)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t at = AT_BYTES; at < bytes; at += 8) {
        uint64_t word = 0;
        memcpy(&word, image + at, bytes - at < 8 ? bytes - at : 8);
        sum = (sum ^ word) * UINT64_C(0x100000001b3);
        sum ^= sum >> 29; /* high bits of a word reach low bits of the sum */
    }
    return sum;
}

xq_status plan_image_write(const xq_plan *plan, const struct plan_code *code, unsigned char **image,
                           size_t *bytes, error *err)
{
    xq_plan stated = *plan;
    struct plan_code given = *code;
    struct image_codec c = {.at = HEADER_BYTES, .index = -1, .err = err};
    visit_plan(&c, &stated, &given);
    if (err->status != XQ_OK)
        return err->status;
    c.size = c.at;
    c.at = HEADER_BYTES;
    c.bytes = (unsigned char *)malloc(c.size);
    if (!c.bytes)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    visit_plan(&c, &stated, &given);
    if (err->status != XQ_OK) {
        free(c.bytes);
        return err->status;
    }
    memcpy(c.bytes, magic, sizeof magic);
    put(c.bytes, AT_VERSION, PLAN_IMAGE_VERSION);
    put(c.bytes, AT_BYTES, c.size);
    put(c.bytes, AT_CHECKSUM, plan_image_checksum(c.bytes, c.size));
    *image = c.bytes;
    *bytes = c.size;
    return XQ_OK;
}

/* ----------------------------------------------------------------- reading */

#define REFUSE(...)                                                                                        \
    do {                                                                                                   \
        error_set(err, XQ_ERROR_FORMAT, "file", "plan image: " __VA_ARGS__);                               \
        return error_field(err, "image");                                                                  \
    } while (0)

xq_status plan_image_check(const void *given, size_t bytes, error *err)
{
    const unsigned char *image = (const unsigned char *)given;
    if (bytes < HEADER_BYTES || memcmp(image, magic, sizeof magic) != 0)
        REFUSE("the %zu bytes do not begin like a plan image", bytes);
    if (get(image, AT_VERSION) != PLAN_IMAGE_VERSION)
        REFUSE("it has version %llu, and this library reads version %d; save the plan again",
               (unsigned long long)get(image, AT_VERSION), PLAN_IMAGE_VERSION);
    if (get(image, AT_BYTES) != bytes)
        REFUSE("%zu bytes are given, and its header states %llu", bytes,
               (unsigned long long)get(image, AT_BYTES));
    return XQ_OK;
}

static xq_status check_whole(const unsigned char *image, size_t bytes, error *err)
{
    if (plan_image_check(image, bytes, err) != XQ_OK)
        return err->status;
    if (get(image, AT_CHECKSUM) != plan_image_checksum(image, bytes))
        REFUSE("it is damaged: its checksum does not match");
    return XQ_OK;
}

xq_status plan_image_read(const void *image, size_t bytes, xq_plan *plan, struct plan_code *code,
                          error *err)
{
    unsigned char *start = (unsigned char *)image; /* reading writes nothing */
    if (check_whole(start, bytes, err) != XQ_OK)
        return err->status;
    struct image_codec c = {
        .reading = true,
        .bytes = start,
        .size = bytes,
        .at = HEADER_BYTES,
        .index = -1,
        .err = err,
    };
    visit_plan(&c, plan, code);
    if (err->status == XQ_OK && c.at != bytes)
        REFUSE("%zu bytes follow its end", bytes - c.at);
    return err->status;
}
