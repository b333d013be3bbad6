/* Runs random programs of arbitrary control flow (loops, irreducible graphs, switches, calls, predication)
 * over 32- and 64-bit variables and predicates, and compares them with an interpreter that runs one thread
 * at a time. The way that a warp handles divergence, and the placement of registers, must not show in the
 * results. */
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 7, WIDES = 3, PREDICATES = 4, BLOCKS_MAX = 14, OPERATIONS_MAX = 7, FUEL = 60, THREADS = 96 };

enum operation_kind {
    ADD,
    SUB,
    MUL,
    XOR,
    SHIFT,
    SELECT,
    MOVE,
    WIDEN,
    NARROW,
    ADD_WIDE,
    COMPARE,
    AND_PREDICATE,
    CALL,
    KINDS
};

struct operation {
    enum operation_kind kind;
    int d, a, b, p;
    uint32_t immediate;
    int guard; /* a predicate, or -1 */
    bool negated;
};

enum ending { FALL, JUMP, BRANCH, SWITCH };

struct block {
    struct operation operations[OPERATIONS_MAX];
    int count;
    enum ending ending;
    int targets[3]; /* block numbers; the program's count stands for the end */
    int p;
    bool negated;
};

struct program {
    struct block blocks[BLOCKS_MAX];
    int count;
};

struct state {
    uint32_t words[WORDS];
    uint64_t wides[WIDES];
    bool predicates[PREDICATES];
};

static int pick(uint64_t *random, int count)
{
    return (int)(ptx_random(random) % (uint64_t)count);
}

static void make_program(struct program *program, uint64_t *random)
{
    program->count = 2 + pick(random, BLOCKS_MAX - 1);
    for (int i = 0; i < program->count; i++) {
        struct block *block = &program->blocks[i];
        block->count = pick(random, OPERATIONS_MAX + 1);
        for (int k = 0; k < block->count; k++)
            block->operations[k] =
                (struct operation){.kind = (enum operation_kind)pick(random, KINDS),
                                   .d = pick(random, 1000),
                                   .a = pick(random, 1000),
                                   .b = pick(random, 1000),
                                   .p = pick(random, PREDICATES),
                                   .immediate = (uint32_t)ptx_random(random) & 0xffff,
                                   .guard = pick(random, 3) ? -1 : pick(random, PREDICATES),
                                   .negated = pick(random, 2)};
        block->ending = (enum ending)(pick(random, 5) % 4);
        for (int k = 0; k < 3; k++)
            block->targets[k] = pick(random, program->count + 1);
        block->p = pick(random, PREDICATES);
        block->negated = pick(random, 2);
    }
}

/* ---------------------------------------------------------------- one thread at a time */

static uint32_t called(uint32_t x)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < (x & 5); i++)
        sum = sum * 3 + x;
    return sum;
}

static void operate(struct state *s, const struct operation *o)
{
    uint32_t *d = &s->words[o->d % WORDS], a = s->words[o->a % WORDS], b = s->words[o->b % WORDS];
    uint64_t *wide = &s->wides[o->d % WIDES];
    if (o->guard >= 0 && s->predicates[o->guard] == o->negated)
        return;
    switch (o->kind) {
    case ADD:
        *d = a + b;
        break;
    case SUB:
        *d = a - o->immediate;
        break;
    case MUL:
        *d = a * b;
        break;
    case XOR:
        *d = a ^ b;
        break;
    case SHIFT:
        *d = a >> (o->immediate & 31);
        break;
    case SELECT:
        *d = s->predicates[o->p] ? a : b;
        break;
    case MOVE:
        *d = a;
        break;
    case WIDEN:
        *wide = (uint64_t)a * b;
        break;
    case NARROW:
        *d = (uint32_t)(s->wides[o->a % WIDES] >> 32);
        break;
    case ADD_WIDE:
        *wide = s->wides[o->a % WIDES] + s->wides[o->b % WIDES];
        break;
    case COMPARE:
        s->predicates[o->p] = a % 4096 < b % 4096;
        break;
    case AND_PREDICATE:
        s->predicates[o->p] = s->predicates[o->a % PREDICATES] && !s->predicates[o->b % PREDICATES];
        break;
    default:
        *d = called(a);
    }
}

