/* Tests the tuner's search over invented kernels whose times are known. */
#include "../../../autotune/search/search.h"
#include "../../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 40, DEFAULT = 7 };

/* The kernels, a clock that measurements advance, and a record of what was asked for. */
static struct world {
    double seconds[CANDIDATES], spread; /* time of each kernel; relative spread */
    bool broken[CANDIDATES];
    double drift; /* relative growth of all times after drift_at measurements; 0: none */
    int drift_at;
    double now, cost;
    bool brief[400];
    int asked[400], count, stop_after; /* stop_after: number of measurements; 0: no limit */
    bool order_changes;
    int told[CANDIDATES], told_count;
    int cut_off_at; /* this measurement is cut off, after cut_off_cost more seconds; 0: none */
    double cut_off_cost;
    int fails_at; /* measuring this candidate is an error; -1: none */
} world;

static xq_status measure(void *user, int candidate, bool brief, struct search_time *out, error *err)
{
    struct world *w = user;
    w->now += w->cost;
    w->brief[w->count] = brief;
    w->asked[w->count++] = candidate;
    if (candidate == w->fails_at)
        return error_set(err, XQ_ERROR_DEVICE, "device", "the GPU is gone");
    if (w->count == w->cut_off_at) {
        w->now += w->cut_off_cost;
        return XQ_OK;
    }
    double t = w->seconds[candidate] * (w->drift_at && w->count > w->drift_at ? 1 + w->drift : 1);
    *out = (struct search_time){!w->broken[candidate], t, t * (1 - w->spread), t * (1 + w->spread)};
    return XQ_OK;
}

/* Each candidate is announced once, before it is measured. If the order is fixed, at most SEARCH_AHEAD
 * candidates are announced ahead. */
