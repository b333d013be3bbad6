#include "library_session.h"
#include "../../runtime/base/half.h"
#include "../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- libraries */

void *library_find(const struct library *l, const char *prefix, const char *name)
{
    char symbol[256];
    snprintf(symbol, sizeof symbol, "%s_%s", prefix, name);
    void *found = dlsym(l->handle, symbol);
    cr_assert_not_null(found, "%s", dlerror());
    return found;
}

#define FIND(NAME)                                                                                         \
    do {                                                                                                   \
        void *found = library_find(&l, prefix, #NAME);                                                     \
        memcpy(&l.NAME, &found, sizeof found);                                                             \
    } while (0);

struct library library_load(const char *path, const char *prefix)
{
    struct library l = {NULL};
    l.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(l.handle, "%s", dlerror());
    LIBRARY_FUNCTIONS(FIND)
    return l;
}

const char *library_message(const struct library *l, xq_context *context)
{
    static xq_error_detail detail;
    detail = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    return l->last_error(context, &detail) == XQ_OK ? detail.message : "no error";
}

struct session session_open(const struct library *l, const char *device)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    struct session s = {l, NULL};
    options.device = device;
    cr_assert_eq(l->context_create(&options, &s.context), XQ_OK, "%s", library_message(l, s.context));
    return s;
}

void session_must(const struct session *s, xq_status status)
{
    cr_assert_eq(status, XQ_OK, "%s", library_message(s->library, s->context));
}

/* ---------------------------------------------------------------- attention */

enum { D = 256, KV = 128, PAGE = 32, PAGES = 12 };
enum { HEADS = SESSION_HEADS, HEAD_DIM = SESSION_HEAD_DIM, TOKENS = SESSION_TOKENS, BATCH = SESSION_BATCH };

static uint64_t filled(const struct session *s, size_t bytes)
{
    uint64_t pointer = 0;
    session_must(s, s->library->device_alloc(s->context, bytes + 1, &pointer));
    session_must(s, s->library->device_fill(s->context, pointer, 0, bytes));
    return pointer;
}

static uint64_t uploaded(const struct session *s, const void *data, size_t bytes)
{
    uint64_t pointer = filled(s, bytes);
    session_must(s, s->library->device_write(s->context, pointer, data, bytes));
    return pointer;
}

static void fill_floats(float *values, int count, uint64_t stream)
{
    random_stream r = random_begin(1, stream);
    for (int i = 0; i < count; i++)
        values[i] = 0.1f * random_normal(&r);
}

static void fill_halves(uint16_t *values, int count, uint64_t stream)
{
    random_stream r = random_begin(2, stream);
    for (int i = 0; i < count; i++)
        values[i] = half_from_float(random_normal(&r));
}

static uint64_t packed_weights(const struct session *s, xq_plan *plan, const xq_plan_info *info, int latent)
{
    static float wk[D * KV], wv[D * KV], uk[D * KV], ak[KV * KV], uv[D * 64], av[64 * KV];
    float *const all[] = {wk, wv, uk, ak, uv, av};
    const int counts[] = {D * KV, D * KV, D * KV, KV * KV, D * 64, 64 * KV};
    for (int n = 0; n < 6; n++)
        fill_floats(all[n], counts[n], (uint64_t)n);
    xq_weights w = XQ_WEIGHTS_INIT;
    if (latent) {
        w.uk = uk;
        w.ak = ak;
        w.uv = uv;
        w.av = av;
    } else {
        w.wk = wk;
        w.wv = wv;
    }
    void *packed = malloc(info->weights_bytes);
    session_must(s, s->library->plan_pack_weights(plan, &w, packed, info->weights_bytes));
    uint64_t pointer = uploaded(s, packed, info->weights_bytes);
    free(packed);
    return pointer;
}

