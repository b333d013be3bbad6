#include "elements.h"

#include "../../autotune/reference/rounding.h"
#include "../../runtime/base/e4m3.h"
#include "../../runtime/base/half.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

uint16_t *elements_normals(random_stream *r, bool bf16, size_t count, float deviation)
{
    uint16_t *bits = malloc((count + 1) * sizeof *bits);
    cr_assert(bits);
    for (size_t i = 0; i < count; i++) {
        double value = random_normal(r) * deviation;
        bits[i] = bf16 ? rounding_to_bfloat(value) : rounding_to_half(value);
    }
    return bits;
}

double *elements_doubles(const uint16_t *bits, bool bf16, size_t count)
{
    double *values = malloc((count + 1) * sizeof *values);
    cr_assert(values);
    for (size_t i = 0; i < count; i++) {
        uint32_t wide = (uint32_t)bits[i] << 16;
        float value;
        memcpy(&value, &wide, sizeof value);
        values[i] = bf16 ? value : half_to_float(bits[i]);
    }
    return values;
}

void elements_narrow(uint16_t *bits, bool bf16, size_t count, float scale, uint8_t *codes)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t code = e4m3_quantize(bf16 ? half_from_bfloat(bits[i]) : half_to_float(bits[i]), scale);
        float value = e4m3_decode(code) * scale;
        bits[i] = bf16 ? half_to_bfloat(value) : half_from_float(value);
        if (codes)
            codes[i] = code;
    }
}

void *elements_packed(const void *w, int rows, int cols, int bytes)
{
    char *packed = malloc((size_t)(rows * cols * bytes)), *next = packed;
    cr_assert(packed);
    for (int tile = 0; tile < cols / 16; tile++)
        for (int step = 0; step < rows / 16; step++)
            for (int i = 0; i < 32 * 4 * 2; i++, next += bytes) {
                int half = i % 2, reg = i / 2 % 4, lane = i / 8;
                int column = tile * 16 + (reg >= 2 ? 8 : 0) + lane / 4;
                int row = step * 16 + (reg & 1 ? 8 : 0) + lane % 4 * 2 + half;
                memcpy(next, (const char *)w + (row * cols + column) * bytes, (size_t)bytes);
            }
    return packed;
}
