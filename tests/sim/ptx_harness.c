#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARPS = 40, THREADS = WARPS * PTX_LANES };

struct case_params {
    uint64_t in, out, scratch;
};

/* ---------------------------------------------------------------- inputs */

static const uint32_t edges32[] = {0,          1,          2,          3,          7,          31,
                                   32,         33,         0x7f,       0x80,       0xff,       0x7fff,
                                   0x8000,     0xffff,     0x10000,    0x00ff00ff, 0x55555555, 0x7ffffffe,
                                   0x7fffffff, 0x80000000, 0x80000001, 0xaaaaaaaa, 0xfffffffe, 0xffffffff};
static const uint64_t edges64[] = {0,
                                   1,
                                   2,
                                   0x7f,
                                   0xffff,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   0x100000000,
                                   0x123456789abcdef0,
                                   0x5555555555555555,
                                   0x7fffffffffffffff,
                                   0x8000000000000000,
                                   0x8000000000000001,
                                   0xfffffffffffffffe,
                                   0xffffffffffffffff};
/* Zeros, subnormals, ones, ties, largest values, infinities, quiet and signalling NaN, limits of
 * integers. */
static const uint32_t edges_f32[] = {0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x00800000,
                                     0x80800000, 0x3f800000, 0xbf800000, 0x3f000000, 0xbf000000, 0x3fc00000,
                                     0x40200000, 0xc0200000, 0x3f800001, 0x3f801000, 0x3f803000, 0x33000000,
                                     0x33800000, 0x387fc000, 0x387fe000, 0x477fe000, 0x477ff000, 0x477fefff,
                                     0x43e00000, 0x43e80000, 0x43e7ffff, 0x4b800000, 0x4effffff, 0x4f000000,
                                     0xcf000000, 0x4f800000, 0x5f000000, 0xdf000000, 0x7f7fffff, 0xff7fffff,
                                     0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f800001};
static const uint64_t edges_f64[] = {0,
                                     0x8000000000000000,
                                     1,
                                     0x000fffffffffffff,
                                     0x0010000000000000,
                                     0x3ff0000000000000,
                                     0xbff0000000000000,
                                     0x3fe0000000000000,
                                     0x4004000000000000,
                                     0x36a0000000000000,
                                     0x369fffffffffffff,
                                     0x380fffffffffffff,
                                     0x47efffffe0000000,
                                     0x47effffff0000000,
                                     0x41e0000000000000,
                                     0xc1e0000000200000,
                                     0x43e0000000000000,
                                     0xc3e0000000000000,
                                     0x43f0000000000000,
                                     0x7fefffffffffffff,
                                     0x7ff0000000000000,
                                     0xfff0000000000000,
                                     0x7ff8000000000000,
                                     0x7ff0000000000001};
static const uint16_t edges_f16[] = {0,      0x8000, 1,      0x8001, 0x03ff, 0x0400, 0x8400, 0x3c00,
                                     0xbc00, 0x3800, 0x3e00, 0x4100, 0x3c01, 0x6400, 0x6401, 0x7bff,
                                     0xfbff, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01};
static const uint16_t edges_bf16[] = {0,      0x8000, 1,      0x8001, 0x007f, 0x0080, 0x8080,
                                      0x3f80, 0xbf80, 0x3f00, 0x3fc0, 0x4020, 0x3f81, 0x4300,
                                      0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0, 0xffc1, 0x7f81};

#define COUNT(array)        (sizeof(array) / sizeof *(array))
#define EDGE(array, choice) ((array)[(choice) % COUNT(array)])

static uint32_t f32_bits(double value)
{
    return ptx_encode(value, &ptx_f32, RN);
}

static uint64_t pair(uint32_t low, uint32_t high)
{
    return low | (uint64_t)high << 16;
}

/* A small integer, -8 .. 8, as bits of a format. */
static uint32_t small_in(const struct ptx_format *format, uint64_t random)
{
    return ptx_encode((double)(int)(random % 17) - 8, format, RN);
}

