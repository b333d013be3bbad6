/* Compares modelled with measured times: the same contests on a software device and on a GPU. */
#include "survey.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void survey_matches_free(survey_matches *m)
{
    for (int i = 0; i < m->count; i++)
        free(m->items[i].pairs);
    free(m->items);
    *m = (survey_matches){0};
}

static bool is_same_question(const survey_contest *a, const survey_contest *b)
{
    return a->spec == b->spec && a->implementation == b->implementation &&
           strcmp(a->family, b->family) == 0 && a->bucket.tokens == b->bucket.tokens &&
           a->bucket.batch == b->bucket.batch && a->bucket.queries == b->bucket.queries &&
           strcmp(a->source, b->source) == 0 && a->mode.cold_l2 == b->mode.cold_l2 &&
           a->mode.in_graph == b->mode.in_graph;
}

/* Pairs the answers with equal parameters. Both lists are sorted by parameters. */
static xq_status pair_up(const survey_contest *modelled, const survey_contest *measured, survey_match *m,
                         error *err)
{
    for (int i = 0, k = 0; i < modelled->count && k < measured->count;) {
        const survey_answer *a = &modelled->answers[i], *b = &measured->answers[k];
        int order = strcmp(a->parameters, b->parameters);
        i += order <= 0;
        k += order >= 0;
        if (order != 0 || a->outcome != STORE_MEASURED || b->outcome != STORE_MEASURED)
            continue;
        survey_pair *more = survey_grow(m->pairs, m->count, sizeof *more, err);
        if (!more)
            return err->status;
        m->pairs = more;
        more[m->count++] = (survey_pair){a->seconds, b->seconds};
    }
    return XQ_OK;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_ratio(const survey_match *m, double *ratios)
{
    for (int i = 0; i < m->count; i++)
        ratios[i] = m->pairs[i].measured / m->pairs[i].modelled;
    qsort(ratios, (size_t)m->count, sizeof *ratios, by_number);
    return (ratios[(m->count - 1) / 2] + ratios[m->count / 2]) / 2;
}

/* The rank of a time among all times, from 0; equal times share the mean of their ranks. */
static double rank_of(const survey_match *m, bool measured, double seconds)
{
    int less = 0, equal = 0;
    for (int i = 0; i < m->count; i++) {
        double other = measured ? m->pairs[i].measured : m->pairs[i].modelled;
        less += other < seconds;
        equal += other == seconds;
    }
    return less + (equal - 1) / 2.0;
}

static double rank_correlation(const survey_match *m)
{
    const double middle = (m->count - 1) / 2.0;
    double both = 0, first = 0, second = 0;
    for (int i = 0; i < m->count; i++) {
        double x = rank_of(m, false, m->pairs[i].modelled) - middle;
        double y = rank_of(m, true, m->pairs[i].measured) - middle;
        both += x * y;
        first += x * x;
        second += y * y;
    }
    return m->count >= 3 && first > 0 && second > 0 ? both / sqrt(first * second) : NAN;
}

static xq_status add_match(const survey *s, int modelled, int measured, survey_matches *out, error *err)
{
    survey_match m = {.modelled = modelled, .measured = measured};
    survey_match *more = survey_grow(out->items, out->count, sizeof *more, err);
    out->items = more ? more : out->items;
    double *ratios = NULL;
    if (more && pair_up(&s->contests[modelled], &s->contests[measured], &m, err) == XQ_OK && m.count) {
        ratios = malloc(sizeof *ratios * (size_t)m.count);
        if (!ratios)
            error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    }
    if (ratios) {
        m.ratio = median_ratio(&m, ratios);
        m.rank = rank_correlation(&m);
        more[out->count++] = m;
        free(ratios);
    } else {
        free(m.pairs);
    }
    return err->status;
}

xq_status survey_matches_make(const survey *s, survey_matches *out, error *err)
{
    *out = (survey_matches){0};
    for (int i = 0; i < s->contest_count; i++)
        for (int k = 0; k < s->contest_count && err->status == XQ_OK; k++) {
            const store_device *a = &s->devices[s->contests[i].device],
                               *b = &s->devices[s->contests[k].device];
            if (a->is_sim && !b->is_sim && a->capability == b->capability &&
                is_same_question(&s->contests[i], &s->contests[k]))
                add_match(s, i, k, out, err);
        }
    return err->status;
}
