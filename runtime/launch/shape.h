/* The parts of a completed spec that the host side needs: sizes, and the layout of the cache and the
 * packed weights. The numbers come from gen/layout.lua through the spec's JSON (runtime/plan/spec_view.h),
 * or from a plan image; nothing is computed again here. */
#ifndef RUNTIME_LAUNCH_SHAPE_H
#define RUNTIME_LAUNCH_SHAPE_H

#include "../base/error.h"
#include "../base/weights.h"

#include <stddef.h>

enum { SHAPE_STREAMS = 2, SHAPE_MATRICES = 8, SHAPE_VECTORS = 8, SHAPE_KEY_COLUMNS = 320 };

/* A cached matrix: `latents` matrices side by side, each of `rank` columns, stored as latent_width
 * columns. `group`: tokens or channels that share a scale. */
struct shape_stream {
    int32_t width, latents, rank, latent_width, group;
    bool by_channel; /* groups of tokens, with a tail; else groups of channels */
};

/* The columns of its source that a packed matrix or vector has (gen/layout.lua). */
enum shape_columns { SHAPE_ALL, SHAPE_KEYS, SHAPE_ABSORBED, SHAPE_TRANSPOSED, SHAPE_FEEDBACK };

struct shape_matrix {
    char name[16]; /* name in the kernels: "wk", "wk_absorb", "wv", "uk", "uv", "ukv", "ukvt", "fk", "fv" */
    char source[8]; /* name of the caller's matrix: "wk", "ak", ... */
    enum shape_columns columns;
    enum weight_type type;
    int32_t rows, cols;
    size_t offset, scale_offset; /* in the packed weights; scales are for 8-bit types only */
};

struct shape_vector { /* f32 */
    char name[16];    /* "bk", "bk_absorb", "bv", "k_norm", "sinks" */
    char source[8];
    enum shape_columns columns;
    int32_t count;
    size_t offset;
};

struct shape_weights {
    struct shape_matrix matrices[SHAPE_MATRICES];
    struct shape_vector vectors[SHAPE_VECTORS];
    int matrix_count, vector_count;
    size_t bytes;
};

/* The order of a K head's columns in the fused kernel, as dimensions of the head; -1: a column of zeros. */
struct shape_keys {
    int32_t columns, absorbed_columns;
    int16_t rematerialized[SHAPE_KEY_COLUMNS], absorbed[SHAPE_KEY_COLUMNS];
};

struct shape {
    char arch[16]; /* architecture of the spec: "sm_90a"; plan images do not hold it */
    int32_t hidden_size, heads, kv_heads, head_dim, kv_width; /* d, H, Hkv, dh, dkv */
    bool rotary, key_norm, key_norm_row, sinks;               /* key_norm_row: over all heads at once */
    bool latent, cross_layer, base; /* method latent; x-cl or latent-cl; base layer */
    bool many;                      /* kernels for several queries of a sequence */
    bool checked;                   /* kernels do nothing in a call at fault */
    int32_t page;                   /* tokens per page */
    struct shape_stream streams[SHAPE_STREAMS];
    int stream_count;
    int32_t rank_k, rank_v;    /* widths of the streams; 0 if there is no such stream */
    bool by_token, by_channel; /* a stream has per-token groups; a stream has per-channel groups */
    size_t page_bytes, kv_page_bytes, tail_bytes, accumulator_page_bytes;
    double bytes_per_token, accumulator_bytes_per_token;
    struct shape_keys keys;
    struct shape_weights weights[XQ_FP16_KV + 1]; /* by implementation */
};

/* Returns the matrix or vector of that name, or NULL. */
const struct shape_matrix *shape_matrix(const struct shape_weights *weights, const char *name);
const struct shape_vector *shape_vector(const struct shape_weights *weights, const char *name);

#endif
