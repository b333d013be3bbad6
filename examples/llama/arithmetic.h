/* Small loops of the forward pass, written so that a compiler vectorizes them. */
#ifndef LLAMA_ARITHMETIC_H
#define LLAMA_ARITHMETIC_H

#include <cblas.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* e^x to two units in the last place. x is clamped to [-87, 88], where the result is a normal float. */
static inline float exp_of(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + 0x1.8p23f; /* its low bits hold the nearest whole exponent of 2 */
    float n = shifted - 0x1.8p23f;
    float f = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)(((uint32_t)bits + 127) << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* The value of an f16, given as its 16 bits. */
static inline float half_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023,
             bits;
    float value = (float)mantissa * 0x1p-24f;
    if (exponent == 0)
        return sign ? -value : value;
    bits = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Sums into sixteen partial sums, which a compiler keeps in vector registers. */
static inline float sum_of_squares(const float *x, int width)
{
    float part[16] = {0}, sum = 0;
    int i = 0;
    for (; i + 16 <= width; i += 16)
        for (int j = 0; j < 16; j++)
            part[j] += x[i + j] * x[i + j];
    for (; i < width; i++)
        sum += x[i] * x[i];
    for (int j = 0; j < 16; j++)
        sum += part[j];
    return sum;
}

/* Scales each of `rows` rows of `width` values to a root mean square of 1 and multiplies it by `gain`. y
 * may be x. */
static inline void rms_norm(const float *x, const float *gain, double epsilon, int64_t rows, int width,
                            float *y)
{
    for (int64_t r = 0; r < rows; r++, x += width, y += width) {
        float factor = (float)(1 / sqrt((double)sum_of_squares(x, width) / width + epsilon));
        for (int i = 0; i < width; i++)
            y[i] = x[i] * factor * gain[i];
    }
}

/* y [rows, out] = x [rows, in] times the transpose of w [out, in]; checkpoints store w in this shape. */
static inline void project(const float *x, const float *w, int64_t rows, int in, int out, float *y)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, out, in, 1, x, in, w, in, 0, y, out);
}

/* y [rows, out] = x [rows, in] times w [in, out]. Rows of x, w and y begin x_stride, w_stride and y_stride
 * values apart. */
static inline void multiply(const float *x, int x_stride, const float *w, int w_stride, int64_t rows,
                            int in, int out, float *y, int y_stride)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, out, in, 1, x, x_stride, w, w_stride,
                0, y, y_stride);
}

#endif
