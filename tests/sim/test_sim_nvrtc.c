/* Tests the software device on the PTX that NVRTC makes of CUDA C++: results must equal the same
 * computation on the host, and faults must name the line of the template. The tests are skipped if there is
 * no NVRTC. */
#include "../../runtime/compile/nvrtc.h"
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arguments {
    uint64_t in, out;
    int32_t count;
    float weights[5];
};
enum { COUNT = 1024 };

static const char declarations[] =
    "typedef unsigned int u32; typedef unsigned long long u64;\n"
    "struct arguments { const u32 *in; u32 *out; int count; float weights[5]; };\n"
    "#line 1 \"templates/sample.cu.lt\"\n";

static device *sim;
static nvrtc *library;
static uint32_t *inputs, *outputs;

static void set_up(void)
{
    error err = ERROR_INIT;
    cr_assert_eq(nvrtc_open(&library, &err), XQ_OK, "%s", err.message);
    sim = ptx_device();
    inputs = calloc(COUNT, sizeof *inputs);
    outputs = calloc(COUNT, sizeof *outputs);
    uint64_t state = 5;
    for (int i = 0; i < COUNT; i++)
        inputs[i] = (uint32_t)ptx_random(&state);
}

static void tear_down(void)
{
    if (!library)
        return;
    sim->ops->destroy(sim);
    nvrtc_close(library);
    free(inputs);
    free(outputs);
}

#define SIM_TEST(name) Test(sim_nvrtc, name, .init = set_up, .fini = tear_down)

static nvrtc_output compile(const char *code)
{
    char source[8192];
    snprintf(source, sizeof source, "%s%s", declarations, code);
    const char *const options[] = {"-std=c++17", "--gpu-architecture=compute_80", "-lineinfo",
                                   "-default-device"};
    nvrtc_input input = {.name = "sample.cu", .source = source, .option_count = 4, .options = options};
    nvrtc_output output = {0};
    error err = ERROR_INIT;
    nvrtc_compile(library, &input, &output, &err);
    cr_assert_eq(err.status, XQ_OK, "%s\n%s", err.message, err.log ? err.log : "");
    return output;
}

/* Runs `extern "C" __global__ void test(arguments a)` over the inputs. `outputs` receives what the kernel
 * wrote. */
static xq_status run(const char *code, uint32_t grid, uint32_t block, error *err)
{
    const device_ops *ops = sim->ops;
    struct arguments arguments = {.count = COUNT, .weights = {1, 2, 4, 8, 16}};
    nvrtc_output compiled = compile(code);
    ops->alloc(sim, COUNT * 4, &arguments.in, err);
    ops->alloc(sim, COUNT * 4, &arguments.out, err);
    ops->write(sim, arguments.in, inputs, COUNT * 4, err);
    ops->fill(sim, arguments.out, 0, COUNT * 4, err);
    struct ptx_launch launch = {.ptx = compiled.ptx,
                                .grid = grid,
                                .block = block,
                                .params = &arguments,
                                .params_bytes = sizeof arguments};
    if (err->status == XQ_OK && ptx_run(sim, &launch, err) == XQ_OK)
        ops->read(sim, outputs, arguments.out, COUNT * 4, err);
    nvrtc_output_free(&compiled);
    return err->status;
}

