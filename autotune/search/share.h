/* Chooses kernels for several sizes of calls. A kernel that is best for one size is reused for others, so
 * that few kernels come, at every size, as close to the best as measurements can tell. */
#ifndef AUTOTUNE_SEARCH_SHARE_H
#define AUTOTUNE_SEARCH_SHARE_H

#include "../../runtime/base/error.h"

struct share_time {
    double seconds; /* 0: the kernel was not measured at this size */
    double spread;  /* seconds between the quartiles */
};

/* `times` is [sizes][kernels]. Kernel 0 is the default, which is measured for every size. Sets chosen[size]
 * to a kernel. Two times are alike where their quartiles overlap, or where they differ by less than 1 %. A
 * size whose best time is like the default's gets the default. Then the kernel whose time is like the best
 * at the largest number of remaining sizes is chosen for these sizes (the first of several such kernels);
 * this is repeated until no size is left. Errors: XQ_ERROR_MEMORY. */
xq_status share_kernels(const struct share_time *times, int sizes, int kernels, int *chosen, error *err);

#endif