static void run_thread(const struct program *program, struct state *s)
{
    int fuel = FUEL;
    for (int at = 0; at < program->count;) {
        const struct block *block = &program->blocks[at];
        if (--fuel == 0)
            return;
        for (int k = 0; k < block->count; k++)
            operate(s, &block->operations[k]);
        bool taken = s->predicates[block->p] != block->negated;
        switch (block->ending) {
        case FALL:
            at++;
            break;
        case JUMP:
            at = block->targets[0];
            break;
        case BRANCH:
            at = taken ? block->targets[0] : at + 1;
            break;
        case SWITCH:
            at = block->targets[s->words[0] & 1 ? s->words[0] >> 1 & 1 : 2];
            break;
        }
    }
}

/* ---------------------------------------------------------------- the same as PTX */

struct text {
    char data[1 << 16];
    size_t length;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->data + text->length, sizeof text->data - text->length, format, args);
    va_end(args);
    text->length += (size_t)n;
    cr_assert(text->length < sizeof text->data);
}

static void write_operation(struct text *t, const struct operation *o)
{
    int d = o->d % WORDS, a = o->a % WORDS, b = o->b % WORDS, wide = o->d % WIDES;
    char guard[16] = "";
    if (o->guard >= 0)
        snprintf(guard, sizeof guard, "@%s%%p%d ", o->negated ? "!" : "", o->guard);
    switch (o->kind) {
    case ADD:
        add(t, "%sadd.u32 %%w%d, %%w%d, %%w%d;\n", guard, d, a, b);
        break;
    case SUB:
        add(t, "%ssub.s32 %%w%d, %%w%d, %u;\n", guard, d, a, o->immediate);
        break;
    case MUL:
        add(t, "%smul.lo.u32 %%w%d, %%w%d, %%w%d;\n", guard, d, a, b);
        break;
    case XOR:
        add(t, "%sxor.b32 %%w%d, %%w%d, %%w%d;\n", guard, d, a, b);
        break;
    case SHIFT:
        add(t, "%sshr.u32 %%w%d, %%w%d, %u;\n", guard, d, a, o->immediate & 31);
        break;
    case SELECT:
        add(t, "%sselp.b32 %%w%d, %%w%d, %%w%d, %%p%d;\n", guard, d, a, b, o->p);
        break;
    case MOVE:
        add(t, "%smov.u32 %%w%d, %%w%d;\n", guard, d, a);
        break;
    case WIDEN:
        add(t, "%smul.wide.u32 %%l%d, %%w%d, %%w%d;\n", guard, wide, a, b);
        break;
    case NARROW:
        add(t, "{ .reg .b32 %%low; %smov.b64 {%%low, %%w%d}, %%l%d; }\n", guard, d, o->a % WIDES);
        break;
    case ADD_WIDE:
        add(t, "%sadd.s64 %%l%d, %%l%d, %%l%d;\n", guard, wide, o->a % WIDES, o->b % WIDES);
        break;
    case COMPARE:
        add(t,
            "{ .reg .b32 %%x, %%y; and.b32 %%x, %%w%d, 4095; and.b32 %%y, %%w%d, 4095; %ssetp.lt.u32 "
            "%%p%d, %%x, %%y; }\n",
            a, b, guard, o->p);
        break;
    case AND_PREDICATE:
        add(t, "{ .reg .pred %%n; not.pred %%n, %%p%d; %sand.pred %%p%d, %%p%d, %%n; }\n",
            o->b % PREDICATES, guard, o->p, o->a % PREDICATES);
        break;
    default: /* a call is not predicated: only its result is assigned under the predicate */
        add(t,
            "{ .param .b32 x; .param .b32 r; .reg .b32 %%v; st.param.b32 [x], %%w%d; call (r), called, "
            "(x); "
            "ld.param.b32 %%v, [r]; %smov.u32 %%w%d, %%v; }\n",
            a, guard, d);
    }
}

