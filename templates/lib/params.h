/* The arguments of every kernel: one struct for each kernel, passed by value. The kernels and the runtime
 * both include this file, so that they agree by construction. XQ_PTR(T) is a device pointer: T * in a
 * kernel, uint64_t on the host. */
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

/* Pages of each sequence; xq_page_table. indices may be null (entry p is page p) if a kernel says so. */
struct xq_table {
    XQ_PTR(const int) indptr;
    XQ_PTR(const int) indices;
    XQ_PTR(const int) last_page_len;
};

/* The positions of tokens and queries, and the tokens that each query sees. Every pointer may be null.
 * Token t of sequence i is at position token_offset[i] + t (null: t). Query j of sequence i is row
 * query_indptr[i] + j of q (null: each sequence has one row). Its position is
 * query_position[query_indptr[i] + j] (null: the queries have the last positions, in order). A query sees
 * the tokens at positions up to its own and within the sliding window. With a tree mask the last tokens of
 * a sequence, as many as it has queries, are drafts: they are at the queries' positions, and query j sees
 * draft t if bit t % 32 of tree_mask[row * mask_words + t / 32] is set. */
struct xq_queries {
    XQ_PTR(const int) query_indptr;   /* [batch + 1] */
    XQ_PTR(const int) query_position; /* [queries] */
    XQ_PTR(const int) token_offset;   /* [batch] */
    XQ_PTR(const unsigned) tree_mask; /* [queries, mask_words] */
    int mask_words;
    int queries; /* rows of q */
    int blocks;  /* blocks of query rows per sequence: the grid's third dimension is batch * blocks */
};

/* Unquantized newest tokens of the streams with per-channel groups: sequence i owns slot slots[i] of
 * layout.tail_bytes; token t is in row t % group. Pointers are null if no stream has such groups. */
struct xq_tails {
    XQ_PTR(xq_byte) pool;
    XQ_PTR(const int) slots; /* [batch] */
};

/* A packed matrix: the codes in fragment order (docs/layout.md). 8-bit weights have a scale for each
 * column. int8 weights that a kernel multiplies as integers also have sums for each column. */
struct xq_matrix {
    XQ_PTR(const xq_byte) data;
    XQ_PTR(const float) scale; /* [columns]; null for 16-bit weights */
    /* [groups of rows, columns]: sums of int8 codes over the rows of each quantization group; null if no
     * kernel multiplies codes as integers */
    XQ_PTR(const float) sums;
};

/* append (templates/append.cu.lt): quantize x, or x*U, or (x - accumulator)[*U], into pages: the streams
 * with per-token groups. Grid: (tiles of 16 tokens, column blocks over those streams).
 * append_channel (templates/append_channel.cu.lt): the streams with per-channel groups. Grid: (groups of a
 * sequence that the call may touch, blocks of 64 channels over those streams, batch). */
struct xq_append_params {
    struct xq_table table;
    XQ_PTR(const xq_half_bits) x;     /* [tokens, d] */
    XQ_PTR(const int) token_sequence; /* [tokens] */
    XQ_PTR(const int) token_position; /* [tokens] */
    XQ_PTR(const int) append_indptr;  /* [batch + 1]; append_channel: rows of x of a sequence */
    XQ_PTR(xq_byte) pages;
    struct xq_tails tails;
    XQ_PTR(const xq_byte) accumulator; /* pages: cross-layer methods, except at the base layer */
    /* latent, and rotated x: [d, width of k or x]; latent-cl: Ukv, [d, width of x]; else null */
    struct xq_matrix uk;
    struct xq_matrix uv;           /* latent [d, width of v] */
    XQ_PTR(const xq_half_bits) fk; /* feedback of k or x (docs/layout.md); null without it */
    XQ_PTR(const xq_half_bits) fv; /* latent: feedback of v */
    int tokens;
    int step; /* append_channel: the number of this launch, from 0, of the `steps` that the kernel states */
};

