/* Costs of an attend step: counted on the software device, measured on a GPU. */
#ifndef CLI_COMPARE_TIME_H
#define CLI_COMPARE_TIME_H

#include "../autotune/engine/driver.h"
#include "compare.h"

/* A step of the driver's last layer: accumulate where the method has it, and attend. Does not wait. */
xq_status compare_step(driver *d, int table);

/* Software device: one step, its counters and modelled time. */
xq_status compare_count(const struct compare_task *task, driver *d, struct compare_row *row, error *err);

/* GPU: warm-up, then repeats over `copies` caches in turn; median and quartiles between events. */
xq_status compare_time(const struct compare_task *task, driver *d, int copies, struct compare_row *row,
                       error *err);

#endif
