/* The parts of a completed spec on which the bytes of packed weights depend. runtime/host/pack.c reads
 * these parts, and a file of packed weights fits a plan if they are equal. */
#ifndef PREPARE_PACKING_H
#define PREPARE_PACKING_H

#include "../runtime/base/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Returns {"cache": the parts on which the matrices depend}; with `packed` there is also "packing", the
 * parts on which the fused plan's packed weights depend. NULL when memory runs out, or for a text that is
 * no completed spec. */
cJSON *packing_describe(const char *completed_json, bool packed);

/* Checks that a plan with this completed spec takes the weights that `entry`, a result of packing_describe,
 * describes. Otherwise XQ_ERROR_ARGUMENT with the first field of the spec that differs. `path` begins the
 * message. */
xq_status packing_expect(const char *path, const cJSON *entry, const char *completed_json, error *err);

#endif
