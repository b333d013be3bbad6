/* The arguments of every kernel, one struct a kernel, passed by value. Read by the kernels and by the
 * runtime, so that both agree by construction. XQ_PTR(T) is a device pointer: T * in a kernel,
 * uint64_t on the host. */
#ifndef XQ_LIB_PARAMS_H
#define XQ_LIB_PARAMS_H

#ifdef __CUDACC__
#define XQ_PTR(T) T *
typedef unsigned short xq_half_bits; /* an f16 as its bits */
typedef unsigned char xq_byte;
#else
#include <stdint.h>
#define XQ_PTR(T) uint64_t
#endif

/* Pages of each sequence; xq_page_table. indices may be null (entry p is page p) where said so. */
struct xq_table {
    XQ_PTR(const int) indptr;
    XQ_PTR(const int) indices;
    XQ_PTR(const int) last_page_len;
};

/* append (templates/append.cu.lt): quantize x, or x*U, into pages. Grid: (tiles of 16 tokens, column
 * blocks over all streams). */
struct xq_append_params {
    struct xq_table table;
    XQ_PTR(const xq_half_bits) x;     /* [tokens, d] */
    XQ_PTR(const int) token_sequence; /* [tokens] */
    XQ_PTR(const int) token_position; /* [tokens] */
    XQ_PTR(xq_byte) pages;
    XQ_PTR(const xq_half_bits) uk; /* packed [d, rank_k]; null for method x */
    XQ_PTR(const xq_half_bits) uv; /* packed [d, rank_v]; null for method x */
    int tokens;
};

/* attend (templates/attend.cu.lt): fused decode. Grid: (splits, Hkv, batch).
 * partial_out [batch, splits, H, dh] f16 and partial_lse [batch, splits, H] f32 (log2 units) are used
 * where a sequence has more than one split; counters [batch, Hkv] int32 are zero before and after. */
struct xq_attend_params {
    struct xq_table table;
    XQ_PTR(const xq_byte) pages;
    XQ_PTR(const xq_half_bits) wk; /* packed: Ak [rank_k, dkv], or Wk [d, dkv] */
    XQ_PTR(const xq_half_bits) wv; /* packed: Av [rank_v, dkv], or Wv [d, dkv] */
    XQ_PTR(const xq_half_bits) q;  /* [batch, H, dh] before RoPE */
    XQ_PTR(xq_half_bits) out;      /* [batch, H, dh] */
    XQ_PTR(float) lse;             /* [batch, H] or null */
    XQ_PTR(xq_half_bits) partial_out;
    XQ_PTR(float) partial_lse;
    XQ_PTR(int) counters;
    int tokens_per_split; /* a multiple of the kernel's tile_tokens, <= split_tokens */
};

/* dequantize (templates/dequantize.cu.lt): pages to rows, unfused step 1. Row p * page + t is token t
 * of table entry p; rows beyond a sequence's length are not written. Grid: (table entries' tiles of 16
 * tokens, column blocks of all streams). */
struct xq_dequantize_params {
    struct xq_table table;
    XQ_PTR(const xq_byte) pages;
    XQ_PTR(xq_half_bits) k; /* [rows, rank_k or d] */
    XQ_PTR(xq_half_bits) v; /* [rows, rank_v]; unused for method x */
    int batch;
    int entries; /* at least indptr[batch]; the grid covers this many, and those beyond are skipped */
};

/* gemm (templates/gemm.cu.lt): y = x * W with packed W [k, n], f16 in and out, f32 accumulation.
 * Row r of y is at y + (r / page) * page_stride + (r % page) * row_stride (elements), so that it
 * can write fp16 KV pages; page = rows gives a plain matrix. Grid: (row tiles, column tiles). */
struct xq_gemm_params {
    XQ_PTR(const xq_half_bits) x; /* [rows, k] */
    XQ_PTR(const xq_half_bits) w; /* packed [k, n] */
    XQ_PTR(xq_half_bits) y;
    long long page_stride;
    int rows;
    int k; /* multiple of 64 */
    int n; /* multiple of 64 */
    int page;
    int row_stride;
};

/* rope (templates/rope.cu.lt): rotates the K rows of fp16 KV pages in place, unfused step 3. Entry p of
 * the table is page p of kv. Rows beyond a sequence's length are not touched. */
struct xq_rope_params {
    struct xq_table table;
    XQ_PTR(xq_half_bits) kv; /* pages [2, page, Hkv, dh] */
    int batch;
    int entries;
};

/* kv_append (templates/kv_append.cu.lt): rotates k, and scatters k and v into fp16 KV pages. */
struct xq_kv_append_params {
    struct xq_table table;
    XQ_PTR(const xq_half_bits) k; /* [tokens, Hkv, dh] before RoPE */
    XQ_PTR(const xq_half_bits) v; /* [tokens, Hkv, dh] */
    XQ_PTR(const int) token_sequence;
    XQ_PTR(const int) token_position;
    XQ_PTR(xq_half_bits) kv; /* pages [2, page, Hkv, dh]: K rows, then V rows */
    int tokens;
};

/* kv_attend (templates/kv_attend.cu.lt): flash-decoding over fp16 KV pages; K is already rotated.
 * table.indices may be null. Grid: (splits, Hkv, batch); partials and counters as for attend. */
struct xq_kv_attend_params {
    struct xq_table table;
    XQ_PTR(const xq_half_bits) kv;
    XQ_PTR(const xq_half_bits) q; /* [batch, H, dh] before RoPE */
    XQ_PTR(xq_half_bits) out;
    XQ_PTR(float) lse;
    XQ_PTR(xq_half_bits) partial_out;
    XQ_PTR(float) partial_lse;
    XQ_PTR(int) counters;
    int tokens_per_split;
};

/* lib/ceilings.cuh: measuring what a GPU can do. Grids are free. */
struct xq_ceiling_copy_params {
    XQ_PTR(const void) source;
    XQ_PTR(void) destination;
    long long count; /* 16-byte pieces: a multiple of 8 * all threads */
};

struct xq_ceiling_matrix_params {
    XQ_PTR(float) out; /* one for each thread */
    int rounds;        /* each of 8 products of 16 x 8 x 16 a warp */
};

#endif
