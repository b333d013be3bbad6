/* The parts of xq compare: inputs (compare_input.c) and their sizes (compare_sizes.c), the figures of one
 * implementation (compare_row.c), and the output: tables (compare_table.c, compare_sweep.c), profiles
 * (compare_profile.c), JSON (compare_json.c) and plot (compare_plot.c). */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "../autotune/engine/driver.h"
#include "../autotune/measure/roofline.h"
#include "../autotune/reference/reference.h"
#include "../gen/gen.h"
#include "../runtime/device/limits.h"
#include "compare_expected.h"
#include "layers.h"

#include <stdint.h>

/* ------------------------------------------------------------------ input */

enum { COMPARE_ALL_TOKENS = 0 }; /* --tokens is not given: all tokens of the file, or 1024 */

struct compare_options {
    struct cli_common common;
    struct cli_spec spec;
    const char *activations, *prepared;
    struct cli_list layers, bits;
    int64_t tokens; /* or COMPARE_ALL_TOKENS; in a sweep, the largest number */
    int64_t batch, queries, base_layer;
    bool synthetic, base_given;
};

struct compare_input; /* the open files */

/* Opens the inputs that the options name. *layers are the layers to compare; caller frees. *tokens is the
 * number of tokens that --tokens gives, or its default. */
xq_status compare_input_open(const struct compare_options *o, gen *g, const struct cli_traits *traits,
                             struct compare_input **input, int **layers, int *layer_count, int64_t *tokens,
                             error *err);
void compare_input_close(struct compare_input *input);

/* From now on, layers have `batch` sequences of `tokens` tokens. Errors: XQ_ERROR_ARGUMENT where the input
 * has fewer tokens, or where --queries is larger than `tokens`. */
xq_status compare_input_resize(struct compare_input *input, int64_t tokens, int batch, error *err);

/* The sizes of a sweep: every combination of a number of tokens and a batch. */
struct compare_size {
    int64_t tokens;
    int batch;
    int place; /* index in the output: batch by batch, in the order of the lists */
};

struct compare_sizes {
    struct cli_list tokens, batches; /* --tokens and --batch, checked by cli_parse; empty: the default */
    struct compare_size *items;      /* the largest first, so that a size that does not fit fails early */
    int count;
    double tokens_sum; /* tokens of all sequences, summed over all sizes */
};

/* Sets the tokens and the batch of the options to the largest ones, so that opening the input checks these.
 * Errors: XQ_ERROR_ARGUMENT for too many combinations. */
xq_status compare_sizes_read(const struct compare_sizes *sizes, struct compare_options *o, error *err);
/* Makes the items, and checks that the input can take each of them. `tokens` is used where --tokens is not
 * given. */
xq_status compare_sizes_make(struct compare_sizes *sizes, struct compare_input *input, int64_t tokens,
                             error *err);
void compare_sizes_free(struct compare_sizes *sizes);

/* The inputs of one layer: `batch` sequences of `tokens` tokens with `queries` queries each, at the last
 * positions. A large batch repeats a few texts: sequence i has text i % texts, from its beginning. The
 * first `distinct` sequences are checked. */
struct compare_layer {
    int number, batch, distinct, queries, texts;
    int64_t tokens, text_tokens; /* tokens of the longest sequence; of each text */
    const int64_t *lengths;      /* [batch], at most `tokens`; NULL: all sequences have `tokens` */
    layer_weights weights;
    float *x;            /* [texts * text_tokens, d], not rounded */
    float *q;            /* [texts, queries, H, dh] */
    uint16_t *x16, *q16; /* x and q in the spec's dtype */
};
static inline int64_t compare_length(const struct compare_layer *layer, int sequence)
{
    return layer->lengths ? layer->lengths[sequence] : layer->tokens;
}

/* Makes a layer of the input's size. Its texts have one length, and all of them are checked. `traits`
 * belong to this layer's spec, whose factors are made. */
xq_status compare_input_layer(struct compare_input *input, int number, const struct cli_traits *traits,
                              struct compare_layer *layer, error *err);
/* Gives such a layer the texts and queries of the input's current size. The layer keeps its weights. After
 * a failure it can only be freed. */
xq_status compare_input_texts(struct compare_input *input, const struct cli_traits *traits,
                              struct compare_layer *layer, error *err);
void compare_layer_free(struct compare_layer *layer);

/* ------------------------------------------------------------------- rows */

enum { COMPARE_REPEATS = 30, COMPARE_BRIEF_REPEATS = 5 }; /* repeats of a timing on a GPU */