static void write_ending(struct text *t, const struct program *program, int index)
{
    const struct block *block = &program->blocks[index];
    switch (block->ending) {
    case FALL:
        break;
    case JUMP:
        add(t, "bra B%d;\n", block->targets[0]);
        break;
    case BRANCH:
        add(t, "@%s%%p%d bra B%d;\n", block->negated ? "!" : "", block->p, block->targets[0]);
        break;
    case SWITCH:
        add(t,
            "{ .reg .b32 %%i, %%j; .reg .pred %%odd; and.b32 %%i, %%w0, 1; setp.ne.u32 %%odd, %%i, 0; "
            "bfe.u32 %%j, %%w0, 1, 1; selp.b32 %%i, %%j, 2, %%odd; t%d: .branchtargets B%d, B%d, B%d; "
            "brx.idx %%i, t%d; }\n",
            index, block->targets[0], block->targets[1], block->targets[2], index);
        break;
    }
}

/* Writes the program as PTX. Thread i reads WORDS words and writes all variables. */
static void write_program(struct text *t, const struct program *program)
{
    t->length = 0;
    add(t,
        ".version 8.0\n.target sm_80\n.address_size 64\n"
        ".func (.param .b32 r) called(.param .b32 x) { .reg .b32 %%x, %%n, %%s, %%i; .reg .pred %%p; "
        "ld.param.b32 %%x, [x]; "
        "and.b32 %%n, %%x, 5; mov.u32 %%s, 0; mov.u32 %%i, 0; AGAIN: setp.ge.u32 %%p, %%i, %%n; @%%p bra "
        "DONE; "
        "mad.lo.u32 %%s, %%s, 3, %%x; add.u32 %%i, %%i, 1; bra AGAIN; DONE: st.param.b32 [r], %%s; ret; }\n"
        ".visible .entry test(.param .align 8 .b8 params[16])\n{\n"
        ".reg .b32 %%w<%d>, %%fuel, %%me, %%t; .reg .b64 %%l<%d>, %%in, %%out, %%at; .reg .pred %%p<%d>, "
        "%%empty;\n"
        "ld.param.u64 %%in, [params]; ld.param.u64 %%out, [params+8]; mov.u32 %%me, %%tid.x;\n"
        "mul.wide.u32 %%at, %%me, %d; add.s64 %%in, %%in, %%at; mul.wide.u32 %%at, %%me, %d; add.s64 "
        "%%out, %%out, %%at;\n"
        "mov.u32 %%fuel, %d;\n",
        WORDS, WIDES, PREDICATES, WORDS * 4, (int)sizeof(struct state), FUEL);
    for (int i = 0; i < WORDS; i++)
        add(t, "ld.global.u32 %%w%d, [%%in+%d];\n", i, i * 4);
    for (int i = 0; i < WIDES; i++)
        add(t, "cvt.u64.u32 %%l%d, %%w%d;\n", i, i);
    for (int i = 0; i < PREDICATES; i++)
        add(t, "setp.lt.s32 %%p%d, %%w%d, 0;\n", i, i);
    for (int i = 0; i < program->count; i++) {
        add(t, "B%d: sub.u32 %%fuel, %%fuel, 1; setp.eq.u32 %%empty, %%fuel, 0; @%%empty bra B%d;\n", i,
            program->count);
        for (int k = 0; k < program->blocks[i].count; k++)
            write_operation(t, &program->blocks[i].operations[k]);
        write_ending(t, program, i);
    }
    add(t, "B%d:\n", program->count);
    for (int i = 0; i < WORDS; i++)
        add(t, "st.global.u32 [%%out+%zu], %%w%d;\n", offsetof(struct state, words) + (size_t)i * 4, i);
    for (int i = 0; i < WIDES; i++)
        add(t, "st.global.u64 [%%out+%zu], %%l%d;\n", offsetof(struct state, wides) + (size_t)i * 8, i);
    for (int i = 0; i < PREDICATES; i++)
        add(t, "selp.b32 %%t, 1, 0, %%p%d; st.global.u8 [%%out+%zu], %%t;\n", i,
            offsetof(struct state, predicates) + (size_t)i);
    add(t, "ret;\n}\n");
}