static uint64_t edge_value(char letter, uint64_t choice)
{
    switch (letter) {
    case 'h':
        return EDGE(edges32, choice) & 0xffff;
    case 'l':
    case 'Z':
        return EDGE(edges64, choice);
    case 'f':
        return EDGE(edges_f32, choice);
    case 'd':
        return EDGE(edges_f64, choice);
    case 'H':
        return EDGE(edges_f16, choice);
    case 'B':
        return EDGE(edges_bf16, choice);
    case 'P':
        return pair(EDGE(edges_f16, choice), EDGE(edges_f16, choice / 7));
    case 'Q':
        return pair(EDGE(edges_bf16, choice), EDGE(edges_bf16, choice / 7));
    default:
        return EDGE(edges32, choice);
    }
}

/* A random value of any bits. Half of the floating-point values are near one, where results are
 * interesting. */
static uint64_t random_value(char letter, uint64_t r)
{
    double unit = (double)(r >> 11) * 0x1p-53;
    bool near = r & 1;
    double moderate = (r & 2 ? -1 : 1) * ldexp(1 + unit, (int)(r >> 4 & 15) - 8);
    switch (letter) {
    case 'h':
        return r >> 16 & 0xffff;
    case 'l':
    case 'Z':
        return r;
    case 'f':
        return near ? f32_bits(moderate) : r >> 32;
    case 'd':
        return near ? ptx_double_bits(moderate) : r;
    case 'H':
        return near ? ptx_encode(moderate, &ptx_f16, RN) : r >> 48;
    case 'B':
        return near ? ptx_encode(moderate, &ptx_bf16, RN) : r >> 48;
    case 'P':
        return near ? pair(ptx_encode(moderate, &ptx_f16, RN), ptx_encode(unit, &ptx_f16, RN)) : r >> 32;
    case 'Q':
        return near ? pair(ptx_encode(moderate, &ptx_bf16, RN), ptx_encode(unit, &ptx_bf16, RN)) : r >> 32;
    case 's':
        return (r >> 32) % 72;
    case 'e':
        return r >> 48;
    case 'i':
        return (uint32_t)((int32_t)((r >> 32) % 2001) - 1000);
    case 'u':
        return f32_bits((r & 2 ? -1 : 1) * ldexp(1 + unit, (int)((r >> 4) % 41) - 20));
    case 'v':
        return f32_bits((unit - 0.5) * 128);
    case 'm':
        return pair(small_in(&ptx_f16, r >> 8), small_in(&ptx_f16, r >> 32));
    case 'M':
        return pair(ptx_encode(unit * 8 - 4, &ptx_f16, RN),
                    ptx_encode((double)(r & 0xffff) / 8192 - 4, &ptx_f16, RN));
    case 'w':
        return pair(small_in(&ptx_bf16, r >> 8), small_in(&ptx_bf16, r >> 32));
    case 'E':
    case '5': {
        uint64_t bits = 0;
        for (int i = 0; i < 4; i++)
            bits |= (uint64_t)small_in(letter == 'E' ? &ptx_e4m3 : &ptx_e5m2, r >> (8 + 12 * i)) << i * 8;
        return bits;
    }
    case '1':
        return r >> 40 & 1;
    case '2':
        return r >> 40 & 3;
    default:
        return r >> 32;
    }
}

static bool has_edges(char letter)
{
    return strchr("rhlfdHBPQzZ", letter) != NULL;
}

/* The first two thirds of the threads get edge values, in pairs, for the first two operands. The other
 * threads and operands get a mix of edge values and random values. */
static uint64_t input_value(const struct ptx_case *test, size_t operand, size_t thread, uint64_t *state)
{
    char letter = test->in[operand];
    uint64_t r = ptx_random(state);
    uint64_t value;
    if (!has_edges(letter))
        value = random_value(letter, r);
    else if (thread < THREADS * 2 / 3 && operand < 2)
        value = edge_value(letter, operand == 0 ? thread : thread / 29);
    else
        value = r & 0x300 ? random_value(letter, ptx_random(state)) : edge_value(letter, r >> 16);
    return value == 0 && (letter == 'z' || letter == 'Z') ? 3 : value;
}

