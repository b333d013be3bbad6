/* A completed spec as C values. This is the one place where the library reads that JSON.
 * (autotune/reference reads it a second time on purpose: the reference that kernels are compared with must
 * not share a mistake with them.)
 *
 * The numbers come from gen/layout.lua and gen/spec.lua; nothing is computed again here. */
#ifndef RUNTIME_PLAN_SPEC_VIEW_H
#define RUNTIME_PLAN_SPEC_VIEW_H

#include "../launch/shape.h"

typedef enum layer_method { LAYER_X, LAYER_LATENT, LAYER_X_CL, LAYER_LATENT_CL } layer_method;

/* The part of a spec that prepared weights depend on, by the names of docs/method.md. */
typedef struct layer_shape {
    layer_method method;
    int hidden_size, heads, kv_heads, head_dim;
    int kv_width;            /* dkv = kv_heads * head_dim */
    int rank_k, rank_v;      /* x, x-cl: hidden_size, 0 */
    int groups_k, groups_v;  /* groups of KV heads that have a latent each */
    int quantization_group;  /* elements that share a scale */
    int rotary_dim;          /* dimensions of a head that RoPE turns; 0: none */
    bool rotary_interleaved; /* RoPE turns pairs of neighbours, not of halves */
    bool rotation, feedback;
    bool bias, sinks;
    int k_norm; /* number of factors of QK-norm: head_dim, or kv_width; 0: none */
} layer_shape;

/* A cached stream. Offsets are in bytes; docs/layout.md draws them. Offsets that a stream of its kind does
 * not have are 0. */
struct spec_stream {
    char name[8];  /* "x", "k", "v" or "delta" */
    char order[4]; /* order of the bits in a unit (gen_unit_map): "k" or "v" */
    int32_t width, latents, rank, latent_width;
    int32_t bits;    /* bits of a code; 16: the values themselves, f16 */
    bool by_channel; /* a group is tokens of one channel; else channels of one token */
    int32_t group;   /* tokens or channels that share a scale */
    int32_t groups;  /* groups of a token; 0 if by_channel, and in streams of f16 values */
    size_t codes_offset, params_offset, zeros_offset; /* within a tile */
    size_t slots_offset, slot_bytes;                  /* by_channel: within a page */
    int32_t chunk_pages, page_groups, page_chunks;
    size_t tail_offset; /* by_channel: within a sequence's tail */
    int32_t tail_width;
};

/* The pages of a cache, or of the accumulator of a cross-layer cache. */
struct spec_layout {
    int32_t tile_tokens, unit_channels;
    size_t tile_bytes, page_bytes, tail_bytes;
    double bytes_per_token;
    int stream_count; /* 0: the spec has no such pages */
    struct spec_stream streams[SHAPE_STREAMS];
};

struct spec_view {
    layer_shape layer;  /* the part that weights depend on */
    struct shape shape; /* the part that launches need */
    struct spec_layout layout, accumulator;
    char model_name[64]; /* name of the preset; else "" */
    char model_type[32]; /* model_type of config.json; else "" */
    char weights[8];     /* type of packed weights: "f16", "int8" */
    bool bf16;           /* activations are bf16; else f16 */
    int32_t layers;      /* layers of the model; 0: the spec does not say */
    int64_t window;      /* tokens that a query sees; 0: all */
    int32_t rotated;     /* dimensions of a head of K that RoPE turns */
    int32_t bits, group; /* bits and group of the cache */
    float clip;          /* the share of a group's range that codes span */
    bool integer_zero;
};

/* Reads a completed spec. Errors: XQ_ERROR_INTERNAL naming the part that the spec lacks. */
xq_status spec_view_read(const char *completed_json, struct spec_view *out, error *err);

/* Reads only the layer_shape, from text that has only "model" and "cache", as a file of prepared weights
 * does. Errors: XQ_ERROR_INTERNAL. */
xq_status layer_shape_read(const char *spec_json, layer_shape *out, error *err);

const char *layer_method_name(layer_method method); /* "latent-cl" */

#endif
