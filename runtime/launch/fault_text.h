/* Describes the faults in a call's arrays in words. */
#ifndef RUNTIME_LAUNCH_FAULT_TEXT_H
#define RUNTIME_LAUNCH_FAULT_TEXT_H

#include "../base/error.h"
#include "params.h"

/* Fills `err` with XQ_ERROR_ARGUMENT, the argument at fault, and what would be valid. Returns its
 * status. */
xq_status fault_error(const struct xq_fault *fault, error *err);

#endif
