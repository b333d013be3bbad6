#if !defined(__clang__)
#pragma GCC optimize("O3") /* loops over tiles */
#endif

#include "pack.h"
#include "../base/check.h"
#include "../base/half.h"
#include "../launch/plan.h"
#include "cost.h"
#include "feedback.h"
#include "pack_view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ checks */

/* `limit` is the smallest magnitude that is refused. */
static xq_status check_finite(const struct pack_view *view, const char *source, float limit, error *err)
{
    char field[32], place[48], most[32] = "";
    for (int64_t i = 0; i < (int64_t)view->source_rows * view->source_cols; i++) {
        double value = view->source[i];
        if (fabs(value) < (double)limit)
            continue;
        snprintf(field, sizeof field, "weights.%s", source);
        if (view->source_rows == 1)
            snprintf(place, sizeof place, "%lld", (long long)i);
        else
            snprintf(place, sizeof place, "%lld, %lld", (long long)(i / view->source_cols),
                     (long long)(i % view->source_cols));
        if (!isinf(limit))
            snprintf(most, sizeof most, ", and below %g", (double)limit);
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s[%s] is %g; weights must be finite%s", field,
                  place, value, most);
        return error_field(err, field);
    }
    return XQ_OK;
}

/* Checks a unit of an e4m3 cache: single precision must hold its inverse. */
static xq_status check_scale(const struct pack_view *view, const char *source, error *err)
{
    const float scale = view->source[0];
    char field[32];
    if (scale >= 1e-30f && scale <= 1e30f)
        return XQ_OK;
    snprintf(field, sizeof field, "weights.%s", source);
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s is %g; valid: numbers from 1e-30 to 1e30", field,
              (double)scale);
    return error_field(err, field);
}

/* Checks k_cost, which may be left out. */
static xq_status check_cost(const struct shape *shape, const xq_weights *weights, error *err)
{
    if (weights->k_cost)
        cost_check("weights.k_cost", weights->k_cost, shape->kv_width, shape->head_dim, err);
    return err->status;
}

static xq_status check_all(const struct shape *shape, const struct shape_weights *layout,
                           const xq_weights *weights, error *err)
{
    struct pack_view view;
    for (int i = 0; i < layout->matrix_count && err->status == XQ_OK; i++) {
        const struct shape_matrix *m = &layout->matrices[i];
        if (m->columns == SHAPE_FEEDBACK) /* its sources are packed too, and so checked */
            check_cost(shape, weights, err);
        else if (pack_view_matrix(shape, weights, m, &view, err) == XQ_OK) {
            check_finite(&view, m->source, weight_limit(m->type), err);
            pack_view_free(&view);
        }
    }
    for (int i = 0; i < layout->vector_count && err->status == XQ_OK; i++) {
        const struct shape_vector *v = &layout->vectors[i];
        if (pack_view_vector(shape, weights, v, &view, err) == XQ_OK) {
            if (strcmp(v->source, "k_scale") == 0 || strcmp(v->source, "v_scale") == 0)
                check_scale(&view, v->source, err);
            else
                check_finite(&view, v->source, INFINITY, err);
            pack_view_free(&view);
        }
    }
    return err->status;
}

/* ----------------------------------------------------------------- packing */

enum { TILE = WEIGHT_COLUMNS }; /* columns of a tile, and rows */

/* Whether columns tile .. tile + 15 are neighbours in the source. */
static bool are_neighbours(const struct pack_view *view, int32_t tile)
{
    bool so = view->col_step == 1 && view->col[tile] >= 0;
    for (int32_t n = 1; n < TILE; n++)
        so &= view->col[tile + n] == view->col[tile] + n;
    return so;
}

/* Reads columns tile .. tile + 15 -> w [rows, 16]. */
static void read_columns(const struct pack_view *view, int32_t tile, float *w)
{
    const bool neighbours = are_neighbours(view, tile);
    for (int32_t k = 0; k < view->rows; k++, w += TILE)
        if (neighbours && view->row[k] >= 0)
            memcpy(w, view->source + pack_view_index(view, k, tile), TILE * sizeof *w);
        else
            for (int32_t n = 0; n < TILE; n++)
                w[n] = pack_view_at(view, k, tile + n);
}

/* Packs one tile of 16 rows and 16 columns: lane l holds 4 registers of 2 elements. Registers 0 and 1 are
 * the B fragment of columns 0-7 (mma.m16n8k16: row k = (l % 4) * 2 + {0, 1}, and 8 more; column n = l /
 * 4), and registers 2 and 3 are that of columns 8-15. */
