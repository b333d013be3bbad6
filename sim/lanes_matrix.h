/* Matrix products on fragments of mma.m16n8; part of lanes_body.h.
 *
 * Products are exact. They are added in f32, each with one rounding to nearest. A sum starts at the
 * accumulator and takes k in ascending order. The order and the inner precision of hardware are
 * unspecified.
 *
 * One register of a fragment is an 8 x 8 matrix of halves (8 x 16 of bytes) in row order: lane l holds two
 * halves (or four bytes) of row l / 4. Register e of the accumulators holds, in lane l, row
 * l / 4 + 8 (e / 2) and column 2 (l % 4) + e % 2. So four lanes of register 0 are the even columns of a
 * row, and four lanes of register 1 the odd ones. B is kept in the same order, even columns first. */

static inline void canonical_lanes(u32 *d)
{
    LANES
    {
        float f = sim_float(d[i]);
        d[i] = f != f ? 0x7fffffffu : d[i];
    }
}

/* The portable version, in which a row of the result is one vector. Products of f16 are exact in f32, as
 * are those of bf16 that neither overflow nor underflow. So the sums come out the same without a fused
 * multiply-add. */
typedef float row8 __attribute__((vector_size(32)));
#if defined(__FMA__) && defined(__AVX2__)
#include <immintrin.h>
#define MULTIPLY_ADD(x, y, z) ((row8)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#else
#define MULTIPLY_ADD(x, y, z) ((x) * (y) + (z))
#endif

/* The registers of d may be registers of c, because all of c is read before any of d is written. */
static void product(int k, float (*a)[32], float (*b)[8], const u32 *const *c, u32 *const *d)
{
    row8 sum[16];
    for (int row = 0; row < 16; row++) {
        memcpy(&sum[row], c[row / 8 * 2] + row % 8 * 4, 16);
        memcpy((float *)&sum[row] + 4, c[row / 8 * 2 + 1] + row % 8 * 4, 16);
    }
    for (int row = 0; row < 16; row += 4) {
        row8 s0 = sum[row], s1 = sum[row + 1], s2 = sum[row + 2], s3 = sum[row + 3];
        for (int i = 0; i < k; i++) {
            row8 y, zero = {0};
            memcpy(&y, b[i], 32);
            s0 = MULTIPLY_ADD(zero + a[row][i], y, s0);
            s1 = MULTIPLY_ADD(zero + a[row + 1][i], y, s1);
            s2 = MULTIPLY_ADD(zero + a[row + 2][i], y, s2);
            s3 = MULTIPLY_ADD(zero + a[row + 3][i], y, s3);
        }
        sum[row] = s0;
        sum[row + 1] = s1;
        sum[row + 2] = s2;
        sum[row + 3] = s3;
    }
    for (int row = 0; row < 16; row++) {
        memcpy(d[row / 8 * 2] + row % 8 * 4, &sum[row], 16);
        memcpy(d[row / 8 * 2 + 1] + row % 8 * 4, (float *)&sum[row] + 4, 16);
    }
    for (int e = 0; e < 4; e++)
        canonical_lanes(d[e]);
}

#if defined(__F16C__) && defined(__AVX2__)
static inline UNUSED void widen_row_f16(float *to, const uint16_t *from)
{
    _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from)));
}
#else
static inline UNUSED void widen_row_f16(float *to, const uint16_t *from)
{
    for (int i = 0; i < 8; i++)
        to[i] = sim_half_to_float(from[i]);
}
#endif
static inline UNUSED void widen_row_bf16(float *to, const uint16_t *from)
{
    for (int i = 0; i < 8; i++)
        to[i] = sim_bfloat_to_float(from[i]);
}
static inline void widen_row_e4m3(float *to, const uint8_t *from)
{
    for (int i = 0; i < 16; i++)
        to[i] = sim_from_e4m3(from[i]);
}
static inline void widen_row_e5m2(float *to, const uint8_t *from)
{
    for (int i = 0; i < 16; i++)
        to[i] = sim_from_e5m2(from[i]);
}

