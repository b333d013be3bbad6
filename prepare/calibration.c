#include "calibration.h"

#include "../runtime/host/cost.h"
#include "basis.h"
#include "mapping.h"
#include "safetensors.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The weight of the first token's row in the second moment, where all other rows together weigh 1. Models
 * put an outlier there to which all later tokens attend, so that its error counts as much as the errors of
 * many others. It counts most in values; keys need the groups' offsets for other directions too. */
static const double first_token_of_keys = 0.3, first_token_of_values = 1;

enum { LEAST_TOKENS = 64 };

struct calibration {
    safetensors *file;
    uint64_t hash;
};

void calibration_close(calibration *c)
{
    if (!c)
        return;
    safetensors_close(c->file);
    free(c);
}

xq_status calibration_open(const char *path, calibration **out, error *err)
{
    mapping bytes;
    calibration *c = calloc(1, sizeof *c);
    if (!c)
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    if (mapping_open(path, &bytes, err) == XQ_OK) {
        c->hash = XXH3_64bits(bytes.data, bytes.size);
        mapping_close(&bytes);
        safetensors_open(path, &c->file, err);
    }
    if (err->status == XQ_OK)
        *out = c;
    else
        calibration_close(c);
    return err->status;
}

uint64_t calibration_hash(const calibration *c)
{
    return c->hash;
}

/* ---------------------------------------------------------------- moments of x */

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for moments of activations");
}

/* Reads tensor NAME.layer as f32: [tokens, last], or with rank 3 [tokens, middle, last]. Caller frees. */
static xq_status read_rows(const calibration *c, const char *name, int layer, int rank, int64_t middle,
                           int64_t last, float **values, int64_t *tokens, error *err)
{
    char full[32];
    const tensor *t;
    snprintf(full, sizeof full, "%s.%d", name, layer);
    if (safetensors_need(c->file, full, &t, err) != XQ_OK)
        return err->status;
    const int64_t shape[3] = {-1, rank == 3 ? middle : last, last};
    if (tensor_expect_shape(t, rank, shape, err) != XQ_OK || tensor_to_floats(t, 1, values, err) != XQ_OK)
        return err->status;
    *tokens = t->shape[0];
    if (*tokens >= LEAST_TOKENS)
        return XQ_OK;
    free(*values);
    error_set(err, XQ_ERROR_FORMAT, "file",
              "%s: tensor %s has %lld tokens; valid for calibration: at least %d", t->file, full,
              (long long)*tokens, LEAST_TOKENS);
    return error_field(err, full);
}

typedef struct moments {
    int size;
    double *second; /* [d, d], moments about zero of the rows after the first */
    double *first;  /* [d], the first row */
} moments;

static xq_status moments_create(int d, moments *m, error *err)
{
    size_t n = (size_t)d;
    *m = (moments){.size = d, .second = calloc(n * (n + 1), sizeof *m->second)};
    if (!m->second)
        return no_memory(err);
    m->first = m->second + n * n;
    return XQ_OK;
}

static void moments_free(moments *m)
{
    free(m->second);
    m->second = m->first = NULL;
}

/* Copies the upper triangle to the lower one. */
static void mirror(double *a, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            a[(size_t)i * (size_t)n + (size_t)j] = a[(size_t)j * (size_t)n + (size_t)i];
}

/* Sets the moments of rows [tokens, d]. */
static void fill_moments(const double *rows, int64_t tokens, moments *m)
{
    const int d = m->size, count = (int)tokens - 1;
    memcpy(m->first, rows, sizeof *rows * (size_t)d);
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, d, count, 1.0 / count, rows + d, d, 0, m->second, d);
    mirror(m->second, d);
}

/* Reads a layer's moments. Without a calibration nothing is known about rows, so all directions are
 * alike. */
