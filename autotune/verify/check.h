/* Shared by the two checks of what append cached: append.c (exact values) and latent.c (projections). */
#ifndef AUTOTUNE_VERIFY_CHECK_H
#define AUTOTUNE_VERIFY_CHECK_H

#include "checks.h"

/* A stream of a sequence, as a round of appending left it. */
typedef struct verify_check {
    const verify_state *v;
    const case_shape *shape;
    int layer;
    case_round round;
    int sequence, begin, end; /* begin, end: tokens of the round */
    int stream;
    const page_stream *s;
    float *feedback; /* of the stream (runtime/host/feedback.h), owned; NULL: none */
    page_sequence now;
    const verify_snapshot *after;
    const verify_snapshot *before; /* the accumulator that append found, or NULL */
    const double *u, *magnitude_u; /* latents, rotated x: [hidden, width], rounded and padded, and its
                                      magnitudes; else NULL */
    verify_result *result;
} verify_check;

/* Room for one group of tokens. */
typedef struct verify_room {
    uint16_t *x, *params; /* [group, width or hidden]; [4, width] */
    uint8_t *codes;       /* [2, group, width] */
    double *values;       /* [3, group, width] and [2, group, hidden] */
} verify_room;

/* The activation of token t, of the spec's type: [hidden]. */
const uint16_t *verify_activation(const verify_check *k, int t);

/* The same as f16. */
void verify_activation_f16(const verify_check *k, int t, uint16_t *x);

/* The activation of token t, f16: [hidden]; of cross-layer methods, what the layers before leave of it. */
void verify_delta(const verify_check *k, int t, uint16_t *x);

/* Latents of a token, of a group of tokens, and of a tail's row, against exact projections. */
void verify_latent_token(const verify_check *k, int t, verify_room *room);
void verify_latent_group(const verify_check *k, int group, verify_room *room);
void verify_latent_tail(const verify_check *k, int t, verify_room *room);

static inline const uint8_t *verify_page_of(const verify_check *k, int t)
{
    return k->now.pool + (size_t)k->now.pages[t / k->v->spec.page] * k->v->codec->page_bytes;
}

#endif
