/* Random projections with a decaying spectrum, drawn together with the factors of a cache method, so that
 * nothing has to be decomposed:
 *
 *   W = V·S·B     V [d, inner], B [inner, cols] orthogonal, S diagonal and falling as (i + 1)^-1/2
 *
 * This holds for each group of columns of W; for method latent-cl, W is [Wk | Wv]. V and B are parts of
 * products of a permutation, signs and R (prepare/rotation.h), which are applied to a row in n·log n
 * operations. The factors of each method follow from it; U·A is W, truncated to the rank:
 *
 *   latent        U = V, A = S·B, in the coordinates of factor_spread
 *   latent-cl     U = V·R
 *   x, rotated    U = V·L·R, A = Rᵀ·L⁻¹·S·B: errors of all its columns cost alike where L⁴ is what an error
 *                 along a column of V costs K and V together */
#include "../prepare/factor.h"
#include "../prepare/rotation.h"
#include "../runtime/base/random.h"
#include "synthetic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRIP = 16 }; /* rows that are computed together */

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for synthetic weights");
}

/* ---------------------------------------------------------------- orthogonal matrices */

/* T [n, n]: entry i of x becomes sign[i] times entry order[i] of x, and then R is applied. */
struct turn {
    int n;
    int32_t *order;
    float *sign;
};

static bool turn_create(struct turn *t, uint64_t seed, uint64_t number, int n)
{
    random_stream random = random_begin(seed, (uint64_t)6 << 32 | number);
    *t = (struct turn){n, malloc(sizeof *t->order * (size_t)n), malloc(sizeof *t->sign * (size_t)n)};
    if (!t->order || !t->sign)
        return false;
    for (int i = 0; i < n; i++) {
        t->order[i] = i;
        t->sign[i] = random_bits(&random) >> 63 ? -1 : 1;
    }
    random_shuffle(&random, t->order, (size_t)n);
    return true;
}

static void turn_free(struct turn *t)
{
    free(t->order);
    free(t->sign);
}

/* out [count, n] = x·T. */
static xq_status turn_rows(const struct turn *t, const double *x, int count, double *out, error *err)
{
    const size_t n = (size_t)t->n;
    for (size_t r = 0; r < (size_t)count; r++)
        for (size_t i = 0; i < n; i++)
            out[r * n + i] = (double)t->sign[i] * x[r * n + (size_t)t->order[i]];
    return rotation_apply(out, count, t->n, err);
}

/* ---------------------------------------------------------------- one block of columns */

/* W = V·S·B for some columns of W. */
struct block {
    struct turn right; /* B: its first `inner` rows */
    int d, inner;
    int32_t *column; /* [inner]: the column of the turn that is column k of V */
    double *s;       /* [inner]: the diagonal of S, scaled so that x·W is about as large as x */
};

/* The block's columns of V are column `first` of the turn and the next ones, forwards or backwards, modulo
 * d. */
static bool block_create(struct block *b, uint64_t seed, uint64_t number, int d, int cols, int64_t first,
                         bool backwards)
{
    double energy = 0;
    const int inner = d < cols ? d : cols;
    *b = (struct block){.d = d, .inner = inner};
    b->column = malloc(sizeof *b->column * (size_t)inner);
    b->s = malloc(sizeof *b->s * (size_t)inner);
    if (!b->column || !b->s || !turn_create(&b->right, seed, number, cols))
        return false;
    for (int k = 0; k < inner; k++)
        energy += 1.0 / (k + 1);
    for (int k = 0; k < inner; k++) {
        b->column[k] = (int32_t)((backwards ? first + d - k : first + k) % d);
        b->s[k] = sqrt(cols / energy / (k + 1));
    }
    return true;
}

static void block_free(struct block *b)
{
    turn_free(&b->right);
    free(b->column);
    free(b->s);
}

/* Memory for rows of the turn that V is part of, and for products of these rows. */
struct room {
    double *unit, *v, *left, *right; /* [STRIP, most] each */
};

static bool room_create(struct room *m, int most)
{
    size_t count = STRIP * (size_t)most;
    m->unit = malloc(sizeof *m->unit * 4 * count);
    m->v = m->unit + count;
    m->left = m->v + count;
    m->right = m->left + count;
    return m->unit != NULL;
}