/* ---------------------------------------------------------------- the module */

struct text {
    char *data;
    size_t length, room;
};

static void append(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(struct text *text, const char *format, ...)
{
    va_list args;
    for (;;) {
        va_start(args, format);
        int need = vsnprintf(text->data + text->length, text->room - text->length, format, args);
        va_end(args);
        cr_assert(need >= 0);
        if (text->length + (size_t)need < text->room) {
            text->length += (size_t)need;
            return;
        }
        text->room = text->room * 2 + (size_t)need;
        text->data = realloc(text->data, text->room);
        cr_assert_not_null(text->data);
    }
}

static int operand_bits(char letter)
{
    return strchr("hHBNbe", letter) ? 16 : strchr("ldZ", letter) ? 64 : 32;
}

static const char preamble[] =
    "    .reg .pred %p<8>;\n    .reg .b16 %h<8>;\n    .reg .b32 %t<8>, %lane, %lane_shared, %index;\n"
    "    .reg .b64 %l<8>, %scratch, %lane_scratch, %lane_local, %in, %out;\n"
    "    ld.param.u64 %in, [params];\n    ld.param.u64 %out, [params+8];\n"
    "    ld.param.u64 %scratch, [params+16];\n"
    "    mov.u32 %lane, %laneid;\n    mov.u32 %index, %ctaid.x;\n"
    "    mul.wide.u32 %lane_scratch, %index, 512;\n    add.s64 %scratch, %scratch, %lane_scratch;\n"
    "    mul.wide.u32 %lane_scratch, %lane, 16;\n"
    "    add.s64 %lane_scratch, %scratch, %lane_scratch;\n"
    "    shl.b32 %lane_shared, %lane, 4;\n    mov.u32 %t0, memory;\n"
    "    add.s32 %lane_shared, %lane_shared, %t0;\n"
    "    mov.u64 %lane_local, frame;\n    cvta.local.u64 %lane_local, %lane_local;\n"
    "    shl.b32 %index, %index, 5;\n    add.s32 %index, %index, %lane;\n"
    "    mul.wide.u32 %l0, %index, 8;\n    add.s64 %in, %in, %l0;\n    add.s64 %out, %out, %l0;\n";

char *ptx_case_module(const struct ptx_case *test)
{
    struct text text = {calloc(1, 4096), 0, 4096};
    cr_assert_not_null(text.data);
    append(&text, ".version 8.4\n.target %s\n.address_size 64\n\n", test->target ? test->target : "sm_80");
    append(&text, ".const .align 16 .u32 table[64] = {");
    for (unsigned i = 0; i < 64; i++)
        append(&text, "%s%u", i ? ", " : "", i * 0x01010101u);
    append(&text, "};\n%s\n", test->module ? test->module : "");
    append(&text, ".visible .entry test(.param .align 8 .b8 params[24])\n{\n"
                  "    .shared .align 16 .b8 memory[4096];\n    .local .align 16 .b8 frame[64];\n");
    for (size_t i = 0; test->in[i]; i++)
        append(&text, "    .reg .b%d %%a%zu;\n", operand_bits(test->in[i]), i);
    for (size_t i = 0; test->out[i]; i++)
        append(&text, "    .reg .b%d %%d%zu;\n", operand_bits(test->out[i]), i);
    append(&text, "%s", preamble);
    for (size_t i = 0; test->in[i]; i++)
        append(&text, "    ld.global.b%d %%a%zu, [%%in+%zu];\n", operand_bits(test->in[i]), i,
               i * THREADS * 8);
    append(&text, "    %s\n", test->ptx);
    for (size_t i = 0; test->out[i]; i++)
        append(&text, "    st.global.b%d [%%out+%zu], %%d%zu;\n", operand_bits(test->out[i]),
               i * THREADS * 8, i);
    append(&text, "    ret;\n}\n");
    return text.data;
}

/* ---------------------------------------------------------------- comparison */

static bool near_enough(double got, double want, const struct ptx_case *test)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got))
        return want == got;
    if (fabs(got - want) > test->relative * fabs(want) + test->absolute)
        return false;
    return got != 0 || want != 0 || signbit(got) == signbit(want) || test->absolute > 0;
}

