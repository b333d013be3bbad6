#include "roofline.h"

#include <string.h>

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* For one sequence: the pairs of a query and a token that it sees, and the tokens that any query sees. */
struct visible {
    double pairs, tokens;
};

static struct visible visible(const roofline_layer *t, const roofline_load *s)
{
    struct visible v = {0, (double)s->tokens};
    for (int j = 0; j < s->queries; j++) {
        int64_t seen = s->tokens - s->queries + j + 1;
        v.pairs += (double)(t->window > 0 && t->window < seen ? t->window : seen);
    }
    if (t->window > 0)
        v.tokens = least(v.tokens, (double)(t->window + s->queries - 1));
    return v;
}

/* The FLOPs of scores and output of one sequence, computed in the cheapest exact way, at 2 for each
 * multiply-add. Columns of K and V are either rematerialized for each token, or absorbed: then the query
 * (or the output) is multiplied by the factor once, and the tokens stay as they are cached. A head's
 * factors are those of its latent group. */
static double factored_flops(const layer_shape *p, const roofline_layer *t, const struct visible *v,
                             double queries)
{
    double h = p->heads, hkv = p->kv_heads, dh = p->head_dim;
    bool latent = p->method == LAYER_LATENT;
    double rk = latent ? (double)p->rank_k / p->groups_k : p->hidden_size;
    double rv = latent ? (double)p->rank_v / p->groups_v : p->hidden_size;
    double turning = t->remat_columns, still = dh - turning;
    double flops = 2 * rk * hkv * turning * v->tokens + 2 * h * turning * v->pairs;
    if (still > 0)
        flops += least(2 * rk * hkv * still * v->tokens + 2 * h * still * v->pairs,
                       2 * h * still * rk * queries + 2 * h * rk * v->pairs);
    return flops + least(2 * rv * hkv * dh * v->tokens + 2 * h * dh * v->pairs,
                         2 * h * rv * v->pairs + 2 * h * rv * dh * queries);
}

static bool is_narrow(const roofline_layer *t)
{
    return strcmp(t->weights, "int8") == 0 || strcmp(t->weights, "e4m3") == 0;
}

static double weights_bytes(const layer_shape *p, const roofline_layer *t)
{
    bool narrow = is_narrow(t);
    double inner = p->method == LAYER_LATENT
                       ? (double)p->rank_k / p->groups_k + (double)p->rank_v / p->groups_v
                       : 2.0 * p->hidden_size;
    double bytes = inner * p->kv_width * (narrow ? 1 : 2) + (narrow ? 2.0 * 4 * p->kv_width : 0);
    if (p->bias)
        bytes += 2.0 * 4 * p->kv_width;
    bytes += 4.0 * p->k_norm + (p->sinks ? 4.0 * p->heads : 0);
    return bytes + (p->method == LAYER_LATENT_CL ? 2.0 * p->hidden_size * p->rank_k : 0);
}

/* Sets the least time that the bytes and the FLOPs can take. */
static void bound(const ceilings *best, roofline_limit *limit)
{
    limit->seconds = 0;
    if (best->copy_bytes_per_second <= 0 || best->f16_flops_per_second <= 0)
        return;
    double memory = limit->bytes / best->copy_bytes_per_second;
    double matrix = limit->flops / best->f16_flops_per_second;
    limit->by_memory = memory >= matrix;
    limit->seconds = memory >= matrix ? memory : matrix;
}

void roofline_append(const layer_shape *p, const roofline_load *s, const ceilings *best,
                     roofline_limit *limit)
{
    const bool of_x = p->method == LAYER_X || p->method == LAYER_X_CL;
    const double tokens = (double)s->batch * s->queries, width = (double)p->hidden_size;
    const double columns = of_x ? (p->rotation ? width : 0) : (double)p->rank_k + p->rank_v;
    limit->bytes = tokens * (2 * width + s->page_bytes_per_token) + 2 * width * columns;
    limit->flops = 2 * tokens * width * columns;
    bound(best, limit);
}

void roofline(const layer_shape *p, const roofline_layer *t, bool kv, const roofline_load *s,
              const ceilings *best, roofline_limit *limit)
{
    const struct visible v = visible(t, s);
    double width = (double)p->heads * p->head_dim, all = (double)s->tokens, queries = s->queries;
    double cache = v.tokens * s->page_bytes_per_token;
    limit->flops = kv ? 4 * width * v.pairs : factored_flops(p, t, &v, queries);
    if (!kv &&
        layer_is_cross(p)) { /* the accumulator is written, and also read unless this layer starts it */
        cache = all * (s->page_bytes_per_token + (t->base ? 1 : 2) * s->accumulator_bytes_per_token);
        limit->flops += p->method == LAYER_LATENT_CL ? 2.0 * p->rank_k * p->hidden_size * all : 0;
    }
    double query_and_output = queries * (2 * width + 2 * width + 4.0 * p->heads); /* lse is f32 */
    limit->bytes = s->batch * (cache + query_and_output) + (kv ? 0 : weights_bytes(p, t));
    limit->flops *= s->batch;
    bound(best, limit);
}
