/* Reads the activations of the token under check. */
#include "check.h"

#include "../../runtime/base/half.h"

const uint16_t *verify_activation(const verify_check *k, int t)
{
    const size_t d = (size_t)k->v->spec.hidden;
    return k->shape->x[k->layer] + (size_t)(k->shape->first_token[k->sequence] + t) * d;
}

void verify_activation_f16(const verify_check *k, int t, uint16_t *x)
{
    const uint16_t *given = verify_activation(k, t);
    for (int i = 0; i < k->v->spec.hidden; i++)
        x[i] = case_domain(&k->v->spec, given[i]);
}

void verify_delta(const verify_check *k, int t, uint16_t *x)
{
    const size_t d = (size_t)k->v->spec.hidden;
    verify_activation_f16(k, t, x);
    if (!k->before)
        return;
    page_sequence accumulator = verify_snapshot_accumulator(k->shape, k->before, k->sequence, k->end);
    uint16_t seen[4096];
    verify_accumulator_row(k->v, &accumulator, t, seen);
    for (size_t i = 0; i < d; i++)
        x[i] = half_from_float(
            (float)rounding_saturated((double)(half_to_float(x[i]) - half_to_float(seen[i]))));
}