static void store(const double *rows, int count, int cols, float *to, int stride)
{
    for (int r = 0; r < count; r++)
        for (int c = 0; c < cols; c++)
            to[(size_t)r * (size_t)stride + (size_t)c] = (float)rows[(size_t)r * (size_t)cols + (size_t)c];
}

/* unit [count, n] = the rows of the identity from `first` on. */
static void unit_rows(double *unit, int first, int count, int n)
{
    memset(unit, 0, sizeof *unit * (size_t)count * (size_t)n);
    for (int r = 0; r < count; r++)
        unit[(size_t)r * (size_t)n + (size_t)(first + r)] = 1;
}

/* to [count, cols] = v·S·B for rows v [count, d], which have the columns of the turn. */
static xq_status times_block(const struct block *b, struct room *m, const double *v, int count, float *to,
                             int stride, error *err)
{
    const int cols = b->right.n;
    memset(m->left, 0, sizeof *m->left * (size_t)count * (size_t)cols);
    for (int r = 0; r < count; r++)
        for (int k = 0; k < b->inner; k++)
            m->left[(size_t)r * (size_t)cols + (size_t)k] =
                v[(size_t)r * (size_t)b->d + (size_t)b->column[k]] * b->s[k];
    if (turn_rows(&b->right, m->left, count, m->right, err) == XQ_OK)
        store(m->right, count, cols, to, stride);
    return err->status;
}

static int strip_rows(int first, int all)
{
    return all - first < STRIP ? all - first : STRIP;
}

/* m->v = the rows of the turn from `first` on. */
static xq_status take_rows(const struct turn *t, struct room *m, int first, int count, error *err)
{
    unit_rows(m->unit, first, count, t->n);
    return turn_rows(t, m->unit, count, m->v, err);
}

/* ---------------------------------------------------------------- method latent */

/* a [rank, cols] = the first rows of S·B. */
static xq_status latent_a(const struct block *b, struct room *m, int rank, float *a, int stride, error *err)
{
    for (int first = 0; first < rank && err->status == XQ_OK; first += STRIP) {
        int count = strip_rows(first, rank);
        memset(m->unit, 0, sizeof *m->unit * (size_t)count * (size_t)b->d);
        for (int r = 0; r < count && first + r < b->inner; r++)
            m->unit[(size_t)r * (size_t)b->d + (size_t)b->column[first + r]] = 1;
        times_block(b, m, m->unit, count, a + (size_t)first * (size_t)stride, stride, err);
    }
    return err->status;
}

/* Makes rows of w and of u. u has the columns of V of all groups side by side. */
static xq_status latent_rows(const factor_shape *s, const struct turn *left, const struct block *blocks,
                             struct room *m, float *w, float *u, error *err)
{
    const int cols = s->cols / s->groups, rank = s->rank / s->groups;
    for (int first = 0; first < s->rows && err->status == XQ_OK; first += STRIP) {
        int count = strip_rows(first, s->rows);
        take_rows(left, m, first, count, err);
        for (int g = 0; g < s->groups && err->status == XQ_OK; g++) {
            const struct block *b = &blocks[g];
            times_block(b, m, m->v, count, w + (size_t)first * (size_t)s->cols + (size_t)(g * cols),
                        s->cols, err);
            for (int r = 0; r < count; r++)
                for (int k = 0; k < rank; k++)
                    u[(size_t)(first + r) * (size_t)s->rank + (size_t)(g * rank + k)] =
                        k < b->inner ? (float)m->v[(size_t)r * (size_t)s->rows + (size_t)b->column[k]] : 0;
        }
    }
    return err->status;
}

