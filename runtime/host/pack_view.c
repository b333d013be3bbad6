#include "pack_view.h"
#include "../base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One side of a caller's matrix: `count` indices, in blocks of `kept`, which are stored padded to
 * `block`. */
struct side {
    int32_t count, kept, block;
};

struct source {
    const float *values;
    struct side rows, cols;
};

static struct side whole(int32_t count)
{
    return (struct side){count, count, count};
}

static struct side latent_rows(const struct shape_stream *s)
{
    return (struct side){s->rank, s->rank, s->latent_width};
}

static struct side latent_columns(const struct shape_stream *s)
{
    return (struct side){s->latents * s->rank, s->rank, s->latent_width};
}

/* Finds the caller's matrix or vector of that name (xq_weights states the shapes). */
static xq_status find_source(const struct shape *s, const xq_weights *w, const char *name,
                             struct source *out, error *err)
{
    struct side d = whole(s->hidden_size), kv = whole(s->kv_width), one = whole(1);
    const struct shape_stream *k = &s->streams[0], *v = &s->streams[s->stream_count - 1];
    const struct {
        const char *name;
        struct source source;
    } all[] = {
        {"wk", {w->wk, d, kv}},
        {"wv", {w->wv, d, kv}},
        {"uk", {w->uk, d, latent_columns(k)}},
        {"ak", {w->ak, latent_rows(k), kv}},
        {"uv", {w->uv, d, latent_columns(v)}},
        {"av", {w->av, latent_rows(v), kv}},
        {"ukv", {w->ukv, d, latent_columns(k)}},
        {"bk", {w->bk, one, kv}},
        {"bv", {w->bv, one, kv}},
        {"k_norm", {w->k_norm, one, s->key_norm_row ? kv : whole(s->head_dim)}},
        {"sinks", {w->sinks, one, whole(s->heads)}},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].name, name) == 0) {
            char field[32];
            snprintf(field, sizeof field, "weights.%s", name);
            *out = all[i].source;
            check_not_null(field, out->values, err);
            return err->status;
        }
    return error_set(err, XQ_ERROR_INTERNAL, "spec", "weights '%s' of the completed spec are not known",
                     name);
}

static int32_t stored(struct side side)
{
    return side.count / side.kept * side.block;
}

static void map_side(int32_t *map, struct side side)
{
    for (int32_t i = 0; i < stored(side); i++)
        map[i] = i % side.block < side.kept ? i / side.block * side.kept + i % side.block : -1;
}

/* Maps columns of K, one head after the other. */
static void map_heads(int32_t *map, int32_t heads, int32_t head_dim, const int16_t *columns, int32_t count)
{
    for (int32_t i = 0; i < heads * count; i++) {
        int32_t dimension = columns[i % count];
        map[i] = dimension < 0 ? -1 : i / count * head_dim + dimension;
    }
}

/* `turned` means that the source's columns are the rows of the packed matrix. */
static xq_status make_view(const struct shape *s, const struct source *source, enum shape_columns columns,
                           bool turned, int32_t rows, int32_t cols, struct pack_view *view, error *err)
{
    const struct shape_keys *keys = &s->keys;
    bool by_head = columns == SHAPE_KEYS || columns == SHAPE_ABSORBED;
    int32_t heads = source->cols.count / s->head_dim;
    int32_t count = columns == SHAPE_ABSORBED ? keys->absorbed_columns : keys->columns;
    int32_t along = stored(source->rows), across = by_head ? heads * count : stored(source->cols);
    if ((turned ? across : along) != rows || (turned ? along : across) != cols)
        return error_set(err, XQ_ERROR_INTERNAL, "spec",
                         "weights of the completed spec have an unexpected size");
    int32_t *map = (int32_t *)malloc(sizeof *map * (size_t)(along + across));
    if (!map)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    map_side(map, source->rows);
    if (by_head)
        map_heads(map + along, heads, s->head_dim,
                  columns == SHAPE_ABSORBED ? keys->absorbed : keys->rematerialized, count);
    else
        map_side(map + along, source->cols);
    int64_t step = source->cols.count; /* from one row of the source to the next */
    *view = (struct pack_view){
        .source = source->values,
        .source_rows = source->rows.count,
        .source_cols = source->cols.count,
        .rows = rows,
        .cols = cols,
        .row = turned ? map + along : map,
        .col = turned ? map : map + along,
        .row_step = turned ? 1 : step,
        .col_step = turned ? step : 1,
        .map = map,
    };
    return XQ_OK;
}

xq_status pack_view_matrix(const struct shape *shape, const xq_weights *weights,
                           const struct shape_matrix *m, struct pack_view *view, error *err)
{
    struct source source;
    bool turned = m->columns == SHAPE_TRANSPOSED || m->columns == SHAPE_ABSORBED;
    if (find_source(shape, weights, m->source, &source, err) != XQ_OK)
        return err->status;
    return make_view(shape, &source, m->columns, turned, m->rows, m->cols, view, err);
}

xq_status pack_view_vector(const struct shape *shape, const xq_weights *weights,
                           const struct shape_vector *v, struct pack_view *view, error *err)
{
    struct source source;
    if (find_source(shape, weights, v->source, &source, err) != XQ_OK)
        return err->status;
    return make_view(shape, &source, v->columns, false, 1, v->count, view, err);
}

void pack_view_free(struct pack_view *view)
{
    free(view->map);
}