/* accumulate (templates/accumulate.cu.lt): accumulator += this layer's deltas, for every cached token; the
 * base layer starts it. Grid: (table entries' tiles of 16 tokens, column blocks). */
struct xq_accumulate_params {
    struct xq_table table;
    XQ_PTR(const xq_byte) pages;
    struct xq_tails tails;
    XQ_PTR(xq_byte) accumulator;
    struct xq_matrix ukvt; /* latent-cl: Ukv transposed, [width of x, d] */
    int batch;
    int entries; /* as for dequantize */
};

/* absorb (templates/absorb.cu.lt): for the columns of K that need no rematerializing, q' = Wk q, as B
 * fragments for attend: absorbed [batch * blocks, Hkv, query_rows / 8, latent_width / 64, 32 lanes, 8]
 * words (4 steps of 16 channels, 2 registers each), to be multiplied by the row's power of two,
 * absorbed_scale [batch * blocks, Hkv, latent_width / 64, query_rows] f32 (of a row, attend reads that of
 * the first chunk; the others are scratch); and q * bias, absorbed_bias [batch * blocks, Hkv, query_rows]
 * f32. Grid: (chunks of 64 channels, Hkv, batch * blocks). */
struct xq_absorb_params {
    struct xq_queries queries;
    XQ_PTR(const xq_half_bits) q;
    struct xq_matrix wk;    /* wk_absorb: [Hkv * absorbed columns (padded), latent_width] */
    XQ_PTR(const float) bk; /* [Hkv, absorbed columns (padded)] or null */
    XQ_PTR(int) counters;   /* [batch * blocks, Hkv], zero before and after */
    XQ_PTR(unsigned) absorbed;
    XQ_PTR(float) absorbed_scale;
    XQ_PTR(float) absorbed_bias;
};

/* key_norms (templates/key_norms.cu.lt): each head's share of the sums of squares of K's rows, for qk_norm
 * "row". Row p * page + t is token t of table entry p. Grid: (runs of tile_tokens tokens of the longest
 * sequence, Hkv, batch). */
struct xq_key_norms_params {
    struct xq_table table;
    XQ_PTR(const xq_byte) pages; /* cross-layer methods: the accumulator's */
    struct xq_tails tails;
    struct xq_matrix wk;    /* as attend's */
    XQ_PTR(const float) bk; /* [Hkv, key columns] or null */
    XQ_PTR(float) sums;     /* [rows, Hkv] */
};

/* attend (templates/attend.cu.lt): the fused kernel. Grid: (splits, Hkv, batch * queries.blocks).
 * partial_out [queries, splits, H, dh] f16 and partial_lse [queries, splits, H] f32 (log2 units) are used
 * where a sequence has more than one split; counters [batch * queries.blocks, Hkv] int32 are zero before
 * and after. */
struct xq_attend_params {
    struct xq_table table;
    struct xq_queries queries;
    XQ_PTR(const xq_byte) pages; /* cross-layer methods: the accumulator's */
    struct xq_tails tails;
    struct xq_matrix wk;        /* Ak [latent_width, Hkv * key columns], or Wk [d, Hkv * key columns] */
    struct xq_matrix wv;        /* Av [latent_width, dkv], or Wv [d, dkv] */
    XQ_PTR(const float) bk;     /* [Hkv, key columns] or null */
    XQ_PTR(const float) bv;     /* [dkv] or null */
    XQ_PTR(const float) k_norm; /* [key columns] or null */
    XQ_PTR(const float) sinks;  /* [H], natural logarithms, or null */
    XQ_PTR(const unsigned) absorbed;
    XQ_PTR(const float) absorbed_scale;
    XQ_PTR(const float) absorbed_bias;
    XQ_PTR(const float) key_sums; /* qk_norm "row": from key_norms; else null */
    XQ_PTR(const xq_half_bits) q; /* [queries, H, dh] before RoPE */
    XQ_PTR(xq_half_bits) out;     /* [queries, H, dh] */
    XQ_PTR(float) lse;            /* [queries, H] or null */
    XQ_PTR(xq_half_bits) partial_out;
    XQ_PTR(float) partial_lse;
    XQ_PTR(int) counters;
    int tokens_per_split; /* a multiple of the kernel's tile_tokens, <= split_tokens */
};