static xq_status read_moments(const calibration *c, int layer, int d, moments *m, error *err)
{
    float *x = NULL;
    int64_t tokens;
    if (moments_create(d, m, err) != XQ_OK)
        return err->status;
    for (size_t i = 0; i < (size_t)d && !c; i++)
        m->second[i * (size_t)d + i] = 1;
    if (!c || read_rows(c, "x", layer, 2, 0, d, &x, &tokens, err) != XQ_OK)
        return err->status;
    const size_t count = (size_t)tokens * (size_t)d;
    double *rows = malloc(sizeof *rows * count);
    for (size_t i = 0; i < count && rows; i++)
        rows[i] = x[i];
    if (rows)
        fill_moments(rows, tokens, m);
    else
        no_memory(err);
    free(rows);
    free(x);
    return err->status;
}

/* ---------------------------------------------------------------- costs of errors in keys */

/* The dimension of a head that RoPE rotates together with dimension i; i itself if it is not rotated. */
static int rotary_partner(const layer_shape *s, int i)
{
    if (i >= s->rotary_dim)
        return i;
    if (s->rotary_interleaved)
        return i ^ 1;
    return i < s->rotary_dim / 2 ? i + s->rotary_dim / 2 : i - s->rotary_dim / 2;
}

/* Fills the diagonals of costs [Hkv, dh, dh]: the mean square of the query entries by which a key's
 * dimension is multiplied. The mean is over tokens, over the query heads of the KV head, and over the two
 * dimensions that RoPE mixes. */
static xq_status costs_of_queries(const calibration *c, int layer, const layer_shape *s, double *costs,
                                  error *err)
{
    float *q;
    int64_t tokens;
    const int group = s->heads / s->kv_heads, dh = s->head_dim;
    if (read_rows(c, "q", layer, 3, s->heads, dh, &q, &tokens, err) != XQ_OK)
        return err->status;
    for (int64_t t = 0; t < tokens; t++)
        for (int h = 0; h < s->heads; h++)
            for (int i = 0; i < dh; i++) {
                double *cost = costs + (size_t)(h / group) * (size_t)dh * (size_t)dh;
                double value = q[((size_t)t * (size_t)s->heads + (size_t)h) * (size_t)dh + (size_t)i];
                double share = value * value / (2.0 * (double)tokens * group);
                cost[i * (dh + 1)] += share;
                cost[rotary_partner(s, i) * (dh + 1)] += share;
            }
    free(q);
    return XQ_OK;
}

/* Sets costs [Hkv, dh, dh] to the sums over each KV head's query heads, each of which has its costs in the
 * file. */
static xq_status read_costs(const tensor *t, const layer_shape *s, double *costs, error *err)
{
    const int64_t shape[3] = {s->heads, s->head_dim, s->head_dim};
    const size_t each = (size_t)s->head_dim * (size_t)s->head_dim, group = (size_t)(s->heads / s->kv_heads);
    float *values;
    if (tensor_expect_shape(t, 3, shape, err) != XQ_OK || tensor_to_floats(t, 1, &values, err) != XQ_OK)
        return err->status;
    cost_check(t->name, values, shape[0] * shape[1], shape[1], err);
    for (size_t i = 0; i < (size_t)s->heads * each; i++)
        costs[i / each / group * each + i % each] += values[i];
    free(values);
    return err->status;
}

/* *out [Hkv, dh, dh]: an error e of a head's keys costs e·cost·eᵀ. Caller frees. */
static xq_status make_costs(const calibration *c, int layer, const layer_shape *s, const float *k_norm,
                            double **out, error *err)
{
    const int dh = s->head_dim;
    const size_t count = (size_t)s->kv_width * (size_t)dh;
    double *costs = calloc(count, sizeof *costs);
    char name[32];
    snprintf(name, sizeof name, "k_cost.%d", layer);
    const tensor *t = safetensors_find(c->file, name);
    if (!costs)
        return no_memory(err);
    if (t)
        read_costs(t, s, costs, err);
    else
        costs_of_queries(c, layer, s, costs, err);
    for (size_t i = 0; i < count && k_norm; i++) {
        size_t row = i / (size_t)dh, column = row / (size_t)dh * (size_t)dh + i % (size_t)dh;
        costs[i] *= (double)k_norm[row % (size_t)s->k_norm] * (double)k_norm[column % (size_t)s->k_norm];
    }
    if (err->status == XQ_OK)
        *out = costs;
    else
        free(costs);
    return err->status;
}

