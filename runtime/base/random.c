#include "random.h"

#include <math.h>
#include <stdarg.h>

random_stream random_begin(uint64_t seed, uint64_t index)
{
    random_stream r = {seed ^ (index + 1) * 0x9e3779b97f4a7c15u};
    r.state = random_bits(&r) + index;
    return r;
}

uint64_t random_bits(random_stream *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double random_unit(random_stream *r)
{
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

int random_between(random_stream *r, int low, int high)
{
    return low + (int)(random_bits(r) % ((uint64_t)(high - low) + 1));
}

float random_normal(random_stream *r)
{
    double radius = sqrt(-2 * log(1 - random_unit(r)));
    return (float)(radius * cos(2 * M_PI * random_unit(r)));
}

void random_shuffle(random_stream *r, int32_t *values, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = random_bits(r) % i;
        int32_t value = values[i - 1];
        values[i - 1] = values[j];
        values[j] = value;
    }
}

int random_choice(random_stream *r, int count, ...)
{
    int pick = random_between(r, 0, count - 1), value = 0;
    va_list args;
    va_start(args, count);
    for (int i = 0; i <= pick; i++)
        value = va_arg(args, int);
    va_end(args);
    return value;
}
