/* The plans that a model needs: one for each bit width and each kind of layer that the model has. */
#ifndef CLI_PLANS_H
#define CLI_PLANS_H

#include "../runtime/launch/shape.h"
#include "cli.h"

enum { CLI_MOST_PLANS = 64 };

/* A plan, and the layers that share it. */
struct cli_plan {
    char name[64]; /* "4bit", "sliding-4bit", "full-base-4bit", "short-2bit" */
    char *spec;    /* choices, not completed */
    char *layers;  /* "0-4, 6-10"; "all" where the number of the model's layers is not known */
};

/* Zero-initialize; cli_plans_free releases it. */
struct cli_plans {
    struct cli_plan plans[CLI_MOST_PLANS];
    int count;
};

/* The options that choose plans. */
struct cli_plan_choice {
    const struct cli_spec *spec;
    const struct cli_list *bits; /* bit widths, each with plans of its own; empty: the spec's width */
    int64_t base_layer;          /* cross-layer methods: the layer that starts the accumulator */
    bool base_given;
    bool implementations[SHAPE_IMPLEMENTATIONS]; /* implementations to make plans for */
};

/* Finds the plans. Kinds of layers that --layer-kind leaves out have no plan. With LongRoPE, each of the
 * model's two tables has plans of its own unless the spec chooses a table. Errors: those of cli_spec_json
 * and of completing a spec; XQ_ERROR_ARGUMENT where no layer is left, and for tuning of kernels that no
 * plan has. */
xq_status cli_plans_find(gen *g, const struct cli_plan_choice *choice, const struct cli_common *common,
                         struct cli_plans *plans, error *err);
void cli_plans_free(struct cli_plans *plans);

#endif
