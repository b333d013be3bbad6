/* The order in which a search measures candidates. The default comes first in every strategy, and is not
 * part of the order. */
#ifndef AUTOTUNE_SEARCH_ORDER_H
#define AUTOTUNE_SEARCH_ORDER_H

#include "search.h"

struct search_order {
    const struct search_options *options;
    int32_t *ranked; /* the candidates of this search, without the default */
    int count, leaders;
    bool *open;       /* [candidates]: in `ranked`, and not taken yet */
    int32_t *nearest; /* room for two neighbours in each parameter */
};

/* Errors: XQ_ERROR_MEMORY. The caller closes *out even then. */
xq_status search_order_open(const struct search_options *options, struct search_order *out, error *err);
void search_order_close(struct search_order *order);

/* Takes the next candidate, or returns -1 if there is none. `best` is the fastest so far; `taken` is the
 * number of candidates taken before. */
int search_order_take(struct search_order *order, int best, int taken);

/* Lists the candidates that would be taken next as things stand: `most` of them, or as many as are left.
 * Returns their number. */
int search_order_ahead(struct search_order *order, int best, int taken, int most, int32_t *out);

/* Lists the candidates that the model likes best, at most `most` of them; the default competes like the
 * others. Only the first of several candidates that the model cannot tell apart is listed; with equal
 * predictions that is the simplest. Errors: XQ_ERROR_MEMORY. */
xq_status search_likely(const struct search_options *options, int most, int32_t *out, int *count,
                        error *err);

/* Whether a is simpler than b (struct search_candidate). */
bool search_is_simpler(const struct search_options *options, int a, int b);

#endif
