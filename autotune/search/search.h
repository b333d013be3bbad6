/* The search among a kernel's candidates: in which order they are tried, when it ends, and which one wins.
 * It knows nothing of kernels or devices: the caller measures. */
#ifndef AUTOTUNE_SEARCH_SEARCH_H
#define AUTOTUNE_SEARCH_SEARCH_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

enum search_strategy {
    SEARCH_RANDOM,    /* in an order drawn from the seed, so that any part of it is a fair sample */
    SEARCH_EXHAUSTIVE /* in the order given */
};

/* The result of measuring a candidate. */
struct search_time {
    bool usable;              /* it ran, and its results are right */
    double median, low, high; /* seconds, and their quartiles */
};

struct search_options {
    enum search_strategy strategy;
    uint64_t seed;
    int candidates; /* >= 1; candidate `first` is the default */
    int first;
    int most;          /* measured candidates at most, the default included; 0: all */
    int shard, shards; /* beside the default only candidates i with i % shards == shard; shards 0: all */
    double budget_seconds; /* > 0 */
};

enum { SEARCH_AHEAD = 16 };

struct search_calls {
    /* Measures a candidate. A candidate that is not usable is no error. Errors end the search. */
    xq_status (*measure)(void *user, int candidate, struct search_time *out, error *err);
    /* Tells that this candidate will be measured soon, each once, SEARCH_AHEAD of them ahead; may be NULL.
     */
    void (*expect)(void *user, int candidate);
    double (*seconds)(void *user); /* since any fixed moment */
    bool (*interrupted)(void *user);
    void *user;
};

struct search_result {
    int best;                     /* the winner: the default, unless another is faster for certain */
    struct search_time best_time; /* of the last round, as the next */
    struct search_time default_time;
    int tried, usable; /* candidates, the default included */
    bool complete;     /* all candidates were tried, or `most` of them */
};

/* Tries the default first, then the others until the budget is used but for the last rounds, which get a
 * quarter of it at most; a measurement is not begun when what is left is less than the longest one took.
 * The fastest three then run again in turns with the default, twice. A measurement that is not usable, and
 * ended after the budget or after an interrupt, was cut off: the candidate keeps the time that it had, or
 * counts as not tried. The winner is the one with the least median of these rounds whose quartiles do not
 * overlap the default's; else the default. Of two that overlap each other the first tried wins. Errors:
 * XQ_ERROR_UNSUPPORTED where the default itself is not usable; XQ_ERROR_ARGUMENT where the budget does not
 * suffice for it; those of measure; XQ_ERROR_MEMORY. */
xq_status search_run(const struct search_options *options, const struct search_calls *calls,
                     struct search_result *out, error *err);

#endif