/* ---------------------------------------------------------------- both */

static void start(struct state *s, const uint32_t *in)
{
    memset(s, 0, sizeof *s);
    memcpy(s->words, in, sizeof s->words);
    for (int i = 0; i < WIDES; i++)
        s->wides[i] = in[i];
    for (int i = 0; i < PREDICATES; i++)
        s->predicates[i] = (int32_t)in[i] < 0;
}

static bool compare(const struct program *program, const uint32_t *in, const struct state *out,
                    uint64_t seed)
{
    for (int thread = 0; thread < THREADS; thread++) {
        struct state expected;
        start(&expected, in + thread * WORDS);
        run_thread(program, &expected);
        if (memcmp(expected.words, out[thread].words, sizeof expected.words) ||
            memcmp(expected.wides, out[thread].wides, sizeof expected.wides) ||
            memcmp(expected.predicates, out[thread].predicates, sizeof expected.predicates)) {
            cr_expect(false, "PTX_SEED=%" PRIu64 ": thread %d", seed, thread);
            return false;
        }
    }
    return true;
}

static bool run_seed(device *sim, uint64_t seed, uint64_t in_pointer, uint64_t out_pointer)
{
    static struct text text;
    static struct state out[THREADS];
    struct program program;
    uint32_t in[THREADS * WORDS];
    uint64_t random = seed, params[2] = {in_pointer, out_pointer};
    error err = ERROR_INIT;
    make_program(&program, &random);
    write_program(&text, &program);
    for (int i = 0; i < THREADS * WORDS; i++)
        in[i] = (uint32_t)ptx_random(&random);
    struct ptx_launch launch = {
        .ptx = text.data, .grid = 1, .block = THREADS, .params = params, .params_bytes = sizeof params};
    sim->ops->write(sim, in_pointer, in, sizeof in, &err);
    ptx_run(sim, &launch, &err);
    sim->ops->read(sim, out, out_pointer, sizeof out, &err);
    cr_expect_eq(err.status, XQ_OK, "PTX_SEED=%" PRIu64 ": %s", seed, err.message);
    bool good = err.status == XQ_OK && compare(&program, in, out, seed);
    if (!good && getenv("PTX_SEED"))
        fputs(text.data, stderr);
    error_clear(&err);
    return good;
}

/* PTX_SEED=N runs only the seed N, and shows its program if it fails. */
static void run_seeds(uint64_t from, uint64_t count)
{
    device *sim = ptx_device();
    error err = ERROR_INIT;
    uint64_t in = 0, out = 0;
    const char *only = getenv("PTX_SEED");
    sim->ops->alloc(sim, THREADS * WORDS * 4, &in, &err);
    sim->ops->alloc(sim, THREADS * sizeof(struct state), &out, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    if (only) {
        run_seed(sim, strtoull(only, NULL, 0), in, out);
    } else {
        int failed = 0;
        for (uint64_t i = 0; i < count && failed < 5; i++)
            failed += !run_seed(sim, from + i, in, out);
    }
    sim->ops->destroy(sim);
}

Test(sim_programs, random_control_flow_is_as_one_thread_at_a_time_1)
{
    run_seeds(1, 600);
}

Test(sim_programs, random_control_flow_is_as_one_thread_at_a_time_2)
{
    run_seeds(100001, 600);
}
