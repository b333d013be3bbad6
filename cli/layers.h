/* What prepare, run and compare share: layer numbers, and the specs of the layers of a cross-layer cache.
 */
#ifndef CLI_LAYERS_H
#define CLI_LAYERS_H

#include "../autotune/measure/roofline.h"
#include "../gen/gen.h"
#include "../prepare/layer.h"
#include "../prepare/prepared_file.h"
#include "../prepare/safetensors.h"
#include "choices.h"
#include "cli.h"

#include <stdint.h>

/* The layer numbers of --layers, all of 0 .. count-1 when it is empty. Caller frees *layers.
 * Errors: XQ_ERROR_ARGUMENT for what is no layer number. */
xq_status cli_layers(const struct cli_list *list, int count, int **layers, int *layer_count, error *err);

/* Puts layer numbers into ascending order. */
void cli_sort_layers(int *layers, int count);

/* Ascending numbers L of the tensors x.L in a file. Caller frees. */
xq_status cli_layers_in_file(const safetensors *file, int **layers, int *count, error *err);

/* The failure of --base-layer beside a method that has no base layer. */
xq_status cli_refuse_base(const layer_shape *shape, error *err);

/* The paper's cross-layer caches begin with layers of a plain cache at 4 bits, the last of which also
 * starts the accumulator (docs/method.md §2). */
enum { CLI_BASE_LAYER = 2, CLI_BASE_BITS = 4 };

/* Specs here are as cli_spec_json has them: choices, not completed.
 *
 * The spec of one layer. Cross-layer methods: layers before `base` have the plain method, the base and
 * those before it have 4 bits. Models that mix layers: the layer's kind, which must be the one given, if
 * any; for `layer` -1, one without a number, the one given. `many`: several queries of a sequence at a
 * time. Caller frees. Errors: XQ_ERROR_ARGUMENT for another kind than given, those of gen_layer_kind. */
xq_status cli_layer_spec(gen *g, const char *spec_json, int layer, int base, bool many, char **out,
                         error *err);

/* The same for the layer's kind alone. */
xq_status cli_layer_kind_spec(gen *g, const char *spec_json, int layer, char **out, error *err);

/* A spec that all layers share in what sizes depend on: of a model that mixes layers, of the kind given or
 * else that of the first. Caller frees. */
xq_status cli_any_layer_choices(gen *g, const char *spec_json, char **out, error *err);
/* The same, completed without its tuning. */
xq_status cli_any_layer_spec(gen *g, const char *spec_json, char **completed, error *err);
/* Completes a spec where only sizes matter: without its tuning. Caller frees. */
xq_status cli_complete_sizes(gen *g, const char *spec_json, char **completed, error *err);

/* The factors of a layer from prepared weights, beside the projections that are there: those it was
 * prepared with for this shape, or else it is refused. */
xq_status cli_prepared_factors(const prepared_file *file, int layer, const layer_shape *shape,
                               layer_weights *weights, error *err);

/* Whether a layer of this shape has factors at all; and the failure of --prepared where none has. */
bool cli_has_factors(const layer_shape *shape);
xq_status cli_refuse_prepared(const layer_shape *shape, error *err);

/* What is valid of a spec's tuning depends on the device's architecture, and on whether there are many
 * queries. Looks at the tuning of a layer's spec for the device that will run it, and adds the kernel
 * families that these implementations launch (runtime/launch/plan.h) to those that are there. */
struct cli_families {
    const char *names[32];
    int count;
};
xq_status cli_check_tuning(xq_context *context, const char *spec_json,
                           const xq_implementation *implementations, int count,
                           struct cli_families *families, error *err);

/* What else run and compare need of a completed spec. */
struct cli_traits {
    layer_shape shape;
    int layers; /* of the model; LAYER_MOST_LAYERS where the spec does not say */
    int bits, page;
    bool bfloat;         /* activations are bf16, else f16 */
    char model_name[64]; /* of a preset; else "" */
    roofline_layer costs;
};
xq_status cli_traits_of(const char *completed, struct cli_traits *traits, error *err);
/* The same for a spec that is not completed yet. */
xq_status cli_traits_read(gen *g, const char *spec_json, struct cli_traits *traits, error *err);

#endif
