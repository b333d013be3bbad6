/* The candidates of xq tune by the cost model (autotune/search/cost.h): a predicted time for each, and what
 * a search knows of them beforehand. */
#ifndef CLI_TUNE_MODEL_H
#define CLI_TUNE_MODEL_H

#include "../autotune/search/cost.h"
#include "../autotune/search/search.h"
#include "../runtime/device/device.h"
#include "tune.h"

/* Adds to the candidates of a space (gen_space) "predicted" {"us", "limit"}, where their family states its
 * work, and to the space "model", the device as the model sees it. `best`: the device's, measured. Errors:
 * those of cost_predict; XQ_ERROR_MEMORY. */
xq_status tune_predict(char **space, const device_properties *properties, const ceilings *best,
                       const struct compare_options *options, error *err);

/* The same, with "model" of a space that was recorded. */
xq_status tune_predict_recorded(cJSON *space, const cJSON *model, const struct cost_load *load, error *err);

/* What a search knows of the candidates of a space with predictions. */
struct tune_known {
    struct search_candidate *candidates;
    int32_t *places;
    int parameters;
};
xq_status tune_known_make(const cJSON *space, struct tune_known *out, error *err);
void tune_known_free(struct tune_known *known);

/* Adds to `out` what a space says of a candidate, all but the map of its shared memory. */
void tune_candidate_json(const cJSON *candidate, cJSON *out);

enum { TUNE_LIKELY = 16 };

/* The candidates with the least predicted times, at most TUNE_LIKELY of them, the simplest of those that
 * the model does not tell apart: {"parameters", "predicted_us", "limit"} each. Empty where there are no
 * predictions. Caller deletes. Errors: XQ_ERROR_MEMORY. */
xq_status tune_likely(const cJSON *space, cJSON **list, error *err);
void tune_print_likely(const cJSON *list);

#endif
