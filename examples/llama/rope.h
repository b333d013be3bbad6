/* Rotary position embedding: the pair (i, i + head_dim / 2) of a head turns by position * frequency(i). */
#ifndef LLAMA_ROPE_H
#define LLAMA_ROPE_H

#include "config.h"

#include <stdint.h>

typedef struct rope {
    int half;             /* pairs per head */
    float *cosine, *sine; /* [positions, half] */
} rope;

void rope_make(rope *r, const rope_config *c, int head_dim, int positions);
void rope_free(rope *r);

/* Turns x [rows, heads, head_dim] in place. Row 0 is at position `first`. */
void rope_turn(const rope *r, float *x, int64_t rows, int heads, int first);

#endif
