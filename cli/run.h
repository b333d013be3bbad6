/* The parts of xq run: options (run.c), layers from the input file (run_input.c), the device's work
 * (run_compute.c), the tensors of --dump-cache (run_dump.c), and the output (run_output.c). */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "../autotune/engine/driver.h"
#include "../prepare/model.h"
#include "../prepare/safetensors.h"
#include "layers.h"

struct run_options {
    struct cli_common common;
    struct cli_spec spec;
    const char *input, *output, *prepared;
    bool fused, unfused, fp16_kv, fp8_kv, dump;
    int64_t layer; /* the one layer to read, as if it were alone; -1: all */
    int64_t base_layer, chunk;
    bool base_given;
    struct cli_list layers;
};

/* A tensor to write, which owns its data. */
struct run_tensor {
    tensor t;
    char name[32];
    void *data;
};
enum { RUN_MOST_TENSORS = 7 }; /* o, lse, up to two caches and two matrices, and one to spare */

struct run_layer {
    int number;
    char suffix[16]; /* suffix of the names of its tensors in the file, e.g. ".3" */
    char *spec;      /* not completed: the plan completes it for its device */
    struct cli_traits traits;
    int64_t tokens, queries;
    /* Loaded only while the layer is worked on: */
    layer_weights weights;
    float k_scale, v_scale; /* of an fp8 KV cache */
    uint16_t *x, *q;        /* in the spec's dtype */
    /* Results: */
    struct run_tensor out[RUN_MOST_TENSORS];
    int out_count;
    xq_plan_info info;
};

struct run {
    struct run_options *o;
    xq_context *context;
    gen *generator;
    safetensors *file;
    model *source;          /* source of weights that the file lacks, where --model is a directory */
    prepared_file *factors; /* from --prepared; NULL: factors are made here */
    char *spec;             /* as given, not completed */
    struct run_layer *layers;
    int layer_count;
    bool numbered; /* the outputs have suffixes too */
    publication *output;
    driver driver;
    struct cli_progress progress;
};

static inline xq_implementation run_implementation(const struct run_options *o)
{
    return o->fp8_kv ? XQ_FP8_KV : o->fp16_kv ? XQ_FP16_KV : o->unfused ? XQ_UNFUSED : XQ_FUSED;
}

/* Opens the file and finds its layers, their specs and sizes; checks names and shapes of all tensors. */
xq_status run_input_open(struct run *r, error *err);

/* Loads a layer's tensors, and makes its factors. They stay until run_layer_unload. */
xq_status run_layer_load(const struct run *r, struct run_layer *l, error *err);
void run_layer_unload(struct run_layer *l);

/* Runs all layers in order: append, accumulate, attend. The results go into their `out`. */
xq_status run_compute(struct run *r, error *err);

/* Adds a result to a layer, which takes `data`. */
void run_add(struct run_layer *l, const char *name, tensor_type type, int rank, const int64_t *shape,
             void *data);

/* Writes the output file. */
xq_status run_write(struct run *r, error *err);

/* Writes the JSON that --json asks for, and prints a line about the output. */
xq_status run_report(const struct run *r, error *err);

/* Adds the values that the kernels computed with: the cache as they see it, and the matrices as they are
 * packed. */
xq_status run_dump(struct run *r, struct run_layer *l, int index, error *err);

#endif
