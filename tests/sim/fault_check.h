/* Kernels with one fault each, and checks of the error that the software device gives. The faulty line of
 * PTX carries the mark //!, and .loc says that it comes from line 42 of a template. */
#ifndef TESTS_FAULT_CHECK_H
#define TESTS_FAULT_CHECK_H

#include "../../sim/sim.h"
#include "ptx_harness.h"

/* Every kernel gets a buffer of 1020 bytes of device memory, and the address of an allocation that was
 * freed. */
struct fault_params {
    uint64_t buffer, freed;
};
enum { BUFFER_BYTES = 1020 };

struct fault {
    const char *name;
    const char *faulty, *sound; /* kernel bodies; sound is NULL if there is no corrected one */
    const char *says;           /* words of the message, separated by | */
    uint32_t grid, block;       /* 0 stands for 1 and 32 */
    int at_block, at_thread;    /* where the fault must be found, plus 1; 0: anywhere */
    uint32_t shared_bytes;
};

/* The text of a module whose kernel fault_kernel has this body; the caller frees it. */
char *fault_module(const char *body);

/* Errors of the parser contain "line N:". N may also be the next line, where the next token is. */
bool fault_names_line(const char *text, const char *message);

/* Runs a kernel of this body as the fault says, and returns how that ended. */
xq_status fault_run(device *sim, const struct fault *fault, const char *body, error *err);

/* Whether the message has all these words, which | separates. */
bool fault_says_all(const char *message, const char *words);

/* Expects that the faulty kernel ends with an error that says what it should, and that the sound one runs.
 */
void fault_expect(device *sim, const struct fault *fault);

/* The same for many faults, on each instruction set of the host that the checks are compiled for. */
void fault_expect_all(const struct fault *faults, size_t count);

#define EXPECT_FAULTS(faults) fault_expect_all(faults, sizeof(faults) / sizeof *(faults))
#define LOC                   "    .loc 1 42 0\n    "
#define BAD                   " //!\n"

#endif
