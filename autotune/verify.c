#include "verify.h"

#include "verify_parts.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const verify_implementation_names[VERIFY_IMPLEMENTATIONS] = {"fused", "unfused", "fp16-kv"};

xq_status verify_out_of_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory while verifying");
}

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
    result->bound = v->spec.bf16 || v->spec.weights == ROUNDING_BF16 ? VERIFY_BOUND_BF16 : VERIFY_BOUND;
    for (int i = 0; i < IMPLEMENTATIONS; i++) {
        result->part[i].outcome = v->plans[i].outcome;
        memcpy(result->part[i].message, v->plans[i].message, sizeof result->part[i].message);
    }
    random_stream r = random_begin(v->seed, (uint64_t)index * 2 + 1);
    int64_t kind = 2 * (index / VERIFY_SPEC_CASES) + index % VERIFY_SPEC_CASES;
    if (case_shape_draw(&r, &v->spec, kind, &shape, err) != XQ_OK)
        return err->status;
    describe(v, &shape, result->description, sizeof result->description);
    verify_run_case(v, &shape, result, err);
    case_shape_free(&shape);
    return err->status;
}

/* ---------------------------------------------------------------- specs, one ahead */

struct verifier {
    verify_state states[2], *now, *ahead;
    int64_t expected; /* the spec that is wanted next; -1: not known */
    bool opening;     /* a thread makes `ahead` ready */
    int64_t opening_spec;
    pthread_t thread;
};

static void *open_ahead(void *user)
{
    verifier *v = user;
    error err = ERROR_INIT;
    if (verify_open(v->ahead, v->opening_spec, &err) != XQ_OK)
        verify_close(v->ahead); /* whoever wants it tries again, and reports it */
    error_clear(&err);
    return NULL;
}

static void finish_opening(verifier *v)
{
    if (v->opening)
        pthread_join(v->thread, NULL);
    v->opening = false;
}

void verifier_expect(verifier *v, int64_t index)
{
    v->expected = index / VERIFY_SPEC_CASES;
}

/* Makes a spec the one at hand, and begins with the one that is expected after it. */
static xq_status obtain(verifier *v, int64_t spec, error *err)
{
    if (v->now->spec_index == spec && v->opening)
        return XQ_OK; /* another of its cases */
    finish_opening(v);
    if (v->ahead->spec_index == spec) {
        verify_state *swap = v->now;
        v->now = v->ahead;
        v->ahead = swap;
    }
    if (verify_open(v->now, spec, err) != XQ_OK) {
        verify_close(v->now);
        return err->status;
    }
    if (v->expected >= 0 && v->expected != spec) {
        v->opening_spec = v->expected;
        v->opening = pthread_create(&v->thread, NULL, open_ahead, v) == 0;
    }
    return XQ_OK;
}

xq_status verifier_run(verifier *v, int64_t index, verify_result *result, error *err)
{
    memset(result, 0, sizeof *result);
    if (obtain(v, index / VERIFY_SPEC_CASES, err) == XQ_OK)
        run_index(v->now, index, result, err);
    else
        snprintf(result->description, sizeof result->description, "%s", v->now->spec.json);
    return err->status;
}

/* ---------------------------------------------------------------- lifetime */

static xq_status create_state(verify_state *s, xq_context *context, const char *template_dir, uint64_t seed,
                              error *err)
{
    s->context = context;
    s->seed = seed;
    s->spec_index = -1;
    s->choices = verify_sequence_create(seed);
    return s->choices ? gen_create(template_dir, &s->generator, err) : verify_out_of_memory(err);
}

xq_status verifier_create(xq_context *context, const char *template_dir, uint64_t seed, verifier **out,
                          error *err)
{
    verifier *v = calloc(1, sizeof *v);
    if (!v)
        return verify_out_of_memory(err);
    v->now = &v->states[0];
    v->ahead = &v->states[1];
    v->expected = -1;
    for (int i = 0; i < 2 && err->status == XQ_OK; i++)
        create_state(&v->states[i], context, template_dir, seed, err);
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
    finish_opening(v);
    for (int i = 0; i < 2; i++) {
        verify_close(&v->states[i]);
        verify_sequence_destroy(v->states[i].choices);
        gen_destroy(v->states[i].generator);
    }
    free(v);
}

verify_sequence *verifier_choices(verifier *v)
{
    return v->now->choices;
}
