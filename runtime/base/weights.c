/* The loops below run over columns of one row. They are written to vectorize, which gcc does not do at -O2.
 */
#if !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif

#include "weights.h"
#include "e4m3.h"
#include "half.h"

#include <math.h>
#include <string.h>

enum { INT8_LARGEST = 127 };

static const struct {
    const char *name;
    int bytes;
    float limit;   /* largest finite value plus half a unit in its last place; this tie rounds up */
    float largest; /* largest code of 8-bit types */
} types[] = {
    /* in the order of enum weight_type */
    {"f16", 2, 65520.0f, 0},
    {"bf16", 2, 0x1.ffp127f, 0},
    {"int8", 1, INFINITY, INT8_LARGEST},
    {"e4m3", 1, INFINITY, E4M3_LARGEST},
};

bool weight_type_find(const char *name, enum weight_type *type)
{
    for (int i = WEIGHT_F16; i <= WEIGHT_E4M3; i++)
        if (strcmp(types[i].name, name) == 0) {
            *type = (enum weight_type)i;
            return true;
        }
    return false;
}

int weight_bytes(enum weight_type type)
{
    return types[type].bytes;
}

float weight_limit(enum weight_type type)
{
    return types[type].limit;
}

/* ----------------------------------------------------------------- scales */

/* Rounds a number that is not negative up to 16 significant bits. */
static inline float round_up(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0xff) & ~(uint32_t)0xff;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Finds the scales by which the largest magnitudes have the largest code, before they are rounded up. */
static void find_bases(enum weight_type type, int64_t rows, const float *w, float *base)
{
    float largest[WEIGHT_COLUMNS] = {0};
    for (int64_t r = 0; r < rows; r++)
        for (int n = 0; n < WEIGHT_COLUMNS; n++) {
            float magnitude = fabsf(w[r * WEIGHT_COLUMNS + n]);
            largest[n] = magnitude > largest[n] ? magnitude : largest[n];
        }
    for (int n = 0; n < WEIGHT_COLUMNS; n++)
        base[n] = largest[n] / types[type].largest;
}

static void round_up_all(const float *base, float *scales)
{
    for (int n = 0; n < WEIGHT_COLUMNS; n++)
        scales[n] = round_up(base[n]);
}

/* ------------------------------------------------------------------- int8
 * autotune/reference/rounding.c rounds by the same rule and must agree bit for bit. So both compute in the
 * same way whatever decides: quotients w / scale and candidates in f32; sums over a block, of weights and
 * of errors, in double, in the order of the rows; distances to whole numbers, and the sum of their squares,
 * in double, in the order of the blocks. */

enum {
    BLOCK_ROWS = 64,
    MOST_BLOCKS = 64, /* with more sums, all candidates are about as near to whole numbers */
    CANDIDATES = 256, /* candidate i is base * (1 + i / CANDIDATE_STEPS) */
    CANDIDATE_STEPS = 2560
};

/* These round to the nearest whole number, ties to even, below 2^22 and 2^51: the last place of the sum is
 * 1, so the addition rounds. */
static inline float round_float(float x)
{
    return x + 0x1.8p23f - 0x1.8p23f;
}

static inline double round_double(double x)
{
    return x + 0x1.8p52 - 0x1.8p52;
}

/* Sums the weights of each block. */
static void sum_blocks(int64_t rows, const float *w, double (*sums)[WEIGHT_COLUMNS])
{
    for (int64_t r = 0; r < rows; r++)
        for (int n = 0; n < WEIGHT_COLUMNS; n++) {
            double before = r % BLOCK_ROWS == 0 ? 0 : sums[r / BLOCK_ROWS][n];
            sums[r / BLOCK_ROWS][n] = before + (double)w[r * WEIGHT_COLUMNS + n];
        }
}

/* Chooses the candidates with the least cost, the first on a tie. Where `base` is 0, the costs are NaN,
 * which is not less, so the scale stays as it was. */
static void choose_scales(int64_t blocks, double (*sums)[WEIGHT_COLUMNS], const float *base, float *scales)
{
    double least[WEIGHT_COLUMNS];
    for (int n = 0; n < WEIGHT_COLUMNS; n++)
        least[n] = INFINITY;
    for (int i = 0; i < CANDIDATES; i++) {
        const float factor = 1 + (float)i / CANDIDATE_STEPS;
        float candidate[WEIGHT_COLUMNS];
        double cost[WEIGHT_COLUMNS] = {0};
        for (int n = 0; n < WEIGHT_COLUMNS; n++)
            candidate[n] = round_up(base[n] * factor);
        for (int64_t b = 0; b < blocks; b++)
            for (int n = 0; n < WEIGHT_COLUMNS; n++) {
                double steps = sums[b][n] / (double)candidate[n];
                double off = (steps - round_double(steps)) * (double)candidate[n];
                const double square = off * off; /* a statement of its own: an expression may be fused */
                cost[n] += square;
            }
        for (int n = 0; n < WEIGHT_COLUMNS; n++)
            if (cost[n] < least[n]) {
                least[n] = cost[n];
                scales[n] = candidate[n];
            }
    }
}

