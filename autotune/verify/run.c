/* Runs one case: rounds of appending, layer by layer, and attention by every implementation. */
#include "run.h"
#include "call.h"
#include "checks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- outcomes */

static void note(verify_part *part, verify_outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void note(verify_part *part, verify_outcome outcome, const char *format, ...)
{
    if (part->outcome == VERIFY_FAILED)
        return; /* the first fault is the one to report */
    va_list args;
    va_start(args, format);
    vsnprintf(part->message, sizeof part->message, format, args);
    va_end(args);
    part->outcome = outcome;
}

/* Notes the result of a call. An error for which the case is not to blame, lack of memory, stays in
 * `err`. */
static bool went_well(verify_part *part, const char *call, error *err)
{
    if (err->status == XQ_OK)
        return true;
    if (err->status != XQ_ERROR_MEMORY) {
        note(part, err->status == XQ_ERROR_UNSUPPORTED ? VERIFY_UNSUPPORTED : VERIFY_FAILED, "%s: %s", call,
             err->message);
        error_clear(err);
        *err = (error)ERROR_INIT;
    }
    return false;
}

/* ---------------------------------------------------------------- one case */

/* The state of a running case. */
typedef struct run {
    verify_state *v;
    const case_shape *shape;
    verify_result *result;
    verify_memory memory;
    int appender; /* the implementation that appends */
    double *out;
    float *lse;
} run;

static bool serves(const run *r, int implementation)
{
    return r->result->part[implementation].outcome == VERIFY_PASSED;
}

static void judge(run *r, int implementation)
{
    verify_part *part = &r->result->part[implementation];
    if (!(part->out_error <= part->bound))
        note(part, VERIFY_FAILED, "output differs by %.3g, more than %.3g", part->out_error, part->bound);
    else if (!(part->lse_error <= 2 * part->bound))
        note(part, VERIFY_FAILED, "log-sum-exp differs by %.3g, more than %.3g", part->lse_error,
             2 * part->bound);
}

static void attend_and_compare(run *r, int implementation, int layer, const verify_snapshot *cached,
                               error *err)
{
    verify_part *part = &r->result->part[implementation];
    if (!serves(r, implementation))
        return;
    verify_call_attend(&r->memory, implementation, layer, r->out, r->lse, err);
    if (went_well(part, "attend", err) && r->shape->queries > 0) {
        verify_check_attend(r->v, r->shape, implementation, layer, cached, r->out, r->lse, r->result, err);
        judge(r, implementation);
    }
}

/* A fault in the cache is a fault of every implementation that uses it. */
static void judge_cache(run *r, int layer, int round)
{
    const verify_result *result = r->result;
    for (int i = XQ_FUSED; i <= XQ_UNFUSED; i++) {
        if (!serves(r, i))
            continue;
        if (result->mismatches)
            note(&r->result->part[i], VERIFY_FAILED,
                 "layer %d, round %d: %lld cached values are not those of the host quantizer", layer, round,
                 (long long)result->mismatches);
        else if (!(result->append_error <= 0.51))
            note(&r->result->part[i], VERIFY_FAILED,
                 "layer %d, round %d: cached values are off by %.3g steps", layer, round,
                 result->append_error);
    }
}

static void fail_quantized(run *r, const char *call, error *err)
{
    error copy = *err;
    for (int i = XQ_FUSED; i <= XQ_UNFUSED; i++)
        if (serves(r, i)) {
            *err = copy;
            err->log = NULL;
            went_well(&r->result->part[i], call, err);
        }
    error_clear(&copy);
}

/* Runs one round of one layer; returns false if the case cannot continue. */
static bool run_round(run *r, int layer, int round, error *err)
{
    verify_state *v = r->v;
    verify_snapshot before = {0}, cached = {0}, after = {0};
    bool last = round == r->shape->rounds - 1, good = false;
    if (v->accumulator && verify_snapshot_take(&r->memory, layer, &before, err) != XQ_OK)
        goto done;
    if (verify_call_append(&r->memory, r->appender, layer, round, err) != XQ_OK) {
        fail_quantized(r, "append", err);
        goto done;
    }
    if (verify_snapshot_take(&r->memory, layer, &cached, err) != XQ_OK ||
        verify_check_append(v, r->shape, layer, round, &cached, layer ? &before : NULL, r->result, err) !=
            XQ_OK)
        goto done;
    judge_cache(r, layer, round);
    if (v->accumulator) {
        if (verify_call_accumulate(&r->memory, r->appender, layer, round, err) != XQ_OK) {
            fail_quantized(r, "accumulate", err);
            goto done;
        }
        if (verify_snapshot_take(&r->memory, layer, &after, err) != XQ_OK ||
            verify_check_accumulate(v, r->shape, layer, round, &after, &before, r->result, err) != XQ_OK)
            goto done;
        judge_cache(r, layer, round);
    }
    const verify_snapshot *seen = v->accumulator ? &after : &cached;
    if (!verify_snapshot_untouched(&r->memory, seen))
        for (int i = XQ_FUSED; i <= XQ_UNFUSED; i++)
            note(&r->result->part[i], VERIFY_FAILED, "pages or tails that no sequence owns were written");
    for (int i = XQ_FUSED; last && i <= XQ_UNFUSED && err->status == XQ_OK; i++)
        attend_and_compare(r, i, layer, seen, err);
    good = err->status == XQ_OK && serves(r, r->appender);
done:
    verify_snapshot_free(&before);
    verify_snapshot_free(&cached);
    verify_snapshot_free(&after);
    return good;
}

static void check_arguments(run *r, int implementation, error *err)
{
    if (serves(r, implementation)) {
        verify_arguments(&r->memory, implementation, &r->result->refused_arguments, err);
        went_well(&r->result->part[implementation], "arguments", err);
    }
}

static void run_quantized(run *r, error *err)
{
    /* Both implementations append with the same kernels, and take turns, so that both are seen. */
    r->appender = r->shape->order_seed % 2 || !serves(r, XQ_UNFUSED) ? XQ_FUSED : XQ_UNFUSED;
    if (!serves(r, r->appender))
        r->appender = XQ_UNFUSED;
    if (!serves(r, r->appender))
        return;
    if (verify_memory_create(r->v, r->appender, r->shape, &r->memory, err) == XQ_OK) {
        bool good = true;
        for (int round = 0; round < r->shape->rounds && good; round++)
            for (int layer = 0; layer < r->v->spec.layers && good; layer++)
                good = run_round(r, layer, round, err);
        for (int i = XQ_FUSED; i <= XQ_UNFUSED && err->status == XQ_OK; i++)
            check_arguments(r, i, err);
    }
    verify_memory_free(&r->memory);
}

/* Checks what was cached. `fp16` is the cache that XQ_FP16_KV made; it has no pages if that failed. */
static xq_status check_kv(run *r, int implementation, const verify_snapshot *fp16,
                          const verify_snapshot *cached, error *err)
{
    verify_part *part = &r->result->part[implementation];
    const double bound = verify_bound_rows(r->v->spec.bf16, r->v->spec.weights);
    if (implementation == XQ_FP8_KV) {
        if (fp16->pages)
            verify_check_kv_codes(r->v, r->shape, fp16, cached, r->result);
        if (r->result->kv_mismatches)
            note(part, VERIFY_FAILED, "%lld e4m3 codes are not those of the fp16 keys and values",
                 (long long)r->result->kv_mismatches);
    } else {
        if (verify_check_kv(r->v, r->shape, cached, r->result, err) != XQ_OK)
            return err->status;
        if (!(r->result->kv_error <= bound))
            note(part, VERIFY_FAILED, "cached keys or values differ by %.3g, more than %.3g",
                 r->result->kv_error, bound);
    }
    if (!verify_snapshot_untouched(&r->memory, cached))
        note(part, VERIFY_FAILED, "pages that no sequence owns were written");
    return XQ_OK;
}

/* `cached` receives what the pages hold afterwards; the caller frees it. */
static void run_kv(run *r, int implementation, const verify_snapshot *fp16, verify_snapshot *cached,
                   error *err)
{
    verify_part *part = &r->result->part[implementation];
    if (!serves(r, implementation) ||
        verify_memory_create(r->v, implementation, r->shape, &r->memory, err) != XQ_OK)
        return;
    for (int round = 0; round < r->shape->rounds && err->status == XQ_OK; round++)
        verify_call_append(&r->memory, implementation, 0, round, err);
    if (went_well(part, "append", err) && verify_snapshot_take(&r->memory, 0, cached, err) == XQ_OK &&
        check_kv(r, implementation, fp16, cached, err) == XQ_OK)
        attend_and_compare(r, implementation, 0, cached, err);
    if (err->status == XQ_OK)
        check_arguments(r, implementation, err);
    verify_memory_free(&r->memory);
}

void verify_run_case(verify_state *v, const case_shape *shape, verify_result *result, error *err)
{
    size_t heads = (size_t)shape->queries * (size_t)v->spec.heads;
    run r = {.v = v, .shape = shape, .result = result};
    r.out = malloc((heads * (size_t)v->spec.head_dim + 1) * sizeof *r.out);
    r.lse = malloc((heads + 1) * sizeof *r.lse);
    if (!r.out || !r.lse) {
        verify_out_of_memory(err);
    } else {
        verify_snapshot fp16 = {0}, fp8 = {0};
        run_quantized(&r, err);
        if (err->status == XQ_OK)
            run_kv(&r, XQ_FP16_KV, NULL, &fp16, err);
        if (err->status == XQ_OK)
            run_kv(&r, XQ_FP8_KV, &fp16, &fp8, err);
        verify_snapshot_free(&fp16);
        verify_snapshot_free(&fp8);
    }
    free(r.out);
    free(r.lse);
}
