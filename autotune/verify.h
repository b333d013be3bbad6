/* Verification: random shapes through append and attend of every implementation, compared with the
 * double-precision reference on the same cache.
 *
 * Cases are numbered. Case k of a seed is always the same: cases k / VERIFY_SHAPES_PER_SPEC share a
 * spec (and so compiled kernels), k itself picks batch, lengths, page order and data. Unused cache slots
 * hold NaN, unused table entries name no page, outputs start as NaN. */
#ifndef AUTOTUNE_VERIFY_H
#define AUTOTUNE_VERIFY_H

#include "../gen/gen.h"

#include <stdint.h>

#define VERIFY_SHAPES_PER_SPEC 5
#define VERIFY_BOUND           2e-3 /* relative, L2, worst sequence of a case: f16 */

typedef struct verifier verifier;

/* What one case found. */
typedef struct verify_result {
    char description[512];    /* spec and shape, one line */
    int quantizer_mismatches; /* method x: codes, scales or offsets that differ from the host quantizer */
    double append_error;      /* cached values against exact projections, in quantization steps (x and
                                 latent: at most 0.5 plus rounding); */
    double kv_append_error;   /* fp16 KV cache against exact keys and values, relative L2 */
    double out_error[3];      /* by xq_implementation: output, relative L2, worst sequence */
    double lse_error[3];      /* absolute, worst head */
    int passed;
} verify_result;

/* `template_dir` as for the context. */
xq_status verifier_create(xq_context *context, const char *template_dir, uint64_t seed, verifier **out,
                          error *err);
void verifier_destroy(verifier *v);

/* Runs case `index`. Errors are failures to run at all (a fault of the device, say); a wrong result is
 * result->passed == 0. */
xq_status verifier_run(verifier *v, int64_t index, verify_result *result, error *err);

#endif
