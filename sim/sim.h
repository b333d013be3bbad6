/* Functions of the software device beyond device_ops: how to open it, and what tests and tools need. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "../runtime/device/device.h"

/* Opens a software device. The function is a device_opener (device.h). */
xq_status device_sim_open(const char *gpu, device **out, error *err);

/* The name of instruction `index` among those that the software device knows, so that tests can cover all
 * of them. Opcodes come first ("ld", "mma"). Then comes arithmetic ("mad.hi.s32"), with types but without
 * the modifiers that its number format allows (rounding, .ftz, .sat, .relu). Returns NULL past the end. */
const char *sim_opcode_name(size_t index);

/* Sets the number of instructions after which a warp is taken to loop forever (default: 2^26). `sim` must
 * come from device_sim_open. */
void sim_set_instruction_budget(device *sim, uint64_t instructions);

/* The same arithmetic is compiled for several instruction-set levels of the host. Modules that are loaded
 * from now on use number `level` of the levels that this machine can run. Level 0 runs on any machine, and
 * the last one is the default. Returns false if there is no such level. */
bool sim_set_lanes(device *sim, int level);

#endif
