/* Contexts of a library that has the software device open it through this. */
#include "sim.h"

device_opener *const device_software = device_sim_open;
