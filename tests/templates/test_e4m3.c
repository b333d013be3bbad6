/* e4m3: what the host and the kernels make of every number of 16 bits, and of every code. */
#include "../../runtime/base/e4m3.h"
#include "../../runtime/base/half.h"
#include "../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the host's */

Test(e4m3, codes_are_the_numbers_of_the_format)
{
    cr_assert_eq(e4m3_decode(0x00), 0);
    cr_assert(signbit(e4m3_decode(0x80)));
    cr_assert_eq(e4m3_decode(0x01), 0x1p-9f);
    cr_assert_eq(e4m3_decode(0x07), 7 * 0x1p-9f);
    cr_assert_eq(e4m3_decode(0x08), 0x1p-6f);
    cr_assert_eq(e4m3_decode(0x38), 1);
    cr_assert_eq(e4m3_decode(0xb9), -1.125f);
    cr_assert_eq(e4m3_decode(0x7e), E4M3_LARGEST);
    cr_assert(isnan(e4m3_decode(0x7f)) && isnan(e4m3_decode(0xff)));
}

Test(e4m3, every_code_is_its_own_nearest)
{
    for (int code = 0; code < 256; code++)
        if ((code & 0x7f) != 0x7f)
            cr_assert_eq(e4m3_encode(e4m3_decode((uint8_t)code)), code, "%02x", code);
}

Test(e4m3, numbers_between_go_to_the_nearest_and_ties_to_even)
{
    for (int code = 0; code < 0x7e; code++) {
        float low = e4m3_decode((uint8_t)code), high = e4m3_decode((uint8_t)(code + 1)),
              middle = (low + high) / 2;
        int even = code % 2 ? code + 1 : code;
        cr_assert_eq(e4m3_encode(middle), even, "%g", (double)middle);
        cr_assert_eq(e4m3_encode(-middle), even | 0x80, "%g", (double)middle);
        cr_assert_eq(e4m3_encode(nextafterf(middle, 0)), code, "%g", (double)middle);
        cr_assert_eq(e4m3_encode(nextafterf(middle, 1e9f)), code + 1, "%g", (double)middle);
    }
}

Test(e4m3, what_is_too_large_saturates_and_nan_stays)
{
    cr_assert_eq(e4m3_encode(449), 0x7e);
    cr_assert_eq(e4m3_encode(1e30f), 0x7e);
    cr_assert_eq(e4m3_encode(-INFINITY), 0xfe);
    cr_assert_eq(e4m3_encode(NAN), 0x7f);
    cr_assert_eq(e4m3_encode(-NAN), 0x7f);
    cr_assert_eq(e4m3_quantize(3, 0.5f), e4m3_encode(6));
}

/* ---------------------------------------------------------------- the kernels' */

enum { PATTERNS = 65536, BLOCK = 256 };

struct conversion {
    char on[16];
    bool bf16;
};

/* A thread has eight patterns; the first 64 have four codes. */
static const char *source_of(bool bf16)
{
    static char text[1024];
    snprintf(
        text, sizeof text,
        "#include \"e4m3.cuh\"\n"
        "struct arguments { const uint4 *patterns; uint2 *codes; uint2 *wide; u32 *bad; float factor; };\n"
        "extern \"C\" __global__ void test(const __grid_constant__ arguments p)\n"
        "{\n"
        "    const int i = blockIdx.x * %d + threadIdx.x;\n"
        "    p.codes[i] = e4m3<%s>::narrow(p.patterns[i], p.factor);\n"
        "    if (i < 64) {\n"
        "        const u32 word = 0x03020100 + i * 0x04040404;\n"
        "        uint2 wide;\n"
        "        e4m3<%s>::widen(wide.x, wide.y, word);\n"
        "        p.wide[i] = wide;\n"
        "        p.bad[i] = e4m3<%s>::not_finite(word);\n"
        "    }\n"
        "}\n",
        BLOCK, bf16 ? "true" : "false", bf16 ? "true" : "false", bf16 ? "true" : "false");
    return text;
}

static float value_of(uint16_t bits, bool bf16)
{
    return bf16 ? half_from_bfloat(bits) : half_to_float(bits);
}

static void check_narrowed(const uint8_t *codes, bool bf16, float factor)
{
    for (int i = 0; i < PATTERNS; i++) {
        float value = value_of((uint16_t)i, bf16) * factor;
        cr_assert_eq(codes[i], e4m3_encode(value), "%04x times %g is %02x, not %02x", i, (double)factor,
                     codes[i], e4m3_encode(value));
    }
}

static void check_widened(const uint16_t *wide, const uint8_t *bad, bool bf16)
{
    for (int i = 0; i < 256; i++) {
        float expected = e4m3_decode((uint8_t)i), got = value_of(wide[i], bf16);
        bool same = isnan(expected) ? isnan(got) : got == expected && signbit(got) == signbit(expected);
        cr_assert(same, "%02x becomes %g, not %g", i, (double)got, (double)expected);
        cr_assert_eq(bad[i], isnan(expected), "%02x", i);
    }
}

ParameterizedTestParameters(e4m3, kernels_convert_as_the_host_does)
{
    static struct conversion conversions[] = {{"sim:h100", false},
                                              {"sim:h100", true},
                                              {"sim:rtx4090", false},
                                              {"sim:a100", false},
                                              {"sim:a100", true}};
    return cr_make_param_array(struct conversion, conversions, sizeof conversions / sizeof *conversions);
}

ParameterizedTest(struct conversion *c, e4m3, kernels_convert_as_the_host_does)
{
    static const float factors[] = {1, 0.37f, 0x1p-5f, 300};
    fixture f;
    fixture_open_on(&f, c->on, fixture_spec("x", 64, 1, 1, 64, 16, 4, 64, ""));
    const test_kernel *k = fixture_source(&f, source_of(c->bf16), BLOCK);
    uint16_t *patterns = malloc(sizeof *patterns * PATTERNS);
    for (int i = 0; i < PATTERNS; i++)
        patterns[i] = (uint16_t)i;
    struct {
        uint64_t patterns, codes, wide, bad;
        float factor;
    } a = {fixture_upload(&f, patterns, sizeof *patterns * PATTERNS), fixture_filled(&f, 0, PATTERNS),
           fixture_filled(&f, 0, 512), fixture_filled(&f, 0, 256), 0};
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        a.factor = factors[i];
        fixture_launch(&f, k, PATTERNS / 8 / BLOCK, 1, 1, &a, sizeof a);
        uint8_t *codes = fixture_download(&f, a.codes, PATTERNS);
        check_narrowed(codes, c->bf16, a.factor);
        free(codes);
    }
    uint16_t *wide = fixture_download(&f, a.wide, 512);
    uint8_t *bad = fixture_download(&f, a.bad, 256);
    check_widened(wide, bad, c->bf16);
    free(wide);
    free(bad);
    free(patterns);
    fixture_close(&f);
}
