/* What tests and tools need of the software device beyond device_ops. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "../runtime/device/device.h"

/* Opens a software device: a device_opener of device.h. */
xq_status device_sim_open(const char *gpu, device **out, error *err);

/* Instructions that the software device knows, for tests that want to miss none: opcodes ("ld", "mma"),
 * then arithmetic with its types, without rounding, .ftz, .sat and .relu ("mad.hi.s32"). NULL past the end.
 */
const char *sim_opcode_name(size_t index);

/* Warp instructions after which a warp is taken to loop forever (default: 2^26). Of a device that
 * device_sim_open made. */
void sim_set_instruction_budget(device *sim, uint64_t instructions);

/* The same arithmetic is compiled for several instruction sets of the host; modules loaded from now on use
 * number `level` of those that this machine runs (0: any machine's), by default the last. False if there is
 * no such level. */
bool sim_set_lanes(device *sim, int level);

#endif
