/* What the bytes of packed weights depend on: the parts of a completed spec that runtime/host/pack.c reads,
 * and by which a file of packed weights fits a plan or not. */
#ifndef PREPARE_PACKING_H
#define PREPARE_PACKING_H

#include "../runtime/base/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* {"cache": what the matrices depend on}, and with `packed` also "packing": the packed weights of the fused
 * plan. NULL when memory runs out, or for a text that is no completed spec. */
cJSON *packing_describe(const char *completed_json, bool packed);

/* XQ_ERROR_ARGUMENT with the first field of the spec that differs, unless a plan with this completed spec
 * takes what `entry`, a result of packing_describe, describes. `path` begins the message. */
xq_status packing_expect(const char *path, const cJSON *entry, const char *completed_json, error *err);

#endif