static void expect(void *user, int candidate)
{
    struct world *w = user;
    cr_assert_lt(w->told_count, CANDIDATES);
    for (int i = 0; i < w->count; i++)
        cr_expect_neq(w->asked[i], candidate, "told too late");
    for (int i = 0; i < w->told_count; i++)
        cr_expect_neq(w->told[i], candidate, "told twice");
    w->told[w->told_count++] = candidate;
    cr_expect(w->order_changes || w->told_count <= w->count + SEARCH_AHEAD);
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
    for (int strategy = SEARCH_MODEL; strategy <= SEARCH_EXHAUSTIVE; strategy++) {
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
    world.spread = 0; /* the software device has no spread, so equal times are a tie */
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
    cr_expect_str_eq(err.message, "budget: 0.5 s is too short for one measurement, which takes 1 s");
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

/* Most searches on a GPU end by their budget, and then the last rounds decide the winner. */
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

/* The caller ends a measurement when the budget is used up, or at an interrupt. */
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

/* -------------------------------------------------------------------- model */

/* Candidate i has the places (i / 8, i % 8), and its own predicted time. */
static struct search_candidate known[CANDIDATES];
static int32_t places[CANDIDATES][2];

static struct search_options begin_model(void)
{
    struct search_options o = begin();
    o.strategy = SEARCH_MODEL;
    o.known = known;
    world.order_changes = true;
    o.parameters = 2;
    for (int i = 0; i < CANDIDATES; i++) {
        places[i][0] = i / 8;
        places[i][1] = i % 8;
        known[i] = (struct search_candidate){
            .predicted = 1e-3 + 1e-4 * i, .shared_bytes = 1000, .threads = 128, .places = places[i]};
    }
    return o;
}

Test(search, the_model_leads_then_neighbours_of_the_best_then_the_rest)
{
    struct search_options o = begin_model();
    for (int i = 0; i < CANDIDATES; i++)
        world.seconds[i] = 2e-3 + 1e-4 * (abs(i / 8 - 1) + abs(i % 8 - 5)); /* 13 is the fastest */
    for (int i = 32; i < 40; i++)
        known[i].predicted = 0.5e-3 + 1e-5 * i; /* the model is wrong about these */
    world.seconds[DEFAULT] = 9e-3;
    run(&o);
    const int first[] = {DEFAULT, 32, 33, 34, 35, 36, 37, 38, 39, 29, 21, 13};
    cr_expect_arr_eq(world.asked, first, sizeof first);
    cr_expect_eq(world.told_count, CANDIDATES - 1);
}

/* A neighbour has the nearest value that is valid with the other parameters, however many values lie
 * between. */
Test(search, neighbours_are_found_across_gaps)
{
    struct search_options o = begin_model();
    for (int i = 0; i < CANDIDATES; i++) {
        places[i][0] = i;
        places[i][1] = i == 30 || i == 3 ? 0 : i + 1;
        known[i].predicted = 1e-3 + 1e-4 * (i == 3 ? 0 : i + 1);
    }
    world.seconds[3] = 1e-3;
    o.most = 10;
    run(&o);
    cr_expect_eq(world.asked[1], 3);
    cr_expect_eq(world.asked[9], 30, "differs from 3 in one parameter, by 27 places");
}

Test(search, one_of_those_that_the_model_cannot_tell_apart_leads)
{
    struct search_options o = begin_model();
    for (int i = 0; i < CANDIDATES; i++) {
        known[i].predicted = 1e-3 * (1 + i / 4);
        known[i].shared_bytes = 1000 - i % 4;
    }
    o.most = 9;
    run(&o);
    /* The simplest of each four leads. In the second four that is the default, which is measured first, so
     * that the next one, 6, leads. */
    const int leaders[] = {DEFAULT, 3, 6, 11, 15, 19, 23, 27, 31};
    cr_expect_arr_eq(world.asked, leaders, sizeof leaders);
}

Test(search, shards_have_a_model_too)
{
    int seen[CANDIDATES] = {0};
    for (int shard = 0; shard < 3; shard++) {
        struct search_options o = begin_model();
        o.shard = shard;
        o.shards = 3;
        const struct search_result r = run(&o);
        cr_expect(r.complete);
        for (int i = 1; i < r.tried; i++)
            seen[world.asked[i]]++;
    }
    for (int i = 0; i < CANDIDATES; i++)
        cr_expect_eq(seen[i], i != DEFAULT, "%d", i);
}

/* --------------------------------------------------------------------- ties */

static int winner(const struct search_options *o)
{
    world.count = world.told_count = 0;
    world.now = 0;
    return run(o).best;
}

Test(search, a_tie_goes_to_the_simpler_kernel)
{
    for (int strategy = SEARCH_MODEL; strategy <= SEARCH_EXHAUSTIVE; strategy++) {
        struct search_options o = begin_model();
        o.strategy = (enum search_strategy)strategy;
        for (int i = 0; i < CANDIDATES; i++)
            world.seconds[i] = i == DEFAULT ? 2e-3 : 1e-3 + 1e-7 * (CANDIDATES - i); /* all within 1 % */
        known[39].shared_bytes = 2000; /* the fastest three are 39, 38 and 37 */
        known[38].threads = 256;
        cr_expect_eq(winner(&o), 37, "as much shared memory as 38, fewer threads");
        known[37].shared_bytes = 1500;
        cr_expect_eq(winner(&o), 38, "less shared memory");
        known[38].threads = 128;
        known[37].shared_bytes = 1000;
        cr_expect_eq(winner(&o), 37, "alike: the first");
        world.spread = 0;
        cr_expect_eq(winner(&o), 39, "each is faster than the next for certain");
    }
    struct search_options o = begin_model();
    for (int i = 0; i < CANDIDATES; i++)
        known[i].shared_bytes = i == DEFAULT ? 2000 : 1000;
    world.spread = 0.9;
    cr_expect_eq(run(&o).best, DEFAULT, "the simplest, whatever its resources");
}

/* -------------------------------------------------------------------- noise */

static struct search_options begin_noisy(void)
{
    struct search_options o = begin();
    o.strategy = SEARCH_EXHAUSTIVE;
    o.noisy = true;
    return o;
}

/* Counts the measurements of a candidate before the last rounds. */
static int times_asked(int candidate)
{
    int times = 0;
    for (int i = 0; i < world.count - 8; i++)
        times += world.asked[i] == candidate;
    return times;
}

Test(search, only_those_in_the_race_are_measured_in_full)
{
    struct search_options o = begin_noisy();
    o.most = 8; /* so few candidates that the incumbent is not measured again */
    run(&o);
    cr_assert_eq(world.count, 1 + 7 + 1 + 8);
    cr_expect_not(world.brief[0], "the default");
    for (int i = 0; i < 7; i++) /* 1 is 5 % slower than 0, beyond the spread, and so on */
        cr_expect_eq(times_asked(i), i == 0 ? 2 : 1, "%d", i);
    cr_expect(world.brief[1] && !world.brief[2], "briefly, then in full");
    for (int i = 3; i < world.count; i++)
        cr_expect_eq(world.brief[i], i < 9, "the last rounds are full: %d", i);
    o = begin_noisy();
    o.most = 8;
    world.spread = 0.2;
    run(&o);
    for (int i = 0; i < 15; i++)
        cr_expect_eq(world.brief[i], i % 2, "all are in the race: %d", i);
}

Test(search, the_incumbent_is_measured_again)
{
    struct search_options o = begin_noisy();
    const struct search_result r = run(&o);
    cr_expect_eq(r.best, 0);
    cr_expect_eq(times_asked(0), 2 + (CANDIDATES - 1) / SEARCH_CHECK);
    for (int i = 1; i < CANDIDATES; i++)
        cr_expect_eq(times_asked(i), 1, "%d", i);
}

/* The GPU grows warm: times from before the drift and times from after it cannot be compared. */
Test(search, what_was_compared_with_an_incumbent_that_drifted_is_measured_again)
{
    struct search_options o = begin_noisy();
    world.drift = 0.5;
    world.drift_at = 14; /* measured by then: the default; 0 twice; 1 to 6 and 8; 0 again; 9, 10 and 11 */
    run(&o);
    const int before[] = {DEFAULT, 0, 0, 1, 2, 3, 4, 5, 6, 8, 0, 9, 10, 11};
    cr_expect_arr_eq(world.asked, before, sizeof before);
    for (int i = 1; i < CANDIDATES; i++)
        if (i != DEFAULT)
            cr_expect_eq(times_asked(i), i >= 9 && i <= 16 ? 2 : 1, "%d", i);
    for (int at = 1; at < 45; at++) {
        o = begin_noisy();
        world.drift = 0.5;
        world.drift_at = at;
        const struct search_result r = run(&o);
        cr_expect_eq(r.best, 0);
        cr_expect(r.complete);
        for (int i = 1; i < CANDIDATES; i++)
            cr_expect_leq(times_asked(i), 4, "once more at most, briefly and in full: %d", i);
    }
}

/* Before the drift, candidate 1 seems to be the best; after it, candidate 20 does. */
Test(search, a_candidate_that_lost_to_times_from_before_the_drift_can_win)
{
    struct search_options o = begin_noisy();
    for (int i = 0; i < CANDIDATES; i++)
        world.seconds[i] = i == 1 ? 2.0e-3 : i == 20 ? 1.8e-3 : 4e-3;
    world.drift = 0.5; /* 20 now takes 2.7 ms, 1 takes 3 ms */
    world.drift_at = 20;
    cr_expect_eq(run(&o).best, 20);
}

Test(search, noise_does_not_break_the_budget)
{
    for (int budget = 1; budget < 90; budget++) {
        struct search_options o = begin_noisy();
        o.budget_seconds = budget;
        world.spread = budget % 3 ? 0.01 : 0.3;
        world.drift_at = budget / 2;
        world.drift = 0.5;
        run(&o);
        cr_expect_leq(world.now, budget);
    }
}
