/* The tuner's search, over invented kernels whose times are known. */
#include "../autotune/search/search.h"
#include "../runtime/base/random.h"

#include <criterion/criterion.h>
#include <string.h>

enum { CANDIDATES = 40, DEFAULT = 7 };

/* Kernels, a clock that measurements move, and what was asked for. */
static struct world {
    double seconds[CANDIDATES], spread; /* of each kernel; relative */
    bool broken[CANDIDATES];
    double now, cost;
    int asked[400], count, stop_after; /* stop_after: measurements; 0: none */
    int told[CANDIDATES], told_count;
    int cut_off_at; /* this measurement is cut off, after cut_off_cost seconds more; 0: none */
    double cut_off_cost;
    int fails_at; /* this candidate is an error; -1: none */
} world;

static xq_status measure(void *user, int candidate, struct search_time *out, error *err)
{
    struct world *w = user;
    w->now += w->cost;
    w->asked[w->count++] = candidate;
    if (candidate == w->fails_at)
        return error_set(err, XQ_ERROR_DEVICE, "device", "the GPU is gone");
    if (w->count == w->cut_off_at) {
        w->now += w->cut_off_cost;
        return XQ_OK;
    }
    double t = w->seconds[candidate];
    *out = (struct search_time){!w->broken[candidate], t, t * (1 - w->spread), t * (1 + w->spread)};
    return XQ_OK;
}

/* Each is told once, before it is measured, and never more than SEARCH_AHEAD of them ahead. */
static void expect(void *user, int candidate)
{
    struct world *w = user;
    cr_assert_lt(w->told_count, CANDIDATES);
    for (int i = 0; i < w->count; i++)
        cr_expect_neq(w->asked[i], candidate, "told too late");
    for (int i = 0; i < w->told_count; i++)
        cr_expect_neq(w->told[i], candidate, "told twice");
    w->told[w->told_count++] = candidate;
    cr_expect_leq(w->told_count, w->count + SEARCH_AHEAD);
}

static double seconds(void *user)
{
    return ((struct world *)user)->now;
}

static bool interrupted(void *user)
{
    const struct world *w = user;
    return w->stop_after && w->count >= w->stop_after;
}

static struct search_options begin(void)
{
    world = (struct world){.cost = 1, .spread = 0.01, .fails_at = -1};
    for (int i = 0; i < CANDIDATES; i++)
        world.seconds[i] = 2e-3 + 1e-4 * i;
    return (struct search_options){.strategy = SEARCH_RANDOM,
                                   .seed = 3,
                                   .candidates = CANDIDATES,
                                   .first = DEFAULT,
                                   .budget_seconds = 1000};
}

static struct search_result run(const struct search_options *o)
{
    const struct search_calls calls = {measure, expect, seconds, interrupted, &world};
    struct search_result result = {.best = -1};
    error err = ERROR_INIT;
    cr_assert_eq(search_run(o, &calls, &result, &err), XQ_OK, "%s", err.message);
    return result;
}

static error run_fails(const struct search_options *o, xq_status status)
{
    const struct search_calls calls = {measure, expect, seconds, interrupted, &world};
    struct search_result result = {.best = -1};
    error err = ERROR_INIT;
    cr_expect_eq(search_run(o, &calls, &result, &err), status, "%s", err.message);
    cr_expect_eq(result.best, -1, "nothing is returned");
    return err;
}

Test(search, finds_the_fastest_of_all)
{
    for (int strategy = SEARCH_RANDOM; strategy <= SEARCH_EXHAUSTIVE; strategy++) {
        struct search_options o = begin();
        o.strategy = (enum search_strategy)strategy;
        const struct search_result r = run(&o);
        cr_expect_eq(r.best, 0);
        cr_expect_eq(r.tried, CANDIDATES);
        cr_expect_eq(r.usable, CANDIDATES);
        cr_expect(r.complete);
        cr_expect_eq(r.best_time.median, 2e-3);
        cr_expect_eq(r.default_time.median, world.seconds[DEFAULT]);
        cr_expect_eq(world.asked[0], DEFAULT, "the default comes first");
        cr_expect_eq(world.told_count, CANDIDATES - 1);
    }
}

Test(search, the_order_is_that_of_the_seed_and_each_candidate_comes_once)
{
    int first[CANDIDATES], others = 0;
    for (int round = 0; round < 3; round++) {
        struct search_options o = begin();
        o.seed = round == 2 ? 4 : 3;
        run(&o);
        bool seen[CANDIDATES] = {false};
        for (int i = 0; i < CANDIDATES; i++) {
            cr_expect(!seen[world.asked[i]]);
            seen[world.asked[i]] = true;
        }
        if (round == 0)
            memcpy(first, world.asked, sizeof first);
        else if (round == 1)
            cr_expect_arr_eq(first, world.asked, sizeof first);
        for (int i = 0; round == 2 && i < CANDIDATES; i++)
            others += first[i] != world.asked[i];
    }
    cr_expect_gt(others, CANDIDATES / 2, "another seed has another order");
}

Test(search, a_difference_within_the_spread_keeps_the_default)
{
    struct search_options o = begin();
    world.spread = 0.3;
    for (int i = 0; i < CANDIDATES; i++)
        world.seconds[i] = i == DEFAULT ? 1.0e-3 : 0.8e-3;
    cr_expect_eq(run(&o).best, DEFAULT);
    o = begin();
    world.spread = 0; /* the software device has none, and equal times are a tie */
    for (int i = 0; i < CANDIDATES; i++)
        world.seconds[i] = 1e-3;
    cr_expect_eq(run(&o).best, DEFAULT);
}

