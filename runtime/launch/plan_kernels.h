/* The kernels of a plan: the kernels that its spec and implementation need, and the numbers that each
 * kernel states about its launches. */
#ifndef RUNTIME_LAUNCH_PLAN_KERNELS_H
#define RUNTIME_LAUNCH_PLAN_KERNELS_H

#include "plan.h"

/* Every kernel that a plan can have: those of enum plan_kernel, then attention's variants for one query and
 * for many, then absorb's. */
enum {
    PLAN_ATTENTIONS = PLAN_QUERIES * PLAN_VARIANTS,
    PLAN_ATTEND = PLAN_KERNELS,
    PLAN_ABSORB = PLAN_ATTEND + PLAN_ATTENTIONS,
    PLAN_SLOTS = PLAN_ABSORB + PLAN_ATTENTIONS
};

/* The kind of queries that a slot of attention or absorb is for, and its variant. */
static inline enum plan_queries plan_queries_of(int slot)
{
    return (enum plan_queries)((slot - PLAN_ATTEND) % PLAN_ATTENTIONS / PLAN_VARIANTS);
}

static inline int plan_variant_of(int slot)
{
    return (slot - PLAN_ATTEND) % PLAN_VARIANTS;
}

/* The family of a slot, and the bytes of its parameters (params.h). */
const char *plan_family(const xq_plan *plan, int slot);
size_t plan_params_bytes(const xq_plan *plan, int slot);

/* Whether the plan needs the kernel of a slot. For attention it needs the first `variants` of each kind. */
bool plan_needs(const xq_plan *plan, int slot);

/* Whether a plan of this shape and `max_queries` has kernels for one query, or for many. It has kernels
 * for many if max_queries is above 1 or the spec is for many. */
bool plan_serves(const xq_plan *plan, enum plan_queries queries);

/* The place of the loaded kernel in the plan. */
kernel **plan_slot(xq_plan *plan, int slot);

/* A number that a kernel states about its launches, by its name in the family's spec.lua, and its place in
 * the plan. */
struct plan_constant {
    int slot;
    const char *name;
    int64_t *value;
};
enum { PLAN_CONSTANTS = 12 + 5 * PLAN_ATTENTIONS };

/* All numbers of all kernels that a plan can have. */
void plan_constants(xq_plan *plan, struct plan_constant out[PLAN_CONSTANTS]);

/* The kernel families that append, accumulate and attend launch in a plan of this shape, which is made for
 * one or for many queries, as its spec says. Returns their number. */
enum { PLAN_MOST_FAMILIES = PLAN_KERNELS + 2 };
int plan_families(const struct shape *shape, xq_implementation implementation,
                  const char *names[PLAN_MOST_FAMILIES]);

#endif
