#include "weights.h"
#include "half.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    int bytes;
    float limit;   /* largest finite value plus half a unit in its last place; this tie rounds up */
    float largest; /* largest code of 8-bit types */
} types[] = {
    /* in the order of enum weight_type */
    {"f16", 2, 65520.0f, 0},
    {"bf16", 2, 0x1.ffp127f, 0},
    {"int8", 1, INFINITY, 127},
    {"e4m3", 1, INFINITY, 448},
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

float weight_scale(enum weight_type type, float largest)
{
    return types[type].largest > 0 ? largest / types[type].largest : 1;
}

/* ------------------------------------------------------------------- e4m3
 * Sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities; largest value 448 (OCP 8-bit floating
 * point specification, "E4M3"). */
enum { E4M3_LARGEST = 0x7e, E4M3_LEAST_EXPONENT = -6 };

static uint16_t e4m3_encode(float value)
{
    uint16_t sign = signbit(value) ? 0x80 : 0;
    float magnitude = fabsf(value);
    if (magnitude >= types[WEIGHT_E4M3].largest)
        return sign | E4M3_LARGEST;
    int exponent = magnitude > 0 ? ilogbf(magnitude) : E4M3_LEAST_EXPONENT;
    if (exponent < E4M3_LEAST_EXPONENT)
        exponent = E4M3_LEAST_EXPONENT;
    /* Counts units in the last place; 16 of them are the next power of two, which the sum carries into. */
    int units = (int)rintf(ldexpf(magnitude, 3 - exponent));
    return sign | (uint16_t)((exponent - E4M3_LEAST_EXPONENT) * 8 + units);
}

static float e4m3_decode(uint16_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10)
                               : ldexpf((float)mantissa, E4M3_LEAST_EXPONENT - 3);
    return code & 0x80 ? -magnitude : magnitude;
}

/* ------------------------------------------------------------------ codes */

uint16_t weight_encode(enum weight_type type, float value, float scale)
{
    switch (type) {
    case WEIGHT_F16:
        return half_from_float(value);
    case WEIGHT_BF16:
        return half_to_bfloat(value);
    case WEIGHT_INT8:
        return scale > 0 ? (uint8_t)(int8_t)fminf(fmaxf(rintf(value / scale), -127), 127) : 0;
    case WEIGHT_E4M3:
        return scale > 0 ? e4m3_encode(value / scale) : 0;
    }
    return 0;
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
        return scale * e4m3_decode(code);
    }
    return 0;
}
