#include "rope.h"
#include "fail.h"

#include <math.h>
#include <stdlib.h>

static double frequency(const rope_config *c, int i, int half)
{
    double plain = pow(c->theta, -(double)i / half), stretched = plain / c->factor;
    if (!c->by_frequency)
        return stretched;
    double turns = c->original_length * plain / (2 * M_PI); /* over the length of the model's training */
    double share = (turns - c->low_factor) / (c->high_factor - c->low_factor);
    share = fmin(fmax(share, 0), 1);
    return (1 - share) * stretched + share * plain;
}

void rope_make(rope *r, const rope_config *c, int head_dim, int positions)
{
    r->half = head_dim / 2;
    size_t count = (size_t)positions * (size_t)r->half;
    r->cosine = room(count, sizeof *r->cosine);
    r->sine = room(count, sizeof *r->sine);
    for (int i = 0; i < r->half; i++) {
        double turn = frequency(c, i, r->half);
        for (int p = 0; p < positions; p++) {
            size_t at = (size_t)p * (size_t)r->half + (size_t)i;
            r->cosine[at] = (float)cos(p * turn);
            r->sine[at] = (float)sin(p * turn);
        }
    }
}

void rope_free(rope *r)
{
    free(r->cosine);
    free(r->sine);
}

void rope_turn(const rope *r, float *x, int64_t rows, int heads, int first)
{
    for (int64_t t = 0; t < rows; t++) {
        const float *cosine = r->cosine + (first + t) * r->half, *sine = r->sine + (first + t) * r->half;
        for (int h = 0; h < heads; h++, x += 2 * r->half) {
            float *high = x + r->half;
            for (int i = 0; i < r->half; i++) {
                float a = x[i], b = high[i];
                x[i] = a * cosine[i] - b * sine[i];
                high[i] = b * cosine[i] + a * sine[i];
            }
        }
    }
}
