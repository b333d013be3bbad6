/* Packed f16 arithmetic with the host's conversion instructions; part of lanes_body.h. The halves of 32
 * words are treated as 64 numbers in a row. The results equal those of the functions on one number from
 * which HALF_2 and HALF_3 make theirs. */
#include <immintrin.h>

static inline __m512 load_16_halves(const void *p, int i)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p + i));
}

static inline void store_16_halves(void *p, int i, __m512 v)
{
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m256i halves = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256((__m256i *)p + i, _mm256_mask_mov_epi16(halves, nan, _mm256_set1_epi16(0x7fff)));
}

/* sum_to_odd (lanes_body.h) on sixteen numbers. */
static inline __m512 sums_to_odd(__m512 p, __m512 z)
{
    const __m512 zero = _mm512_setzero_ps(), s = p + z, v = s - p, e = (p - (s - v)) + (z - v);
    const __m512i bits = _mm512_castps_si512(s), one = _mm512_set1_epi32(1);
    const __mmask16 above = _mm512_cmp_ps_mask(e, zero, _CMP_GT_OQ);
    const __mmask16 below = _mm512_cmp_ps_mask(e, zero, _CMP_LT_OQ);
    const __mmask16 even = _mm512_testn_epi32_mask(bits, one) & (above | below);
    const __mmask16 away = ~(above ^ _mm512_cmp_ps_mask(s, zero, _CMP_GT_OQ));
    const __m512i up = _mm512_mask_add_epi32(bits, even & away, bits, one);
    return _mm512_castsi512_ps(_mm512_mask_sub_epi32(up, even & (__mmask16)~away, bits, one));
}

#define HALVES(name, expression)                                                                           \
    FUNCTION(name##_f16x2)                                                                                 \
    {                                                                                                      \
        for (int i = 0; i < 4; i++) {                                                                      \
            const __m512 x = load_16_halves(a_, i), y = load_16_halves(b_, i);                             \
            store_16_halves(d_, i, expression);                                                            \
        }                                                                                                  \
    }
HALVES(add, x + y)
HALVES(sub, x - y)
HALVES(mul, x *y)
HALVES(fma, sums_to_odd(x *y, load_16_halves(c_, i)))
#undef HALVES
