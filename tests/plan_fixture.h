/* Plans over the fake GPU, for tests of layout, weights and launches: nothing runs. */
#ifndef TESTS_PLAN_FIXTURE_H
#define TESTS_PLAN_FIXTURE_H

#include "../autotune/engine/call.h"
#include "../runtime/launch/plan.h"
#include "fake_cuda.h"

#define PLAN_MODEL                                                                                         \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
#define PLAN_LATENT                                                                                        \
    "{" PLAN_MODEL                                                                                         \
    ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"rank_k\": 128, \"rank_v\": 64, "  \
    "\"page\": 32}}"
#define PLAN_X                                                                                             \
    "{" PLAN_MODEL                                                                                         \
    ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 8, \"group\": 128, \"page\": 64}}"

extern struct fake_cuda_state *fake;
extern xq_context *context;

/* A context over the fake GPU; template_dir may be NULL. */
void plan_open(const char *template_dir);

/* The same, with families that handle every feature and whose kernels do nothing, so that launches can be
 * tested whatever the kernels are. What they state: */
void plan_open_stubs(void);
/* On the software device, where they run. */
void plan_open_stubs_on_sim(void);
enum {
    STUB_COLUMN_BLOCKS = 5, /* of append_channel one more */
    STUB_STEPS = 3,         /* of append_channel in base layers */
    STUB_SUM_TILES = 3,     /* 16-token tiles of a block of accumulate */
    STUB_ONE_ROWS = 16,     /* query_rows of the kernels for one query */
    STUB_MANY_ROWS = 64,
    STUB_TILE = 64,
    STUB_SPLIT = 512, /* split_tokens of the kernels for one query */
    STUB_GEMM_ROWS = 128,
    STUB_GEMM_COLS = 64,
    STUB_HEAD_BLOCKS = 3,
    STUB_MERGE_ROWS = 4
};

/* 3 sequences of 1000 tokens, 100 tokens appended. */
xq_plan_options plan_options(const char *spec, xq_implementation implementation);

/* Opens a context where there is none. */
xq_plan *plan_make(const char *spec, xq_implementation implementation);
xq_plan *plan_make_with(const xq_plan_options *options);
xq_plan_info plan_info(const xq_plan *plan);
const xq_error_detail *plan_error(void);

/* Destroys plan and context; nothing may be left on the GPU. */
void plan_close(xq_plan *plan);

/* Addresses that no kernel runs on: each tells in a failing test what it stands for. */
enum {
    X = 0x1000000,
    SEQUENCE = 0x2000000,
    POSITION = 0x3000000,
    INDPTR = 0x4000000,
    INDICES = 0x5000000,
    LAST = 0x6000000,
    PAGES = 0x7000000,
    WEIGHTS = 0x8000000,
    Q = 0x9000000,
    OUT = 0xa000000,
    LSE = 0xb000000,
    WORKSPACE = 0xc000000,
    TAILS = 0xd000000,
    SLOTS = 0xe000000,
    ACCUMULATOR = 0xf000000,
    APPEND_INDPTR = 0x11000000,
    QUERY_INDPTR = 0x12000000,
    QUERY_POSITION = 0x13000000,
    TOKEN_OFFSET = 0x14000000,
    TREE_MASK = 0x15000000,
    ROTARY = 0x16000000
};

/* What every call is given: the table of 2 sequences, and all that the plan has. */
call_cache plan_cache(const xq_plan *plan);

/* 40 tokens of 2 sequences, and attention over 700 tokens of each: everything given that the plan takes,
 * whether the call reads it or not, but for what says that there are many queries. */
xq_append_args plan_append_args(const xq_plan *plan);
xq_attend_args plan_attend_args(const xq_plan *plan);

/* An argument of a call, by its place in the struct, and what is wrong with it. */
struct plan_mistake {
    size_t offset;
    uint64_t value;
    size_t size;
    const char *field;
};

/* `back` launches ago (0: the last) this was launched; returns its parameters. */
const void *plan_launched(int back, const char *name, unsigned x, unsigned y, unsigned z);

#endif
