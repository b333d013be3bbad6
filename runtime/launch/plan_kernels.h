/* The kernels of a plan: which ones its spec and implementation need, and the numbers that each states
 * about its launches. */
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

/* The kind of queries, and the variant, that a slot of attention or absorb is for. */
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

/* Whether the plan needs the kernel of a slot: all `variants` of attention's. */
bool plan_needs(const xq_plan *plan, int slot);

/* Whether a plan of this shape and `max_queries` has kernels for one query, or for many: those for many
 * where max_queries is above 1 or the spec is for many. */
bool plan_serves(const xq_plan *plan, enum plan_queries queries);

/* Where the plan has the loaded kernel. */
kernel **plan_slot(xq_plan *plan, int slot);

/* The numbers that kernels state about their launches, as their spec.lua names them, and where the plan
 * keeps them. */
struct plan_constant {
    int slot;
    const char *name;
    int64_t *value;
};
enum { PLAN_CONSTANTS = 12 + 4 * PLAN_ATTENTIONS };

/* All numbers of all kernels that a plan can have. */
void plan_constants(xq_plan *plan, struct plan_constant out[PLAN_CONSTANTS]);

/* The kernel families that append, accumulate and attend launch in a plan of this shape, made for one or
 * for many queries as its spec says. Returns how many there are. */
enum { PLAN_MOST_FAMILIES = PLAN_KERNELS + 2 };
int plan_families(const struct shape *shape, xq_implementation implementation,
                  const char *names[PLAN_MOST_FAMILIES]);

#endif
