/* The handlers that work on all lanes' memory at once, compiled once per instruction-set level (exec_*.c),
 * all with the same results. */
#include "exec.h"
#include "number.h"

#include <stdlib.h>

#include "shared_body.h"

#include "exec_memory_body.h"

#include "exec_matrix_body.h"

#define ROW(name) .name = exec_##name,
const struct sim_handlers SIM_HANDLERS_NAME = {SIM_HANDLERS(ROW)};
