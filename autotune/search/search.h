/* The search among a kernel's candidates: in which order they are tried, when it ends, and which one wins.
 * It knows nothing of kernels or devices: the caller measures. */
#ifndef AUTOTUNE_SEARCH_SEARCH_H
#define AUTOTUNE_SEARCH_SEARCH_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

enum search_strategy {
    SEARCH_MODEL,     /* the most promising by a model, then neighbours of the best, then the rest */
    SEARCH_RANDOM,    /* in an order drawn from the seed, so that any part of it is a fair sample */
    SEARCH_EXHAUSTIVE /* in the order given */
};

/* What is known of a candidate before it is measured. Of two candidates the simpler one is the default;
 * else the one with less shared memory; else the one with fewer threads; else the first. */
struct search_candidate {
    double predicted; /* seconds, by a model; SEARCH_MODEL goes by it */
    int64_t shared_bytes;
    int threads;
    /* For each parameter, which of its values in this space, from 0 in ascending order. Candidates that
     * differ in one parameter by one step are neighbours. NULL: it has none. */
    const int32_t *places;
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
    const struct search_candidate *known; /* of each candidate; NULL: nothing is known */
    int parameters;                       /* places of each */
    bool noisy;        /* times vary: few repeats first, and the incumbent is measured again */
    int most;          /* measured candidates at most, the default included; 0: all */
    int shard, shards; /* beside the default only candidates i with i % shards == shard; shards 0: all */
    double budget_seconds; /* > 0 */
};

enum {
    SEARCH_AHEAD = 16,
    SEARCH_CHECK = 8,  /* noisy: candidates from one measurement of the incumbent to the next */
    SEARCH_LEADERS = 8 /* SEARCH_MODEL: by the model alone, before neighbours of the best have their turn */
};

struct search_calls {
    /* Measures a candidate; `brief`: with few repeats. A candidate that is not usable is no error. Errors
     * end the search. */
    xq_status (*measure)(void *user, int candidate, bool brief, struct search_time *out, error *err);
    /* Tells that this candidate is likely to be measured soon: those that would be among the next
     * SEARCH_AHEAD as things stand, each once; may be NULL. */
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
 * counts as not tried.
 *
 * SEARCH_MODEL takes the SEARCH_LEADERS best by the model, one of those that the model does not tell apart;
 * then neighbours of the fastest so far, while it has any; then the rest as the model orders them.
 *
 * Where times vary, a candidate is measured briefly first, and in full only if its quartiles do not lie
 * above those of the incumbent, the fastest so far. After SEARCH_CHECK candidates the incumbent is measured
 * again. Where its quartiles then do not overlap those that it had, the device has drifted: these
 * candidates are measured again, once, and the times of those before them grow as the incumbent's did.
 *
 * The winner is the one with the least median of the last rounds whose quartiles do not overlap the
 * default's; else the default. Candidates whose quartiles overlap the winner's are a tie, which the
 * simplest of them wins. Errors: XQ_ERROR_UNSUPPORTED where the default itself is not usable;
 * XQ_ERROR_ARGUMENT where the budget does not suffice for it; those of measure; XQ_ERROR_MEMORY. */
xq_status search_run(const struct search_options *options, const struct search_calls *calls,
                     struct search_result *out, error *err);

#endif
