/* The search among a kernel's candidates decides in which order they are tried, when the search ends, and
 * which candidate wins. It knows nothing of kernels or devices: the caller measures. */
#ifndef AUTOTUNE_SEARCH_SEARCH_H
#define AUTOTUNE_SEARCH_SEARCH_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

enum search_strategy {
    SEARCH_MODEL,  /* first the candidates that a model likes best, then neighbours of the fastest, then the
                      rest */
    SEARCH_RANDOM, /* in an order drawn from the seed, so that any first part of it is a fair sample */
    SEARCH_EXHAUSTIVE /* in the given order */
};

/* The facts about a candidate that are known before it is measured. The default is simpler than every other
 * candidate. Otherwise the simpler of two candidates is the one with less shared memory, else the one with
 * fewer threads, else the first. */
struct search_candidate {
    double predicted; /* seconds, by a model; SEARCH_MODEL orders candidates by it */
    int64_t shared_bytes;
    int threads;
    /* For each parameter, the index of its value in this space, from 0 in ascending order. Two candidates
     * that differ in one parameter by one step are neighbours. NULL: there are no indices. */
    const int32_t *places;
};

/* The result of measuring a candidate. */
struct search_time {
    bool usable;              /* the candidate ran, and its results are right */
    double median, low, high; /* seconds: the median of the repeats, and the quartiles */
};

struct search_options {
    enum search_strategy strategy;
    uint64_t seed;
    int candidates; /* >= 1; candidate `first` is the default */
    int first;
    const struct search_candidate *known; /* [candidates]; NULL: nothing is known */
    int parameters;                       /* entries of each candidate's `places` */
    bool noisy; /* times vary: candidates get few repeats first, and the incumbent is measured again */
    int most;   /* the most candidates to measure, the default included; 0: all */
    int shard, shards; /* besides the default, only candidates i with i % shards == shard are tried; shards
                          0: all */
    double budget_seconds; /* > 0 */
};

enum {
    SEARCH_AHEAD = 16,
    SEARCH_CHECK = 8,  /* noisy: candidates between two measurements of the incumbent */
    SEARCH_LEADERS = 8 /* SEARCH_MODEL: candidates that the model alone chooses, before neighbours */
};

struct search_calls {
    /* Measures a candidate; `brief` asks for few repeats. A candidate that is not usable is not an error.
     * An error ends the search. */
    xq_status (*measure)(void *user, int candidate, bool brief, struct search_time *out, error *err);
    /* Tells the caller that this candidate is likely to be measured soon: it would be among the next
     * SEARCH_AHEAD as things stand. Each candidate is announced once. May be NULL. */
    void (*expect)(void *user, int candidate);
    double (*seconds)(void *user); /* seconds since any fixed moment */
    bool (*interrupted)(void *user);
    void *user;
};

struct search_result {
    int best; /* the winner: the default, unless another candidate is certainly faster */
    struct search_time best_time; /* as measured last; in the last rounds, where there were any */
    struct search_time default_time;
    int tried, usable; /* candidates, the default included */
    bool complete;     /* all candidates were tried, or `most` of them */
};

/* Tries the default first, then the other candidates until the budget is used up. Part of the budget, at
 * most a quarter, is kept for the last rounds, in which the fastest three candidates run again, twice, in
 * turns with the default. A measurement does not begin when less time is left than the longest one took. A
 * measurement that is not usable, and ended after the budget or after an interrupt, counts as cut off: its
 * candidate keeps the time that it had, or counts as not tried.
 *
 * SEARCH_MODEL takes the SEARCH_LEADERS candidates that the model likes best, only one of several that the
 * model cannot tell apart. Then it takes neighbours of the fastest candidate so far, as long as there are
 * any, and then the rest in the model's order.
 *
 * Where times vary, a candidate is measured briefly first, and in full only if its quartiles do not lie
 * above those of the incumbent, the fastest candidate so far. After every SEARCH_CHECK candidates the
 * incumbent is measured again. If its quartiles do not overlap its earlier ones, the device has drifted:
 * the usable candidates since the last check are measured again, once, and the times of those before it are
 * scaled as the incumbent's changed.
 *
 * The winner is the candidate with the least median of the last rounds, among those that are faster than
 * the default and whose quartiles do not overlap the default's; if there is none, the default wins.
 * Candidates whose quartiles overlap the winner's are a tie, which the simplest of them wins. Errors:
 * XQ_ERROR_UNSUPPORTED where the default itself is not usable; XQ_ERROR_ARGUMENT where the budget does not
 * suffice for the default; those of `measure`; XQ_ERROR_MEMORY. */
xq_status search_run(const struct search_options *options, const struct search_calls *calls,
                     struct search_result *out, error *err);

#endif
