/* The handlers on any machine. */
#if !defined(__clang__)
#pragma GCC optimize("O3")
#endif
#define SIM_HANDLERS_NAME sim_handlers_base
#include "exec_body.h"
