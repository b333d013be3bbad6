#include "synthetic.h"

#include "../runtime/base/random.h"

#include <math.h>
#include <stdlib.h>

/* Each purpose and number has its own stream of random numbers. */
static random_stream stream(uint64_t seed, uint64_t purpose, int which)
{
    return random_begin(seed, purpose << 32 | (uint32_t)which);
}

/* The size and mean of channel c are the same for every sequence, because they belong to the model. */
void synthetic_activations(uint64_t seed, int sequence, int64_t tokens, int width, float *x)
{
    random_stream model = stream(seed, 2, 0), text = stream(seed, 3, sequence);
    for (int c = 0; c < width; c++) {
        double size = exp(0.5 * random_normal(&model)), mean = 0.3 * size * random_normal(&model);
        if (random_unit(&model) < 1.0 / 128) { /* an outlier channel */
            size *= 6;
            mean = (random_normal(&model) < 0 ? -3 : 3) * size;
        }
        double drift = random_normal(&text);
        for (int64_t t = 0; t < tokens; t++) {
            drift = 0.6 * drift + 0.8 * random_normal(&text); /* the variance stays 1 */
            x[(size_t)t * (size_t)width + (size_t)c] = (float)(mean + size * drift);
        }
    }
}

xq_status synthetic_layer(uint64_t common, uint64_t own, int sequence, int64_t tokens, int width, float *x,
                          error *err)
{
    size_t count = (size_t)tokens * (size_t)width;
    float *part = malloc(sizeof *part * count);
    if (!part)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for %zu activations", count);
    synthetic_activations(common, sequence, tokens, width, x);
    synthetic_activations(own, sequence, tokens, width, part);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(sqrt(0.9) * x[i] + sqrt(0.1) * part[i]);
    free(part);
    return XQ_OK;
}

void synthetic_vector(uint64_t seed, int which, int count, double mean, double deviation, float *v)
{
    random_stream random = stream(seed, 5, which);
    for (int i = 0; i < count; i++)
        v[i] = (float)(mean + deviation * random_normal(&random));
}

void synthetic_queries(uint64_t seed, int sequence, int count, double size, float *q)
{
    random_stream random = stream(seed, 4, sequence);
    for (int i = 0; i < count; i++)
        q[i] = (float)(size * random_normal(&random));
}