/* T: type of an element; per_row: elements in a row of one register. */
#define MATRIX(name, T, per_row, widen_row)                                                                \
    static void name(int k, const u32 *const *a, const u32 *const *b, const u32 *const *c, u32 *const *d)  \
    {                                                                                                      \
        float fa[16][32], fb[32][8], row[per_row];                                                         \
        for (int r = 0; r < 2 * k / per_row; r++)                                                          \
            for (int g = 0; g < 8; g++)                                                                    \
                widen_row(fa[(r & 1) * 8 + g] + (r >> 1) * per_row, (const T *)a[r] + g * per_row);        \
        for (int r = 0; r < k / per_row; r++)                                                              \
            for (int n = 0; n < 8; n++) {                                                                  \
                widen_row(row, (const T *)b[r] + n * per_row);                                             \
                for (int i = 0; i < per_row; i++)                                                          \
                    fb[r * per_row + i][n / 2 + n % 2 * 4] = row[i];                                       \
            }                                                                                              \
        product(k, fa, fb, c, d);                                                                          \
    }
#define PAIR(name)                                                                                         \
    static void name##_pair(int k, const u32 *const *a, const u32 *const *const *b,                        \
                            const u32 *const *const *c, u32 *const *const *d)                              \
    {                                                                                                      \
        name(k, a, b[0], c[0], d[0]);                                                                      \
        name(k, a, b[1], c[1], d[1]);                                                                      \
    }
MATRIX(matrix_e4m3, uint8_t, 16, widen_row_e4m3)
MATRIX(matrix_e5m2, uint8_t, 16, widen_row_e5m2)
PAIR(matrix_e4m3)
PAIR(matrix_e5m2)

#if defined(__AVX512F__) && defined(__AVX512BW__)
/* These widen 16 halves to f32. */
static inline __m512 widen_f16(__m256i h)
{
    return _mm512_cvtph_ps(h);
}
static inline __m512 widen_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Converts B [k, 8] to f32. Each row is stored as its even columns, then its odd columns. */
#define COLUMNS_512(name, widen)                                                                           \
    static inline void name(int k, const u32 *const *b, float(*columns)[8])                                \
    {                                                                                                      \
        const __m512i low = _mm512_set_epi16(59, 43, 27, 11, 51, 35, 19, 3, 58, 42, 26, 10, 50, 34, 18, 2, \
                                             57, 41, 25, 9, 49, 33, 17, 1, 56, 40, 24, 8, 48, 32, 16, 0);  \
        const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(4));                                  \
        for (int r = 0; r < k / 8; r++) {                                                                  \
            __m512i n0 = _mm512_loadu_si512(b[r]), n4 = _mm512_loadu_si512(b[r] + 16);                     \
            __m512i k0 = _mm512_permutex2var_epi16(n0, low, n4);                                           \
            __m512i k4 = _mm512_permutex2var_epi16(n0, high, n4);                                          \
            _mm512_store_ps(columns[r * 8], widen(_mm512_castsi512_si256(k0)));                            \
            _mm512_store_ps(columns[r * 8 + 2], widen(_mm512_extracti64x4_epi64(k0, 1)));                  \
            _mm512_store_ps(columns[r * 8 + 4], widen(_mm512_castsi512_si256(k4)));                        \
            _mm512_store_ps(columns[r * 8 + 6], widen(_mm512_extracti64x4_epi64(k4, 1)));                  \
        }                                                                                                  \
    }

/* Loads four floats and repeats them four times. This is in assembly because compilers load all of them
 * ahead of their use and then shuffle them, and the port for shuffles is busy with multiplications. */
static inline __m512 four_times(const float *p)
{
    __m512 v;
    __asm__("vbroadcastf32x4 %1, %0" : "=v"(v) : "m"(*(const float(*)[4])p));
    return v;
}

static inline __m512 without_nan(__m512 v)
{
    const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
    return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan);
}

/* Adds the products for one k to the sums. x [q] holds four values of k for each of four rows of A, and
 * `kk` chooses one of them. A vector has sixteen accumulators, which are the four even (or odd) columns of
 * four rows. The element of A is spread over its row, and the columns of B are repeated in all four
 * rows. */
