/* Applies the rules of templates/lib/call_check.h on the host, for devices whose memory the host reads
 * cheaply. */
#ifndef RUNTIME_LAUNCH_HOST_CHECK_H
#define RUNTIME_LAUNCH_HOST_CHECK_H

#include "../device/device.h"
#include "params.h"

/* Reads the arrays that `call` points to, and checks them. Errors: XQ_ERROR_ARGUMENT with the argument at
 * fault, also for an array that is not all in the device's memory; XQ_ERROR_MEMORY. */
xq_status host_check(device *d, const struct xq_check_params *call, error *err);

#endif
