#include "survey.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ memory */

static void out_of_memory(error *err)
{
    error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
}

void *survey_grow(void *array, int count, size_t size, error *err)
{
    bool is_full = (count & (count - 1)) == 0; /* capacities are powers of two */
    void *larger = is_full ? realloc(array, size * (count ? 2 * (size_t)count : 1)) : array;
    if (!larger)
        out_of_memory(err);
    return larger;
}

char *survey_copy(const char *text, error *err)
{
    char *copy = strdup(text);
    if (!copy)
        out_of_memory(err);
    return copy;
}

void survey_free(survey *s)
{
    for (int i = 0; i < s->device_count; i++) {
        free((char *)s->devices[i].name);
        free((char *)s->devices[i].arch);
        free((char *)s->devices[i].xq);
    }
    for (int i = 0; i < s->spec_count; i++)
        free(s->specs[i]);
    for (int i = 0; i < s->contest_count; i++) {
        survey_contest *c = &s->contests[i];
        for (int k = 0; k < c->count; k++) {
            free(c->answers[k].parameters);
            free(c->answers[k].reason);
        }
        free(c->answers);
        free(c->family);
        free(c->source);
    }
    for (int i = 0; i < s->other_count; i++)
        free(s->others[i].source);
    free(s->devices);
    free(s->ceilings);
    free(s->specs);
    free(s->contests);
    free(s->others);
    *s = (survey){0};
}

/* ----------------------------------------------------------------- reading */

struct reading {
    survey *survey;
    const char *const *sources;
};

static bool same_device(const store_device *a, const store_device *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->arch, b->arch) == 0 &&
           a->capability == b->capability && a->multiprocessors == b->multiprocessors &&
           a->memory_bytes == b->memory_bytes && a->is_sim == b->is_sim && a->driver == b->driver &&
           a->nvrtc == b->nvrtc && strcmp(a->xq, b->xq) == 0;
}

/* Rows come sorted by device, so a device that differs from the last one is new. */
static int device_of(survey *s, const store_device *given, error *err)
{
    if (s->device_count && same_device(&s->devices[s->device_count - 1], given))
        return s->device_count - 1;
    store_device *more = survey_grow(s->devices, s->device_count, sizeof *more, err);
    if (!more)
        return 0;
    s->devices = more;
    store_device *d = &more[s->device_count];
    *d = *given;
    d->name = survey_copy(given->name, err);
    d->arch = survey_copy(given->arch, err);
    d->xq = survey_copy(given->xq, err);
    return s->device_count++;
}

static int spec_of(survey *s, const char *spec, error *err)
{
    for (int i = 0; i < s->spec_count; i++)
        if (strcmp(s->specs[i], spec) == 0)
            return i;
    char **more = survey_grow(s->specs, s->spec_count, sizeof *more, err);
    if (!more)
        return 0;
    s->specs = more;
    more[s->spec_count] = survey_copy(spec, err);
    return s->spec_count++;
}

static bool same_contest(const survey *s, const survey_contest *c, const store_question *q)
{
    return same_device(&s->devices[c->device], &q->device) && strcmp(s->specs[c->spec], q->spec) == 0 &&
           c->implementation == q->implementation && strcmp(c->family, q->family) == 0 &&
           c->bucket.tokens == q->bucket.tokens && c->bucket.batch == q->bucket.batch &&
           c->bucket.queries == q->bucket.queries && strcmp(c->source, q->source) == 0 &&
           c->mode.cold_l2 == q->mode.cold_l2 && c->mode.in_graph == q->mode.in_graph;
}

/* The contest of a row: the last contest or a new one. NULL: *err says why. */
static survey_contest *contest_of(survey *s, const store_question *q, error *err)
{
    if (s->contest_count && same_contest(s, &s->contests[s->contest_count - 1], q))
        return &s->contests[s->contest_count - 1];
    int device = device_of(s, &q->device, err), spec = spec_of(s, q->spec, err);
    survey_contest *more = survey_grow(s->contests, s->contest_count, sizeof *more, err);
    if (!more)
        return NULL;
    s->contests = more;
    survey_contest *c = &more[s->contest_count++];
    *c = (survey_contest){.device = device,
                          .spec = spec,
                          .implementation = q->implementation,
                          .family = survey_copy(q->family, err),
                          .source = survey_copy(q->source, err),
                          .bucket = q->bucket,
                          .mode = q->mode,
                          .best = -1};
    return err->status == XQ_OK ? c : NULL;
}

static xq_status add_answer(survey_contest *c, const store_row *row, error *err)
{
    survey_answer *more = survey_grow(c->answers, c->count, sizeof *more, err);
    if (!more)
        return err->status;
    c->answers = more;
    survey_answer *a = &more[c->count++];
    *a = (survey_answer){.parameters = survey_copy(row->question.parameters, err),
                         .outcome = row->answer.outcome,
                         .seconds = row->answer.seconds,
                         .spread = row->answer.spread,
                         .reason = survey_copy(row->answer.reason, err)};
    c->outcomes[a->outcome]++;
    if (a->outcome == STORE_MEASURED && (c->best < 0 || a->seconds < c->answers[c->best].seconds))
        c->best = c->count - 1;
    return err->status;
}

static xq_status count_other(survey *s, const store_question *q, error *err)
{
    s->other++;
    for (int i = 0; i < s->other_count; i++)
        if (s->others[i].implementation == q->implementation &&
            strcmp(s->others[i].source, q->source) == 0) {
            s->others[i].answers++;
            return XQ_OK;
        }
    survey_other *more = survey_grow(s->others, s->other_count, sizeof *more, err);
    if (!more)
        return err->status;
    s->others = more;
    more[s->other_count++] = (survey_other){q->implementation, survey_copy(q->source, err), 1};
    return err->status;
}

static xq_status read_row(void *user, const store_row *row, error *err)
{
    struct reading *r = user;
    survey *s = r->survey;
    const store_question *q = &row->question;
    const int64_t taken = row->answer.taken;
    s->first = s->answers && s->first < taken ? s->first : taken;
    s->last = s->last > taken ? s->last : taken;
    s->answers++;
    if (strcmp(q->source, r->sources[q->implementation]) != 0)
        return count_other(s, q, err);
    survey_contest *c = contest_of(s, q, err);
    return c ? add_answer(c, row, err) : err->status;
}

static xq_status read_ceilings(store *s, survey *out, error *err)
{
    bool found;
    out->ceilings = calloc((size_t)out->device_count + 1, sizeof *out->ceilings);
    if (!out->ceilings)
        out_of_memory(err);
    for (int i = 0; i < out->device_count && err->status == XQ_OK; i++)
        store_find_ceilings(s, &out->devices[i], &out->ceilings[i], &found, err);
    return err->status;
}

xq_status survey_make(store *s, const char *const sources[], survey *out, error *err)
{
    struct reading r = {out, sources};
    *out = (survey){0};
    if (store_list(s, NULL, read_row, &r, err) == XQ_OK)
        read_ceilings(s, out, err);
    return err->status;
}

/* ----------------------------------------------------------------- answers */

static int by_parameters(const void *key, const void *answer)
{
    return strcmp(key, ((const survey_answer *)answer)->parameters);
}

const survey_answer *survey_find(const survey_contest *c, const char *parameters)
{
    return bsearch(parameters, c->answers, (size_t)c->count, sizeof *c->answers, by_parameters);
}

bool survey_is_faster(const survey_answer *a, const survey_answer *b)
{
    return a->seconds + a->spread / 2 < b->seconds - b->spread / 2;
}
