#include "lfs_pointer.h"

#include <string.h>

xq_status lfs_pointer_refuse(const char *path, const void *data, size_t size, error *err)
{
    static const char head[] = "version https://git-lfs.github.com/spec/";
    if (size < sizeof head - 1 || memcmp(data, head, sizeof head - 1) != 0)
        return XQ_OK;
    error_set(
        err, XQ_ERROR_FORMAT, "file",
        "%s: this is a Git LFS pointer, not the file itself; `git lfs pull` in its folder fetches the file",
        path);
    return error_at(err, path, 0);
}