static void find_int8_scales(int64_t rows, const float *w, float *scales)
{
    const int64_t blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    float base[WEIGHT_COLUMNS];
    double sums[MOST_BLOCKS][WEIGHT_COLUMNS];
    find_bases(WEIGHT_INT8, rows, w, base);
    round_up_all(base, scales);
    if (blocks <= MOST_BLOCKS) {
        sum_blocks(rows, w, sums);
        choose_scales(blocks, sums, base, scales);
    }
}

/* Moves as many of a column's codes by one, up or, where `moves` is negative, down: those whose errors w /
 * scale - code are largest in this direction, the first on a tie.
 *
 * A code whose error has the other direction, or none, is never moved, so a weight of 0 keeps the code 0.
 * There are enough others: errors are at most 1/2, and those in this direction add up to |moves| - 1/2 at
 * least, so there are 2 |moves| - 1 or more. A code is moved once, because its error then has the other
 * direction. The code 127 is never moved up. Weights lie beyond 127 * scale only by what divisions round;
 * this matters only if the scale is subnormal, and then a sum may be off. */
static void move_codes(int64_t rows, int moves, float *errors, uint16_t *codes)
{
    const int step = moves < 0 ? -1 : 1;
    for (; moves != 0; moves -= step) {
        int64_t at = -1;
        float most = 0;
        for (int64_t r = 0; r < rows * WEIGHT_COLUMNS; r += WEIGHT_COLUMNS)
            if (errors[r] * (float)step > most && (int8_t)codes[r] != step * INT8_LARGEST) {
                most = errors[r] * (float)step;
                at = r;
            }
        if (at < 0)
            return;
        codes[at] = (uint8_t)((int8_t)codes[at] + step);
        errors[at] -= (float)step;
    }
}

/* Encodes a block of at most BLOCK_ROWS rows. */
static void encode_int8_block(int64_t rows, const float *w, const float *scales, uint16_t *codes)
{
    float divisor[WEIGHT_COLUMNS], errors[BLOCK_ROWS * WEIGHT_COLUMNS];
    double sum[WEIGHT_COLUMNS] = {0};
    for (int n = 0; n < WEIGHT_COLUMNS; n++)
        divisor[n] = scales[n] > 0 ? scales[n] : INFINITY; /* a scale of 0 gives code 0 */
    for (int64_t r = 0; r < rows; r++)
        for (int n = 0; n < WEIGHT_COLUMNS; n++) {
            const int64_t at = r * WEIGHT_COLUMNS + n;
            const float quotient = w[at] / divisor[n], code = round_float(quotient);
            codes[at] = (uint8_t)(int8_t)(int)code;
            errors[at] = quotient - code; /* exact */
            sum[n] += (double)errors[at];
        }
    for (int n = 0; n < WEIGHT_COLUMNS; n++)
        move_codes(rows, (int)round_double(sum[n]), errors + n, codes + n);
}

static void encode_int8(int64_t rows, const float *w, float *scales, uint16_t *codes)
{
    find_int8_scales(rows, w, scales);
    for (int64_t first = 0, end; first < rows; first = end) {
        end = first + BLOCK_ROWS < rows ? first + BLOCK_ROWS : rows;
        encode_int8_block(end - first, w + first * WEIGHT_COLUMNS, scales, codes + first * WEIGHT_COLUMNS);
    }
}

/* ------------------------------------------------------------------ codes */

static void encode_e4m3(int64_t rows, const float *w, float *scales, uint16_t *codes)
{
    float base[WEIGHT_COLUMNS];
    find_bases(WEIGHT_E4M3, rows, w, base);
    round_up_all(base, scales);
    for (int64_t i = 0; i < rows * WEIGHT_COLUMNS; i++) {
        const float scale = scales[i % WEIGHT_COLUMNS];
        codes[i] = scale > 0 ? e4m3_encode(w[i] / scale) : 0;
    }
}

void weight_encode_columns(enum weight_type type, int64_t rows, const float *w, float *scales,
                           uint16_t *codes)
{
    for (int n = 0; n < WEIGHT_COLUMNS; n++)
        scales[n] = 1;
    switch (type) {
    case WEIGHT_F16:
        half_from_floats(codes, w, (size_t)rows * WEIGHT_COLUMNS);
        break;
    case WEIGHT_BF16:
        for (int64_t i = 0; i < rows * WEIGHT_COLUMNS; i++)
            codes[i] = half_to_bfloat(w[i]);
        break;
    case WEIGHT_INT8:
        encode_int8(rows, w, scales, codes);
        break;
    case WEIGHT_E4M3:
        encode_e4m3(rows, w, scales, codes);
        break;
    }
}

float weight_decode(enum weight_type type, uint16_t code, float scale)
{
    switch (type) {
    case WEIGHT_F16:
        return half_to_float(code);
    case WEIGHT_BF16:
        return half_from_bfloat(code);
    case WEIGHT_INT8:
        return scale * (float)(int8_t)code;
    case WEIGHT_E4M3:
        return scale * e4m3_decode((uint8_t)code);
    }
    return 0;
}
