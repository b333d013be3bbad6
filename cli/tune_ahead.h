/* Compiling ahead: kernels that will be tried soon are compiled by other threads into the kernel cache,
 * while the device measures. What comes of it is no concern of the caller: a kernel that does not compile
 * is told when it is tried. */
#ifndef CLI_TUNE_AHEAD_H
#define CLI_TUNE_AHEAD_H

#include "xq/xq.h"

struct tune_ahead;

/* One thread for each core but one, at least one, and at most 16. `context` has a kernel cache. NULL: out
 * of memory, or no thread could be started. */
struct tune_ahead *tune_ahead_start(xq_context *context, const char *family);

/* Takes `spec`, which free releases. NULL is fine for `a`. */
void tune_ahead_add(struct tune_ahead *a, char *spec);

/* Ends when the kernels that are being compiled are done; others are forgotten. NULL is fine. */
void tune_ahead_end(struct tune_ahead *a);

#endif
