#include "search.h"
#include "order.h"

#include <stdlib.h>
#include <string.h>

enum { FINALISTS = 3, ROUNDS = 2 };

struct search {
    const struct search_options *options;
    const struct search_calls *calls;
    struct search_time *times; /* [candidates]: the result that was measured last */
    int32_t *taken; /* candidates in the order in which they were measured; the default is taken[0] */
    struct search_order order;
    int best;              /* the fastest candidate so far */
    bool *told;            /* [candidates]: the caller was told to expect it */
    double begun, longest; /* seconds: when the search began; how long the longest measurement took */
    double longest_other;  /* the same without the first measurement, which includes setting up */
    struct search_result result;
};

static double passed(const struct search *s)
{
    return s->calls->seconds(s->calls->user) - s->begun;
}

/* Measures a candidate. Returns false if the measurement was cut off by an interrupt or by the end of the
 * budget, so that it says nothing about the candidate, or if there is an error. */
static bool measure(struct search *s, int candidate, bool brief, error *err)
{
    double before = passed(s);
    struct search_time t = {.usable = false};
    if (s->calls->measure(s->calls->user, candidate, brief, &t, err) != XQ_OK)
        return false;
    double took = passed(s) - before;
    s->longest = took > s->longest ? took : s->longest;
    if (s->result.tried > 0 && took > s->longest_other)
        s->longest_other = took;
    if (!t.usable && (passed(s) > s->options->budget_seconds || s->calls->interrupted(s->calls->user)))
        return false;
    s->times[candidate] = t;
    return true;
}

/* Whether there is time for another measurement, if `kept` seconds must remain for something else. */
static bool may_go_on(const struct search *s, double kept)
{
    return !s->calls->interrupted(s->calls->user) &&
           passed(s) + s->longest + kept <= s->options->budget_seconds;
}

/* The seconds to keep for the last rounds. */
static double last_rounds(const struct search *s)
{
    double all = ROUNDS * (FINALISTS + 1) * s->longest_other, most = s->options->budget_seconds / 4;
    return all < most ? all : most;
}

static xq_status try_default(struct search *s, error *err)
{
    measure(s, s->options->first, false, err);
    if (err->status == XQ_OK && passed(s) > s->options->budget_seconds) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "budget: %.3g s is too short for one measurement, which takes %.3g s",
                  s->options->budget_seconds, passed(s));
        return error_field(err, "budget");
    }
    if (err->status == XQ_OK && !s->times[s->options->first].usable)
        error_set(err, XQ_ERROR_UNSUPPORTED, "device", "the default parameters do not work here");
    s->taken[0] = s->options->first;
    s->result.tried = s->result.usable = 1;
    return err->status;
}

/* Tells the caller which candidates are likely to be measured next, at most `most` of them. */
static void expect(struct search *s, int most)
{
    int32_t next[SEARCH_AHEAD];
    most = most < SEARCH_AHEAD ? most : SEARCH_AHEAD;
    int count =
        s->calls->expect ? search_order_ahead(&s->order, s->best, s->result.tried - 1, most, next) : 0;
    for (int i = 0; i < count; i++) {
        if (!s->told[next[i]])
            s->calls->expect(s->calls->user, next[i]);
        s->told[next[i]] = true;
    }
}

/* Whether a is faster than b beyond the spread of both. */
static bool is_faster(const struct search_time *a, const struct search_time *b)
{
    return a->usable && a->high < b->low;
}

/* Whether a has the smaller median, whatever the spread; if the medians are equal, whether a is the simpler
 * candidate. */
static bool precedes(const struct search *s, int a, int b)
{
    double x = s->times[a].median, y = s->times[b].median;
    return x < y || (x == y && search_is_simpler(s->options, a, b));
}

/* Measures a candidate in full, unless a few repeats already show that it is slower than the incumbent. */
static bool measure_in_race(struct search *s, int candidate, error *err)
{
    if (s->options->noisy) {
        if (!measure(s, candidate, true, err))
            return false;
        if (!s->times[candidate].usable || is_faster(&s->times[s->best], &s->times[candidate]) ||
            !may_go_on(s, last_rounds(s)))
            return true;
    }
    return measure(s, candidate, false, err);
}

static void elect(struct search *s, int candidate)
{
    if (s->times[candidate].usable && (!s->times[s->best].usable || precedes(s, candidate, s->best)))
        s->best = candidate;
}

/* Scales the times of the candidates before `since` so that they keep their relation to the incumbent,
 * whose median was `before`. */
static void rescale(struct search *s, int incumbent, double before, int since)
{
    double factor = s->times[incumbent].median / before;
    for (int i = 0; i < since; i++) {
        struct search_time *t = &s->times[s->taken[i]];
        if (s->taken[i] == incumbent || !t->usable)
            continue;
        *t = (struct search_time){true, t->median * factor, t->low * factor, t->high * factor};
    }
}

/* Measures the candidates from `since` on again, because they were compared with an incumbent that
 * drifted. */
