/* Small calls beside the one that is tuned for: a few random shapes over the same layer, so that a kernel
 * which is right at the bucket's size alone cannot win. */
#ifndef CLI_TUNE_SHAPES_H
#define CLI_TUNE_SHAPES_H

#include "compare.h"

struct tune_shapes;

/* Draws the shapes from `seed`: a batch of sequences of different lengths, from one token (or as many as it
 * has queries) on, and a single sequence; none is longer than the layer's texts. NULL: out of memory. */
struct tune_shapes *tune_shapes_create(const struct compare_layer *layer, uint64_t seed);

/* Attends with task->layer_spec over each shape, and compares with the reference. *wrong: whether an output
 * differs by more than `bound`, or a log-sum-exp by twice as much; `reason` then says where. Caches and
 * references serve the next call for the same layer, with other parameters. Errors: those of
 * compare_attend. */
xq_status tune_shapes_check(struct tune_shapes *shapes, const struct compare_task *task,
                            xq_implementation implementation, double bound, bool *wrong, char *reason,
                            size_t reason_bytes, error *err);

/* NULL is fine. */
void tune_shapes_destroy(struct tune_shapes *shapes);

#endif