static void pack_tile(unsigned char *out, enum weight_type type, const uint16_t *codes)
{
    uint32_t pairs[8][TILE], ordered[32][4]; /* pairs: rows 2 i and 2 i + 1 */
    for (int i = 0; i < 8; i++)
        for (int n = 0; n < TILE; n++)
            pairs[i][n] = codes[2 * i * TILE + n] | (uint32_t)codes[(2 * i + 1) * TILE + n] << 16;
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++) {
            uint32_t *registers = ordered[n * 4 + i];
            registers[0] = pairs[i][n];
            registers[1] = pairs[i + 4][n];
            registers[2] = pairs[i][n + 8];
            registers[3] = pairs[i + 4][n + 8];
        }
    for (int i = 0; i < 128; i++) {
        const uint32_t pair = ordered[i / 4][i % 4];
        const unsigned char narrow[2] = {(unsigned char)pair, (unsigned char)(pair >> 16)};
        if (weight_bytes(type) == 2)
            memcpy(out + i * 4, &pair, 4);
        else
            memcpy(out + i * 2, narrow, 2);
    }
}

/* Sums the int8 codes of 16 columns over each `sum_rows` rows, f32: [groups of rows, columns]. `out` is the
 * place of the first of these columns. */
static void pack_sums(unsigned char *out, const struct shape_matrix *m, const uint16_t *codes)
{
    for (int32_t first = 0; first < m->rows; first += m->sum_rows) {
        int32_t sums[TILE] = {0};
        float values[TILE];
        for (int32_t k = first; k < m->rows && k < first + m->sum_rows; k++)
            for (int32_t n = 0; n < TILE; n++)
                sums[n] += (int8_t)codes[k * TILE + n];
        for (int32_t n = 0; n < TILE; n++)
            values[n] = (float)sums[n];
        memcpy(out + (size_t)(first / m->sum_rows) * (size_t)m->cols * sizeof *values, values,
               sizeof values);
    }
}

/* Packs the tiles, which are stored by columns of tiles, with scales and sums. It takes 16 whole columns at
 * a time, because codes of 8 bits depend on all weights of a column. w and codes are memory for [rows, 16].
 */
static void pack_columns(const struct pack_view *view, const struct shape_matrix *m, float *w,
                         uint16_t *codes, unsigned char *destination)
{
    const size_t bytes = (size_t)weight_bytes(m->type) * TILE * TILE;
    unsigned char *out = destination + m->offset;
    for (int32_t tile = 0; tile < m->cols; tile += TILE) {
        float scales[TILE];
        read_columns(view, tile, w);
        weight_encode_columns(m->type, m->rows, w, scales, codes);
        for (int32_t k = 0; k < m->rows; k += TILE, out += bytes)
            pack_tile(out, m->type, codes + k * TILE);
        if (weight_bytes(m->type) == 1)
            memcpy(destination + m->scale_offset + (size_t)tile * sizeof *scales, scales, sizeof scales);
        if (m->sum_rows > 0)
            pack_sums(destination + m->sum_offset + (size_t)tile * sizeof(float), m, codes);
    }
}

static xq_status pack_matrix(const struct shape *shape, const xq_weights *weights,
                             const struct shape_matrix *m, unsigned char *destination, error *err)
{
    struct pack_view view;
    if (pack_view_matrix(shape, weights, m, &view, err) != XQ_OK)
        return err->status;
    const size_t count = (size_t)m->rows * TILE;
    float *w = (float *)malloc(count * sizeof *w);
    uint16_t *codes = (uint16_t *)malloc(count * sizeof *codes);
    if (w && codes)
        pack_columns(&view, m, w, codes, destination);
    else
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    free(codes);
    free(w);
    pack_view_free(&view);
    return err->status;
}

static xq_status pack_vector(const struct shape *shape, const xq_weights *weights,
                             const struct shape_vector *v, unsigned char *destination, error *err)
{
    struct pack_view view;
    if (pack_view_vector(shape, weights, v, &view, err) != XQ_OK)
        return err->status;
    for (int32_t i = 0; i < v->count; i++) {
        float value = pack_view_at(&view, 0, i);
        memcpy(destination + v->offset + (size_t)i * sizeof value, &value, sizeof value);
    }
    pack_view_free(&view);
    return XQ_OK;
}

/* Packs one group: for each channel j in order, the f16 factors by which its error is added to the
 * channels of 16 lanes (8 in groups of 32). Lane l has channels quad_channel(l) + {0, 1, 8, 9} of each
 * unit of 64 (templates/lib/quantize.cuh). There is room for `most` channels; the channels from `group` on
 * take no errors and add none. */
static void pack_feedback_group(const float *feedback, int32_t group, int32_t most, unsigned char *out)
{
    const int32_t lanes = most < 64 ? most / 4 : 16, values = most / lanes;
    for (int32_t j = 0; j < most; j++)
        for (int32_t lane = 0; lane < lanes; lane++)
            for (int32_t v = 0; v < values; v++) {
                int32_t i = v / 4 * 64 + lane / 4 * 16 + lane % 4 * 2 + v % 4 / 2 * 8 + v % 2;
                bool there = i < group && j < group;
                uint16_t half = there ? half_from_float(feedback[j * group + i]) : 0;
                memcpy(out, &half, sizeof half);
                out += sizeof half;
            }
}

