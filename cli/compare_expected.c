#include "compare_expected.h"

#include "../autotune/engine/cache.h"
#include "../autotune/reference/seen.h"
#include "../runtime/launch/plan.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static bool same_bytes(const page_sequence *a, const page_sequence *b, const struct compare_cached *size)
{
    return a->length == b->length && memcmp(a->pool, b->pool, size->pages_bytes) == 0 &&
           (!size->tail_bytes || memcmp(a->tail, b->tail, size->tail_bytes) == 0);
}

/* The completed spec of a plan without its tuning, which does not change results; caller frees. NULL when
 * out of memory. */
static char *untuned(const xq_plan *plan)
{
    cJSON *spec = cJSON_Parse(xq_plan_spec(plan));
    cJSON_DeleteItemFromObjectCaseSensitive(spec, "tuning");
    cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(spec, "choices"), "tuning");
    char *text = spec ? cJSON_PrintUnformatted(spec) : NULL;
    cJSON_Delete(spec);
    return text;
}

/* Whether kept results are valid for a plan: both plans have the same completed spec except for its tuning,
 * so that codes have the same meaning, and their kernels see the same weights. */
static bool same_task(const struct compare_expected *e, const xq_plan *plan)
{
    char *spec = e->spec ? untuned(plan) : NULL;
    bool same = spec && strcmp(e->spec, spec) == 0 &&
                (e->implementation == plan->implementation || seen_alike(e->spec));
    free(spec);
    return same;
}

bool compare_expected_find(const struct compare_expected *e, const xq_plan *plan, int b,
                           const struct compare_cached *cached, double *out, double *lse)
{
    if (!e->of[b].out || !same_task(e, plan) || !same_bytes(&e->of[b].cache, &cached->cache, cached))
        return false;
    memcpy(out, e->of[b].out, sizeof *out * cached->outs);
    memcpy(lse, e->of[b].lse, sizeof *lse * cached->lses);
    return true;
}

void compare_expected_keep(struct compare_expected *e, const xq_plan *plan, int b,
                           struct compare_cached *cached, const double *out, const double *lse)
{
    if (!same_task(e, plan) || e->implementation != plan->implementation) {
        compare_expected_free(e);
        e->spec = untuned(plan);
        e->implementation = plan->implementation;
    }
    driver_free_cache(&e->of[b].cache);
    free(e->of[b].out);
    e->of[b].out = malloc(sizeof *out * (cached->outs + cached->lses));
    if (!e->of[b].out)
        return;
    e->of[b].lse = e->of[b].out + cached->outs;
    memcpy(e->of[b].out, out, sizeof *out * cached->outs);
    memcpy(e->of[b].lse, lse, sizeof *lse * cached->lses);
    e->of[b].cache = cached->cache;
    cached->cache = (page_sequence){0};
}

void compare_expected_free(struct compare_expected *e)
{
    for (int b = 0; b < COMPARE_MOST_DISTINCT; b++) {
        driver_free_cache(&e->of[b].cache);
        free(e->of[b].out);
    }
    free(e->spec);
    *e = (struct compare_expected){0};
}
