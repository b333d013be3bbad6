/* The parts that prepare, run and compare share: layer numbers, and the specs of the layers of a
 * cross-layer cache. */
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

/* The layer numbers of --layers, or all numbers 0 .. count-1 when the list is empty. Caller frees *layers.
 * Errors: XQ_ERROR_ARGUMENT for an item that is no layer number, and for one that is given twice. */
xq_status cli_layers(const struct cli_list *list, int count, int **layers, int *layer_count, error *err);

/* Sorts layer numbers in ascending order. */
void cli_sort_layers(int *layers, int count);

/* The numbers L of the tensors x.L in a file, in ascending order. Caller frees. */
xq_status cli_layers_in_file(const safetensors *file, int **layers, int *count, error *err);

/* Returns XQ_ERROR_ARGUMENT where --base-layer is none of the first `layers` layers. */
xq_status cli_check_base(int64_t base, int layers, error *err);
/* Sets the error of --base-layer beside a method that has no base layer. */
xq_status cli_refuse_base(const layer_shape *shape, error *err);

/* Cross-layer caches begin with layers of a plain cache at 4 bits, as in the paper. The last of these
 * layers also starts the accumulator (docs/method.md §2). */
enum { CLI_BASE_LAYER = 2, CLI_BASE_BITS = 4 };

/* Specs here have the form of cli_spec_json: choices, not completed.
 *
 * The spec of one layer. With a cross-layer method, layers before `base` have the plain method, and these
 * layers and the base have 4 bits. Where the model mixes kinds of layers, the spec gets the layer's kind;
 * if the spec gives a kind, it must be the same. `layer` -1 is a layer without a number, which keeps the
 * kind that is given. `many`: several queries of each sequence in a call. Caller frees. Errors:
 * XQ_ERROR_ARGUMENT where another kind is given than the layer's; those of gen_layer_kind. */
xq_status cli_layer_spec(gen *g, const char *spec_json, int layer, int base, bool many, char **out,
                         error *err);

/* The spec with the kind of one layer; unlike cli_layer_spec, it leaves method and bits as they are. */
xq_status cli_layer_kind_spec(gen *g, const char *spec_json, int layer, char **out, error *err);

/* A spec with the sizes that all layers share. Where the model mixes kinds of layers, it has the kind that
 * is given, or else the kind of the first layer that keeps keys and values. Caller frees. */
xq_status cli_any_layer_choices(gen *g, const char *spec_json, char **out, error *err);
/* The same spec, completed without its tuning. */
xq_status cli_any_layer_spec(gen *g, const char *spec_json, char **completed, error *err);
/* Completes a spec without its tuning, where only sizes matter. Caller frees. */
xq_status cli_complete_sizes(gen *g, const char *spec_json, char **completed, error *err);

/* Takes the factors of a layer from prepared weights, and leaves the projections in `weights` as they are.
 * Refuses prepared weights that were not made for this shape. */
xq_status cli_prepared_factors(const prepared_file *file, int layer, const layer_shape *shape,
                               layer_weights *weights, error *err);

/* Whether a layer of this shape has factors. cli_refuse_prepared sets the error of --prepared where no
 * layer has any. */
bool cli_has_factors(const layer_shape *shape);
xq_status cli_refuse_prepared(const layer_shape *shape, error *err);

/* The valid tuning of a spec depends on the device's architecture, and on whether a call has many queries.
 * cli_check_tuning checks the tuning of a layer's spec for the device that will run it, and adds the kernel
 * families that these implementations launch (runtime/launch/plan.h) to `families`. */
struct cli_families {
    const char *names[32];
    int count;
};
xq_status cli_check_tuning(xq_context *context, const char *spec_json,
                           const xq_implementation *implementations, int count,
                           struct cli_families *families, error *err);

/* Rounds activations to f16, or to bf16. Returns XQ_ERROR_FORMAT where a value is beyond the type's range;
 * `file` and `what` name it in the message. */
xq_status cli_round_activations(const float *values, size_t count, bool bfloat, const char *file,
                                const char *what, uint16_t *out, error *err);

/* Further values of a completed spec that run and compare need. */
struct cli_traits {
    layer_shape shape;
    int layers; /* layers of the model; LAYER_MOST_LAYERS where the spec does not say */
    int bits, page;
    bool bfloat;         /* activations are bf16; else they are f16 */
    char model_name[64]; /* name of a preset; else "" */
    roofline_layer costs;
};
xq_status cli_traits_of(const char *completed, struct cli_traits *traits, error *err);
/* Completes the spec first. */
xq_status cli_traits_read(gen *g, const char *spec_json, struct cli_traits *traits, error *err);

#endif