static bool measure_again(struct search *s, int incumbent, int since, error *err)
{
    bool all = true;
    for (int i = since; i < s->result.tried && all; i++)
        if (s->taken[i] != incumbent && s->times[s->taken[i]].usable)
            all = may_go_on(s, last_rounds(s)) && measure_in_race(s, s->taken[i], err);
    for (int i = 0; i < s->result.tried; i++)
        elect(s, s->taken[i]);
    return all;
}

/* Measures the incumbent again. `since` is the first candidate that was taken after the last check. */
static bool check_incumbent(struct search *s, int since, error *err)
{
    const int incumbent = s->best;
    const struct search_time before = s->times[incumbent], *now = &s->times[incumbent];
    if (!may_go_on(s, last_rounds(s)) || !measure(s, incumbent, false, err))
        return false;
    if (now->usable && !is_faster(now, &before) && !is_faster(&before, now))
        return true;
    if (now->usable)
        rescale(s, incumbent, before.median, since);
    return measure_again(s, incumbent, since, err);
}

static xq_status try_others(struct search *s, error *err)
{
    int most = s->order.count + 1, checked = 1;
    if (s->options->most > 0 && s->options->most < most)
        most = s->options->most;
    while (s->result.tried < most && may_go_on(s, last_rounds(s))) {
        expect(s, most - s->result.tried);
        int candidate = search_order_take(&s->order, s->best, s->result.tried - 1);
        if (!measure_in_race(s, candidate, err))
            break;
        s->taken[s->result.tried++] = candidate;
        s->result.usable += s->times[candidate].usable;
        elect(s, candidate);
        if (!s->options->noisy || s->result.tried - checked < SEARCH_CHECK)
            continue;
        if (!check_incumbent(s, checked, err))
            break;
        checked = s->result.tried;
    }
    s->result.complete = s->result.tried == most;
    return err->status;
}

/* Lists the fastest usable candidates besides the default, the fastest first. */
static int find_finalists(const struct search *s, int finalists[FINALISTS])
{
    int count = 0;
    for (int i = 1; i < s->result.tried; i++) {
        int candidate = s->taken[i], at = count < FINALISTS ? count : FINALISTS;
        if (!s->times[candidate].usable)
            continue;
        while (at > 0 && precedes(s, candidate, finalists[at - 1]))
            at--;
        if (at == FINALISTS)
            continue;
        count += count < FINALISTS;
        memmove(finalists + at + 1, finalists + at, sizeof *finalists * (size_t)(count - at - 1));
        finalists[at] = candidate;
    }
    return count;
}

/* Chooses among the finalists that beat the default: of those that the fastest one does not beat, the
 * simplest wins. */
static int choose(const struct search *s, const int finalists[], int count)
{
    int fastest = s->options->first, chosen;
    for (int i = 0; i < count; i++)
        if (is_faster(&s->times[finalists[i]], &s->times[s->options->first]) &&
            (fastest == s->options->first || precedes(s, finalists[i], fastest)))
            fastest = finalists[i];
    chosen = fastest;
    for (int i = 0; i < count && fastest != s->options->first; i++)
        if (is_faster(&s->times[finalists[i]], &s->times[s->options->first]) &&
            !is_faster(&s->times[fastest], &s->times[finalists[i]]) &&
            search_is_simpler(s->options, finalists[i], chosen))
            chosen = finalists[i];
    return chosen;
}

/* Runs the last rounds. The default runs in each of them, so that a drift of the device affects it too. */
static xq_status decide(struct search *s, error *err)
{
    int finalists[FINALISTS + 1], count = find_finalists(s, finalists);
    const int standard = s->options->first;
    for (int round = 0; round < ROUNDS && count > 0 && may_go_on(s, 0); round++)
        for (int i = 0; i <= count && may_go_on(s, 0); i++)
            if (!measure(s, i == 0 ? standard : finalists[i - 1], false, err) && err->status != XQ_OK)
                return err->status;
    s->result.best = choose(s, finalists, count);
    s->result.best_time = s->times[s->result.best];
    s->result.default_time = s->times[standard];
    return XQ_OK;
}

xq_status search_run(const struct search_options *options, const struct search_calls *calls,
                     struct search_result *out, error *err)
{
    struct search s = {
        .options = options, .calls = calls, .best = options->first, .begun = calls->seconds(calls->user)};
    s.times = calloc((size_t)options->candidates, sizeof *s.times);
    s.taken = calloc((size_t)options->candidates, sizeof *s.taken);
    s.told = calloc((size_t)options->candidates, sizeof *s.told);
    if (!s.times || !s.taken || !s.told)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    else if (search_order_open(options, &s.order, err) == XQ_OK && try_default(&s, err) == XQ_OK &&
             try_others(&s, err) == XQ_OK && decide(&s, err) == XQ_OK)
        *out = s.result;
    search_order_close(&s.order);
    free(s.times);
    free(s.taken);
    free(s.told);
    return err->status;
}
