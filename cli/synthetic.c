#include "synthetic.h"

#include "../autotune/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 (S. Vigna, public domain) */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double uniform(uint64_t *state)
{
    return ((double)(next(state) >> 11) + 0.5) * 0x1p-53;
}

static double normal(uint64_t *state)
{
    double radius = sqrt(-2 * log(uniform(state)));
    return radius * cos(2 * M_PI * uniform(state));
}

static uint64_t stream(uint64_t seed, uint64_t purpose, uint64_t which)
{
    uint64_t state = seed ^ purpose << 56;
    state = next(&state) + which;
    return next(&state);
}

/* W = left·diag(s)·right, both factors normal, s_i = (i + 1)^-1/2; entries end up near 1/sqrt(rows), so
 * that x·W is about as large as x. */
xq_status synthetic_projection(uint64_t seed, int which, int rows, int cols, float *w, error *err)
{
    int inner = rows < cols ? rows : cols;
    size_t left_count = (size_t)rows * (size_t)inner, right_count = (size_t)inner * (size_t)cols;
    size_t count = (size_t)rows * (size_t)cols;
    double *left = malloc(sizeof *left * (left_count + right_count + count)), energy = 0;
    if (!left)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for synthetic weights");
    double *right = left + left_count, *product = right + right_count;
    uint64_t state = stream(seed, 1, (uint64_t)which);
    for (size_t i = 0; i < left_count; i++)
        left[i] = normal(&state);
    for (size_t i = 0; i < right_count; i++)
        right[i] = normal(&state) / sqrt((double)(i / (size_t)cols) + 1);
    reference_multiply(left, right, product, rows, inner, cols);
    for (int i = 0; i < inner; i++)
        energy += 1.0 / (i + 1);
    for (size_t i = 0; i < count; i++)
        w[i] = (float)(product[i] / sqrt(energy * rows));
    free(left);
    return XQ_OK;
}

/* Channel c's own numbers are the same for every sequence: they belong to the model. */
void synthetic_activations(uint64_t seed, int sequence, int64_t tokens, int width, float *x)
{
    uint64_t model = stream(seed, 2, 0), text = stream(seed, 3, (uint64_t)sequence);
    for (int c = 0; c < width; c++) {
        double size = exp(0.5 * normal(&model)), mean = 0.3 * size * normal(&model);
        if (uniform(&model) < 1.0 / 128) { /* an outlier channel */
            size *= 6;
            mean = (normal(&model) < 0 ? -3 : 3) * size;
        }
        double drift = normal(&text);
        for (int64_t t = 0; t < tokens; t++) {
            drift = 0.6 * drift + 0.8 * normal(&text); /* variance stays 1 */
            x[(size_t)t * (size_t)width + (size_t)c] = (float)(mean + size * drift);
        }
    }
}

void synthetic_queries(uint64_t seed, int sequence, int count, double size, float *q)
{
    uint64_t state = stream(seed, 4, (uint64_t)sequence);
    for (int i = 0; i < count; i++)
        q[i] = (float)(size * normal(&state));
}
