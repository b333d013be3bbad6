/* Results of the reference that xq compare reuses, only for the same cache and the same weights. */
#include "../../cli/compare_expected.h"
#include "../../runtime/launch/plan.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { PAGES = 96, TAIL = 16, OUTS = 3, LSES = 2 };

static char f16[] = "{\"weights\": \"f16\", \"keys\": {\"absorbed\": [4, 5]}}";
static char int8[] = "{\"weights\": \"int8\", \"keys\": {\"absorbed\": [4, 5]}}";
static char int8_alike[] = "{\"weights\": \"int8\", \"keys\": {\"absorbed\": []}}";

static const double outs[OUTS] = {1, 2, 3}, lses[LSES] = {4, 5};

/* A copy of a cache, as it is read back from the device. */
static struct compare_cached read_back(void)
{
    struct compare_cached c = {
        {malloc(PAGES), calloc(1, sizeof(int32_t)), 40, malloc(TAIL)}, PAGES, TAIL, OUTS, LSES};
    cr_assert(c.cache.pool && c.cache.tail && c.cache.pages);
    memset(c.cache.pool, 7, PAGES);
    memset(c.cache.tail, 8, TAIL);
    return c;
}

static void release(struct compare_cached *c)
{
    free(c->cache.pool);
    free((void *)c->cache.pages);
    free(c->cache.tail);
}

static struct compare_expected kept_from(const xq_plan *plan, int sequence)
{
    struct compare_expected e = {0};
    struct compare_cached c = read_back();
    compare_expected_keep(&e, plan, sequence, &c, outs, lses);
    cr_assert_null(c.cache.pool);
    return e;
}

static bool finds(const struct compare_expected *e, const xq_plan *plan, int sequence, int at, uint8_t byte)
{
    double out[OUTS] = {0}, lse[LSES] = {0};
    struct compare_cached c = read_back();
    if (at >= 0)
        *(at < PAGES ? &c.cache.pool[at] : &c.cache.tail[at - PAGES]) = byte;
    bool found = compare_expected_find(e, plan, sequence, &c, out, lse);
    release(&c);
    cr_expect_eq(memcmp(out, outs, sizeof out) == 0 && memcmp(lse, lses, sizeof lse) == 0, found);
    return found;
}

Test(compare_expected, results_serve_the_same_cache_alone)
{
    const xq_plan unfused = {.implementation = XQ_UNFUSED, .spec = f16};
    const xq_plan fused = {.implementation = XQ_FUSED, .spec = f16};
    struct compare_expected none = {0}, e = kept_from(&unfused, 1);
    cr_expect_not(finds(&none, &fused, 1, -1, 0));
    cr_expect(finds(&e, &fused, 1, -1, 0));
    cr_expect(finds(&e, &fused, 1, 5, 7), "a byte that was so");
    cr_expect_not(finds(&e, &fused, 0, -1, 0), "another sequence");
    cr_expect_not(finds(&e, &fused, 1, PAGES - 1, 9), "a byte of a page");
    cr_expect_not(finds(&e, &fused, 1, PAGES + TAIL - 1, 9), "a byte of the tail");
    compare_expected_free(&e);
}

Test(compare_expected, results_serve_the_same_weights_alone)
{
    xq_plan unfused = {.implementation = XQ_UNFUSED, .spec = int8};
    xq_plan fused = {.implementation = XQ_FUSED, .spec = int8};
    struct compare_expected e = kept_from(&unfused, 0);
    cr_expect(finds(&e, &unfused, 0, -1, 0));
    cr_expect_not(finds(&e, &fused, 0, -1, 0), "absorbed columns have scales of their own");
    compare_expected_free(&e);
    unfused.spec = fused.spec = int8_alike;
    e = kept_from(&unfused, 0);
    cr_expect(finds(&e, &fused, 0, -1, 0));
    fused.spec = f16;
    cr_expect_not(finds(&e, &fused, 0, -1, 0), "another spec");
    compare_expected_free(&e);
}

/* Results of plans of different kinds are not mixed. */
Test(compare_expected, another_plan_begins_anew)
{
    const xq_plan unfused = {.implementation = XQ_UNFUSED, .spec = int8};
    const xq_plan fused = {.implementation = XQ_FUSED, .spec = int8};
    struct compare_expected e = kept_from(&unfused, 0);
    struct compare_cached c = read_back();
    compare_expected_keep(&e, &fused, 1, &c, outs, lses);
    cr_expect_not(finds(&e, &fused, 0, -1, 0));
    cr_expect(finds(&e, &fused, 1, -1, 0));
    compare_expected_free(&e);
}