/* Draws w [d, dkv], u [d, rank], a [rank / groups, dkv]. */
static xq_status draw_latent(uint64_t seed, uint64_t number, const factor_shape *s, float *w, float *u,
                             float *a, error *err)
{
    const int cols = s->cols / s->groups, rank = s->rank / s->groups;
    struct turn left = {0};
    struct room m = {0};
    struct block *blocks = calloc((size_t)s->groups, sizeof *blocks);
    bool ok = blocks && turn_create(&left, seed, number << 16, s->rows) &&
              room_create(&m, s->rows > cols ? s->rows : cols);
    for (int g = 0; g < s->groups && ok; g++) {
        const int64_t inner = s->rows < cols ? s->rows : cols;
        ok = block_create(&blocks[g], seed, number << 16 | (uint64_t)(g + 1), s->rows, cols, g * inner,
                          false);
    }
    if (!ok)
        no_memory(err);
    else
        latent_rows(s, &left, blocks, &m, w, u, err);
    for (int g = 0; g < s->groups && err->status == XQ_OK; g++)
        latent_a(&blocks[g], &m, rank, a + (size_t)g * (size_t)cols, s->cols, err);
    for (int g = 0; blocks && g < s->groups; g++)
        block_free(&blocks[g]);
    free(blocks);
    free(m.unit);
    turn_free(&left);
    return err->status == XQ_OK ? factor_spread(s, u, a, err) : err->status;
}

/* ---------------------------------------------------------------- method latent-cl */

static xq_status joint_rows(const layer_shape *s, const struct turn *left, const struct block *b,
                            struct room *m, float *both, layer_weights *w, error *err)
{
    const size_t d = (size_t)s->hidden_size, kv = (size_t)s->kv_width, rank = (size_t)s->rank_k;
    for (int first = 0; first < s->hidden_size && err->status == XQ_OK; first += STRIP) {
        int count = strip_rows(first, s->hidden_size);
        if (take_rows(left, m, first, count, err) != XQ_OK ||
            times_block(b, m, m->v, count, both, 2 * s->kv_width, err) != XQ_OK)
            return err->status;
        for (size_t r = 0; r < (size_t)count; r++) {
            memcpy(w->wk + ((size_t)first + r) * kv, both + 2 * r * kv, sizeof *both * kv);
            memcpy(w->wv + ((size_t)first + r) * kv, both + (2 * r + 1) * kv, sizeof *both * kv);
            memcpy(m->left + r * rank, m->v + r * d, sizeof *m->left * rank);
        }
        if (s->rotation && rotation_apply(m->left, count, s->rank_k, err) != XQ_OK)
            return err->status;
        store(m->left, count, s->rank_k, w->ukv + (size_t)first * rank, s->rank_k);
    }
    return err->status;
}

static xq_status draw_joint(uint64_t seed, uint64_t number, const layer_shape *s, layer_weights *w,
                            error *err)
{
    const int d = s->hidden_size, cols = 2 * s->kv_width;
    struct turn left = {0};
    struct block b = {0};
    struct room m = {0};
    float *both = malloc(sizeof *both * STRIP * (size_t)cols);
    if (!both || !turn_create(&left, seed, number << 16, d) ||
        !block_create(&b, seed, number << 16 | 1, d, cols, 0, false) ||
        !room_create(&m, d > cols ? d : cols))
        no_memory(err);
    else
        joint_rows(s, &left, &b, &m, both, w, err);
    turn_free(&left);
    block_free(&b);
    free(m.unit);
    free(both);
    return err->status;
}

/* ---------------------------------------------------------------- methods x and x-cl */

/* K and V use the columns of one turn in opposite orders: the directions that matter most to K matter least
 * to V. */
struct pair {
    struct turn left;
    struct block k, v;
    double *length; /* [d]: the diagonal of L */
};

/* Finds L as for factors that are made from weights alone (prepare/calibration.h): all directions of x
 * count alike, and each costs a little. */
static bool find_lengths(struct pair *p, int d)
{
    double sum = 0;
    p->length = calloc((size_t)d, sizeof *p->length);
    for (int k = 0; p->length && k < p->k.inner; k++) {
        p->length[p->k.column[k]] += p->k.s[k] * p->k.s[k];
        p->length[p->v.column[k]] += p->v.s[k] * p->v.s[k];
    }
    for (int i = 0; p->length && i < d; i++)
        sum += p->length[i];
    for (int i = 0; p->length && i < d; i++)
        p->length[i] = pow(p->length[i] / (sum / d) + 1e-3, 0.25);
    return p->length != NULL;
}

