#include "order.h"
#include "../../runtime/base/random.h"

#include <stdlib.h>
#include <string.h>

/* The model does not tell two candidates apart if their predictions differ by less than this, relative to
 * the larger. */
#define SAME_PREDICTION 1e-3

bool search_is_simpler(const struct search_options *o, int a, int b)
{
    if (a == o->first || b == o->first || !o->known)
        return a == o->first || (b != o->first && a < b);
    const struct search_candidate *x = &o->known[a], *y = &o->known[b];
    if (x->shared_bytes != y->shared_bytes)
        return x->shared_bytes < y->shared_bytes;
    return x->threads != y->threads ? x->threads < y->threads : a < b;
}

/* ------------------------------------------------------------- the fixed order */

static bool precedes(const struct search_options *o, int a, int b)
{
    double x = o->known[a].predicted, y = o->known[b].predicted;
    return x < y || (x == y && search_is_simpler(o, a, b));
}

/* A merge sort, because qsort cannot pass the options to its comparison. */
static void sort(const struct search_options *o, int32_t *list, int count, int32_t *room)
{
    if (count < 2)
        return;
    int half = count / 2, a = 0, b = half;
    sort(o, list, half, room);
    sort(o, list + half, count - half, room);
    for (int i = 0; i < count; i++)
        room[i] = b == count || (a < half && precedes(o, list[a], list[b])) ? list[a++] : list[b++];
    memcpy(list, room, sizeof *list * (size_t)count);
}

/* Moves the first `most` candidates whose predictions differ to the front, in order. If the model cannot
 * tell several candidates apart, only one of them is worth an early measurement. */
static void lead(struct search_order *s, int most)
{
    const struct search_candidate *known = s->options->known;
    double last = 0;
    for (int i = 0; i < s->count && s->leaders < most; i++) {
        int32_t candidate = s->ranked[i];
        double predicted = known[candidate].predicted;
        if (s->leaders > 0 && predicted - last < SAME_PREDICTION * predicted)
            continue;
        memmove(s->ranked + s->leaders + 1, s->ranked + s->leaders,
                sizeof *s->ranked * (size_t)(i - s->leaders));
        s->ranked[s->leaders++] = candidate;
        last = predicted;
    }
}

static xq_status open_order(const struct search_options *o, int leaders, struct search_order *s, error *err)
{
    const size_t n = (size_t)o->candidates;
    *s = (struct search_order){.options = o};
    s->ranked = calloc(n, sizeof *s->ranked);
    s->open = calloc(n, sizeof *s->open);
    s->nearest = calloc(2 * (size_t)o->parameters + 1, sizeof *s->nearest);
    int32_t *room = calloc(n, sizeof *room);
    if (!s->ranked || !s->open || !s->nearest || !room) {
        free(room);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    }
    for (int i = 0; i < o->candidates; i++)
        if (i != o->first && (o->shards == 0 || i % o->shards == o->shard)) {
            s->ranked[s->count++] = i;
            s->open[i] = true;
        }
    random_stream r = random_begin(o->seed, 0);
    if (o->strategy == SEARCH_RANDOM && s->count > 0)
        random_shuffle(&r, s->ranked, (size_t)s->count);
    if (o->strategy == SEARCH_MODEL && o->known) {
        sort(o, s->ranked, s->count, room);
        lead(s, leaders);
    }
    free(room);
    return XQ_OK;
}

void search_order_close(struct search_order *s)
{
    free(s->ranked);
    free(s->open);
    free(s->nearest);
}

xq_status search_order_open(const struct search_options *o, struct search_order *s, error *err)
{
    return open_order(o, SEARCH_LEADERS, s, err);
}

xq_status search_likely(const struct search_options *options, int most, int32_t *out, int *count,
                        error *err)
{
    struct search_options o = *options;
    struct search_order s;
    o.strategy = SEARCH_MODEL;
    o.first = -1; /* no candidate counts as the default, so all are ranked */
    if (open_order(&o, most, &s, err) == XQ_OK) {
        *count = s.leaders;
        memcpy(out, s.ranked, sizeof *out * (size_t)s.leaders);
    }
    search_order_close(&s);
    return err->status;
}

/* ---------------------------------------------------------------- neighbours */

/* Returns the one parameter in which two candidates differ, and sets *steps to how many steps b is above a.
 * Returns -1 if they differ in none or in several. */
static int difference(const struct search_options *o, int a, int b, int32_t *steps)
{
    const int32_t *x = o->known[a].places, *y = o->known[b].places;
    int found = -1;
    for (int i = 0; i < o->parameters; i++) {
        if (x[i] == y[i])
            continue;
        if (found >= 0)
            return -1;
        found = i;
        *steps = y[i] - x[i];
    }
    return found;
}

/* Fills `nearest` with a candidate's neighbours: for each parameter, the candidates with the next smaller
 * and the next larger value that is valid beside the candidate's other values; -1 if there is none. */
static void find_neighbours(struct search_order *s, int of)
{
    const struct search_options *o = s->options;
    for (int i = 0; i < 2 * o->parameters; i++)
        s->nearest[i] = -1;
    if (!o->known || !o->known[of].places)
        return;
    for (int i = 0; i < o->candidates; i++) {
        int32_t steps = 0, other = 0;
        int parameter = difference(o, of, i, &steps);
        if (parameter < 0)
            continue;
        int32_t *nearest = &s->nearest[2 * parameter + (steps > 0)];
        if (*nearest >= 0)
            difference(o, of, *nearest, &other);
        if (*nearest < 0 || abs(steps) < abs(other))
            *nearest = i;
    }
}

static bool is_neighbour(const struct search_order *s, int candidate)
{
    for (int i = 0; i < 2 * s->options->parameters; i++)
        if (s->nearest[i] == candidate)
            return true;
    return false;
}

/* ------------------------------------------------------------------ the next */

/* Calls `visit` with the open candidates in the order in which they would be taken now, until it returns
 * false. */
static void each_next(struct search_order *s, int best, int taken, bool (*visit)(void *user, int candidate),
                      void *user)
{
    const bool modelled = s->options->strategy == SEARCH_MODEL && s->options->known;
    int i = 0;
    for (; modelled && i < s->leaders; i++)
        if (s->open[s->ranked[i]] && taken < SEARCH_LEADERS && !visit(user, s->ranked[i]))
            return;
    if (modelled) {
        find_neighbours(s, best);
        for (i = 0; i < s->count; i++)
            if (s->open[s->ranked[i]] && is_neighbour(s, s->ranked[i]) && !visit(user, s->ranked[i]))
                return;
    }
    for (i = 0; i < s->count; i++)
        if (s->open[s->ranked[i]] && !visit(user, s->ranked[i]))
            return;
}

static bool first(void *user, int candidate)
{
    *(int *)user = candidate;
    return false;
}

int search_order_take(struct search_order *s, int best, int taken)
{
    int next = -1;
    each_next(s, best, taken, first, &next);
    if (next >= 0)
        s->open[next] = false;
    return next;
}

struct listing {
    int32_t *list;
    int count, most;
};

/* each_next visits leaders and neighbours a second time, which is skipped here. */
static bool list_one(void *user, int candidate)
{
    struct listing *l = user;
    for (int i = 0; i < l->count; i++)
        if (l->list[i] == candidate)
            return true;
    l->list[l->count++] = candidate;
    return l->count < l->most;
}

int search_order_ahead(struct search_order *s, int best, int taken, int most, int32_t *out)
{
    struct listing l = {out, 0, most};
    if (most > 0)
        each_next(s, best, taken, list_one, &l);
    return l.count;
}
