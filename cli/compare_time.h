/* Costs of an attend step: counted on the software device, measured on a GPU. */
#ifndef CLI_COMPARE_TIME_H
#define CLI_COMPARE_TIME_H

#include "compare.h"
#include "step.h"

/* Software device: one step, its counters and modelled time. */
xq_status compare_count(const struct compare_task *task, step *s, struct compare_row *row, error *err);

/* GPU: warm-up, then repeats over `copies` caches in turn; median and quartiles between events. */
xq_status compare_time(const struct compare_task *task, step *s, int copies, struct compare_row *row,
                       error *err);

#endif