static bool halves_equal(uint64_t got, uint64_t want, const struct ptx_format *format, int halves,
                         const struct ptx_case *test)
{
    for (int i = 0; i < halves; i++) {
        uint32_t g = (uint32_t)(got >> i * 16) & 0xffff, w = (uint32_t)(want >> i * 16) & 0xffff;
        bool both_nan = ptx_is_nan(g, format) && ptx_is_nan(w, format);
        bool near = (test->relative > 0 || test->absolute > 0) &&
                    near_enough(ptx_decode(g, format), ptx_decode(w, format), test);
        if (g != w && !both_nan && !near)
            return false;
    }
    return true;
}

static bool result_equal(char letter, uint64_t got, uint64_t want, const struct ptx_case *test)
{
    if (operand_bits(letter) < 64) {
        uint64_t mask = (1ull << operand_bits(letter)) - 1;
        got &= mask;
        want &= mask;
    }
    if (got == want)
        return true;
    bool near = test->relative > 0 || test->absolute > 0;
    switch (letter) {
    case 'n':
    case 'f': {
        double g = ptx_decode((uint32_t)got, &ptx_f32), w = ptx_decode((uint32_t)want, &ptx_f32);
        return (near && near_enough(g, w, test)) || (letter == 'n' && isnan(g) && isnan(w));
    }
    case 'd': {
        double g = ptx_double(got), w = ptx_double(want);
        return (near && near_enough(g, w, test)) || (isnan(g) && isnan(w));
    }
    case 'N':
        return halves_equal(got, want, &ptx_f16, 1, test);
    case 'M':
        return halves_equal(got, want, &ptx_f16, 2, test);
    case 'b':
        return halves_equal(got, want, &ptx_bf16, 1, test);
    case 'H':
        return near && halves_equal(got, want, &ptx_f16, 1, test);
    case 'P':
        return near && halves_equal(got, want, &ptx_f16, 2, test);
    case 'B':
        return near && halves_equal(got, want, &ptx_bf16, 1, test);
    case 'Q':
        return near && halves_equal(got, want, &ptx_bf16, 2, test);
    default:
        return false;
    }
}

