/* Running a case. */
#ifndef AUTOTUNE_VERIFY_RUN_H
#define AUTOTUNE_VERIFY_RUN_H

#include "state.h"

/* Runs a case of the spec at hand. Errors: what only this machine can repair. */
void verify_run_case(verify_state *v, const case_shape *shape, verify_result *result, error *err);

#endif
