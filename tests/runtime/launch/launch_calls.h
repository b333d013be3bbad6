/* Plans of every kind on the fake GPU, and calls of them, for tests of what calls pass to kernels. The
 * kernels are stubs (plan_fixture.h). */
#ifndef TESTS_LAUNCH_CALLS_H
#define TESTS_LAUNCH_CALLS_H

#include "../../support/plan_fixture.h"

/* Specs of every kind of plan. The names tell the method of the cache: latents by token or by channel,
 * activations as they are or rotated, and the cross-layer methods, x-cl (delta) and latent-cl (joint) with
 * and without a base layer. */
extern const char launch_latent[], launch_channel[], launch_x[], launch_x_rotated[];
extern const char launch_delta[], launch_joint[], launch_joint_base[];
/* Biases and sinks add vectors to the weights, and there are absorbed columns. */
extern const char launch_full[];
/* Keys are normalized; weights are int8; there are two groups of latents. */
extern const char launch_normed[];

/* Makes a plan of the stub kernels, and opens a context first if none is open. */
xq_plan *launch_plan(const char *spec, xq_implementation implementation);

/* The same for calls of up to max_queries queries for each sequence. */
xq_plan *launch_plan_for(const char *spec, xq_implementation implementation, int64_t max_queries);

/* Calls that must succeed. */
void launch_append(xq_plan *plan, const xq_append_args *a);
void launch_attend(xq_plan *plan, const xq_attend_args *a);

/* Address of a matrix or vector in the weights that the calls pass. */
uint64_t launch_weight(const xq_plan *plan, const char *name);

/* Fails the test unless a kernel got the table of the fixture, with these indices. */
void launch_assert_table(const struct xq_table *table, uint64_t indices);

/* Tokens of a split, and the number of splits, in calls of one query for each sequence. */
int64_t launch_split_tokens(const xq_plan *plan, int64_t batch, int64_t max_tokens);
unsigned launch_splits(const xq_plan *plan, int64_t batch, int64_t max_tokens);

/* Arguments for calls that the plan fixture does not make: accumulate, attention of 150 queries in all (100
 * at most for a sequence), and merge. */
xq_accumulate_args launch_accumulate_args(const xq_plan *plan);
xq_attend_args launch_ragged_args(const xq_plan *plan);
xq_merge_args launch_merge_args(void);

#endif
