/* Tests templates/lib/weights.cuh and element.cuh: compares packed weights of every type as operands, and
 * bf16, with the definitions of the formats. */
#include "../../runtime/base/half.h"
#include "../support/elements.h"
#include "../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { F16, BF16, INT8, E4M3, TYPES };

static const char *const names[TYPES] = {"WEIGHT_F16", "WEIGHT_BF16", "WEIGHT_INT8", "WEIGHT_E4M3"};

static void open_plain(fixture *f)
{
    fixture_open(f, fixture_spec("x", 64, 2, 2, 64, 64, 4, 64, ""));
}

/* Decodes the bits of an e4m3 number other than NaN (OCP 8-bit floating point, section 5.3). */
static double e4m3_value(unsigned bits)
{
    int exponent = (int)(bits >> 3 & 15), mantissa = (int)(bits & 7);
    double magnitude = exponent == 0 ? ldexp(mantissa, -9) : ldexp(mantissa + 8, exponent - 10);
    return bits & 0x80 ? -magnitude : magnitude;
}

/* ---------------------------------------------------------------- widening */

static const char widen_source[] = "#include \"weights.cuh\"\n"
                                   "struct params { const u32 *words; uint2 *int8, *e4m3; };\n"
                                   "extern \"C\" __global__ void test(const params p)\n"
                                   "{\n"
                                   "    int i = blockIdx.x * 32 + threadIdx.x;\n"
                                   "    widen_int8(p.int8[i].x, p.int8[i].y, p.words[i]);\n"
                                   "    widen_e4m3(p.e4m3[i].x, p.e4m3[i].y, p.words[i]);\n"
                                   "}\n";

/* Each code stands in each byte of a word, with random neighbours. */
Test(weights, every_8_bit_code_widens_exactly_in_every_byte)
{
    enum { WORDS = 256 * 4 };
    fixture f;
    open_plain(&f);
    random_stream r = random_begin(1, 1);
    uint32_t words[WORDS];
    for (int i = 0; i < WORDS; i++) {
        uint32_t mask = 0xffu << i % 4 * 8;
        words[i] = ((uint32_t)random_between(&r, 0, 0x7fffffff) * 2654435761u & ~mask) | (uint32_t)(i / 4)
                                                                                             << i % 4 * 8;
    }
    struct {
        uint64_t words, int8, e4m3;
    } args = {fixture_upload(&f, words, sizeof words), fixture_filled(&f, 0xff, WORDS * 8),
              fixture_filled(&f, 0xff, WORDS * 8)};
    fixture_launch(&f, fixture_source(&f, widen_source, 32), WORDS / 32, 1, 1, &args, sizeof args);
    uint16_t *int8 = fixture_download(&f, args.int8, WORDS * 8),
             *e4m3 = fixture_download(&f, args.e4m3, WORDS * 8);
    for (int i = 0; i < 4 * WORDS; i++) {
        unsigned code = words[i / 4] >> i % 4 * 8 & 0xff;
        cr_assert_eq(half_to_float(int8[i]), (int8_t)code, "int8 %02x became %04x", code, int8[i]);
        if ((code & 0x7f) != 0x7f)
            cr_assert_eq(half_to_float(e4m3[i]) * 256.0, e4m3_value(code), "e4m3 %02x became %04x", code,
                         e4m3[i]);
    }
    free(int8);
    free(e4m3);
    fixture_close(&f);
}

/* ---------------------------------------------------------------- products */

/* One warp computes y [16, n] = x [16, k] W, with W as the B operand from shared memory, and yt [n, 16] =
 * W^T x^T, with W as the A operand from device memory. */
