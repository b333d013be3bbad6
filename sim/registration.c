/* In a library that has the software device, contexts open it through this pointer. */
#include "sim.h"

device_opener *const device_software = device_sim_open;