/* ---------------------------------------------------------------- factors */

/* Splits the columns of a latent into quantization groups, which begin anew with each latent. Returns their
 * number. */
static int find_segments(int group, int rank, int *widths)
{
    int count = 0;
    for (int begin = 0; begin < rank; begin += widths[count++])
        widths[count] = group < rank - begin ? group : rank - begin;
    return count;
}

/* The costs of a stream: of_errors [Hkv, dh, dh] as make_costs gives it, or NULL; and the weight of the
 * first token. */
typedef struct stream_costs {
    const double *of_errors;
    double first_token;
} stream_costs;

/* Scratch for the matrices of one latent, in double precision. */
typedef struct latent_room {
    double *w, *product, *second, *metric, *to, *back, *u;
    int *widths;
} latent_room;

static bool latent_room_create(latent_room *r, int d, int c, int rank)
{
    size_t dc = (size_t)d * (size_t)c, cc = (size_t)c * (size_t)c, cr = (size_t)c * (size_t)rank;
    double *all = malloc(sizeof *all * (2 * dc + 2 * cc + 2 * cr + (size_t)d * (size_t)rank));
    r->widths = malloc(sizeof *r->widths * (size_t)rank);
    r->w = all;
    if (!all || !r->widths)
        return false;
    r->product = all + dc;
    r->second = r->product + dc;
    r->metric = r->second + cc;
    r->to = r->metric + cc;
    r->back = r->to + cr;
    r->u = r->back + cr;
    return true;
}

static void latent_room_free(latent_room *r)
{
    free(r->w);
    free(r->widths);
}

/* Computes r->second [c, c], the second moment of rows x·w, in which the first row has weight
 * first_token. */
static void project(const moments *m, double first_token, const latent_room *r, int c)
{
    const int d = m->size;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, d, c, d, 1, m->second, d, r->w, c, 0, r->product,
                c);
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, c, c, d, 1, r->w, c, r->product, c, 0, r->second,
                c);
    cblas_dgemv(CblasRowMajor, CblasTrans, d, c, 1, r->w, c, m->first, 1, 0, r->product, 1);
    cblas_dger(CblasRowMajor, c, c, first_token, r->product, 1, r->product, 1, r->second, c);
}

/* The root mean square length of u's columns. Latents of columns whose length is 1 in this mean fit in f16,
 * as do the matrices that multiply them. */
static double mean_length(const double *u, size_t count, int rank)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += u[i] * u[i];
    return sum > 0 ? sqrt(sum / rank) : 1;
}

/* Returns the squared Frobenius norm of w - u·back, and adds that of w to *all. */
static double dropped(const latent_room *r, int d, int c, int rank, double *all)
{
    double lost = 0;
    memcpy(r->product, r->w, sizeof *r->w * (size_t)d * (size_t)c);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, d, c, rank, -1, r->u, rank, r->back, c, 1,
                r->product, c);
    for (size_t i = 0; i < (size_t)d * (size_t)c; i++) {
        lost += r->product[i] * r->product[i];
        *all += r->w[i] * r->w[i];
    }
    return lost;
}

/* The matrix from which latents are made, either those of keys or those of values. */
typedef struct latent_kind {
    const float *w; /* [d, dkv] */
    stream_costs costs;
    int groups, rank; /* number of latents; columns of all latents together */
} latent_kind;

/* Fills metric [c, c], the cost of errors in the keys (or values) of one latent. Errors of different heads
 * do not interact. */
