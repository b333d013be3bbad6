/* The least that a decode step costs. */
#include "compare.h"

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* FLOPs of scores and output over `s` cached tokens of one sequence, through factors of rank rk and rv,
 * in the cheapest exact way: 2 a multiply-add. */
static double factored_flops(const struct cli_shape *p, bool rope, double s)
{
    double h = p->heads, dh = p->head_dim, dkv = p->kv_width, plain = 2 * h * dh * s;
    double rk = p->rank_k, rv = p->latent ? p->rank_v : p->rank_k;
    double remat_k = 2 * rk * dkv * s + plain, remat_v = 2 * rv * dkv * s + plain;
    /* Absorbed: the query (or the output) goes through the factor once, the tokens stay factors. */
    double absorbed_k = 2 * h * dh * rk + 2 * h * rk * s, absorbed_v = 2 * h * rv * s + 2 * h * rv * dh;
    return (rope ? remat_k : least(remat_k, absorbed_k)) + least(remat_v, absorbed_v);
}

void compare_limit_of(const struct cli_shape *p, bool rope, bool fp16_kv, double cache_bytes_per_token,
                      int64_t tokens, int batch, const struct compare_ceilings *ceilings,
                      struct compare_limit *limit)
{
    double s = (double)tokens, width = (double)p->heads * p->head_dim, dkv = p->kv_width;
    double query_and_output = 2 * width + 2 * width + 4 * p->heads; /* f16, f16, f32 log-sum-exp */
    double weights = fp16_kv ? 0 : 2 * dkv * (p->rank_k + (p->latent ? p->rank_v : p->rank_k));
    limit->bytes = batch * (s * cache_bytes_per_token + query_and_output) + weights;
    limit->flops = batch * (fp16_kv ? 4 * width * s : factored_flops(p, rope, s));
    limit->seconds = 0;
    if (ceilings->bytes_per_second > 0 && ceilings->flops_per_second > 0) {
        double memory = limit->bytes / ceilings->bytes_per_second;
        double matrix = limit->flops / ceilings->flops_per_second;
        limit->by_memory = memory >= matrix;
        limit->seconds = memory >= matrix ? memory : matrix;
    }
}