#define STEP(kk)                                                                                           \
    for (int q = 0; q < 2; q++)                                                                            \
        v[q] = _mm512_permute_ps(x[q], kk * 0x55);                                                         \
    for (int n = 0; n < products; n++) {                                                                   \
        const __m512 even_b = four_times(columns[n][at + kk]);                                             \
        const __m512 odd_b = four_times(columns[n][at + kk] + 4);                                          \
        for (int q = 0; q < 2; q++) {                                                                      \
            sum[n][q] = _mm512_fmadd_ps(v[q], even_b, sum[n][q]);                                          \
            sum[n][2 + q] = _mm512_fmadd_ps(v[q], odd_b, sum[n][2 + q]);                                   \
        }                                                                                                  \
    }
/* Computes 1 or 2 `products` with one A. The upper eight rows come first and then the lower eight, so that
 * all sums stay in registers. Results are written last, since their registers may be those of any
 * operand. */
#define MATRIX_512(name, widen, spread_columns)                                                            \
    static inline __attribute__((always_inline)) void name##_all(                                          \
        const int products, int k, const u32 *const *a, const u32 *const *const *b,                        \
        const u32 *const *const *c, u32 *const *const *d)                                                  \
    {                                                                                                      \
        _Alignas(64) float columns[2][16][8];                                                              \
        const __m512i halves = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);                                   \
        __m512 results[2][2][4];                                                                           \
        for (int n = 0; n < products; n++)                                                                 \
            spread_columns(k, b[n], columns[n]);                                                           \
        for (int h = 0; h < 2; h++) {                                                                      \
            __m512 sum[2][4]; /* even columns of rows 0-3, of rows 4-7; odd ones likewise */               \
            for (int n = 0; n < products; n++)                                                             \
                for (int i = 0; i < 4; i++)                                                                \
                    sum[n][i] = _mm512_loadu_ps(c[n][h * 2 + i / 2] + i % 2 * 16);                         \
            for (int r = 0; r < k / 8; r++) {                                                              \
                __m512i rows[2]; /* four rows of eight k */                                                \
                __m512 x[2], v[2];                                                                         \
                int at = r * 8;                                                                            \
                for (int q = 0; q < 2; q++) {                                                              \
                    rows[q] = _mm512_permutexvar_epi64(halves, _mm512_loadu_si512(a[r * 2 + h] + q * 16)); \
                    x[q] = widen(_mm512_castsi512_si256(rows[q]));                                         \
                }                                                                                          \
                STEP(0)                                                                                    \
                STEP(1)                                                                                    \
                STEP(2)                                                                                    \
                STEP(3)                                                                                    \
                at += 4;                                                                                   \
                for (int q = 0; q < 2; q++)                                                                \
                    x[q] = widen(_mm512_extracti64x4_epi64(rows[q], 1));                                   \
                STEP(0)                                                                                    \
                STEP(1)                                                                                    \
                STEP(2)                                                                                    \
                STEP(3)                                                                                    \
            }                                                                                              \
            for (int n = 0; n < products; n++)                                                             \
                for (int i = 0; i < 4; i++)                                                                \
                    results[n][h][i] = without_nan(sum[n][i]);                                             \
        }                                                                                                  \
        for (int n = 0; n < products; n++)                                                                 \
            for (int i = 0; i < 8; i++)                                                                    \
                _mm512_storeu_ps(d[n][i / 2] + i % 2 * 16, results[n][i / 4][i % 4]);                      \
    }                                                                                                      \
    static void name(int k, const u32 *const *a, const u32 *const *b, const u32 *const *c, u32 *const *d)  \
    {                                                                                                      \
        name##_all(1, k, a, &b, &c, &d);                                                                   \
    }                                                                                                      \
    static void name##_pair(int k, const u32 *const *a, const u32 *const *const *b,                        \
                            const u32 *const *const *c, u32 *const *const *d)                              \
    {                                                                                                      \
        name##_all(2, k, a, b, c, d);                                                                      \
    }
COLUMNS_512(columns_f16, widen_f16)
COLUMNS_512(columns_bf16, widen_bf16)
MATRIX_512(matrix_f16, widen_f16, columns_f16)
MATRIX_512(matrix_bf16, widen_bf16, columns_bf16)
#else
MATRIX(matrix_f16, uint16_t, 8, widen_row_f16)
MATRIX(matrix_bf16, uint16_t, 8, widen_row_bf16)
PAIR(matrix_f16)
PAIR(matrix_bf16)
#endif
