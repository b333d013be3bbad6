/* From a completed spec's JSON to what the host side needs of it. */
#ifndef RUNTIME_PLAN_SHAPE_READ_H
#define RUNTIME_PLAN_SHAPE_READ_H

#include "../launch/shape.h"

/* Errors: XQ_ERROR_INTERNAL naming what a completed spec lacks. */
xq_status shape_read(const char *completed_json, struct shape *out, error *err);

#endif
