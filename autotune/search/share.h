/* One kernel for several sizes of calls: which of the kernels that are best somewhere is used where, so
 * that as few of them as possible are within what measurements can tell of the best everywhere. */
#ifndef AUTOTUNE_SEARCH_SHARE_H
#define AUTOTUNE_SEARCH_SHARE_H

#include "../../runtime/base/error.h"

struct share_time {
    double seconds; /* 0: it was not measured */
    double spread;  /* seconds between the quartiles */
};

/* `times` is [sizes][kernels]; kernel 0 is the default, which is measured for every size. Sets chosen[size]
 * to a kernel. Two times are alike where their quartiles overlap, or where they differ by less than 1 %.
 * A size whose best time is like the default's has the default. For the others, the kernel that is like the
 * best for most of them is chosen (the first of several), then for those that are left, and so on. Errors:
 * XQ_ERROR_MEMORY. */
xq_status share_kernels(const struct share_time *times, int sizes, int kernels, int *chosen, error *err);

#endif
