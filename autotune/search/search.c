#include "search.h"
#include "../../runtime/base/random.h"

#include <stdlib.h>
#include <string.h>

enum { FINALISTS = 3, ROUNDS = 2 };

struct search {
    const struct search_options *options;
    const struct search_calls *calls;
    struct search_time *times; /* of each candidate, as measured last */
    int32_t *order;            /* of the `count` candidates of this search; the default is order[0] */
    int count;
    double begun, longest; /* seconds: when the search began; what the longest measurement took */
    double longest_other;  /* the same without the first one, which sets up */
    struct search_result result;
};

static double passed(const struct search *s)
{
    return s->calls->seconds(s->calls->user) - s->begun;
}

/* False: the measurement was cut off by an interrupt or by the end of the budget, and says nothing of the
 * candidate; or there is an error. */
static bool measure(struct search *s, int candidate, error *err)
{
    double before = passed(s);
    struct search_time t = {.usable = false};
    if (s->calls->measure(s->calls->user, candidate, &t, err) != XQ_OK)
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

/* Whether there is time for another measurement, when `kept` seconds are for something else. */
static bool may_go_on(const struct search *s, double kept)
{
    return !s->calls->interrupted(s->calls->user) &&
           passed(s) + s->longest + kept <= s->options->budget_seconds;
}

/* Seconds to keep for the last rounds. */
static double last_rounds(const struct search *s)
{
    double all = ROUNDS * (FINALISTS + 1) * s->longest_other, most = s->options->budget_seconds / 4;
    return all < most ? all : most;
}

static void set_order(struct search *s)
{
    const struct search_options *o = s->options;
    int count = 0;
    s->order[count++] = o->first;
    for (int i = 0; i < o->candidates; i++)
        if (i != o->first && (o->shards == 0 || i % o->shards == o->shard))
            s->order[count++] = i;
    s->count = count;
    random_stream r = random_begin(o->seed, 0);
    if (o->strategy == SEARCH_RANDOM && count > 1)
        random_shuffle(&r, s->order + 1, (size_t)count - 1);
}

static xq_status try_default(struct search *s, error *err)
{
    measure(s, s->options->first, err);
    if (err->status == XQ_OK && passed(s) > s->options->budget_seconds) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "budget: %.3g s do not suffice for one measurement, which takes %.3g s",
                  s->options->budget_seconds, passed(s));
        return error_field(err, "budget");
    }
    if (err->status == XQ_OK && !s->times[s->options->first].usable)
        error_set(err, XQ_ERROR_UNSUPPORTED, "device", "the default parameters do not work here");
    s->result.tried = s->result.usable = 1;
    return err->status;
}

static xq_status try_others(struct search *s, error *err)
{
    int most = s->count;
    if (s->options->most > 0 && s->options->most < most)
        most = s->options->most;
    for (int i = 1, told = 1; i < most && may_go_on(s, last_rounds(s)); i++) {
        for (; s->calls->expect && told < most && told <= i + SEARCH_AHEAD; told++)
            s->calls->expect(s->calls->user, s->order[told]);
        if (!measure(s, s->order[i], err))
            break;
        s->result.tried++;
        s->result.usable += s->times[s->order[i]].usable;
    }
    s->result.complete = s->result.tried == most;
    return err->status;
}

/* The fastest usable candidates beside the default, the fastest first; of equal ones, the first tried. */
static int find_finalists(const struct search *s, int finalists[FINALISTS])
{
    int count = 0;
    for (int i = 1; i < s->result.tried; i++) {
        int candidate = s->order[i], at = count < FINALISTS ? count : FINALISTS;
        if (!s->times[candidate].usable)
            continue;
        while (at > 0 && s->times[candidate].median < s->times[finalists[at - 1]].median)
            at--;
        if (at == FINALISTS)
            continue;
        count += count < FINALISTS;
        memmove(finalists + at + 1, finalists + at, sizeof *finalists * (size_t)(count - at - 1));
        finalists[at] = candidate;
    }
    return count;
}

/* Whether a is faster than b beyond the spread of both. */
static bool is_faster(const struct search_time *a, const struct search_time *b)
{
    return a->usable && a->high < b->low;
}

/* The rounds of the finalists, each beside the default: drift of the device concerns both. */
static xq_status decide(struct search *s, error *err)
{
    int finalists[FINALISTS + 1], count = find_finalists(s, finalists);
    const int standard = s->options->first;
    for (int round = 0; round < ROUNDS && count > 0 && may_go_on(s, 0); round++)
        for (int i = 0; i <= count && may_go_on(s, 0); i++)
            if (!measure(s, i == 0 ? standard : finalists[i - 1], err) && err->status != XQ_OK)
                return err->status;
    s->result.best = standard;
    for (int i = 0; i < count; i++)
        if (is_faster(&s->times[finalists[i]], &s->times[s->result.best]))
            s->result.best = finalists[i];
    s->result.best_time = s->times[s->result.best];
    s->result.default_time = s->times[standard];
    return XQ_OK;
}

xq_status search_run(const struct search_options *options, const struct search_calls *calls,
                     struct search_result *out, error *err)
{
    struct search s = {.options = options, .calls = calls, .begun = calls->seconds(calls->user)};
    s.times = calloc((size_t)options->candidates, sizeof *s.times);
    s.order = calloc((size_t)options->candidates, sizeof *s.order);
    if (!s.times || !s.order) {
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    } else {
        set_order(&s);
        if (try_default(&s, err) == XQ_OK && try_others(&s, err) == XQ_OK && decide(&s, err) == XQ_OK)
            *out = s.result;
    }
    free(s.times);
    free(s.order);
    return err->status;
}
