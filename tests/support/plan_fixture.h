/* Plans on the fake GPU, for tests of layout, weights and launches. No kernel runs. */
#ifndef TESTS_PLAN_FIXTURE_H
#define TESTS_PLAN_FIXTURE_H

#include "../../autotune/engine/call.h"
#include "../../runtime/launch/plan.h"
#include "fake_cuda.h"

#define PLAN_MODEL                                                                                         \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
#define PLAN_LATENT                                                                                        \
    "{" PLAN_MODEL                                                                                         \
    ", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"rank_k\": 128, \"rank_v\": 64, "  \
    "\"page\": 32}, \"weights\": \"f16\"}"
#define PLAN_X                                                                                             \
    "{" PLAN_MODEL                                                                                         \
    ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 8, \"group\": 128, \"page\": 64}}"

extern struct fake_cuda_state *fake;
extern xq_context *context;

/* Opens a context on the fake GPU; template_dir may be NULL. */
void plan_open(const char *template_dir);

/* Opens a context on the fake GPU with stub families, which support every feature and whose kernels do
 * nothing. Tests of launches then do not depend on the real kernels. The constants below are values that
 * the stubs state. */
void plan_open_stubs(void);
/* Opens a context with the stubs on the software device, where they run. */
void plan_open_stubs_on_sim(void);
enum {
    STUB_COLUMN_BLOCKS = 5, /* column_blocks; append_channel has one more */
    STUB_STEPS = 3,         /* launches of append_channel in base layers; 1 in others */
    STUB_SUM_TILES = 3,     /* 16-token tiles that one block of accumulate handles */
    STUB_ONE_ROWS = 16,     /* query_rows of the kernels for one query */
    STUB_MANY_ROWS = 64,
    STUB_TILE = 64,
    STUB_SPLIT = 512, /* split_tokens of the kernels for one query */
    STUB_GEMM_ROWS = 128,
    STUB_GEMM_COLS = 64,
    STUB_HEAD_BLOCKS = 3,
    STUB_MERGE_ROWS = 4
};

/* Options for 3 sequences of 1000 tokens, with 100 tokens appended. */
xq_plan_options plan_options(const char *spec, xq_implementation implementation);

/* Makes a plan, and opens a context first if none is open. */
xq_plan *plan_make(const char *spec, xq_implementation implementation);
xq_plan *plan_make_with(const xq_plan_options *options);
xq_plan_info plan_info(const xq_plan *plan);
const xq_error_detail *plan_error(void);

/* Destroys the plan and the context, and checks that nothing is left on the GPU. */
void plan_close(xq_plan *plan);

/* Addresses that no kernel reads. In a failing test each shows which argument it stands for. */
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

/* Arguments that every call takes: a table of 2 sequences, and all memory that the plan needs. */
call_cache plan_cache(const xq_plan *plan);

/* Arguments for appending 40 tokens of 2 sequences, and for attention over 700 tokens of each. They give
 * everything that the plan takes, whether the call reads it or not, except the arrays that make a call one
 * of many queries. */
xq_append_args plan_append_args(const xq_plan *plan);
xq_attend_args plan_attend_args(const xq_plan *plan);

/* An argument of a call, by its place in the struct, with an invalid value, and the field that the error
 * must name. */
struct plan_mistake {
    size_t offset;
    uint64_t value;
    size_t size;
    const char *field;
};

/* Checks the name and grid of the kernel that was launched `back` launches before the last (0: the last),
 * and returns its parameters. */
const void *plan_launched(int back, const char *name, unsigned x, unsigned y, unsigned z);

#endif