static bool compare_warp(const struct ptx_case *test, const uint64_t *in, const uint64_t *out, size_t warp,
                         char *message, size_t bytes)
{
    uint64_t a[PTX_OPERANDS][PTX_LANES] = {{0}}, d[PTX_OPERANDS][PTX_LANES] = {{0}};
    for (size_t i = 0; test->in[i]; i++)
        memcpy(a[i], in + i * THREADS + warp * PTX_LANES, sizeof a[i]);
    if (test->warp)
        test->warp(test, a, d);
    for (size_t lane = 0; lane < PTX_LANES; lane++) {
        uint64_t lane_a[PTX_OPERANDS], lane_d[PTX_OPERANDS] = {0};
        for (size_t i = 0; i < PTX_OPERANDS; i++) {
            lane_a[i] = a[i][lane];
            lane_d[i] = d[i][lane];
        }
        if (test->lane)
            test->lane(test, lane_a, lane_d);
        for (size_t i = 0; test->out[i]; i++) {
            uint64_t got = out[i * THREADS + warp * PTX_LANES + lane];
            if (result_equal(test->out[i], got, lane_d[i], test))
                continue;
            snprintf(message, bytes,
                     "%s (%s:%d): %.300s lane %zu, inputs %" PRIx64 " %" PRIx64 " %" PRIx64
                     ": %%d%zu is %" PRIx64 ", not %" PRIx64,
                     test->name, test->file, test->line, test->ptx, lane, lane_a[0], lane_a[1], lane_a[2],
                     i, got, lane_d[i]);
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- running */

size_t ptx_case_count(void)
{
    size_t count = 0;
    for (const struct ptx_case *const *test = __start_ptx_cases; test < __stop_ptx_cases; test++)
        count++;
    return count;
}

device *ptx_device(void)
{
    error err = ERROR_INIT;
    device *sim = NULL;
    device_sim_open(NULL, &sim, &err);
    cr_assert_not_null(sim, "%s", err.message);
    return sim;
}

static uint32_t or_one(uint32_t extent)
{
    return extent ? extent : 1;
}

xq_status ptx_run(device *sim, const struct ptx_launch *launch, error *err)
{
    device_module *module = NULL;
    device_function *function = NULL;
    const device_ops *ops = sim->ops;
    const char *entry = launch->entry ? launch->entry : "test";
    if (ops->module_load(sim, launch->ptx, strlen(launch->ptx) + 1, "test.ptx", &module, err) != XQ_OK)
        return err->status;
    if (ops->function_get(module, entry, launch->shared_bytes, &function, err) == XQ_OK) {
        device_launch what = {
            .function = function,
            .grid = {launch->grid, or_one(launch->grid_yz[0]), or_one(launch->grid_yz[1])},
            .block = {launch->block, or_one(launch->block_yz[0]), or_one(launch->block_yz[1])},
            .cluster = launch->cluster,
            .shared_bytes = launch->shared_bytes,
            .params = launch->params,
            .params_bytes = launch->params_bytes};
        if (ops->launch(sim, &what, err) == XQ_OK)
            ops->synchronize(sim, err);
    }
    ops->module_unload(module);
    return err->status;
}

static bool run_on(device *sim, const struct ptx_case *test, const char *ptx, const uint64_t *in,
                   uint64_t *out, error *err)
{
    const device_ops *ops = sim->ops;
    size_t bytes = PTX_OPERANDS * THREADS * sizeof *in;
    struct case_params params = {0};
    if (ops->alloc(sim, bytes, &params.in, err) == XQ_OK &&
        ops->alloc(sim, bytes, &params.out, err) == XQ_OK &&
        ops->alloc(sim, WARPS * 512, &params.scratch, err) == XQ_OK &&
        ops->write(sim, params.in, in, bytes, err) == XQ_OK &&
        ops->fill(sim, params.out, 0, bytes, err) == XQ_OK &&
        ops->fill(sim, params.scratch, 0, WARPS * 512, err) == XQ_OK) {
        struct ptx_launch launch = {.ptx = ptx,
                                    .grid = WARPS,
                                    .block = PTX_LANES,
                                    .params = &params,
                                    .params_bytes = sizeof params};
        if (ptx_run(sim, &launch, err) == XQ_OK)
            ops->read(sim, out, params.out, bytes, err);
    }
    error ignored = ERROR_INIT;
    if (params.in)
        ops->free(sim, params.in, &ignored);
    if (params.out)
        ops->free(sim, params.out, &ignored);
    if (params.scratch)
        ops->free(sim, params.scratch, &ignored);
    error_clear(&ignored);
    (void)test;
    return err->status == XQ_OK;
}

bool ptx_case_run(device *sim, const struct ptx_case *test, char *message, size_t bytes)
{
    uint64_t *in = calloc(PTX_OPERANDS * THREADS, sizeof *in);
    uint64_t *out = calloc(PTX_OPERANDS * THREADS, sizeof *out);
    char *ptx = ptx_case_module(test);
    cr_assert(in && out && ptx);
    uint64_t state = 1;
    for (const char *c = test->name; *c; c++)
        state = state * 31 + (unsigned char)*c;
    for (size_t i = 0; test->in[i]; i++)
        for (size_t thread = 0; thread < THREADS; thread++)
            in[i * THREADS + thread] = input_value(test, i, thread, &state);
    error err = ERROR_INIT;
    bool good = run_on(sim, test, ptx, in, out, &err);
    if (!good)
        snprintf(message, bytes, "%s (%s:%d): %.300s %s", test->name, test->file, test->line, test->ptx,
                 err.message);
    for (size_t warp = 0; good && warp < WARPS; warp++)
        good = compare_warp(test, in, out, warp, message, bytes);
    error_clear(&err);
    free(in);
    free(out);
    free(ptx);
    return good;
}
