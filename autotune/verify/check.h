/* Shared by the two checks of appended values: append.c (exact values) and latent.c (projections). */
#ifndef AUTOTUNE_VERIFY_CHECK_H
#define AUTOTUNE_VERIFY_CHECK_H

#include "checks.h"

/* A check of one stream of one sequence, after one round of appending. */
typedef struct verify_check {
    const verify_state *v;
    const case_shape *shape;
    int layer;
    case_round round;
    int sequence, begin, end; /* tokens of the round: begin .. end - 1 */
    int stream;
    const page_stream *s;
    float *feedback; /* the stream's feedback (runtime/host/feedback.h), owned; NULL: none */
    page_sequence now;
    const verify_snapshot *after;
    const verify_snapshot *before; /* the accumulator that append read, or NULL */
    const double *u, *magnitude_u; /* latents and rotated x: U [hidden, width], rounded and padded, and its
                                      magnitudes; else NULL */
    verify_result *result;
} verify_check;

/* Scratch memory for one group of tokens. */
typedef struct verify_room {
    uint16_t *x, *params; /* [group, width or hidden]; [4, width] */
    uint8_t *codes;       /* [2, group, width] */
    double *values;       /* [3, group, width] and [2, group, hidden] */
} verify_room;

/* The activation of token t in the spec's dtype: [hidden]. */
const uint16_t *verify_activation(const verify_check *k, int t);

/* The activation of token t, converted to f16 as kernels do: [hidden]. */
void verify_activation_f16(const verify_check *k, int t, uint16_t *x);

/* The values of token t that append caches, f16: [hidden]. For cross-layer methods the accumulator of the
 * layers before is subtracted from the activation. */
void verify_delta(const verify_check *k, int t, uint16_t *x);

/* These compare the cached latents of a token, of a group of tokens, and of a tail's row with exact
 * projections. */
void verify_latent_token(const verify_check *k, int t, verify_room *room);
void verify_latent_group(const verify_check *k, int group, verify_room *room);
void verify_latent_tail(const verify_check *k, int t, verify_room *room);

static inline const uint8_t *verify_page_of(const verify_check *k, int t)
{
    return k->now.pool + (size_t)k->now.pages[t / k->v->spec.page] * k->v->codec->page_bytes;
}

#endif