static void fill_metric(const layer_shape *s, const latent_kind *kind, int latent, double *metric)
{
    const double *costs = kind->costs.of_errors;
    const size_t c = (size_t)(s->kv_width / kind->groups), dh = (size_t)s->head_dim;
    memset(metric, 0, sizeof *metric * c * c);
    for (size_t i = 0; i < c; i++) {
        const size_t first = i / dh * dh, row = (size_t)latent * c + i;
        for (size_t j = 0; j < dh; j++)
            metric[i * c + first + j] = costs ? costs[row * dh + j] : first + j == i;
    }
}

/* Makes the factors of the KV heads that share one latent. */
static xq_status factor_one(const layer_shape *s, const moments *m, const latent_kind *kind, int latent,
                            float *u, float *a, double energy[2], error *err)
{
    const int d = s->hidden_size, c = s->kv_width / kind->groups, rank = kind->rank / kind->groups;
    latent_room r = {0};
    if (!latent_room_create(&r, d, c, rank)) {
        latent_room_free(&r);
        return no_memory(err);
    }
    for (int i = 0; i < d; i++)
        for (int j = 0; j < c; j++)
            r.w[(size_t)i * (size_t)c + (size_t)j] =
                kind->w[(size_t)i * (size_t)s->kv_width + (size_t)(latent * c + j)];
    project(m, kind->costs.first_token, &r, c);
    fill_metric(s, kind, latent, r.metric);
    const basis_problem problem = {
        .size = c,
        .rank = rank,
        .second = r.second,
        .metric = r.metric,
        .feedback = s->feedback,
        .segments = find_segments(s->quantization_group, rank, r.widths),
        .widths = r.widths,
    };
    if (basis_calibrate(&problem, r.to, r.back, err) == XQ_OK) {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, d, rank, c, 1, r.w, c, r.to, rank, 0, r.u,
                    rank);
        if (rank < c)
            energy[0] += dropped(&r, d, c, rank, &energy[1]);
        double length = mean_length(r.u, (size_t)d * (size_t)rank, rank);
        for (int i = 0; i < d; i++)
            for (int j = 0; j < rank; j++)
                u[(size_t)i * (size_t)kind->rank + (size_t)(latent * rank + j)] =
                    (float)(r.u[(size_t)i * (size_t)rank + (size_t)j] / length);
        for (int i = 0; i < rank; i++)
            for (int j = 0; j < c; j++)
                a[(size_t)i * (size_t)s->kv_width + (size_t)(latent * c + j)] =
                    (float)(r.back[(size_t)i * (size_t)c + (size_t)j] * length);
    }
    latent_room_free(&r);
    return err->status;
}

static xq_status factor_stream(const layer_shape *s, const moments *m, const latent_kind *kind, float **u,
                               float **a, double *lost, error *err)
{
    double energy[2] = {0, 0};
    *u = malloc(sizeof **u * (size_t)s->hidden_size * (size_t)kind->rank);
    *a = malloc(sizeof **a * (size_t)(kind->rank / kind->groups) * (size_t)s->kv_width);
    if (!*u || !*a)
        return no_memory(err);
    for (int g = 0; g < kind->groups && err->status == XQ_OK; g++)
        factor_one(s, m, kind, g, *u, *a, energy, err);
    *lost = energy[1] > 0 ? sqrt(energy[0] / energy[1]) : 0;
    return err->status;
}

/* ---------------------------------------------------------------- method x */

/* Scratch for method x, where one square matrix serves K and V, whose errors cost the same. */
typedef struct square_room {
    double *w, *metric, *to, *back, *product; /* w, product: [d, dkv]; the others [d, d] */
} square_room;

static bool square_room_create(square_room *r, int d, int c)
{
    size_t dc = (size_t)d * (size_t)c, dd = (size_t)d * (size_t)d;
    r->w = calloc(2 * dc + 3 * dd, sizeof *r->w);
    if (!r->w)
        return false;
    r->product = r->w + dc;
    r->metric = r->product + dc;
    r->to = r->metric + dd;
    r->back = r->to + dd;
    return true;
}

