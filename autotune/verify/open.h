/* Opens the spec on which the verifier works. */
#ifndef AUTOTUNE_VERIFY_OPEN_H
#define AUTOTUNE_VERIFY_OPEN_H

#include "state.h"

/* Makes spec `index` the current one. A spec that no kernel serves is not an error. */
xq_status verify_open(verify_state *v, int64_t index, error *err);
void verify_close(verify_state *v);

#endif