/* merge (templates/merge.cu.lt): merges two results over different tokens into one. Grid: (rows). */
struct xq_merge_params {
    XQ_PTR(const xq_half_bits) out_a; /* [rows, dh] */
    XQ_PTR(const xq_half_bits) out_b;
    XQ_PTR(const float) lse_a; /* [rows], natural logarithm */
    XQ_PTR(const float) lse_b;
    XQ_PTR(xq_half_bits) out; /* may be out_a or out_b */
    XQ_PTR(float) lse;        /* or null; may be lse_a or lse_b */
    int rows;
};

/* dequantize (templates/dequantize.cu.lt): dequantizes pages (and tails) to rows, unfused step 1. Row
 * p * page + t is token t of table entry p; rows beyond a sequence's length are not written. Grid: (table
 * entries' tiles of 16 tokens, column blocks of all streams). */
struct xq_dequantize_params {
    struct xq_table table;
    XQ_PTR(const xq_byte) pages; /* cross-layer methods: the accumulator's */
    struct xq_tails tails;
    XQ_PTR(xq_half_bits) k; /* [rows, width of k, or of x] */
    XQ_PTR(xq_half_bits) v; /* [rows, width of v]; unused if there is one stream */
    int batch;
    int entries; /* at least indptr[batch]; the grid covers this many, and those beyond are skipped */
};

/* gemm (templates/gemm.cu.lt): y = x * W (* scale) (+ bias) with packed W [k, n], f32 accumulation.
 * Row r of y is at y + (r / page) * page_stride + (r % page) * row_stride (elements), so that it
 * can write fp16 KV pages; page = rows gives a plain matrix. Row r of x is at x + r * x_stride. Grid: (row
 * tiles, column tiles). */
struct xq_gemm_params {
    XQ_PTR(const xq_half_bits) x; /* [rows, latents * k]; latents: the grid's third dimension */
    struct xq_matrix w;           /* packed [k, latents * n] */
    XQ_PTR(const float) bias;     /* [latents * n] or null */
    XQ_PTR(xq_half_bits) y;
    long long page_stride;
    int rows;
    int k; /* multiple of 64 */
    int n; /* multiple of 16 */
    int page;
    int row_stride;
    int x_stride;
};

/* rope (templates/rope.cu.lt): normalizes (QK-norm) and rotates the K rows of fp16 KV pages in place, which
 * is unfused step 3. Entry p of the table is page p of kv. Rows beyond a sequence's length are not
 * touched. */
struct xq_rope_params {
    struct xq_table table;
    struct xq_queries queries;  /* positions: token_offset, and those of drafts */
    XQ_PTR(xq_half_bits) kv;    /* pages [2, page, Hkv, dh] */
    XQ_PTR(const float) k_norm; /* [dh] ([dkv] for qk_norm "row") or null */
    int batch;
    int entries;
};

/* kv_append (templates/kv_append.cu.lt): normalizes and rotates k, and scatters k and v into KV pages.
 * Elements of the pages have 16 bits, or are e4m3 in units of k_scale and v_scale (kv_append_e4m3). Without
 * e4m3 both scales are null. */
struct xq_kv_append_params {
    struct xq_table table;
    XQ_PTR(const xq_half_bits) k; /* [tokens, Hkv, dh] before QK-norm and RoPE */
    XQ_PTR(const xq_half_bits) v; /* [tokens, Hkv, dh] */
    XQ_PTR(const int) token_sequence;
    XQ_PTR(const int) token_position;
    XQ_PTR(const int) rotary_position; /* [tokens]; null: token_position */
    XQ_PTR(const float) k_norm;
    XQ_PTR(const float) k_scale; /* [1] */
    XQ_PTR(const float) v_scale; /* [1] */
    XQ_PTR(xq_byte) kv;          /* pages [2, page, Hkv, dh]: K rows, then V rows */
    int tokens;
};

