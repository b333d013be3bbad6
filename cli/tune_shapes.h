/* Small calls beside the tuned one: a few random shapes over the same layer, so that a kernel which is
 * right only at the tuned size cannot win. */
#ifndef CLI_TUNE_SHAPES_H
#define CLI_TUNE_SHAPES_H

#include "compare.h"

struct tune_shapes;

/* Draws the shapes from `seed`: a batch of sequences of different lengths, the shortest of one token (or of
 * as many as it has queries), and a single sequence. None is longer than the layer's texts, unless it needs
 * more for its queries. Returns NULL when out of memory. */
struct tune_shapes *tune_shapes_create(const struct compare_layer *layer, uint64_t seed);

/* Attends with task->layer_spec over each shape, and compares with the reference. *wrong tells whether an
 * output differs by more than `bound`, or a log-sum-exp by twice as much; `reason` then describes it.
 * Caches and references are kept for the next call for the same layer with other parameters. Errors: those
 * of compare_attend. */
xq_status tune_shapes_check(struct tune_shapes *shapes, const struct compare_task *task,
                            xq_implementation implementation, double bound, bool *wrong, char *reason,
                            size_t reason_bytes, error *err);

/* `shapes` may be NULL. */
void tune_shapes_destroy(struct tune_shapes *shapes);

#endif
