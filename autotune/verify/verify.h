/* Verification: the correctness matrix over methods, widths, layouts, weights, model features and shapes of
 * batches. In each case, one of the quantized implementations appends, and both attend over its cache; the
 * fp16 KV cache is appended to and attended by itself. Each result is compared with the double-precision
 * reference on the same cache.
 *
 * Cases are numbered: case k of a seed is always the same. Cases with equal k / VERIFY_SPEC_CASES share a
 * spec (and so compiled kernels); k itself determines sequences, queries, page order and data. Unused cache
 * slots hold NaN, unused table entries name no page, and outputs start as NaN. */
#ifndef AUTOTUNE_VERIFY_VERIFY_H
#define AUTOTUNE_VERIFY_VERIFY_H

#include "../../gen/gen.h"
#include "../reference/reference.h"
#include "../reference/rounding.h"

#include <stdbool.h>
#include <stdint.h>

#define VERIFY_SPEC_CASES      8
#define VERIFY_MOST_CASE       ((INT64_C(1) << 53) - 1) /* the largest case number */
#define VERIFY_IMPLEMENTATIONS 4                        /* indexed by xq_implementation */

extern const char *const verify_implementation_names[VERIFY_IMPLEMENTATIONS];

/* The largest error allowed in the output of a query: relative, L2. The query's log-sum-exp may be off by
 * twice as much: absolute, or relative if it is above 1. docs/verify.md derives each bound. `bf16` says
 * that activations are bf16; `merged` says that the result is merged from two parts; `logit_scale` comes
 * from verify_logit_scale. */
double verify_bound(xq_implementation implementation, bool bf16, rounding_type weights, bool merged,
                    double logit_scale);

/* How much larger than usual a model makes logits, and with them their rounding errors: the square of
 * RoPE's attention factor, by which queries and keys are both multiplied; at least 1. */
double verify_logit_scale(const reference_model *model);

/* The largest relative L2 error allowed in a row of keys or values in an fp16 KV cache. */
double verify_bound_rows(bool bf16, rounding_type weights);

typedef struct verifier verifier;

typedef enum verify_outcome {
    VERIFY_PASSED,
    VERIFY_FAILED,
    VERIFY_UNSUPPORTED /* refused by name: neither a success nor a failure */
} verify_outcome;

/* The results of one implementation on a case. */
typedef struct verify_part {
    verify_outcome outcome;
    double bound;      /* largest allowed out_error; lse_error may be twice as large */
    double out_error;  /* relative L2 error of the worst query */
    double lse_error;  /* of the worst head: absolute, or relative if the log-sum-exp is above 1 */
    char message[400]; /* why the part has not passed */
} verify_part;

typedef struct verify_result {
    char description[3072]; /* spec and shape, in one line */
    verify_part part[VERIFY_IMPLEMENTATIONS];
    /* Errors of the cached values. A fault here fails every implementation that reads the cache. */
    int64_t mismatches;    /* cached numbers that are not what they must be, mostly bit for bit the host
                              quantizer's */
    double append_error;   /* cached latents: distance from the exact projection, in quantization steps,
                              scaled so that 0.51 is the bound */
    double kv_error;       /* fp16 KV rows: relative L2 error against exact keys and values */
    int64_t kv_mismatches; /* e4m3 codes that are not those of the fp16 KV rows, quantized, bit for bit */
    int refused_arguments; /* bad calls that were refused, as they must be */
} verify_result;

/* `template_dir` is that of the context. */
xq_status verifier_create(xq_context *context, const char *template_dir, uint64_t seed, verifier **out,
                          error *err);
void verifier_destroy(verifier *v);

/* Runs case `index`. It returns an error only if the case cannot run at all (out of memory, a lost device);
 * everything else is in the result. */
xq_status verifier_run(verifier *v, int64_t index, verify_result *result, error *err);

/* Says that case `index` will be run. If a thread is free, it prepares the case's spec meanwhile. There are
 * as many threads as cores, at most 8; a thread is free again when a case of another spec has followed.
 * Changes only the time that cases take. */
void verifier_expect(verifier *v, int64_t index);

/* The worst outcome of all parts: failed if one failed, unsupported if none passed. */
verify_outcome verify_result_outcome(const verify_result *result);

/* ---------------------------------------------------------------- tiers */
typedef enum verify_tier { VERIFY_SMALL, VERIFY_FULL, VERIFY_EXHAUSTIVE } verify_tier;

/* Finds a tier by name. XQ_ERROR_ARGUMENT for a name other than small, full, exhaustive. */
xq_status verify_tier_named(const char *name, verify_tier *tier, error *err);

/* The number of cases in a tier; and the case number of the tier's case i. */
int64_t verifier_tier_cases(verifier *v, verify_tier tier);
int64_t verifier_tier_case(verify_tier tier, int64_t i);

/* Lists the features of a case's spec: calls `visit` with "bits 3", "rope yarn", … */
void verifier_features(verifier *v, int64_t index, void (*visit)(void *user, const char *feature),
                       void *user);

#endif
