/* Feedback of quantization errors (docs/method.md): the channels of a group are quantized one after the
 * other, and each is moved, before it is, by what makes up best for the errors of those before it.
 *
 * With the errors e of a group costing eᵀ·H·e, the best move of channel i is the sum of F[i][j]·e[j] over
 * the channels j before it, F the unit triangular factor of H (H = WᵀDW, F = I - W). Here H = A·M·Aᵀ
 * for what the stream is multiplied by, A, and what errors of the products cost, M. */
#ifndef RUNTIME_HOST_FEEDBACK_H
#define RUNTIME_HOST_FEEDBACK_H

#include <stdbool.h>
#include <stdint.h>

enum { FEEDBACK_MOST_CHANNELS = 256 }; /* of a group */

/* A stream of `latents` latents side by side, each of `rank` channels, stored as latent_width. Groups begin
 * anew with each latent. */
typedef struct feedback_stream {
    int32_t latents, rank, latent_width, group;
} feedback_stream;

/* One of the matrices that the stream is multiplied by: a [rank, cols], row major; the columns of each
 * latent are those that it is multiplied by. cost [cols, block]: row c holds what errors of column c and of
 * each column of its block cost together, symmetric and positive semidefinite; columns of different blocks
 * do nothing to each other. block divides the columns of a latent. cost NULL: all columns are alike. */
typedef struct feedback_source {
    const float *a, *cost;
    int32_t cols, block;
} feedback_source;

/* Groups of a stored row. The last one of a latent may be short, and is stored as the others. */
int32_t feedback_groups(const feedback_stream *s);

/* feedback [groups, group, group]: entry (g, j, i) is F[i][j], what an error of channel j adds to channel
 * i, an f16 value; 0 for i <= j and for padding. False: out of memory. */
bool feedback_make(const feedback_stream *s, const feedback_source *sources, int count, float *feedback);

#endif
