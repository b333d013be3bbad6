#if !defined(__clang__)
#pragma GCC optimize("O3") /* butterflies over rows */
#endif

#include "rotation.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

double rotation_sign(uint64_t i)
{
    uint64_t z = i * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) >> 63 ? -1 : 1;
}

static void change_signs(double *x, int rows, int n)
{
    for (int i = 0; i < n; i++)
        if (rotation_sign((uint64_t)(unsigned)n << 32 | (unsigned)i) < 0)
            for (int r = 0; r < rows; r++)
                x[(size_t)r * (size_t)n + (size_t)i] *= -1;
}

/* x [rows, m] ← x·C or x·Cᵀ, where C is the orthonormal DCT-II. */
static xq_status cosine(double *x, size_t rows, int m, CBLAS_TRANSPOSE turned, error *err)
{
    size_t width = (size_t)m, count = rows * width;
    double *c = malloc(sizeof *c * (width * width + count));
    if (!c)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a rotation of %zu numbers",
                         count);
    double *y = c + width * width;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++)
            c[(size_t)i * width + (size_t)j] = sqrt((j ? 2.0 : 1.0) / m) * cos(M_PI * (i + 0.5) * j / m);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, turned, (int)rows, m, m, 1, x, m, c, m, 0, y, m);
    memcpy(x, y, sizeof *x * count);
    free(c);
    return XQ_OK;
}

/* row [size, m] ← H·row, where H is orthonormal, by butterflies. */
static void hadamard(double *row, int size, int m)
{
    for (int half = 1; half < size; half *= 2)
        for (int first = 0; first < size; first += 2 * half) {
            double *restrict low = row + first * m, *restrict high = low + half * m;
            for (int i = 0; i < half * m; i++) {
                double a = low[i], b = high[i];
                low[i] = (a + b) * M_SQRT1_2;
                high[i] = (a - b) * M_SQRT1_2;
            }
        }
}

/* x ← x·(H ⊗ C), or x·(H ⊗ C)ᵀ. */
static xq_status spread(double *x, int rows, int n, CBLAS_TRANSPOSE turned, error *err)
{
    int power = n & -n, rest = n / power;
    if (rest > 1 && cosine(x, (size_t)rows * (size_t)power, rest, turned, err) != XQ_OK)
        return err->status;
    for (int r = 0; r < rows; r++)
        hadamard(x + (size_t)r * (size_t)n, power, rest);
    return XQ_OK;
}

xq_status rotation_apply(double *x, int rows, int n, error *err)
{
    change_signs(x, rows, n);
    return spread(x, rows, n, CblasNoTrans, err);
}

xq_status rotation_undo(double *x, int rows, int n, error *err)
{
    if (spread(x, rows, n, CblasTrans, err) == XQ_OK)
        change_signs(x, rows, n);
    return err->status;
}
