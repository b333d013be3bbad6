/* Compiles ahead: other threads compile kernels that will be tried soon into the kernel cache, while the
 * device measures. The caller need not look at the outcome: a kernel that does not compile is reported when
 * it is tried. */
#ifndef CLI_TUNE_AHEAD_H
#define CLI_TUNE_AHEAD_H

#include "xq/xq.h"

struct tune_ahead;

/* Starts one thread for each core but one: at least one, and at most 16. `context` must have a kernel
 * cache. Returns NULL when out of memory, or where no thread could be started. */
struct tune_ahead *tune_ahead_start(xq_context *context, const char *family);

/* Adds a spec to compile. Takes `spec`, which must be on the heap. `a` may be NULL. */
void tune_ahead_add(struct tune_ahead *a, char *spec);

/* Waits for the kernels that are being compiled, and drops all others. `a` may be NULL. */
void tune_ahead_end(struct tune_ahead *a);

#endif
