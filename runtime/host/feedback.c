#include "feedback.h"

#include "../base/half.h"

#include <stdlib.h>
#include <string.h>

/* Share of the mean of the diagonal that is added to the diagonal. Without it, errors could grow without
 * bound in directions that cost nothing. */
static const double ridge = 1e-3;

/* Number of groups of one latent. */
static int32_t latent_groups(const feedback_stream *s)
{
    return (s->latent_width + s->group - 1) / s->group;
}

int32_t feedback_groups(const feedback_stream *s)
{
    return s->latents * latent_groups(s);
}

/* Scratch memory for one group: its costs, and columns of a source at its channels. */
typedef struct feedback_room {
    double *h;       /* [group, group] */
    double *turned;  /* [block, group] */
    double *product; /* [group] */
} feedback_room;

static int32_t block_of(const feedback_source *source)
{
    return source->cost ? source->block : 1;
}

static bool room_create(const feedback_stream *s, const feedback_source *sources, int count,
                        feedback_room *r)
{
    const size_t n = (size_t)s->group;
    size_t block = 1;
    for (int k = 0; k < count; k++)
        block = (size_t)block_of(&sources[k]) > block ? (size_t)block_of(&sources[k]) : block;
    r->h = (double *)malloc(sizeof *r->h * n * (n + block + 1));
    if (!r->h)
        return false;
    r->turned = r->h + n * n;
    r->product = r->turned + n * block;
    return true;
}

/* Adds A·M·Aᵀ to h for one block of columns of A, from `column` on, where M is the cost matrix of the
 * block. `a` points to the first of these columns, at the group's first channel. The loops over j
 * vectorize. */
static void add_block(const feedback_source *source, const float *a, int32_t column, size_t channels,
                      size_t n, const feedback_room *r)
{
    const size_t block = (size_t)block_of(source);
    const float *cost = source->cost ? source->cost + (size_t)column * block : NULL;
    for (size_t j = 0; j < channels; j++)
        for (size_t k = 0; k < block; k++)
            r->turned[k * n + j] = a[j * (size_t)source->cols + k];
    for (size_t c = 0; c < block; c++) {
        memset(r->product, 0, sizeof *r->product * channels);
        for (size_t k = 0; k < block; k++) {
            const double weight = cost ? cost[c * block + k] : 1;
            for (size_t j = 0; j < channels; j++)
                r->product[j] += weight * r->turned[k * n + j];
        }
        for (size_t i = 0; i < channels; i++) {
            const double value = r->turned[c * n + i];
            for (size_t j = 0; j <= i; j++)
                r->h[i * n + j] += value * r->product[j];
        }
    }
}

/* Fills the lower triangle of h, for the group that begins with channel `first` of a latent; returns what
 * was added to its diagonal. Channels beyond the latent's rank are padding, and have a cost of their
 * own. */
static double fill(const feedback_stream *s, const feedback_source *sources, int count, int32_t latent,
                   int32_t first, const feedback_room *r)
{
    const size_t n = (size_t)s->group;
    const int32_t left = s->rank - first, channels = left < 0 ? 0 : left < s->group ? left : s->group;
    double trace = 0;
    memset(r->h, 0, sizeof *r->h * n * n);
    for (int k = 0; k < count && channels > 0; k++) {
        const int32_t cols = sources[k].cols / s->latents, begin = latent * cols;
        const float *rows = sources[k].a + (size_t)first * (size_t)sources[k].cols;
        for (int32_t c = begin; c < begin + cols; c += block_of(&sources[k]))
            add_block(&sources[k], rows + c, c, (size_t)channels, n, r);
    }
    for (size_t i = 0; (int32_t)i < channels; i++)
        trace += r->h[i * n + i];
    const double least = trace > 0 ? ridge * trace / channels : 1;
    for (size_t i = 0; i < n; i++)
        r->h[i * n + i] += (int32_t)i < channels ? least : 1;
    return least;
}

/* Eliminates channels from the last to the first. The pivot of a channel is the cost of its own errors,
 * without the part that later channels make up for. It is at least `least`, except for rounding of the
 * costs. */
static void eliminate(double *h, size_t n, double least, float *feedback)
{
    for (size_t i = n; i-- > 0;) {
        const double pivot = h[i * n + i] > least ? h[i * n + i] : least;
        for (size_t j = 0; j < n; j++) {
            const double factor = j < i ? h[i * n + j] / pivot : 0;
            feedback[j * n + i] = half_round((float)-factor);
            for (size_t k = 0; k <= j && j < i; k++)
                h[j * n + k] -= factor * h[i * n + k];
        }
    }
}

bool feedback_make(const feedback_stream *s, const feedback_source *sources, int count, float *feedback)
{
    const size_t n = (size_t)s->group;
    feedback_room r;
    if (!room_create(s, sources, count, &r))
        return false;
    for (int32_t g = 0; g < feedback_groups(s); g++) {
        const double least =
            fill(s, sources, count, g / latent_groups(s), g % latent_groups(s) * s->group, &r);
        eliminate(r.h, n, least, feedback + (size_t)g * n * n);
    }
    free(r.h);
    return true;
}