struct compare_row {
    int layer, bits; /* bit width of the comparison; fp16-kv itself always has 16 bits, fp8-kv 8 */
    int batch, queries;
    int64_t tokens;
    xq_implementation implementation;
    double cache_bytes_per_token;       /* in pages */
    double tail_bytes;                  /* of one sequence: its newest tokens, unquantized */
    double accumulator_bytes_per_token; /* cross-layer: bytes of the accumulator, which all layers share */
    double cache_saving;                /* fp16 keys and values over pages and tails */
    double k_scale, v_scale;            /* of fp8-kv; else 0 */
    double kernel_error, method_error;
    double lse_error, lse_abs_error; /* lse_error is relative where a log-sum-exp is above 1 */
    int repeats;                     /* repeats of the timing; 1 where it is modelled */
    bool counted; /* the figures from here to `launches` are known: only the software device counts */
    double read_bytes, write_bytes;       /* device memory: 32-byte sectors, each once per launch */
    double l2_read_bytes, l2_write_bytes; /* all sectors requested in one step */
    double matrix_flops;
    int launches;
    double bytes_in_flight; /* of the cache, under way at once on a multiprocessor full of blocks */
    const struct compare_profile *profile;     /* the instructions by line; NULL: not asked for */
    double limit_seconds[DEVICE_LIMITS];       /* the parts of a modelled time; see device_counters */
    bool measured;                             /* the time is measured; else it is modelled */
    double seconds, seconds_low, seconds_high; /* median and quartiles; all the same when modelled */
    double graph_seconds, graph_seconds_low, graph_seconds_high; /* within a graph; 0: not measured */
    roofline_limit limit;
};
const char *compare_name(xq_implementation implementation); /* "fp16-kv", ... */

/* Units of the keys and values of fp8-kv (xq_weights): the largest magnitudes of the layer's fp16 keys and
 * values, over 448. */
struct compare_scales {
    bool known;
    float k, v;
};

/* How steps are launched to time them on a GPU: both ways one after the other, one by one, or within a
 * graph. */
enum compare_launches { COMPARE_BOTH, COMPARE_STREAM, COMPARE_GRAPH };

struct measure_watch;

/* The inputs of a row. */
struct compare_task {
    xq_context *context;
    gen *generator;
    struct compare_input *input; /* for the layers before, which deltas need */
    const char *spec;            /* not completed, for one bit width; cli_layer_spec makes a layer's spec */
    char *layer_spec;            /* the spec of `layer` */
    struct cli_traits traits;    /* traits of layer_spec */
    int base_layer;
    reference_model reference;
    ceilings ceilings;
    uint64_t seed;
    enum compare_launches launches; /* with COMPARE_GRAPH a row's `seconds` stay 0 */
    struct measure_watch *watch;    /* used for measurements; NULL: none */
    bool appends;                   /* times appending the newest token of each sequence, not attending */
    bool brief;                     /* times have COMPARE_BRIEF_REPEATS, not COMPARE_REPEATS */
    const struct compare_layer *layer;
    struct compare_profiles *profiles; /* rows get a profile, which is kept here; NULL: they get none */
    const double *exact; /* exact attention, [distinct, queries, H, dh]; NULL: no method_error */
    struct compare_expected *expected; /* results of the implementation that was measured before */
    struct compare_scales *scales; /* of fp8-kv and the layer's texts; found when they are first needed */
};
/* Exact attention of the distinct sequences, [distinct, queries, H, dh]; caller frees. */
xq_status compare_exact(const struct compare_task *task, double **exact, error *err);

/* Measures a row. `d` is the driver of the implementation before, or zeros; the caller closes it. If `d` is
 * of XQ_FP16_KV, scales of fp8-kv are found in its cache, else in such a cache that is filled for that.
 * `cached`: the driver holds the layer's tokens in the same layout, and no step has changed them (a step of
 * a cross-layer method adds to the accumulator). Otherwise the driver is replaced by a new one with a new
 * cache. */
xq_status compare_measure(const struct compare_task *task, xq_implementation implementation, driver *d,
                          bool cached, struct compare_row *row, error *err);

/* Fills a row with errors alone, those of the first of `copies` copies of the cache. It neither counts nor
 * times. */
xq_status compare_attend(const struct compare_task *task, xq_implementation implementation, driver *d,
                         bool cached, int copies, struct compare_row *row, error *err);

/* Must follow one of the two above. Attends again over each copy of the cache that they filled, and puts
 * the largest errors into the row. This finds a kernel that fails only after many launches, or on a copy
 * that was not checked. The caches of a cross-layer method are filled anew. */
xq_status compare_repeat(const struct compare_task *task, driver *d, struct compare_row *row, error *err);

/* ----------------------------------------------------------------- output */

enum { COMPARE_IMPLEMENTATIONS = 4 };
/* Rows of one size and width, in this order. */
enum { COMPARE_FP16, COMPARE_FP8, COMPARE_UNFUSED, COMPARE_FUSED };

struct compare_result {
    const struct compare_row *rows; /* [layers][sizes][widths][COMPARE_IMPLEMENTATIONS] */
    int count, sizes, widths;
    const xq_device_info *device;
    const ceilings *ceilings;
    const struct cli_traits *traits;
    const char *model_name, *input_name, *spec;
    const gen *generator; /* has the lines of the templates that profiles name */
};
/* The name of the largest part of a modelled time: "launches", "memory", "L2", "shared", "matrix" or
 * "issue". NULL for a measured time. */
const char *compare_bound(const struct compare_row *row);
extern const char *const compare_limit_names[DEVICE_LIMITS];

/* Bytes of one layer's caches for all sequences: pages and tails. */
double compare_cache_bytes(const struct compare_row *row);

void compare_print(const struct compare_result *result);
cJSON *compare_json(const struct compare_result *result);

#endif