/* Makes rows of wk and wv from `first` on, and of u, which a rotated x needs. */
static xq_status pair_rows(const layer_shape *s, const struct pair *p, struct room *m, int first, int count,
                           layer_weights *w, error *err)
{
    const size_t at = (size_t)first * (size_t)s->kv_width, d = (size_t)s->hidden_size;
    if (take_rows(&p->left, m, first, count, err) != XQ_OK ||
        times_block(&p->k, m, m->v, count, w->wk + at, s->kv_width, err) != XQ_OK ||
        times_block(&p->v, m, m->v, count, w->wv + at, s->kv_width, err) != XQ_OK || !w->uk)
        return err->status;
    for (size_t r = 0; r < (size_t)count; r++)
        for (size_t i = 0; i < d; i++)
            m->v[r * d + i] *= p->length[i];
    if (rotation_apply(m->v, count, s->hidden_size, err) == XQ_OK)
        store(m->v, count, s->hidden_size, w->uk + (size_t)first * d, s->hidden_size);
    return err->status;
}

/* Makes rows of ak and av from `first` on. */
static xq_status pair_factors(const layer_shape *s, const struct pair *p, struct room *m, int first,
                              int count, layer_weights *w, error *err)
{
    const size_t at = (size_t)first * (size_t)s->kv_width, d = (size_t)s->hidden_size;
    unit_rows(m->v, first, count, s->hidden_size);
    if (rotation_undo(m->v, count, s->hidden_size, err) != XQ_OK)
        return err->status;
    for (size_t r = 0; r < (size_t)count; r++)
        for (size_t i = 0; i < d; i++)
            m->v[r * d + i] /= p->length[i];
    if (times_block(&p->k, m, m->v, count, w->ak + at, s->kv_width, err) == XQ_OK)
        times_block(&p->v, m, m->v, count, w->av + at, s->kv_width, err);
    return err->status;
}

static xq_status draw_pair(uint64_t seed, uint64_t number, const layer_shape *s, layer_weights *w,
                           error *err)
{
    const int d = s->hidden_size, cols = s->kv_width;
    struct pair p = {0};
    struct room m = {0};
    bool ok = turn_create(&p.left, seed, number << 16, d) &&
              block_create(&p.k, seed, number << 16 | 1, d, cols, 0, false) &&
              block_create(&p.v, seed, number << 16 | 2, d, cols, d - 1, true) &&
              room_create(&m, d > cols ? d : cols);
    if (!ok || !find_lengths(&p, d))
        no_memory(err);
    for (int first = 0; first < d && err->status == XQ_OK; first += STRIP) {
        int count = strip_rows(first, d);
        if (pair_rows(s, &p, &m, first, count, w, err) == XQ_OK && w->ak)
            pair_factors(s, &p, &m, first, count, w, err);
    }
    turn_free(&p.left);
    block_free(&p.k);
    block_free(&p.v);
    free(p.length);
    free(m.unit);
    return err->status;
}

/* ---------------------------------------------------------------- a layer */

/* Allocates wk, wv and the matrices of the method, but no vectors. */
static bool allocate(const layer_shape *s, layer_weights *w)
{
    layer_part parts[2 * LAYER_MOST_PARTS];
    int count = layer_given(s, parts);
    bool ok = true;
    count += layer_parts(s, parts + count);
    for (int i = 0; i < count; i++) {
        float **values = layer_member(w, &parts[i]);
        if (parts[i].rows == 1 || *values)
            continue;
        *values = malloc(sizeof **values * (size_t)parts[i].rows * (size_t)parts[i].cols);
        ok &= *values != NULL;
    }
    return ok;
}

xq_status synthetic_projections(uint64_t seed, int layer, const layer_shape *s, layer_weights *w,
                                error *err)
{
    const uint64_t number = 2 * (uint64_t)(unsigned)layer;
    factor_shape shape = {s->hidden_size, s->kv_width, s->groups_k, s->rank_k, s->rotation};
    if (!allocate(s, w))
        return no_memory(err);
    if (s->method == LAYER_LATENT_CL)
        return draw_joint(seed, number, s, w, err);
    if (s->method != LAYER_LATENT)
        return draw_pair(seed, number, s, w, err);
    if (draw_latent(seed, number, &shape, w->wk, w->uk, w->ak, err) == XQ_OK) {
        shape.groups = s->groups_v;
        shape.rank = s->rank_v;
        draw_latent(seed, number + 1, &shape, w->wv, w->uv, w->av, err);
    }
    return err->status;
}
