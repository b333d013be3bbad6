/* Chooses how attention is split over tokens, so that the grid (splits, KV heads, blocks of query rows)
 * fills the GPU.
 *
 * More splits mean more blocks at once, but each split writes and reads a partial result for every query,
 * and reads the weights again. The choice is as many splits as one wave of blocks has room for, but no
 * more than keep the partial results a small share of the bytes that must be read anyway. If a kernel's
 * own limit asks for more blocks than one wave, the choice is as many as fill the last wave. */
#ifndef RUNTIME_LAUNCH_SPLIT_H
#define RUNTIME_LAUNCH_SPLIT_H

#include <stdint.h>

struct split_limits {
    int32_t tile_tokens;  /* a split is a multiple of this */
    int64_t most_tokens;  /* tokens of the longest split; a multiple of tile_tokens */
    int64_t resident;     /* blocks that run at once on the whole GPU */
    int32_t kv_heads;     /* KV heads: the blocks of one split of one block of query rows */
    double partial_bytes; /* bytes written and read again for one split of one query */
    double token_bytes;   /* bytes read for a cached token of one sequence */
    double shared_bytes;  /* bytes read once for all sequences: the weights */
    double share;         /* largest share that partial results may add to those bytes, e.g. 0.04 */
    int64_t partials;     /* partial results of one query and split that the workspace has room for */
};

/* The size of one call of attend. */
struct split_load {
    int64_t batch;      /* sequences, >= 1 */
    int64_t queries;    /* queries of all sequences, >= 1 */
    int64_t blocks;     /* blocks of query rows of all sequences, >= batch */
    int64_t max_tokens; /* tokens of the longest sequence, >= 0 */
};

/* Returns the tokens per split. */
int64_t split_tokens(const struct split_limits *limits, const struct split_load *load);

/* Returns the splits of a sequence of `max_tokens` tokens, with tokens_per_split tokens each; at least
 * 1. */
int64_t split_count(int64_t max_tokens, int64_t tokens_per_split);

/* Returns the number of partial results that a workspace must have room for: those of the splits that the
 * kernel asks for, and enough for small loads to fill the GPU. `queries_per_block` is the number of
 * queries in one block of query rows, >= 1. */
int64_t split_partials(const struct split_limits *limits, int64_t max_queries, int64_t queries_per_block,
                       int64_t max_tokens);

#endif