static void run_well(const char *code, uint32_t grid, uint32_t block)
{
    error err = ERROR_INIT;
    run(code, grid, block, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
}

static float as_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

#define KERNEL(body)                                                                                       \
    "extern \"C\" __global__ void test(arguments a)\n{\n    int i = blockIdx.x * blockDim.x + "            \
    "threadIdx.x;\n"                                                                                       \
    "    u32 x = a.in[i];\n" body "}\n"

SIM_TEST(integer_division_and_shifts)
{
    run_well(KERNEL("int s = x; int d = (int)(x >> 20) - 2000; u64 w = (u64)x * 0x9e3779b97f4a7c15u;\n"
                    "if (d == 0) d = 7;\n"
                    "a.out[i] = s / d + s % d + (u32)(w / (x | 1)) + (u32)(w % 1000003) + s / 10 + (s >> "
                    "3) + __popc(x);\n"),
             8, 128);
    for (int i = 0; i < COUNT; i++) {
        uint32_t x = inputs[i];
        int32_t s = (int32_t)x, d = (int32_t)(x >> 20) - 2000;
        uint64_t w = (uint64_t)x * 0x9e3779b97f4a7c15u;
        if (d == 0)
            d = 7;
        uint32_t expected = (uint32_t)(s / d) + (uint32_t)(s % d) + (uint32_t)(w / (x | 1)) +
                            (uint32_t)(w % 1000003) + (uint32_t)(s / 10) + (uint32_t)(s >> 3) +
                            (uint32_t)__builtin_popcount(x);
        cr_assert_eq(outputs[i], expected, "%d: %u, not %u", i, outputs[i], expected);
    }
}

static void expect_near(double (*reference)(double), double relative, double absolute)
{
    for (int i = 0; i < COUNT; i++) {
        double x = (float)((double)(int32_t)inputs[i] * 0x1p-31 * 80);
        double expected = reference(x), got = as_float(outputs[i]);
        cr_assert(fabs(got - expected) <= relative * fabs(expected) + absolute ||
                      (isnan(got) && isnan(expected)),
                  "%.9g: %.9g, not %.9g", x, got, expected);
    }
}

#define FLOAT_KERNEL(expression)                                                                           \
    KERNEL("float f = (float)((double)(int)x * (1.0 / 2147483648.0) * 80); a.out[i] = "                    \
           "__float_as_uint(" expression ");\n")

SIM_TEST(the_mathematical_library)
{
    run_well(FLOAT_KERNEL("expf(f)"), 8, 128);
    expect_near(exp, 2.5e-7, 1e-44);
    run_well(FLOAT_KERNEL("sinf(f)"), 8, 128);
    expect_near(sin, 2.5e-7, 0);
    run_well(FLOAT_KERNEL("logf(f)"), 8, 128);
    expect_near(log, 2e-7, 1e-7);
    run_well(FLOAT_KERNEL("tanhf(f)"), 8, 128);
    expect_near(tanh, 3e-7, 0);
    run_well(FLOAT_KERNEL("sqrtf(f)"), 8, 128);
    expect_near(sqrt, 6e-8, 0);
    run_well(FLOAT_KERNEL("(float)erf((double)f)"), 8, 128);
    expect_near(erf, 1.2e-7, 0);
}

/* Large arguments take the Payne-Hanek reduction, with constant tables, 64-bit products and a local
 * array. */
SIM_TEST(sine_of_large_arguments)
{
    run_well(KERNEL("float s, c; sincosf((float)x, &s, &c); a.out[i] = __float_as_uint(s + 2 * c);\n"), 8,
             128);
    for (int i = 0; i < COUNT; i++) {
        double x = (float)inputs[i], expected = sin(x) + 2 * cos(x);
        cr_assert_float_eq(as_float(outputs[i]), expected, 5e-7, "%.9g", x);
    }
}

SIM_TEST(switches_loops_and_local_arrays)
{
    run_well(
        KERNEL(
            "u32 table[16]; for (int k = 0; k < 16; k++) table[k] = x * (k + 1);\n"
            "u32 r = 0; for (u32 y = x; y; y >>= (y & 3) + 1) {\n switch (y % 11) {\n"
            "case 0: r += 3; break; case 1: r ^= y; break; case 2: r *= 5; break; case 3: r -= y; break;\n"
            "case 4: r += table[y >> 28]; break; case 5: r = ~r; break; case 6: r <<= 1; break;\n"
            "case 7: continue; case 8: r += (u32)a.weights[y % 5]; break; default: r++; } }\n"
            "a.out[i] = r;\n"),
        16, 64);
    for (int i = 0; i < COUNT; i++) {
        uint32_t x = inputs[i], r = 0;
        for (uint32_t y = x; y; y >>= (y & 3) + 1)
            switch (y % 11) {
            case 0:
                r += 3;
                break;
            case 1:
                r ^= y;
                break;
            case 2:
                r *= 5;
                break;
            case 3:
                r -= y;
                break;
            case 4:
                r += x * ((y >> 28) + 1);
                break;
            case 5:
                r = ~r;
                break;
            case 6:
                r <<= 1;
                break;
            case 7:
                continue;
            case 8:
                r += 1u << y % 5;
                break;
            default:
                r++;
            }
        cr_assert_eq(outputs[i], r, "%d: %u, not %u", i, outputs[i], r);
    }
}

SIM_TEST(functions_that_are_not_inlined)
{
    run_well("__noinline__ u32 mix(u32 x, u32 y) { for (u32 i = 0; i < (y & 7); i++) x = x * 31 + y; "
             "return x; }\n"
             "__noinline__ u32 twice(u32 x) { return mix(x, 3) + mix(x, x); }\n" KERNEL(
                 "a.out[i] = x & 1 ? twice(x) : 4;\n"),
             8, 128);
    for (int i = 0; i < COUNT; i++) {
        uint32_t x = inputs[i], first = x, second = x;
        for (uint32_t k = 0; k < 3; k++)
            first = first * 31 + 3;
        for (uint32_t k = 0; k < (x & 7); k++)
            second = second * 31 + x;
        cr_assert_eq(outputs[i], x & 1 ? first + second : 4, "%d", i);
    }
}

static const char reduction[] =
    "extern \"C\" __global__ void test(arguments a)\n{\n"
    "    __shared__ u32 sums[8];\n"
    "    int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    u32 sum = a.in[i] & 0xffff;\n"
    "    for (int k = 16; k; k >>= 1) sum += __shfl_xor_sync(0xffffffff, sum, k);\n"
    "    if (threadIdx.x %% 32 == 0) sums[threadIdx.x / 32] = sum;\n"
    "%s"
    "    if (threadIdx.x == 0) { sum = 0; for (int k = 0; k < 8; k++) sum += sums[k];\n"
    "        a.out[blockIdx.x] = sum; atomicAdd(a.out + 100, sum); }\n}\n";

SIM_TEST(block_reduction)
{
    char code[2048];
    snprintf(code, sizeof code, reduction, "    __syncthreads();\n");
    run_well(code, 4, 256);
    uint32_t total = 0;
    for (int block = 0; block < 4; block++) {
        uint32_t sum = 0;
        for (int i = 0; i < 256; i++)
            sum += inputs[block * 256 + i] & 0xffff;
        cr_expect_eq(outputs[block], sum);
        total += sum;
    }
    cr_expect_eq(outputs[100], total);
}

SIM_TEST(a_missing_barrier_is_named_by_template_line)
{
    char code[2048];
    error err = ERROR_INIT;
    snprintf(code, sizeof code, reduction, "\n");
    run(code, 4, 256, &err);
    cr_expect_eq(err.status, XQ_ERROR_DEVICE, "%s", err.message);
    cr_expect_str_eq(err.file, "templates/sample.cu.lt", "%s", err.file);
    cr_expect(err.line == 9 || err.line == 7, "line %d: %s", err.line, err.message);
    error_clear(&err);
}

SIM_TEST(an_access_out_of_bounds_is_named_by_template_line)
{
    error err = ERROR_INIT;
    run("extern \"C\" __global__ void test(arguments a)\n{\n    int i = threadIdx.x;\n    a.out[i] = "
        "1;\n\n\n"
        "    a.out[i * 16] = 2;\n}\n",
        1, 96, &err);
    cr_expect_eq(err.status, XQ_ERROR_DEVICE, "%s", err.message);
    cr_expect_str_eq(err.file, "templates/sample.cu.lt", "%s", err.file);
    cr_expect_eq(err.line, 7, "line %d: %s", err.line, err.message);
    cr_expect(strstr(err.message, "thread (64, 0, 0)"), "%s", err.message);
    error_clear(&err);
}

SIM_TEST(doubles_and_64_bit_integers)
{
    run_well(KERNEL("double d = (double)x / 3.0 + 1e-3 * (double)(long long)(x * 77ull); long long l = "
                    "llrint(d) ^ (long long)(d * 1e6);\n"
                    "a.out[i] = (u32)l ^ (u32)(l >> 32) ^ (u32)fma(d, 1e-7, 0.5);\n"),
             8, 128);
    for (int i = 0; i < COUNT; i++) {
        /* NVRTC contracts the sum into a multiply-add. */
        double d = fma(1e-3, (double)(int64_t)(inputs[i] * 77ull), (double)inputs[i] / 3.0);
        int64_t l = llrint(d) ^ (int64_t)(d * 1e6);
        uint32_t expected = (uint32_t)l ^ (uint32_t)(l >> 32) ^ (uint32_t)fma(d, 1e-7, 0.5);
        cr_assert_eq(outputs[i], expected, "%d: %u, not %u", i, outputs[i], expected);
    }
}
