/* Matrix products on fragments of mma.m16n8 (part of lanes_body.h).
 *
 * Products are exact; sums are f32 (fused, rounded to nearest), in ascending order of k from the
 * accumulator on. Hardware's order and inner precision are unspecified.
 *
 * A register of a fragment is an 8 x 8 matrix of halves (8 x 16 of bytes) in row order: lane l holds a pair
 * of row l / 4. Accumulators: register e of lane l is row l / 4 + 8 (e / 2), column 2 (l % 4) + e % 2, so
 * that four lanes of registers 0 and 1 are the even and the odd columns of a row. B is kept in that column
 * order. */

static inline void canonical_lanes(u32 *d)
{
    LANES
    {
        float f = sim_float(d[i]);
        d[i] = f != f ? 0x7fffffffu : d[i];
    }
}

/* The portable one: a row of the result is one vector. Products of f16 are exact in f32, so that without a
 * fused multiply-add the sums come out the same. */
typedef float row8 __attribute__((vector_size(32)));
#if defined(__FMA__) && defined(__AVX2__)
#include <immintrin.h>
#define MULTIPLY_ADD(x, y, z) ((row8)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#else
#define MULTIPLY_ADD(x, y, z) ((x) * (y) + (z))
#endif

/* d may be any of c's registers: all of c is read before any of d is written. */
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

/* T: an element; per_row: elements of a register's row. */
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
MATRIX(matrix_e4m3, uint8_t, 16, widen_row_e4m3)
MATRIX(matrix_e5m2, uint8_t, 16, widen_row_e5m2)

#if defined(__AVX512F__) && defined(__AVX512BW__)
/* 16 halves to floats. */
static inline __m512 widen_f16(__m256i h)
{
    return _mm512_cvtph_ps(h);
}
static inline __m512 widen_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Sixteen accumulators a vector: the four even (or odd) columns of four rows. For each k, four elements of
 * A are spread over their rows, and the columns of B repeated in all of them. */
#define MATRIX_512(name, widen)                                                                            \
    static void name(int k, const u32 *const *a, const u32 *const *b, const u32 *const *c, u32 *const *d)  \
    {                                                                                                      \
        _Alignas(64) float columns[16][8];                                                                 \
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
        __m512 even[4], odd[4]; /* rows 4 q to 4 q + 3 */                                                  \
        for (int q = 0; q < 4; q++) {                                                                      \
            even[q] = _mm512_loadu_ps(c[q / 2 * 2] + q % 2 * 16);                                          \
            odd[q] = _mm512_loadu_ps(c[q / 2 * 2 + 1] + q % 2 * 16);                                       \
        }                                                                                                  \
        const __m512i halves = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);                                   \
        for (int r = 0; r < k / 8; r++) {                                                                  \
            __m512 x[4][2]; /* by q: four rows of four k, twice */                                         \
            for (int q = 0; q < 4; q++) {                                                                  \
                __m512i rows = _mm512_loadu_si512(a[r * 2 + q / 2] + q % 2 * 16);                          \
                rows = _mm512_permutexvar_epi64(halves, rows);                                             \
                x[q][0] = widen(_mm512_castsi512_si256(rows));                                             \
                x[q][1] = widen(_mm512_extracti64x4_epi64(rows, 1));                                       \
            }                                                                                              \
            STEP(0, 0)                                                                                     \
            STEP(0, 1)                                                                                     \
            STEP(0, 2)                                                                                     \
            STEP(0, 3)                                                                                     \
            STEP(1, 0)                                                                                     \
            STEP(1, 1)                                                                                     \
            STEP(1, 2)                                                                                     \
            STEP(1, 3)                                                                                     \
        }                                                                                                  \
        const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));                             \
        for (int q = 0; q < 4; q++) {                                                                      \
            even[q] =                                                                                      \
                _mm512_mask_mov_ps(even[q], _mm512_cmp_ps_mask(even[q], even[q], _CMP_UNORD_Q), nan);      \
            odd[q] = _mm512_mask_mov_ps(odd[q], _mm512_cmp_ps_mask(odd[q], odd[q], _CMP_UNORD_Q), nan);    \
            _mm512_storeu_ps(d[q / 2 * 2] + q % 2 * 16, even[q]);                                          \
            _mm512_storeu_ps(d[q / 2 * 2 + 1] + q % 2 * 16, odd[q]);                                       \
        }                                                                                                  \
    }
#define STEP(half, kk)                                                                                     \
    {                                                                                                      \
        __m512 be = _mm512_broadcast_f32x4(_mm_load_ps(columns[r * 8 + half * 4 + kk]));                   \
        __m512 bo = _mm512_broadcast_f32x4(_mm_load_ps(columns[r * 8 + half * 4 + kk] + 4));               \
        for (int q = 0; q < 4; q++) {                                                                      \
            __m512 v = _mm512_permute_ps(x[q][half], kk * 0x55);                                           \
            even[q] = _mm512_fmadd_ps(v, be, even[q]);                                                     \
            odd[q] = _mm512_fmadd_ps(v, bo, odd[q]);                                                       \
        }                                                                                                  \
    }
MATRIX_512(matrix_f16, widen_f16)
MATRIX_512(matrix_bf16, widen_bf16)
#else
MATRIX(matrix_f16, uint16_t, 8, widen_row_f16)
MATRIX(matrix_bf16, uint16_t, 8, widen_row_bf16)
#endif
