/* Runs of append on the software device beside the pages and tails that it must leave, for tests. The
 * expected bytes are those of the quantizer of expected_cache.c. Failures end the test. */
#ifndef TESTS_APPEND_RUN_H
#define TESTS_APPEND_RUN_H

#include "../support/kernel_fixture.h"
#include "expected_cache.h"

#define APPEND_BATCH     3
#define APPEND_LONGEST   720 /* most tokens of a sequence */
#define APPEND_MAX_CALLS 6

typedef struct append_run {
    fixture f;
    random_stream r;
    expected_cache cache, held; /* the expected cache; the expected accumulator */
    bool bf16_x, bf16_u, dense, subtracts;
    int hidden, streams;
    uint16_t *u[PAGE_MAX_STREAMS]; /* [hidden, width] of the weights' type; NULL: x is not projected */
    uint64_t device_u[PAGE_MAX_STREAMS], device_feedback[PAGE_MAX_STREAMS];
    int32_t pages[APPEND_BATCH][APPEND_LONGEST / 16 + 1]; /* pages of each sequence in the pool */
    int32_t slots[APPEND_BATCH];
    int pool;
    uint16_t *x[APPEND_BATCH]; /* [APPEND_LONGEST, hidden] as given to the kernels */
    int lengths[APPEND_BATCH];
    uint8_t *tails; /* bytes that the tail pool must hold */
    size_t tails_bytes;
    uint64_t device_pages, device_tails, device_held;
    test_kernel *by_token, *by_channel;
} append_run;

/* A cache of this spec on the device and on the host. The projection has one power of two in each column,
 * so that latents are exact in any order of summation, unless it is dense. */
void append_run_open(append_run *t, const char *spec_json, int seed, bool dense);
void append_run_close(append_run *t);

/* The value that a channel of a stream must hold for a token, before it is quantized. */
double append_run_value(const append_run *t, int s, int b, int token, int channel);

/* Updates the expected bytes for tokens [start, end), which have just been appended. */
void append_run_expect(append_run *t, int s, int b, int start, int end);

/* Appends counts[b] tokens to sequence b. The rows of x are sorted by sequence, or shuffled if no kernel
 * needs them sorted. */
void append_run_tokens(append_run *t, const int counts[APPEND_BATCH]);

/* Fails the test unless every byte of pages and tails is as expected. */
void append_run_check(append_run *t);

/* Appends random numbers of tokens in this many calls, and checks the bytes after each. */
void append_run_all(append_run *t, int calls);

#endif
