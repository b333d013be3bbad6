/* Contexts on the fake GPU that find their kernels in stores or compile them with the fake NVRTC, and what
 * they say. Failures end the test. */
#ifndef TESTS_KERNEL_STORES_H
#define TESTS_KERNEL_STORES_H

#include "fake_cuda.h"
#include "xq/xq.h"

#include <limits.h>

#define STORES_MODEL                                                                                       \
    "\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope_theta\": 10000}"
extern const char stores_spec[];
extern const char stores_no_nvrtc[]; /* the path of a library that does not exist */

/* The GPU of the contexts; NULL before the first one. */
extern struct fake_cuda_state *stores_gpu;

/* Messages of the contexts since the last stores_options, counted and kept. */
struct stores_messages {
    int warnings, compiled, found;
    char last[1024];           /* the last warning */
    char keys[64][80];         /* keys of the kernels that were found */
    char places[64][PATH_MAX]; /* and the places of these kernels */
    int places_count;
};
extern struct stores_messages stores_said;

/* Options for the fake GPU; `kernels` and `cache_dir` as in xq_context_options. */
xq_context_options stores_options(const char *kernels, const char *cache_dir);

/* Opens a context, which must succeed. */
xq_context *stores_open_with(const xq_context_options *options);
xq_context *stores_open_gpu(const char *kernels, const char *cache_dir);

/* Makes a plan, or leaves why it failed in `detail`. */
xq_status stores_try_plan(xq_context *context, const char *json, xq_plan **plan, xq_error_detail *detail);

/* Makes a plan of stores_spec. */
xq_plan *stores_make_plan(xq_context *context);

/* Opens a context, makes a plan, and closes both. Returns how many kernels of that plan were PTX. */
int stores_plan_once(const char *kernels, const char *cache_dir);

/* Lets contexts find no NVRTC. */
void stores_hide_nvrtc(void);

/* Makes the kernels of stores_spec for the fake GPU, as an NVRTC of this version compiles them, in a folder
 * of their own. */
const char *stores_made_by(int major, const char *architectures);

/* Lists the names, sizes, modes and times of everything in a folder, except the times of the last read. */
char *stores_snapshot(const char *folder);

/* Fails the test unless the folder is as in this snapshot, which is freed. */
void stores_is_unchanged(const char *folder, char *before);

#endif
