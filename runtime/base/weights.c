#include "weights.h"
#include "e4m3.h"
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

/* Rounds a positive number up to 16 significant bits. */
static float round_up(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0xff) & ~(uint32_t)0xff;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float weight_scale(enum weight_type type, float largest)
{
    return types[type].largest > 0 ? round_up(largest / types[type].largest) : 1;
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
        return scale * e4m3_decode((uint8_t)code);
    }
    return 0;
}