/* kv_attend (templates/kv_attend.cu.lt): flash-decoding over KV pages as kv_append writes them; K is
 * already rotated. table.indices may be null. Grid: (splits, Hkv, batch * queries.blocks); partials and
 * counters as for attend. */
struct xq_kv_attend_params {
    struct xq_table table;
    struct xq_queries queries;
    XQ_PTR(const xq_byte) kv;
    XQ_PTR(const float) k_scale; /* [1] */
    XQ_PTR(const float) v_scale; /* [1] */
    XQ_PTR(const float) sinks;
    XQ_PTR(const xq_half_bits) q; /* [queries, H, dh] before RoPE */
    XQ_PTR(xq_half_bits) out;
    XQ_PTR(float) lse;
    XQ_PTR(xq_half_bits) partial_out;
    XQ_PTR(float) partial_lse;
    XQ_PTR(int) counters;
    int tokens_per_split;
};

/* A fault in the arrays that a call was given. runtime/launch/fault_text.c says what each kind means, and
 * which fields it uses. */
struct xq_fault {
    int kind; /* enum xq_fault_kind of lib/call_check.h; 0: none */
    int sequence;
    long long index, value, other, limit;
};

/* The record in which check leaves the fault of a call, in memory that the host reads too. */
struct xq_fault_record {
    struct xq_fault fault;
    long long call; /* calls of a plan are numbered */
    int full;       /* 1: the host has not taken the fault yet */
    int reserved;
};

/* check (templates/check.cu.lt): looks for faults (lib/call_check.h) in the arrays that a call of a checked
 * plan was given. Pointers are null if the call has no such array. Grid: one block. */
struct xq_check_params {
    struct xq_table table;
    struct xq_queries queries;        /* attend */
    XQ_PTR(const int) token_sequence; /* append: [tokens] */
    XQ_PTR(const int) token_position;
    XQ_PTR(const int) rotary_position;
    XQ_PTR(const int) append_indptr; /* [batch + 1] */
    XQ_PTR(const int) slots;         /* [batch] */
    XQ_PTR(const int) counters;      /* attend: counters in the workspace */
    XQ_PTR(int) gate; /* becomes 1 if there is a fault, else 0; later kernels of the call read it */
    XQ_PTR(struct xq_fault_record) record;
    XQ_PTR(int) bell; /* becomes 1 when a record is filled */
    long long call;
    long long max_tokens;    /* most tokens of a sequence: the call's, else the plan's */
    long long max_pages;     /* most entries of the table: the plan's */
    long long pool_pages;    /* pages of the pool; 0: unknown */
    long long table_entries; /* dequantize: the number of entries that the call states; else -1 */
    int own_max_tokens;      /* whether max_tokens is the call's */
    int batch;
    int page;              /* tokens of a page */
    int tokens;            /* append: rows of x */
    int max_queries;       /* most queries of a sequence */
    int sequence_counters; /* counters that follow one another for one sequence */
    int counter_sequences; /* sequences that have counters of their own */
    int pages_once;        /* accumulate: a page may stand in the table only once */
    long long counters_at; /* offset of the counters in the workspace, in bytes */
};

/* lib/ceilings.cuh: measuring what a GPU can do. Grids are free. */
struct xq_ceiling_copy_params {
    XQ_PTR(const void) source;
    XQ_PTR(void) destination;
    long long count; /* 16-byte pieces: a multiple of 8 * all threads */
};

struct xq_ceiling_matrix_params {
    XQ_PTR(float) out; /* one for each thread */
    int rounds;        /* rounds of 8 products of 16 x 8 x 16 per warp */
};

#endif