static xq_status pack_feedback(const struct shape *shape, const xq_weights *w, const struct shape_matrix *m,
                               unsigned char *destination, error *err)
{
    const bool of_v = strcmp(m->source, "av") == 0;
    const struct shape_stream *stream = &shape->streams[of_v ? 1 : 0];
    const feedback_stream s = {stream->latents, stream->rank, stream->latent_width, stream->group};
    const feedback_source v = {.a = w->av, .cols = shape->kv_width},
                          k = {w->ak, shape->latent ? w->k_cost : NULL, shape->kv_width, shape->head_dim};
    const feedback_source sources[] = {of_v ? v : k, v}; /* method x has both */
    const size_t group = (size_t)s.group, groups = (size_t)feedback_groups(&s), most = (size_t)m->cols;
    float *feedback = (float *)malloc(sizeof *feedback * groups * group * group);
    if (!feedback || !feedback_make(&s, sources, shape->latent ? 1 : 2, feedback)) {
        free(feedback);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    }
    for (size_t g = 0; g < groups; g++)
        pack_feedback_group(feedback + g * group * group, s.group, m->cols,
                            destination + m->offset + g * most * most * sizeof(uint16_t));
    free(feedback);
    return XQ_OK;
}

xq_status pack_weights(const struct shape *shape, xq_implementation implementation,
                       const xq_weights *weights, void *destination, error *err)
{
    const struct shape_weights *layout = &shape->weights[implementation];
    unsigned char *packed = (unsigned char *)destination;
    if (check_all(shape, layout, weights, err) != XQ_OK)
        return err->status;
    memset(packed, 0, layout->bytes); /* zeros for the padding between matrices */
    for (int i = 0; i < layout->matrix_count && err->status == XQ_OK; i++)
        (layout->matrices[i].columns == SHAPE_FEEDBACK ? pack_feedback : pack_matrix)(
            shape, weights, &layout->matrices[i], packed, err);
    for (int i = 0; i < layout->vector_count && err->status == XQ_OK; i++)
        pack_vector(shape, weights, &layout->vectors[i], packed, err);
    return err->status;
}

/* ---------------------------------------------------------------- public */

static bool is_packed(const struct shape *shape, const struct shape_weights *layout, const char *name)
{
    for (int i = 0; i < layout->matrix_count; i++)
        if (strcmp(layout->matrices[i].source, name) == 0 ||
            (shape->latent && layout->matrices[i].columns == SHAPE_FEEDBACK && strcmp(name, "k_cost") == 0))
            return true;
    for (int i = 0; i < layout->vector_count; i++)
        if (strcmp(layout->vectors[i].source, name) == 0)
            return true;
    return false;
}

/* Returns the name of the first matrix or vector that the plan has no use for, and sets it to NULL. */
static const char *take_unused(const struct shape *shape, xq_implementation implementation,
                               xq_weights *weights)
{
    const struct {
        const char *name;
        const float **values;
    } all[] = {
        {"wk", &weights->wk},           {"wv", &weights->wv},           {"uk", &weights->uk},
        {"ak", &weights->ak},           {"uv", &weights->uv},           {"av", &weights->av},
        {"ukv", &weights->ukv},         {"bk", &weights->bk},           {"bv", &weights->bv},
        {"k_norm", &weights->k_norm},   {"sinks", &weights->sinks},     {"k_cost", &weights->k_cost},
        {"k_scale", &weights->k_scale}, {"v_scale", &weights->v_scale},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (*all[i].values && !is_packed(shape, &shape->weights[implementation], all[i].name)) {
            *all[i].values = NULL;
            return all[i].name;
        }
    return NULL;
}

void pack_keep_used(const struct shape *shape, xq_implementation implementation, xq_weights *weights)
{
    while (take_unused(shape, implementation, weights))
        ;
}

static bool check_all_used(const xq_plan *plan, xq_weights given, error *err)
{
    const char *name = take_unused(&plan->shape, plan->implementation, &given);
    if (!name)
        return true;
    char field[32];
    snprintf(field, sizeof field, "weights.%s", name);
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "%s would have no effect: the plan's method, model and implementation have none; valid: NULL",
              field);
    error_field(err, field);
    return false;
}

xq_status xq_plan_pack_weights(const xq_plan *plan, const xq_weights *weights, void *destination,
                               size_t destination_bytes)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_weights w = XQ_WEIGHTS_INIT;
    size_t needed = plan->shape.weights[plan->implementation].bytes;
    if (plan_read_args(&w, sizeof w, DESCRIPTOR_UP_TO(xq_weights, ukv), weights, "weights", &err) ==
            XQ_OK &&
        check_not_null("destination", destination, &err) && check_all_used(plan, w, &err)) {
        if (destination_bytes < needed) {
            error_set(&err, XQ_ERROR_ARGUMENT, "argument",
                      "destination_bytes is %zu; the plan's weights need %zu", destination_bytes, needed);
            error_field(&err, "destination_bytes");
        } else {
            pack_weights(&plan->shape, plan->implementation, &w, destination, &err);
        }
    }
    return plan_result(plan, &err);
}
