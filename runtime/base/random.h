/* Reproducible random numbers: the same seed gives the same sequence on every machine (splitmix64). */
#ifndef RUNTIME_BASE_RANDOM_H
#define RUNTIME_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct random_stream {
    uint64_t state;
} random_stream;

/* Streams with different (seed, index) are independent. */
random_stream random_begin(uint64_t seed, uint64_t index);

uint64_t random_bits(random_stream *r);
double random_unit(random_stream *r);                    /* [0, 1) */
int random_between(random_stream *r, int low, int high); /* low .. high, both included */
float random_normal(random_stream *r);                   /* mean 0, deviation 1 */
void random_shuffle(random_stream *r, int32_t *values, size_t count);

/* Returns one of the arguments after the count; e.g. random_choice(r, 3, 32, 64, 128). */
int random_choice(random_stream *r, int count, ...);

#endif
