#include "feedback.h"

#include "../base/half.h"

#include <stdlib.h>
#include <string.h>

/* What is added to the diagonal, of its mean: directions that cost nothing would take any error. */
static const double ridge = 1e-3;

int32_t feedback_groups(const feedback_stream *s)
{
    return (s->latents * s->latent_width + s->group - 1) / s->group;
}

/* The latent of a stored channel; -1: it is padding, or beyond the row. */
static int32_t latent_of(const feedback_stream *s, int32_t channel)
{
    return channel < s->latents * s->latent_width && channel % s->latent_width < s->rank
               ? channel / s->latent_width
               : -1;
}

/* What an error of both channels costs. */
static double joint_cost(const feedback_stream *s, const feedback_source *source, int32_t latent,
                         int32_t one, int32_t other)
{
    const int32_t cols = source->cols / s->latents, first = latent * cols;
    const float *a = source->a + (size_t)(one % s->latent_width) * (size_t)source->cols + first;
    const float *b = source->a + (size_t)(other % s->latent_width) * (size_t)source->cols + first;
    double sum = 0;
    for (int32_t c = 0; c < cols; c++)
        sum += (double)a[c] * (double)b[c] * (source->cost ? (double)source->cost[first + c] : 1);
    return sum;
}

/* The lower triangle of h [group, group]; padding is a cost of its own. */
static void fill(const feedback_stream *s, const feedback_source *sources, int count, int32_t first,
                 double *h)
{
    const size_t n = (size_t)s->group;
    double trace = 0;
    int32_t channels = 0;
    memset(h, 0, sizeof *h * n * n);
    for (int32_t i = 0; i < s->group; i++) {
        const int32_t latent = latent_of(s, first + i);
        for (int32_t j = 0; j <= i && latent >= 0; j++)
            for (int k = 0; k < count && latent_of(s, first + j) == latent; k++)
                h[(size_t)i * n + (size_t)j] += joint_cost(s, &sources[k], latent, first + i, first + j);
        trace += h[(size_t)i * n + (size_t)i];
        channels += latent >= 0;
    }
    const double least = trace > 0 ? ridge * trace / channels : 1;
    for (size_t i = 0; i < n; i++)
        h[i * n + i] += latent_of(s, first + (int32_t)i) < 0 ? 1 : least;
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
        fill(s, sources, count, g * s->group, h);
        eliminate(h, n, feedback + (size_t)g * n * n);
    }
    free(h);
    return h != NULL;
}
