/* Verification: the correctness matrix over methods, widths, layouts, weights, model features and shapes of
 * batches. Every implementation appends and attends, and is compared with the double-precision reference on
 * the same cache.
 *
 * Cases are numbered: case k of a seed is always the same. Cases k / VERIFY_SPEC_CASES share a spec (and so
 * compiled kernels); k itself picks sequences, queries, page order and data. Unused cache slots hold NaN,
 * unused table entries name no page, outputs start as NaN. */
#ifndef AUTOTUNE_VERIFY_VERIFY_H
#define AUTOTUNE_VERIFY_VERIFY_H

#include "../../gen/gen.h"
#include "../reference/reference.h"
#include "../reference/rounding.h"

#include <stdbool.h>
#include <stdint.h>

#define VERIFY_SPEC_CASES      8
#define VERIFY_MOST_CASE       ((INT64_C(1) << 53) - 1) /* the largest case number */
#define VERIFY_IMPLEMENTATIONS 4                        /* by xq_implementation */

extern const char *const verify_implementation_names[VERIFY_IMPLEMENTATIONS];

/* The largest error allowed in the output of a query, relative, L2; its log-sum-exp may be off by twice as
 * much, absolute. docs/verify.md derives each bound. `bf16`: the activations' type; `merged`: of two parts;
 * `logit_scale`: verify_logit_scale. */
double verify_bound(xq_implementation implementation, bool bf16, rounding_type weights, bool merged,
                    double logit_scale);

/* How much larger than usual a model makes logits, and so their rounding: the square of YaRN's attention
 * factor, by which it multiplies queries and keys alike; at least 1. */
double verify_logit_scale(const reference_model *model);

/* The same for rows of keys and values in an fp16 KV cache. */
double verify_bound_rows(bool bf16, rounding_type weights);

typedef struct verifier verifier;

typedef enum verify_outcome {
    VERIFY_PASSED,
    VERIFY_FAILED,
    VERIFY_UNSUPPORTED /* refused by name: neither good nor bad */
} verify_outcome;

/* What one implementation made of a case. */
typedef struct verify_part {
    verify_outcome outcome;
    double bound;      /* of out_error; lse_error: twice */
    double out_error;  /* relative L2, worst sequence */
    double lse_error;  /* absolute, worst head */
    char message[400]; /* unless passed: why */
} verify_part;

typedef struct verify_result {
    char description[3072]; /* spec and shape, one line */
    verify_part part[VERIFY_IMPLEMENTATIONS];
    /* What was cached; a fault here fails the implementations that appended. */
    int64_t
        mismatches; /* codes and parameters that must be the host quantizer's, bit for bit, and are not */
    double append_error;   /* latents: distance from the exact projection, in quantization steps */
    double kv_error;       /* fp16 KV rows against exact keys and values, relative L2 */
    int64_t kv_mismatches; /* e4m3 codes that are not those of the fp16 KV rows, quantized, bit for bit */
    int refused_arguments; /* bad calls that were refused as they should be */
} verify_result;

/* `template_dir` as for the context. */
xq_status verifier_create(xq_context *context, const char *template_dir, uint64_t seed, verifier **out,
                          error *err);
void verifier_destroy(verifier *v);

/* Runs case `index`. Errors are failures to run at all (memory, a device that is gone); everything else is
 * in the result. */
xq_status verifier_run(verifier *v, int64_t index, verify_result *result, error *err);

/* Case `index` will be run: its spec is made ready meanwhile, in a thread, if one is free (there are as
 * many as cores; each is free again when a case of another spec has followed). Changes nothing but the time
 * it takes. */
void verifier_expect(verifier *v, int64_t index);

/* The worst outcome of all parts: failed if one is, unsupported if none passed. */
verify_outcome verify_result_outcome(const verify_result *result);

/* ---------------------------------------------------------------- tiers */
typedef enum verify_tier { VERIFY_SMALL, VERIFY_FULL, VERIFY_EXHAUSTIVE } verify_tier;

/* XQ_ERROR_ARGUMENT for a name that is none of small, full, exhaustive. */
xq_status verify_tier_named(const char *name, verify_tier *tier, error *err);

/* The tier has so many cases; the number of the i-th of them. */
int64_t verifier_tier_cases(verifier *v, verify_tier tier);
int64_t verifier_tier_case(verify_tier tier, int64_t i);

/* What a case's spec has of what may vary: calls `visit` with "bits 3", "rope yarn", … */
void verifier_features(verifier *v, int64_t index, void (*visit)(void *user, const char *feature),
                       void *user);

#endif