Test(search, the_default_never_loses_to_something_slower)
{
    random_stream r = random_begin(5, 0);
    for (int round = 0; round < 200; round++) {
        struct search_options o = begin();
        world.spread = random_unit(&r) * 0.2;
        o.most = random_between(&r, 1, CANDIDATES);
        o.seed = (uint64_t)round;
        for (int i = 0; i < CANDIDATES; i++) {
            world.seconds[i] = 1e-3 * (0.5 + random_unit(&r));
            world.broken[i] = i != DEFAULT && random_between(&r, 0, 3) == 0;
        }
        const struct search_result result = run(&o);
        cr_expect(!world.broken[result.best]);
        cr_expect_leq(world.seconds[result.best], world.seconds[DEFAULT]);
        cr_expect_eq(result.tried, o.most);
    }
}

Test(search, broken_candidates_cannot_win)
{
    struct search_options o = begin();
    for (int i = 0; i < 5; i++)
        world.broken[i] = true;
    const struct search_result r = run(&o);
    cr_expect_eq(r.best, 5);
    cr_expect_eq(r.usable, CANDIDATES - 5);
}

Test(search, ends_within_its_budget_with_what_there_is)
{
    for (int budget = 1; budget < 60; budget++) {
        struct search_options o = begin();
        o.budget_seconds = budget;
        const struct search_result r = run(&o);
        cr_expect_leq(world.now, budget);
        cr_expect_eq(r.complete, budget >= CANDIDATES + 8, "the last rounds need 8");
        cr_expect_leq(world.seconds[r.best], world.seconds[DEFAULT]);
    }
    struct search_options o = begin();
    o.budget_seconds = 0.5;
    error err = run_fails(&o, XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(err.message, "budget: 0.5 s do not suffice for one measurement, which takes 1 s");
}

Test(search, shards_share_the_candidates)
{
    int seen[CANDIDATES] = {0};
    for (int shard = 0; shard < 3; shard++) {
        struct search_options o = begin();
        o.shard = shard;
        o.shards = 3;
        const struct search_result r = run(&o);
        cr_expect(r.complete);
        cr_expect_eq(world.asked[0], DEFAULT);
        for (int i = 1; i < r.tried; i++) {
            cr_expect_eq(world.asked[i] % 3, shard);
            seen[world.asked[i]]++;
        }
    }
    for (int i = 0; i < CANDIDATES; i++)
        cr_expect_eq(seen[i], i != DEFAULT, "%d", i);
}

Test(search, an_interrupt_ends_it_with_what_there_is)
{
    struct search_options o = begin();
    world.stop_after = 9;
    const struct search_result r = run(&o);
    cr_expect_eq(world.count, 9);
    cr_expect_eq(r.tried, 9);
    cr_expect(!r.complete);
}

Test(search, the_finalists_run_again_in_turns_with_the_default)
{
    struct search_options o = begin();
    run(&o);
    const int again[] = {DEFAULT, 0, 1, 2, DEFAULT, 0, 1, 2};
    cr_assert_eq(world.count, CANDIDATES + 8);
    cr_expect_arr_eq(world.asked + CANDIDATES, again, sizeof again);
}

/* Most searches on a GPU end by their budget, and the winner is what the last rounds say. */
Test(search, the_last_rounds_happen_when_the_time_is_up, .timeout = 10)
{
    struct search_options o = begin();
    o.budget_seconds = 40;
    const struct search_result r = run(&o);
    cr_expect_not(r.complete);
    cr_assert_eq(world.count, 40);
    cr_expect_eq(r.tried, 32);
    for (int round = 0; round < 2; round++)
        cr_expect_eq(world.asked[32 + 4 * round], DEFAULT, "in turns with the default");
    cr_expect_eq(world.asked[33], world.asked[37]);
    cr_expect_eq(world.asked[33], r.best, "the fastest first");
}

/* The caller ends a measurement when the budget is used, or at an interrupt. */
Test(search, a_measurement_that_is_cut_off_says_nothing)
{
    for (int at = 2; at < CANDIDATES + 8; at++) {
        struct search_options o = begin();
        world.cut_off_at = at;
        world.stop_after = at;
        struct search_result r = run(&o);
        cr_expect_eq(world.count, at);
        cr_expect_eq(r.tried, at <= CANDIDATES ? at - 1 : CANDIDATES);
        cr_expect_eq(r.default_time.median, world.seconds[DEFAULT], "%d", at);
        cr_expect_leq(r.best_time.median, r.default_time.median);
        o = begin();
        world.cut_off_at = at;
        world.cut_off_cost = 2000;
        r = run(&o);
        cr_expect_eq(world.count, at);
        cr_expect_eq(r.default_time.median, world.seconds[DEFAULT], "%d", at);
    }
    struct search_options o = begin();
    world.cut_off_at = 1;
    world.cut_off_cost = 2000;
    error err = run_fails(&o, XQ_ERROR_ARGUMENT);
    cr_expect_str_eq(err.field, "budget");
}

Test(search, errors_and_a_broken_default_end_it)
{
    struct search_options o = begin();
    world.fails_at = 12;
    error err = run_fails(&o, XQ_ERROR_DEVICE);
    cr_expect_str_eq(err.message, "the GPU is gone");
    o = begin();
    world.broken[DEFAULT] = true;
    err = run_fails(&o, XQ_ERROR_UNSUPPORTED);
    cr_expect(strstr(err.message, "the default parameters do not work here"), "%s", err.message);
}
