/* Runs a case. */
#ifndef AUTOTUNE_VERIFY_RUN_H
#define AUTOTUNE_VERIFY_RUN_H

#include "state.h"

/* Runs a case of the current spec. *err reports only what the case cannot be blamed for, such as a lack of
 * memory. */
void verify_run_case(verify_state *v, const case_shape *shape, verify_result *result, error *err);

#endif
