/* Feedback of quantization errors (docs/method.md). The channels of a group are quantized one after the
 * other. Each channel is moved, before it is quantized, by the amount that makes up best for the errors of
 * the channels before it.
 *
 * Let the errors e of a group cost eᵀ·H·e. The best move of channel i is then the sum of F[i][j]·e[j] over
 * the channels j before it, where F = I - W and H = WᵀDW with D diagonal and W unit lower triangular. Here
 * H = A·M·Aᵀ, where A is the matrix that the stream is multiplied by, and M the cost of errors of the
 * products. */
#ifndef RUNTIME_HOST_FEEDBACK_H
#define RUNTIME_HOST_FEEDBACK_H

#include <stdbool.h>
#include <stdint.h>

enum { FEEDBACK_MOST_CHANNELS = 256 }; /* channels of a group */

/* A stream of `latents` latents side by side, each of `rank` channels, stored as latent_width columns.
 * Groups begin anew with each latent. */
typedef struct feedback_stream {
    int32_t latents, rank, latent_width, group;
} feedback_stream;

/* One of the matrices that the stream is multiplied by.
 *   - a [rank, cols], row major: each latent is multiplied by its own columns, cols / latents of them.
 *   - cost [cols, block]: row c holds the cost of errors of column c together with errors of each column
 *     of its block, symmetric and positive semidefinite. Columns of different blocks do not affect each
 *     other's cost. block divides the columns of a latent. cost NULL: all columns cost the same. */
typedef struct feedback_source {
    const float *a, *cost;
    int32_t cols, block;
} feedback_source;

/* Returns the number of groups of a stored row. The last group of a latent may have fewer channels; it is
 * stored at full size. */
int32_t feedback_groups(const feedback_stream *s);

/* Fills feedback [groups, group, group]: entry (g, j, i) is F[i][j] of group g, the factor by which an
 * error of channel j is added to channel i, an f16 value; 0 for i <= j and for padding. False: out of
 * memory. */
bool feedback_make(const feedback_stream *s, const feedback_source *sources, int count, float *feedback);

#endif