static const char product_source[] =
    "#include \"weights.cuh\"\n"
    "struct params { xq_matrix w; const u32 *x; float *y, *yt; int k, n; };\n"
    "__shared__ __align__(16) u8 stage[WEIGHT_STEP_BYTES<TYPE>];\n"
    "extern \"C\" __global__ void test(const params p)\n"
    "{\n"
    "    const int lane = threadIdx.x, tile = blockIdx.x, stride = p.k / 2;\n"
    "    float y[2][4] = {}, yt[2][4] = {};\n"
    "    for (int step = 0; step < p.k / 16; step++) {\n"
    "        const u8 *at = p.w.data + (size_t)(tile * (p.k / 16) + step) * WEIGHT_STEP_BYTES<TYPE>;\n"
    "        for (int i = lane * 4; i < WEIGHT_STEP_BYTES<TYPE>; i += 128)\n"
    "            *(u32 *)(stage + i) = *(const u32 *)(at + i);\n"
    "        __syncwarp();\n"
    "        const u32 *row = p.x + lane / 4 * stride + step * 8 + lane % 4;\n"
    "        u32 a[4] = {row[0], row[8 * stride], row[4], row[8 * stride + 4]};\n"
    "        weight_partner<TYPE>(a);\n"
    "        weight_step<TYPE> shared, global;\n"
    "        shared.load(stage, lane);\n"
    "        global.load_global(at, lane);\n"
    "        u32 b[4], bt[4];\n"
    "        shared.widen(b);\n"
    "        global.widen_transposed(bt);\n"
    "        mma_weights<TYPE>(y[0], a, b[0], b[1]);\n"
    "        mma_weights<TYPE>(y[1], a, b[2], b[3]);\n"
    "        mma_weights<TYPE>(yt[0], bt, a[0], a[2]);\n"
    "        mma_weights<TYPE>(yt[1], bt, a[1], a[3]);\n"
    "        __syncwarp();\n"
    "    }\n"
    "    for (int i = 0; i < 8; i++) {\n"
    "        int major = lane / 4 + i / 2 % 2 * 8, minor = i / 4 * 8 + lane % 4 * 2 + i % 2;\n"
    "        p.y[major * p.n + tile * 16 + minor] = y[i / 4][i % 4] * column_scale<TYPE>(p.w.scale, tile * "
    "16 + minor);\n"
    "        p.yt[(tile * 16 + major) * 16 + minor] = yt[i / 4][i % 4] * column_scale<TYPE>(p.w.scale, "
    "tile * 16 + "
    "major);\n"
    "    }\n"
    "}\n";

/* Draws a random weight of a type. Returns its bits, and its value in *value. */
static unsigned draw_weight(random_stream *r, int type, double *value)
{
    unsigned bits;
    float normal = random_normal(r);
    switch (type) {
    case INT8:
        bits = (unsigned)random_between(r, 0, 254) - 127u;
        *value = (int8_t)bits;
        return bits & 0xff;
    case E4M3:
        bits = (unsigned)(random_between(r, 0, 126) | random_between(r, 0, 1) << 7);
        *value = e4m3_value(bits);
        return bits;
    case BF16:
        memcpy(&bits, &normal, sizeof bits);
        *value = half_from_bfloat((uint16_t)(bits >> 16));
        return bits >> 16;
    default:
        bits = half_from_float(normal);
        *value = half_to_float((uint16_t)bits);
        return bits;
    }
}

static void multiply(fixture *f, const test_kernel *k, random_stream *r, int type, int rows, int columns)
{
    int bytes = type == F16 || type == BF16 ? 2 : 1;
    uint8_t *drawn = malloc((size_t)(rows * columns * bytes));
    double *w = malloc((size_t)(rows * columns) * sizeof *w);
    for (int i = 0; i < rows * columns; i++) {
        unsigned bits = draw_weight(r, type, &w[i]);
        memcpy(drawn + i * bytes, &bits, (size_t)bytes);
    }
    void *packed = elements_packed(drawn, rows, columns, bytes);
    float *scale = malloc((size_t)columns * sizeof *scale);
    for (int c = 0; c < columns; c++)
        scale[c] = bytes == 1 ? ldexpf((float)random_between(r, 1, 1000), -20) : 1;
    /* x has few enough bits for bf16, so that the operands are checked and not their rounding. */
    uint16_t *x = malloc((size_t)(16 * rows) * sizeof *x);
    for (int i = 0; i < 16 * rows; i++)
        x[i] = half_from_float((float)random_between(r, -127, 127) / 64);

    struct {
        struct xq_matrix w;
        uint64_t x, y, yt;
        int k, n;
    } args = {{fixture_upload(f, packed, (size_t)(rows * columns * bytes)),
               bytes == 1 ? fixture_upload(f, scale, (size_t)columns * 4) : 0, 0},
              fixture_upload(f, x, (size_t)(16 * rows) * 2),
              fixture_filled(f, 0xff, (size_t)(16 * columns) * 4),
              fixture_filled(f, 0xff, (size_t)(16 * columns) * 4),
              rows,
              columns};
    fixture_launch(f, k, columns / 16, 1, 1, &args, sizeof args);
    float *y = fixture_download(f, args.y, (size_t)(16 * columns) * 4),
          *yt = fixture_download(f, args.yt, (size_t)(16 * columns) * 4);
    for (int i = 0; i < 16 * columns; i++) {
        double sum = 0, size = 0;
        for (int j = 0; j < rows; j++) {
            double term = half_to_float(x[i / columns * rows + j]) * w[j * columns + i % columns];
            sum += term;
            size += fabs(term);
        }
        double s = scale[i % columns], bound = size * s * 1e-5;
        cr_assert(fabs(y[i] - sum * s) <= bound, "%s: y %d is %g, not %g", names[type], i, (double)y[i],
                  sum * s);
        cr_assert(fabs(yt[i % columns * 16 + i / columns] - sum * s) <= bound, "%s, transposed: %d",
                  names[type], i);
    }
    fixture_release(f);
    free(drawn);
    free(packed);
    free(w);
    free(scale);
    free(x);
    free(y);
    free(yt);
}

