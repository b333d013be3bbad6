/* In which order a search measures candidates. The default comes first in every strategy, and is not part
 * of the order. */
#ifndef AUTOTUNE_SEARCH_ORDER_H
#define AUTOTUNE_SEARCH_ORDER_H

#include "search.h"

struct search_order {
    const struct search_options *options;
    int32_t *ranked; /* the candidates of this search but the default */
    int count, leaders;
    bool *open;       /* of each candidate: in `ranked` and not taken yet */
    int32_t *nearest; /* room for two neighbours in each parameter */
};

/* Errors: XQ_ERROR_MEMORY; *out is then to be closed as well. */
xq_status search_order_open(const struct search_options *options, struct search_order *out, error *err);
void search_order_close(struct search_order *order);

/* Takes the next candidate; -1: there is none. `best`: the fastest so far. `taken`: how many were taken. */
int search_order_take(struct search_order *order, int best, int taken);

/* The next candidates as things stand, `most` of them or as many as there are. Returns how many. */
int search_order_ahead(struct search_order *order, int best, int taken, int most, int32_t *out);

/* The candidates that the model likes best, at most `most` of them, the default among them; of those that
 * it does not tell apart the simplest. Errors: XQ_ERROR_MEMORY. */
xq_status search_likely(const struct search_options *options, int most, int32_t *out, int *count,
                        error *err);

/* Whether a is simpler than b (struct search_candidate). */
bool search_is_simpler(const struct search_options *options, int a, int b);

#endif