/* metric += w·wᵀ */
static void add_projection(square_room *r, const float *w, int d, int c)
{
    for (size_t i = 0; i < (size_t)d * (size_t)c; i++)
        r->w[i] = w[i];
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, d, d, c, 1, r->w, c, r->w, c, 1, r->metric, d);
}

/* Returns a [d, dkv] = back·w·length. */
static float *turned(square_room *r, const float *w, int d, int c, double length)
{
    size_t count = (size_t)d * (size_t)c;
    float *a = malloc(sizeof *a * count);
    for (size_t i = 0; i < count; i++)
        r->w[i] = w[i];
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, d, c, d, length, r->back, d, r->w, c, 0,
                r->product, c);
    for (size_t i = 0; a && i < count; i++)
        a[i] = (float)r->product[i];
    return a;
}

/* Makes the factors of method x. The first row is added to the moments in m. */
static xq_status factor_square(const layer_shape *s, moments *m, layer_weights *w, error *err)
{
    const int d = s->hidden_size, c = s->kv_width;
    const size_t count = (size_t)d * (size_t)d;
    square_room r = {0};
    int *widths = malloc(sizeof *widths * (size_t)d);
    if (!square_room_create(&r, d, c) || !widths) {
        free(r.w);
        free(widths);
        return no_memory(err);
    }
    cblas_dger(CblasRowMajor, d, d, first_token_of_values, m->first, 1, m->first, 1, m->second, d);
    add_projection(&r, w->wk, d, c);
    add_projection(&r, w->wv, d, c);
    const basis_problem problem = {
        .size = d,
        .rank = d,
        .second = m->second,
        .metric = r.metric,
        .feedback = s->feedback,
        .segments = find_segments(s->quantization_group, d, widths),
        .widths = widths,
    };
    if (basis_calibrate(&problem, r.to, r.back, err) == XQ_OK) {
        double length = mean_length(r.to, count, d);
        w->uk = malloc(sizeof *w->uk * count);
        w->ak = turned(&r, w->wk, d, c, length);
        w->av = turned(&r, w->wv, d, c, length);
        for (size_t i = 0; w->uk && i < count; i++)
            w->uk[i] = (float)(r.to[i] / length);
        if (!w->uk || !w->ak || !w->av)
            no_memory(err);
    }
    free(r.w);
    free(widths);
    return err->status;
}

/* ---------------------------------------------------------------- a layer */

xq_status calibration_check(const layer_shape *s, error *err)
{
    bool method = s->method == LAYER_LATENT || s->method == LAYER_X;
    if (method && s->rotation)
        return XQ_OK;
    const char *field = method ? "cache.rotation" : "cache.method";
    error_set(err, XQ_ERROR_UNSUPPORTED, "spec",
              "calibration is for methods x and latent, with rotation; here %s is %s", field,
              method ? "false" : layer_method_name(s->method));
    return error_field(err, field);
}

/* Keeps the costs for feedback, if the layer has it. */
static xq_status keep_cost(const layer_shape *s, const double *costs, layer_weights *w, error *err)
{
    if (!s->feedback)
        return XQ_OK;
    const size_t count = (size_t)s->kv_width * (size_t)s->head_dim;
    w->k_cost = malloc(sizeof *w->k_cost * count);
    for (size_t i = 0; w->k_cost && i < count; i++)
        w->k_cost[i] = (float)costs[i];
    return w->k_cost ? XQ_OK : no_memory(err);
}

/* ---------------------------------------------------------------- zero weights */

/* Whether columns first .. first + cols - 1 of w [rows, stride] are zero. */
static bool is_zero(const float *w, int rows, int first, int cols, int stride)
{
    for (int i = 0; i < rows; i++)
        for (int j = first; j < first + cols; j++)
            if (w[(size_t)i * (size_t)stride + (size_t)j] != 0)
                return false;
    return true;
}

