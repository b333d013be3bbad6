/* How attention is split over tokens, so that the grid (splits, KV heads, sequences) fills the GPU.
 *
 * More splits mean more blocks at once, but each split writes and reads a partial result, and reads the
 * weights again. The choice: as many splits as one wave of blocks has room for, no more than keep the
 * partial results a small share of the bytes that must be read anyway; where a kernel's own limit asks for
 * more blocks than one wave, as many as fill the last wave. */
#ifndef RUNTIME_SPLIT_H
#define RUNTIME_SPLIT_H

#include <stdint.h>

struct split_limits {
    int32_t tile_tokens;  /* a split is a multiple of this */
    int64_t most_tokens;  /* of one split; a multiple of tile_tokens */
    int64_t resident;     /* blocks that run at once on the whole GPU */
    int32_t kv_heads;     /* blocks of one split of one sequence */
    double partial_bytes; /* written and read again for one split of one sequence */
    double token_bytes;   /* read for a cached token of one sequence */
    double shared_bytes;  /* read once for all sequences: the weights */
    double share;         /* the most that partial results may add to those, e.g. 0.04 */
};

/* Tokens per split for `batch` >= 1 sequences of at most `max_tokens` >= 0. */
int64_t split_tokens(const struct split_limits *limits, int64_t batch, int64_t max_tokens);

/* Splits of a sequence of `max_tokens` at that many tokens each; at least 1. */
int64_t split_count(int64_t max_tokens, int64_t tokens_per_split);

/* No batch up to `max_batch` with sequences up to `max_tokens` has more than this many splits in all. */
int64_t split_most(const struct split_limits *limits, int64_t max_batch, int64_t max_tokens);

#endif
