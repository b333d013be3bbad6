/* What the host side needs of a completed spec, read once: sizes, page layout, weight matrices. The
 * numbers come from gen/layout.lua through the spec's JSON; nothing is computed again here. */
#ifndef RUNTIME_SHAPE_H
#define RUNTIME_SHAPE_H

#include "../gen/error.h"

#include <stdbool.h>

struct shape_matrix {
    char name[16];  /* "wk", "wv", "uk", "uv": what kernels know it as */
    char source[8]; /* the caller's: "wk", "ak", "wv", "av", "uk", "uv" */
    int32_t rows, cols;
    size_t offset; /* in the packed weights */
};

struct shape {
    int32_t hidden_size, heads, kv_heads, head_dim, kv_width; /* d, H, Hkv, dh, dkv */
    int32_t page;                                             /* tokens of a page */
    int32_t rank_k, rank_v; /* columns of the cached streams; method x: hidden_size and 0 */
    bool latent, rotary;
    size_t page_bytes, kv_page_bytes;
    double bytes_per_token;
    struct shape_matrix matrices[8], unfused_matrices[8], kv_matrices[2]; /* by implementation */
    int matrix_count, unfused_matrix_count, kv_matrix_count;
    size_t weights_bytes, unfused_weights_bytes, kv_weights_bytes;
};

/* Errors: XQ_ERROR_INTERNAL naming what a completed spec lacks. */
xq_status shape_read(const char *completed_json, struct shape *out, error *err);

/* The matrix of that name among `count`, or NULL. */
const struct shape_matrix *shape_find(const struct shape_matrix *matrices, int count, const char *name);

#endif