/* Whether all columns of the heads of some latent are zero. */
static bool has_zero_latent(const layer_shape *s, const float *w, int groups)
{
    const int cols = s->kv_width / groups;
    bool zero = false;
    for (int g = 0; g < groups; g++)
        zero = zero || is_zero(w, s->hidden_size, g * cols, cols, s->kv_width);
    return zero;
}

/* Refuses projections that are zero, as in a layer that was pruned away, because there are no directions to
 * choose among. The error's field names the projections: "wk", "wv", or both. */
static xq_status refuse_zero_weights(const layer_shape *s, const layer_weights *w, error *err)
{
    const int d = s->hidden_size, c = s->kv_width;
    bool latent = s->method == LAYER_LATENT, k, v;
    k = latent ? has_zero_latent(s, w->wk, s->groups_k)
               : is_zero(w->wk, d, 0, c, c) && is_zero(w->wv, d, 0, c, c);
    v = latent ? has_zero_latent(s, w->wv, s->groups_v) : k;
    if (!k && !v)
        return XQ_OK;
    error_set(err, XQ_ERROR_ARGUMENT, "argument",
              "%s zero%s, so that there are no directions to choose; %s",
              k && v ? "Wk and Wv are"
              : k    ? "Wk is"
                     : "Wv is",
              (k ? s->groups_k : s->groups_v) > 1 ? " over all KV heads of a latent" : "",
              s->method == LAYER_X ? "valid with --no-rotation" : "valid without calibration");
    return error_field(err, k && v ? "wk, wv" : k ? "wk" : "wv");
}

static xq_status refuse_zero_rows(const moments *m, int layer, error *err)
{
    for (int i = 0; i < m->size; i++)
        if (m->second[(size_t)i * (size_t)m->size + (size_t)i] != 0)
            return XQ_OK;
    return error_set(err, XQ_ERROR_ARGUMENT, "file", "tensor x.%d of the calibration holds only zeros",
                     layer);
}

/* The costs for which coordinates of keys are made. With feedback and full rank they are NULL: feedback
 * itself accounts for the cost of errors, so the best coordinates are those that spread keys evenly. At a
 * lower rank costs decide which directions are left out. */
static const double *costs_of_basis(const layer_shape *s, const double *costs)
{
    return s->feedback && s->rank_k == s->kv_width ? NULL : costs;
}

static xq_status factor_latents(const calibration *c, int layer, const layer_shape *s, const moments *m,
                                layer_weights *w, double lost[2], error *err)
{
    double *costs = NULL;
    if (make_costs(c, layer, s, w->k_norm, &costs, err) != XQ_OK)
        return err->status;
    const latent_kind keys = {w->wk,
                              {costs_of_basis(s, costs), first_token_of_keys},
                              s->groups_k,
                              s->rank_k},
                      values = {w->wv, {NULL, first_token_of_values}, s->groups_v, s->rank_v};
    if (keep_cost(s, costs, w, err) == XQ_OK &&
        factor_stream(s, m, &keys, &w->uk, &w->ak, &lost[0], err) == XQ_OK)
        factor_stream(s, m, &values, &w->uv, &w->av, &lost[1], err);
    free(costs);
    return err->status;
}

xq_status calibration_factor(const calibration *c, int layer, const layer_shape *s, layer_weights *w,
                             double lost[2], error *err)
{
    moments m = {0};
    lost[0] = lost[1] = 0;
    if (calibration_check(s, err) != XQ_OK || read_moments(c, layer, s->hidden_size, &m, err) != XQ_OK)
        return err->status;
    if (refuse_zero_weights(s, w, err) == XQ_OK && refuse_zero_rows(&m, layer, err) == XQ_OK) {
        if (s->method == LAYER_X)
            factor_square(s, &m, w, err);
        else
            factor_latents(c, layer, s, &m, w, lost, err);
    }
    moments_free(&m);
    return err->status;
}