ParameterizedTestParameters(weights, products_of_every_type_match)
{
    static int types[] = {F16, BF16, INT8, E4M3};
    return cr_make_param_array(int, types, TYPES);
}

ParameterizedTest(int *type, weights, products_of_every_type_match)
{
    char source[4096];
    snprintf(source, sizeof source, "#define TYPE %s\n%s", names[*type], product_source);
    fixture f;
    open_plain(&f);
    const test_kernel *k = fixture_source(&f, source, 32);
    for (int i = 0; i < 8; i++) {
        random_stream r = random_begin(2, (uint64_t)i);
        multiply(&f, k, &r, *type, 64 * random_between(&r, 1, 4), 16 * random_between(&r, 1, 5));
    }
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}

/* ---------------------------------------------------------------- bf16 activations */

static const char activation_source[] =
    "#include \"element.cuh\"\n"
    "struct params { const u32 *in; u32 *f16, *back, *plain; };\n"
    "extern \"C\" __global__ void test(const params p)\n"
    "{\n"
    "    int i = blockIdx.x * 32 + threadIdx.x;\n"
    "    p.f16[i] = element<true>::to_f16x2(p.in[i]);\n"
    "    p.back[i] = element<true>::from_f16x2(p.f16[i]);\n"
    "    p.plain[i] = element<false>::from_f16x2(element<false>::to_f16x2(p.in[i]));\n"
    "}\n";

Test(weights, bf16_activations_saturate_to_f16_and_round_back)
{
    enum { COUNT = 1 << 16 };
    fixture f;
    open_plain(&f);
    uint16_t *in = malloc(COUNT * sizeof *in);
    for (int i = 0; i < COUNT; i++)
        in[i] = (uint16_t)i;
    struct {
        uint64_t in, f16, back, plain;
    } args = {fixture_upload(&f, in, COUNT * 2), fixture_filled(&f, 0, COUNT * 2),
              fixture_filled(&f, 0, COUNT * 2), fixture_filled(&f, 0, COUNT * 2)};
    fixture_launch(&f, fixture_source(&f, activation_source, 32), COUNT / 64, 1, 1, &args, sizeof args);
    uint16_t *f16 = fixture_download(&f, args.f16, COUNT * 2),
             *back = fixture_download(&f, args.back, COUNT * 2),
             *plain = fixture_download(&f, args.plain, COUNT * 2);
    for (int i = 0; i < COUNT; i++) {
        float value = half_from_bfloat(in[i]);
        float kept = value > 65504 ? 65504 : value < -65504 ? -65504 : value;
        cr_assert_eq(f16[i], half_from_float(kept), "bf16 %04x became f16 %04x", i, f16[i]);
        cr_assert_eq(plain[i], in[i]);
        float v = half_to_float(f16[i]), b = half_from_bfloat(back[i]);
        if (isnan(v))
            cr_assert(isnan(b));
        else
            cr_assert(fabsf(b - v) <= fabsf(v) / 256, "f16 %04x became bf16 %04x", f16[i], back[i]);
        if (!isnan(v) && fabsf(value) <= 65280 && fabsf(value) >= 0x1p-14f)
            cr_assert_eq(back[i], in[i], "bf16 %04x came back as %04x", i, back[i]);
    }
    free(in);
    free(f16);
    free(back);
    free(plain);
    fixture_close(&f);
}
