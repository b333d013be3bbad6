/* xq compare in parts: inputs (compare_input.c) and their sizes (compare_sizes.c), one implementation's
 * figures (compare_row.c), and the output: tables (compare_table.c, compare_sweep.c), JSON (compare_json.c)
 * and plot (compare_plot.c). */
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

enum { COMPARE_ALL_TOKENS = 0 }; /* --tokens not given: as many as there are, or 1024 */

struct compare_options {
    struct cli_common common;
    struct cli_spec spec;
    const char *activations, *prepared;
    struct cli_list layers, bits;
    int64_t tokens; /* or COMPARE_ALL_TOKENS; of a sweep, the most */
    int64_t batch, queries, base_layer;
    bool synthetic, base_given;
};

struct compare_input; /* the open files */

/* Opens what the options name. layers: those to compare; caller frees. */
xq_status compare_input_open(const struct compare_options *o, gen *g, const struct cli_traits *traits,
                             struct compare_input **input, int **layers, int *layer_count, int64_t *tokens,
                             error *err);
void compare_input_close(struct compare_input *input);

/* Layers have this many sequences of this many tokens from now on. Errors: XQ_ERROR_ARGUMENT where the
 * input has fewer tokens, or --queries asks for more than that. */
xq_status compare_input_resize(struct compare_input *input, int64_t tokens, int batch, error *err);

/* The sizes of a sweep: every combination of a number of tokens and a batch. */
struct compare_size {
    int64_t tokens;
    int batch;
    int place; /* in the output: batch by batch, as they are listed */
};

struct compare_sizes {
    struct cli_list tokens, batches; /* --tokens and --batch, checked by cli_parse; empty: the default */
    struct compare_size *items; /* the largest first, so that what does not fit fails before the rest */
    int count;
    double tokens_sum; /* of all sequences of all sizes */
};

/* Sets the tokens and the batch of the options to the largest ones, which the input must have. Errors:
 * XQ_ERROR_ARGUMENT for too many combinations. */
xq_status compare_sizes_read(const struct compare_sizes *sizes, struct compare_options *o, error *err);
/* Makes the items; the input must take each. tokens: where --tokens is not given. */
xq_status compare_sizes_make(struct compare_sizes *sizes, struct compare_input *input, int64_t tokens,
                             error *err);
void compare_sizes_free(struct compare_sizes *sizes);

/* What one layer attends over: `batch` sequences of `tokens` tokens, `queries` queries each, at the last
 * positions. A large batch repeats a few texts: sequence i holds text i % texts, from its beginning. The
 * first `distinct` sequences are checked. */
struct compare_layer {
    int number, batch, distinct, queries, texts;
    int64_t tokens, text_tokens; /* of the longest sequence; of each text */
    const int64_t *lengths;      /* [batch], at most `tokens`; NULL: all are as long as that */
    layer_weights weights;
    float *x;            /* [texts * text_tokens, d], as given */
    float *q;            /* [texts, queries, H, dh] */
    uint16_t *x16, *q16; /* the same in the spec's dtype */
};
static inline int64_t compare_length(const struct compare_layer *layer, int sequence)
{
    return layer->lengths ? layer->lengths[sequence] : layer->tokens;
}

/* A layer of the input's size. Its texts have one length and are all checked. traits: of this layer's spec,
 * whose factors are made. */
xq_status compare_input_layer(struct compare_input *input, int number, const struct cli_traits *traits,
                              struct compare_layer *layer, error *err);
/* Gives such a layer, which keeps its weights, the texts and queries of the size that the input has now.
 * After a failure it can only be freed. */
xq_status compare_input_texts(struct compare_input *input, const struct cli_traits *traits,
                              struct compare_layer *layer, error *err);
void compare_layer_free(struct compare_layer *layer);

/* ------------------------------------------------------------------- rows */

enum { COMPARE_REPEATS = 30, COMPARE_BRIEF_REPEATS = 5 }; /* of a time on a GPU */

