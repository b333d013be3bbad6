/* The handlers that work on the memory of all lanes at once. They are compiled once for each
 * instruction-set level (lanes_*.c), and all levels give the same results. */
#include "exec.h"
#include "number.h"

#include <stdlib.h>

#include "shared_body.h"

#include "exec_memory_body.h"

#include "exec_matrix_body.h"

#define HANDLER(name) .name = exec_##name,
static const struct sim_handlers handlers = {SIM_HANDLERS(HANDLER)};
