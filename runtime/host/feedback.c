#include "feedback.h"

#include "../base/half.h"

#include <stdlib.h>
#include <string.h>

/* What is added to the diagonal, of its mean: directions that cost nothing would take any error. */
static const double ridge = 1e-3;

/* Groups of one latent. */
static int32_t latent_groups(const feedback_stream *s)
{
    return (s->latent_width + s->group - 1) / s->group;
}

int32_t feedback_groups(const feedback_stream *s)
{
    return s->latents * latent_groups(s);
}

/* What an error of both channels of a latent costs. */
static double joint_cost(const feedback_stream *s, const feedback_source *source, int32_t latent,
                         int32_t one, int32_t other)
{
    const int32_t cols = source->cols / s->latents, first = latent * cols;
    const float *a = source->a + (size_t)one * (size_t)source->cols + first;
    const float *b = source->a + (size_t)other * (size_t)source->cols + first;
    double sum = 0;
    for (int32_t c = 0; c < cols; c++)
        sum += (double)a[c] * (double)b[c] * (source->cost ? (double)source->cost[first + c] : 1);
    return sum;
}

/* The lower triangle of h [group, group], for the group that begins with channel `first` of a latent. What
 * lies beyond the latent's rank is padding, and has a cost of its own. */
static void fill(const feedback_stream *s, const feedback_source *sources, int count, int32_t latent,
                 int32_t first, double *h)
{
    const size_t n = (size_t)s->group;
    const int32_t left = s->rank - first, channels = left < 0 ? 0 : left < s->group ? left : s->group;
    double trace = 0;
    memset(h, 0, sizeof *h * n * n);
    for (int32_t i = 0; i < channels; i++) {
        for (int32_t j = 0; j <= i; j++)
            for (int k = 0; k < count; k++)
                h[(size_t)i * n + (size_t)j] += joint_cost(s, &sources[k], latent, first + i, first + j);
        trace += h[(size_t)i * n + (size_t)i];
    }
    const double least = trace > 0 ? ridge * trace / channels : 1;
    for (size_t i = 0; i < n; i++)
        h[i * n + i] += (int32_t)i < channels ? least : 1;
}

/* Channels from the last on: what a channel's errors make the others' cost, without what later ones make up
 * for. */
static void eliminate(double *h, size_t n, float *feedback)
{
    for (size_t i = n; i-- > 0;)
        for (size_t j = 0; j < n; j++) {
            const double factor = j < i ? h[i * n + j] / h[i * n + i] : 0;
            feedback[j * n + i] = half_round((float)-factor);
            for (size_t k = 0; k <= j && j < i; k++)
                h[j * n + k] -= factor * h[i * n + k];
        }
}

bool feedback_make(const feedback_stream *s, const feedback_source *sources, int count, float *feedback)
{
    const size_t n = (size_t)s->group;
    double *h = (double *)malloc(sizeof *h * n * n);
    for (int32_t g = 0; h && g < feedback_groups(s); g++) {
        fill(s, sources, count, g / latent_groups(s), g % latent_groups(s) * s->group, h);
        eliminate(h, n, feedback + (size_t)g * n * n);
    }
    free(h);
    return h != NULL;
}