struct compare_row {
    int layer, bits; /* bits of the comparison; fp16-kv itself always has 16, and fp8-kv 8 */
    int batch, queries;
    int64_t tokens;
    xq_implementation implementation;
    double cache_bytes_per_token;       /* of pages */
    double tail_bytes;                  /* of a sequence: its newest tokens, unquantized */
    double accumulator_bytes_per_token; /* cross-layer: of the one accumulator of all layers */
    double cache_saving;                /* pages and tails against fp16-kv */
    double k_scale, v_scale;            /* of fp8-kv; else 0 */
    double kernel_error, method_error, lse_error;
    int repeats;  /* of the time; 1 where it is modelled */
    bool counted; /* the figures below, to matrix_flops: only the software device counts */
    double read_bytes, write_bytes;       /* device memory: unique 32-byte sectors, per launch */
    double l2_read_bytes, l2_write_bytes; /* all sectors requested */
    double matrix_flops;
    int launches;
    double limit_seconds[DEVICE_LIMITS];       /* what a modelled time consists of; see device_counters */
    bool measured;                             /* else modelled */
    double seconds, seconds_low, seconds_high; /* median, quartiles; one figure when modelled */
    double graph_seconds, graph_seconds_low, graph_seconds_high; /* within a graph; 0: not measured */
    roofline_limit limit;
};
const char *compare_name(xq_implementation implementation); /* "fp16-kv", ... */

/* Units of the keys and values of fp8-kv (xq_weights): the largest magnitudes that the layer's fp16 keys
 * and values have, over 448. */
struct compare_scales {
    bool known;
    float k, v;
};

/* How the steps that a GPU is timed with are launched: one by one, within a graph, or first one way and
 * then the other. */
enum compare_launches { COMPARE_BOTH, COMPARE_STREAM, COMPARE_GRAPH };

struct measure_watch;

/* What a row is computed from. */
struct compare_task {
    xq_context *context;
    gen *generator;
    struct compare_input *input; /* of the layers before, which deltas need */
    const char *spec;            /* as given, for one bit width; of one layer: cli_layer_spec */
    char *layer_spec;            /* that of `layer` */
    struct cli_traits traits;    /* of layer_spec */
    int base_layer;
    reference_model reference;
    ceilings ceilings;
    uint64_t seed;
    enum compare_launches launches; /* COMPARE_GRAPH leaves a row's seconds 0 */
    struct measure_watch *watch;    /* of measuring; NULL: none */
    bool appends; /* what is timed is appending the newest token of each sequence, not attending */
    bool brief;   /* times are of COMPARE_BRIEF_REPEATS, not of COMPARE_REPEATS */
    const struct compare_layer *layer;
    const double *exact; /* attention from the inputs as given, [distinct, queries, H, dh]; NULL: there is
                            no method_error */
    struct compare_expected *expected; /* of the implementation before */
    struct compare_scales *scales; /* of fp8-kv: found when they are first needed, of the layer's texts */
};
/* Exact attention of the distinct sequences, [distinct, queries, H, dh]; caller frees. */
xq_status compare_exact(const struct compare_task *task, double **exact, error *err);

/* d: of the implementation before, or zeros; where it is of XQ_FP16_KV, scales of fp8-kv are found there,
 * else in such a cache that is filled for that. `cached`: it holds the layer's tokens in the same layout,
 * and has changed nothing (a cross-layer method's step adds to the accumulator); else its place is taken by
 * one that is filled anew. The caller closes it. */
xq_status compare_measure(const struct compare_task *task, xq_implementation implementation, driver *d,
                          bool cached, struct compare_row *row, error *err);

/* The same without counting and timing, over so many copies of the cache: the row has errors alone, those
 * of the first copy. */
xq_status compare_attend(const struct compare_task *task, xq_implementation implementation, driver *d,
                         bool cached, int copies, struct compare_row *row, error *err);

/* After one of these, over the copies that it filled: attends on each again, and puts the largest
 * errors into the row. A kernel that fails only after many launches, or on a cache that was not looked at,
 * shows here. A cross-layer method's caches are filled anew. */
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
};
/* Names the largest part of a modelled time: "launches", "memory", "L2", "shared", "matrix" or "issue".
 * NULL for a measured one. */
const char *compare_bound(const struct compare_row *row);
extern const char *const compare_limit_names[DEVICE_LIMITS];

/* Bytes of the caches of all sequences of one layer: pages and tails. */
double compare_cache_bytes(const struct compare_row *row);

void compare_print(const struct compare_result *result);
cJSON *compare_json(const struct compare_result *result);

#endif
