#include "publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct publication {
    char *path, *temporary;
    FILE *file;
    uint64_t position;
};

static xq_status failed(const publication *p, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "cannot write %s: %s", p->path, strerror(errno));
    return error_at(err, p->path, 0);
}

static void release(publication *p)
{
    free(p->path);
    free(p->temporary);
    free(p);
}

xq_status publish_begin(const char *path, publication **out, error *err)
{
    publication *p = calloc(1, sizeof *p);
    size_t size = strlen(path) + 8;
    if (p) {
        p->path = strdup(path);
        p->temporary = malloc(size);
    }
    if (!p || !p->path || !p->temporary) {
        if (p)
            release(p);
        return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory writing %s", path);
    }
    snprintf(p->temporary, size, "%s.XXXXXX", path);
    int fd = mkstemp(p->temporary);
    p->file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (p->file) {
        *out = p;
        return XQ_OK;
    }
    failed(p, err);
    if (fd >= 0) {
        close(fd);
        unlink(p->temporary);
    }
    release(p);
    return err->status;
}

xq_status publish_write(publication *p, const void *data, size_t size, error *err)
{
    if (size > 0 && fwrite(data, 1, size, p->file) != size)
        return failed(p, err);
    p->position += size;
    return XQ_OK;
}

xq_status publish_pad(publication *p, uint64_t position, error *err)
{
    static const char zeros[256];
    while (p->position < position) {
        uint64_t left = position - p->position;
        if (publish_write(p, zeros, left < sizeof zeros ? (size_t)left : sizeof zeros, err) != XQ_OK)
            return err->status;
    }
    return XQ_OK;
}

xq_status publish_patch(publication *p, uint64_t position, const void *data, size_t size, error *err)
{
    if (fseeko(p->file, (off_t)position, SEEK_SET) != 0 || fwrite(data, 1, size, p->file) != size ||
        fseeko(p->file, (off_t)p->position, SEEK_SET) != 0)
        return failed(p, err);
    return XQ_OK;
}

uint64_t publish_position(const publication *p)
{
    return p->position;
}

xq_status publish_commit(publication *p, error *err)
{
    mode_t mask = umask(0); /* mkstemp makes private files; results are ordinary ones */
    umask(mask);
    int bad =
        ferror(p->file) | fflush(p->file) | fchmod(fileno(p->file), 0666 & ~mask) | fsync(fileno(p->file));
    bad |= fclose(p->file);
    if (bad || rename(p->temporary, p->path) != 0) {
        failed(p, err);
        unlink(p->temporary);
    }
    release(p);
    return err->status;
}

void publish_abandon(publication *p)
{
    if (!p)
        return;
    fclose(p->file);
    unlink(p->temporary);
    release(p);
}