/* Sequences of TOKENS and TOKENS - 37 tokens. */
static xq_page_table page_table(const struct session *s)
{
    static const int32_t indptr[] = {0, 5, 9}, indices[] = {3, 1, 7, 2, 11, 0, 4, 10, 6},
                         last[] = {TOKENS - 4 * PAGE, TOKENS - 37 - 3 * PAGE};
    return (xq_page_table){BATCH, uploaded(s, indptr, sizeof indptr), uploaded(s, indices, sizeof indices),
                           uploaded(s, last, sizeof last)};
}

struct session_result session_attend(const struct session *s, xq_plan *plan, int latent)
{
    enum { ROWS = 2 * TOKENS - 37 };
    static uint16_t x[ROWS * D], q[BATCH * HEADS * HEAD_DIM];
    static int32_t sequence[ROWS], position[ROWS];
    static const int32_t rows[] = {0, TOKENS, ROWS}, slots[] = {1, 0};
    const struct library *l = s->library;
    struct session_result result;
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    session_must(s, l->plan_query(plan, &info));
    fill_halves(x, ROWS * D, 0);
    fill_halves(q, BATCH * HEADS * HEAD_DIM, 1);
    for (int i = 0; i < ROWS; i++) {
        sequence[i] = i >= TOKENS;
        position[i] = i - (i >= TOKENS ? TOKENS : 0);
    }
    xq_page_table table = page_table(s);
    uint64_t weights = packed_weights(s, plan, &info, latent), pages = filled(s, PAGES * info.page_bytes);
    uint64_t workspace = filled(s, info.workspace_bytes);
    uint64_t accumulator = info.accumulator_page_bytes ? filled(s, PAGES * info.accumulator_page_bytes) : 0;
    xq_tail_pool tails = {0, 0};
    if (info.tail_bytes)
        tails = (xq_tail_pool){filled(s, 2 * info.tail_bytes), uploaded(s, slots, sizeof slots)};
    xq_append_args append = XQ_APPEND_ARGS_INIT;
    append.tokens = ROWS;
    append.x = uploaded(s, x, sizeof x);
    append.token_sequence = uploaded(s, sequence, sizeof sequence);
    append.token_position = uploaded(s, position, sizeof position);
    append.append_indptr = uploaded(s, rows, sizeof rows);
    append.table = table;
    append.pages = pages;
    append.tails = tails;
    append.accumulator = accumulator;
    append.weights = weights;
    append.workspace = workspace;
    append.workspace_bytes = info.workspace_bytes;
    session_must(s, l->plan_append(plan, &append, NULL));
    if (accumulator) {
        xq_accumulate_args a = XQ_ACCUMULATE_ARGS_INIT;
        a.max_tokens = TOKENS;
        a.table = table;
        a.pages = pages;
        a.weights = weights;
        a.accumulator = accumulator;
        session_must(s, l->plan_accumulate(plan, &a, NULL));
    }
    xq_attend_args a = XQ_ATTEND_ARGS_INIT;
    a.max_tokens = TOKENS;
    a.q = uploaded(s, q, sizeof q);
    a.out = filled(s, sizeof result.out);
    a.lse = filled(s, sizeof result.lse);
    a.table = table;
    a.pages = pages;
    a.tails = tails;
    a.accumulator = accumulator;
    a.weights = weights;
    a.workspace = workspace;
    a.workspace_bytes = info.workspace_bytes;
    session_must(s, l->plan_attend(plan, &a, NULL));
    session_must(s, l->device_read(s->context, result.out, a.out, sizeof result.out));
    session_must(s, l->device_read(s->context, result.lse, a.lse, sizeof result.lse));
    return result;
}

void session_expect_same(const struct session_result *a, const struct session_result *b, const char *what)
{
    int zeros = 0;
    cr_expect_arr_eq(a->out, b->out, sizeof a->out, "%s", what);
    cr_expect_arr_eq(a->lse, b->lse, sizeof a->lse, "%s", what);
    for (size_t k = 0; k < sizeof a->out / sizeof a->out[0]; k++)
        zeros += (a->out[k] & 0x7fff) == 0;
    cr_expect_lt(zeros, 20, "%s", what);
}
