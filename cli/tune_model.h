/* Applies the cost model (autotune/search/cost.h) to the candidates of xq tune: it predicts a time for
 * each, and makes the prior knowledge of a search. */
#ifndef CLI_TUNE_MODEL_H
#define CLI_TUNE_MODEL_H

#include "../autotune/search/cost.h"
#include "../autotune/search/search.h"
#include "../runtime/device/device.h"
#include "tune.h"

/* Adds "predicted" {"us", "limit"} to the candidates of a space (gen_space) whose family states its work,
 * and "model", the device as the model sees it, to the space. `best`: the measured ceilings of the device.
 * Errors: those of cost_predict; XQ_ERROR_MEMORY. */
xq_status tune_predict(char **space, const device_properties *properties, const ceilings *best,
                       const struct compare_options *options, error *err);

/* tune_predict with the "model" of a recorded space. */
xq_status tune_predict_recorded(cJSON *space, const cJSON *model, const struct cost_load *load, error *err);

/* The prior knowledge that a search has of the candidates of a space with predictions. */
struct tune_known {
    struct search_candidate *candidates;
    int32_t *places;
    int parameters;
};
xq_status tune_known_make(const cJSON *space, struct tune_known *out, error *err);
void tune_known_free(struct tune_known *known);

/* Copies the members of a candidate to `out`, except the map of its shared memory. */
void tune_candidate_json(const cJSON *candidate, cJSON *out);

enum { TUNE_LIKELY = 16 };

/* The candidates with the smallest predicted times, at most TUNE_LIKELY of them; of candidates with equal
 * predictions, the simplest come first: {"parameters", "predicted_us", "limit"} each. Empty where there are
 * no predictions. Caller deletes. Errors: XQ_ERROR_MEMORY. */
xq_status tune_likely(const cJSON *space, cJSON **list, error *err);
void tune_print_likely(const cJSON *list);

#endif
