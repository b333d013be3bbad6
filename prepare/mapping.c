#include "mapping.h"

#include "../runtime/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static xq_status failed(const char *path, int fd, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot read %s: %s", path, files_reason(path));
    if (fd >= 0)
        close(fd);
    return error_at(err, path, 0);
}

xq_status mapping_open(const char *path, mapping *out, error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for its writer */
    if (fd < 0 || fstat(fd, &st) != 0)
        return failed(path, fd, err);
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        error_set(err, XQ_ERROR_IO, "file", "cannot read %s: it is no regular file", path);
        return error_at(err, path, 0);
    }
    void *data = NULL;
    if (st.st_size > 0) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            return failed(path, fd, err);
    }
    close(fd);
    *out = (mapping){data, (size_t)st.st_size};
    return XQ_OK;
}

void mapping_close(mapping *m)
{
    if (m->data)
        munmap((void *)m->data, m->size);
    *m = (mapping){0};
}
