/* How far results may differ from the reference. */
#include "verify.h"

static const double f16_arithmetic = 2e-3;    /* measured: up to 1.2e-3 */
static const double bf16_arithmetic = 1.5e-2; /* logits of 8-bit numbers; measured: up to 7.5e-3 */
static const double bf16_rounding = 0x1p-9;   /* rounding of one number: half a unit of its 8 bits */

double verify_logit_scale(const reference_model *model)
{
    double factor = model->attention_factor; /* 0 means 1 */
    return factor > 1 ? factor * factor : 1;
}

double verify_bound(xq_implementation implementation, bool bf16, rounding_type weights, bool merged,
                    double logit_scale)
{
    const bool multiplies = weights == ROUNDING_BF16 && implementation != XQ_FP16_KV;
    if (multiplies || (bf16 && implementation != XQ_FUSED))
        return bf16_arithmetic * logit_scale;
    return f16_arithmetic + (bf16 ? (1 + merged) * bf16_rounding : 0);
}

double verify_bound_rows(bool bf16, rounding_type weights)
{
    /* three roundings: of x, of the product, and of a key that is normalized and rotated */
    return f16_arithmetic + (bf16 || weights == ROUNDING_BF16 ? 3 * bf16_rounding : 0);
}
