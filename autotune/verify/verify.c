#include "verify.h"

#include "open.h"
#include "run.h"
#include "verifier.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const verify_implementation_names[VERIFY_IMPLEMENTATIONS] = {"fused", "unfused", "fp16-kv"};

verify_outcome verify_result_outcome(const verify_result *result)
{
    verify_outcome outcome = VERIFY_UNSUPPORTED;
    for (int i = 0; i < IMPLEMENTATIONS; i++) {
        if (result->part[i].outcome == VERIFY_FAILED)
            return VERIFY_FAILED;
        if (result->part[i].outcome == VERIFY_PASSED)
            outcome = VERIFY_PASSED;
    }
    return outcome;
}

/* ---------------------------------------------------------------- descriptions */

static void describe(const verify_state *v, const case_shape *shape, char *text, size_t size)
{
    static const char *const kinds[CASE_KINDS] = {"plain", "placed", "shared prefix"};
    size_t used = (size_t)snprintf(text, size, "%s; %s%s, %d rounds, tokens/queries", v->spec.json,
                                   kinds[shape->kind], shape->tree ? ", trees" : "", shape->rounds);
    for (int i = 0; i < shape->sequences && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, " %d/%d", shape->sequence[i].length,
                                 shape->sequence[i].queries);
}

static xq_status run_index(verify_state *v, int64_t index, verify_result *result, error *err)
{
    case_shape shape;
    for (int i = 0; i < IMPLEMENTATIONS; i++) {
        result->part[i].outcome = v->plans[i].outcome;
        memcpy(result->part[i].message, v->plans[i].message, sizeof result->part[i].message);
    }
    random_stream r = random_begin(v->seed, (uint64_t)index * 2 + 1);
    int64_t kind = 2 * (index / VERIFY_SPEC_CASES) + index % VERIFY_SPEC_CASES;
    if (case_shape_draw(&r, &v->spec, kind, &shape, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < IMPLEMENTATIONS; i++)
        result->part[i].bound = verify_bound((xq_implementation)i, v->spec.bf16, v->spec.weights,
                                             shape.kind == CASE_SHARED, verify_logit_scale(&v->model));
    describe(v, &shape, result->description, sizeof result->description);
    verify_run_case(v, &shape, result, err);
    case_shape_free(&shape);
    return err->status;
}

/* ---------------------------------------------------------------- specs, opened ahead */

/* With an empty kernel cache, opening a spec takes three times as long as running its cases on the software
 * device. Nearly all of this time is spent in NVRTC, which runs on one thread. So one thread per core opens
 * specs ahead. With a single such thread, the small tier took 130 s of wall time for 134 s of CPU time: one
 * core of two. More than eight threads would hold memory for specs that are needed much later. */
enum { MOST_AHEAD = 8 };

typedef struct slot {
    verify_state state;
    bool opening; /* a thread is opening the spec */
    int64_t spec; /* the spec that is being opened here, or is open; -1: none */
    pthread_t thread;
} slot;

struct verifier {
    slot slots[1 + MOST_AHEAD], *now;
    int count;
};

static slot *slot_of(verifier *v, int64_t spec)
{
    for (int i = 0; i < v->count; i++)
        if (v->slots[i].spec == spec)
            return &v->slots[i];
    return NULL;
}

static slot *free_slot(verifier *v)
{
    for (int i = 0; i < v->count; i++)
        if (v->slots[i].spec < 0 && &v->slots[i] != v->now)
            return &v->slots[i];
    return NULL;
}

static void *open_ahead(void *user)
{
    slot *s = user;
    error err = ERROR_INIT;
    if (verify_open(&s->state, s->spec, &err) != XQ_OK)
        verify_close(&s->state); /* the thread that needs the spec tries again, and reports the error */
    error_clear(&err);
    return NULL;
}

static void finish_opening(slot *s)
{
    if (s->opening)
        pthread_join(s->thread, NULL);
    s->opening = false;
}

static void vacate(slot *s)
{
    finish_opening(s);
    verify_close(&s->state);
    s->spec = -1;
}

void verifier_expect(verifier *v, int64_t index)
{
    int64_t spec = index / VERIFY_SPEC_CASES;
    slot *s = slot_of(v, spec) ? NULL : free_slot(v);
    if (!s)
        return;
    s->spec = spec;
    s->opening = pthread_create(&s->thread, NULL, open_ahead, s) == 0;
    if (!s->opening)
        s->spec = -1;
}

/* Makes a spec the current one. */
static xq_status obtain(verifier *v, int64_t spec, error *err)
{
    slot *s = slot_of(v, spec);
    if (s != v->now) {
        vacate(v->now);
        v->now = s ? s : v->now;
    }
    finish_opening(v->now);
    v->now->spec = spec;
    if (verify_open(&v->now->state, spec, err) != XQ_OK)
        vacate(v->now);
    return err->status;
}

xq_status verifier_run(verifier *v, int64_t index, verify_result *result, error *err)
{
    memset(result, 0, sizeof *result);
    if (obtain(v, index / VERIFY_SPEC_CASES, err) == XQ_OK)
        run_index(&v->now->state, index, result, err);
    else
        snprintf(result->description, sizeof result->description, "%s", v->now->state.spec.json);
    return err->status;
}

/* ---------------------------------------------------------------- lifetime */

static xq_status create_slot(slot *s, xq_context *context, const char *template_dir, uint64_t seed,
                             error *err)
{
    s->spec = -1;
    s->state.context = context;
    s->state.seed = seed;
    s->state.spec_index = -1;
    s->state.choices = verify_sequence_create(seed);
    return s->state.choices ? gen_create(template_dir, &s->state.generator, err)
                            : verify_out_of_memory(err);
}

xq_status verifier_create(xq_context *context, const char *template_dir, uint64_t seed, verifier **out,
                          error *err)
{
    verifier *v = calloc(1, sizeof *v);
    if (!v)
        return verify_out_of_memory(err);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int ahead = cores < 1 ? 1 : cores > MOST_AHEAD ? MOST_AHEAD : (int)cores;
    v->now = &v->slots[0];
    while (v->count < 1 + ahead && err->status == XQ_OK)
        create_slot(&v->slots[v->count++], context, template_dir, seed, err);
    if (err->status == XQ_OK)
        *out = v;
    else
        verifier_destroy(v);
    return err->status;
}

void verifier_destroy(verifier *v)
{
    if (!v)
        return;
    for (int i = 0; i < v->count; i++) {
        vacate(&v->slots[i]);
        verify_sequence_destroy(v->slots[i].state.choices);
        gen_destroy(v->slots[i].state.generator);
    }
    free(v);
}

verify_sequence *verifier_choices(verifier *v)
{
    return v->now->state.choices;
}
