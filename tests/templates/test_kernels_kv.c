/* The kernels over fp16 KV pages, each compared with double precision. */
#include "../../runtime/base/half.h"
#include "../support/elements.h"
#include "kernel_attention.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs the kernel on one random shape, twice on the same workspace, as an engine does. */
static double attend_once(fixture *f, const test_kernel *k, random_stream *r, int longest)
{
    paged p;
    attention a;
    bool in_order = random_between(r, 0, 3) == 0;
    paged_draw(r, &p, random_between(r, 1, 4), f->page, longest, in_order);
    attention_draw(r, f, &p, &a);
    size_t rows = (size_t)(p.batch * f->model.heads);
    double *expected = malloc(rows * (size_t)f->model.head_dim * sizeof *expected),
           *lse = malloc(rows * sizeof *lse);
    attention_expect(f, &p, &a, expected, lse);

    int tile = fixture_constant(k, "tile_tokens");
    int per_split = tile * random_between(r, 1, 4);
    int splits = p.longest ? (p.longest + per_split - 1) / per_split : 1;
    struct xq_kv_attend_params args = attention_arguments(
        f, &p, splits, fixture_upload(f, a.kv, a.kv_bytes), a.q, random_between(r, 0, 3));
    args.table = paged_upload(f, &p, in_order);
    args.tokens_per_split = per_split;
    double worst = 0;
    for (int repeat = 0; repeat < 2; repeat++) {
        fixture_launch(f, k, splits, f->model.kv_heads, p.batch, &args, sizeof args);
        worst = attention_check(f, &p, &args, expected, lse);
    }
    fixture_release(f);
    free(expected);
    free(lse);
    attention_free(&p, &a);
    paged_free(&p);
    return worst;
}

struct attend_case {
    int heads, kv_heads, head_dim, page, longest;
    char tuning[96];
};

ParameterizedTestParameters(kernels_kv, kv_attend_matches_the_reference)
{
    static struct attend_case cases[] = {
        {2, 2, 64, 16, 300, ""},
        {9, 3, 64, 64, 300, ""},
        {5, 1, 128, 256, 600, ""},
        {14, 2, 64, 32, 300, "\"slice\": 32, \"query_tiles\": 1, \"stages\": 3"},
        {8, 2, 128, 16, 300, "\"slice\": 32, \"stages\": 2, \"query_tiles\": 1, \"warps\": 2"},
        {12, 1, 64, 128, 300, ""},
        {16, 1, 128, 64, 300, "\"warps\": 1, \"stages\": 4"},
        {27, 1, 64, 48, 200, "\"stages\": 2"},
    };
    return cr_make_param_array(struct attend_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct attend_case *c, kernels_kv, kv_attend_matches_the_reference)
{
    fixture f;
    char tuning[128];
    snprintf(tuning, sizeof tuning, "\"kv_attend\": {%s}", c->tuning);
    fixture_open(&f, fixture_spec("x", 64, c->heads, c->kv_heads, c->head_dim, c->page, 4, 64, tuning));
    const test_kernel *k = fixture_kernel(&f, "kv_attend");
    double worst = 0;
    for (int i = 0; i < 12; i++) {
        random_stream r = random_begin(2026, (uint64_t)(c->heads * 1000 + c->head_dim + i));
        double e = attend_once(&f, k, &r, c->longest);
        worst = e > worst ? e : worst;
    }
    cr_log_info("heads %d/%d, head_dim %d: worst error %.2e", c->heads, c->kv_heads, c->head_dim, worst);
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}

/* Each KV head has twelve query heads, in two tiles of the matrix instruction, which share one pass over
 * the cache. */
static void reads_once(bool e4m3)
{
    enum { LENGTH = 500 };
    const float scale = 0.015625f;
    const int bytes = e4m3 ? 1 : 2;
    fixture f;
    fixture_open(&f, fixture_spec("x", 64, 24, 2, 128, 64, 4, 64, ""));
    const test_kernel *k = fixture_kernel(&f, e4m3 ? "kv_attend_e4m3" : "kv_attend");
    random_stream r = random_begin(12, 0);
    paged p;
    attention a;
    for (;;) {
        paged_draw(&r, &p, 1, f.page, LENGTH, false);
        if (p.longest >= LENGTH / 2)
            break;
        paged_free(&p);
    }
    attention_draw(&r, &f, &p, &a);
    uint8_t *codes = kv_narrow(&f, a.kv, p.pool, false, scale, scale);
    const void *pages = e4m3 ? (const void *)codes : a.kv;
    struct xq_kv_attend_params args = attention_arguments(
        &f, &p, 1, fixture_upload(&f, pages, a.kv_bytes / 2 * (size_t)bytes), a.q, true);
    args.k_scale = args.v_scale = fixture_upload(&f, &scale, 4);
    args.table = paged_upload(&f, &p, false);
    args.tokens_per_split = fixture_constant(k, "tile_tokens") * 16;
    fixture_counters(&f);
    fixture_launch(&f, k, 1, f.model.kv_heads, 1, &args, sizeof args);
    device_counters c = fixture_counters(&f);
    double rows = 2.0 * p.longest * f.model.kv_heads * f.model.head_dim * bytes;
    double queries = (double)f.model.heads * f.model.head_dim * 2;
    double least = (rows + queries) / 32;
    cr_assert_leq((double)c.read_sectors_unique, 1.02 * least);
    cr_assert_geq((double)c.read_sectors_unique, least);
    cr_assert_eq((double)c.write_sectors_unique, queries / 32 + (double)f.model.heads * 4 / 32);
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
    attention_free(&p, &a);
    paged_free(&p);
    free(codes);
}

Test(kernels_kv, kv_attend_reads_keys_values_and_queries_once)
{
    reads_once(false);
    reads_once(true);
}

/* ---------------------------------------------------------------- kv_append */

/* The table has a million tokens, and all its pages are the same page. Only the last token is written. */
Test(kernels_kv, kv_append_is_accurate_a_million_tokens_in)
{
    enum { POSITION = 1048571, PAGE = 256, ENTRIES = POSITION / PAGE + 1, WIDTH = 128 };
    fixture f;
    fixture_open(&f, fixture_spec("x", 64, 1, 1, WIDTH, PAGE, 4, 64, ""));
    random_stream r = random_begin(8, 0);
    uint16_t *k = elements_normals(&r, false, WIDTH, 1);
    int32_t zero = 0, position = POSITION, indptr[2] = {0, ENTRIES}, last = POSITION % PAGE + 1;
    struct xq_kv_append_params args = {0};
    args.table.indptr = fixture_upload(&f, indptr, sizeof indptr);
    args.table.indices = fixture_filled(&f, 0, ENTRIES * 4);
    args.table.last_page_len = fixture_upload(&f, &last, 4);
    args.k = args.v = fixture_upload(&f, k, WIDTH * 2);
    args.token_sequence = fixture_upload(&f, &zero, 4);
    args.token_position = fixture_upload(&f, &position, 4);
    args.kv = fixture_filled(&f, 0, 2 * PAGE * WIDTH * 2);
    args.tokens = 1;
    fixture_launch(&f, fixture_kernel(&f, "kv_append"), 1, 1, 1, &args, sizeof args);
    uint16_t *got = fixture_download(&f, args.kv + POSITION % PAGE * WIDTH * 2, WIDTH * 2);
    double *expected = fixture_rotated(&f, k, 1, 1, POSITION),
           *values = elements_doubles(got, false, WIDTH);
    double e = reference_error(expected, values, WIDTH);
    cr_assert(e <= 5e-4, "error %g", e);
    free(expected);
    free(values);
    free(got);
    free(k);
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}
