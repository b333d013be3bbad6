#include "publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct publication {
    char *path, *temporary;
    FILE *file;
    uint64_t position;
    bool resumes;
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

/* `ending` goes behind the path for the temporary name. */
static publication *create(const char *path, const char *ending, error *err)
{
    publication *p = calloc(1, sizeof *p);
    size_t size = strlen(path) + strlen(ending) + 1;
    if (p) {
        p->path = strdup(path);
        p->temporary = malloc(size);
    }
    if (p && p->path && p->temporary) {
        snprintf(p->temporary, size, "%s%s", path, ending);
        return p;
    }
    if (p)
        release(p);
    error_set(err, XQ_ERROR_MEMORY, "file", "out of memory writing %s", path);
    return NULL;
}

xq_status publish_begin(const char *path, publication **out, error *err)
{
    publication *p = create(path, ".XXXXXX", err);
    if (!p)
        return err->status;
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

enum { BUSY = -2, GONE = -3 }; /* beside -1: errno */

/* Opens and locks a file. The one that had it may have renamed or removed it meanwhile. */
static int open_locked(const char *name)
{
    struct stat mine, named;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return -1;
    int result = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        result = BUSY; /* or a file system without locks, where none may rely on them */
    else if (fstat(fd, &mine) != 0)
        result = -1;
    else if (stat(name, &named) != 0 || mine.st_dev != named.st_dev || mine.st_ino != named.st_ino)
        result = GONE;
    if (result < 0)
        close(fd);
    return result;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

xq_status publish_resume(const char *path, publication **out, error *err)
{
    publication *p = create(path, ".partial", err);
    if (!p)
        return err->status;
    errno = EISDIR; /* rename would say so, when all is done */
    int fd = is_directory(path) ? -1 : open_locked(p->temporary);
    while (fd == GONE)
        fd = open_locked(p->temporary);
    if (fd == BUSY) {
        release(p);
        return publish_begin(path, out, err);
    }
    p->file = fd < 0 ? NULL : fdopen(fd, "r+b");
    if (p->file && fseeko(p->file, 0, SEEK_END) == 0) {
        p->position = (uint64_t)ftello(p->file);
        p->resumes = true;
        *out = p;
        return XQ_OK;
    }
    failed(p, err);
    if (p->file)
        fclose(p->file);
    else if (fd >= 0)
        close(fd);
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

xq_status publish_cut(publication *p, uint64_t position, error *err)
{
    if (fflush(p->file) != 0 || ftruncate(fileno(p->file), (off_t)position) != 0 ||
        fseeko(p->file, (off_t)position, SEEK_SET) != 0)
        return failed(p, err);
    p->position = position;
    return XQ_OK;
}

xq_status publish_flush(publication *p, error *err)
{
    return fflush(p->file) == 0 ? XQ_OK : failed(p, err);
}

uint64_t publish_position(const publication *p)
{
    return p->position;
}

const char *publish_temporary(const publication *p)
{
    return p->temporary;
}

bool publish_resumes(const publication *p)
{
    return p->resumes;
}

/* The rename comes before the file is closed, which would let another process have PATH.partial. */
xq_status publish_commit(publication *p, error *err)
{
    mode_t mask = umask(0); /* mkstemp makes private files; results are ordinary ones */
    umask(mask);
    int bad =
        ferror(p->file) | fflush(p->file) | fchmod(fileno(p->file), 0666 & ~mask) | fsync(fileno(p->file));
    if (bad || rename(p->temporary, p->path) != 0) {
        failed(p, err);
        if (!p->resumes)
            unlink(p->temporary);
    }
    if (fclose(p->file) != 0 && err->status == XQ_OK)
        failed(p, err);
    release(p);
    return err->status;
}

void publish_abandon(publication *p)
{
    if (!p)
        return;
    unlink(p->temporary);
    fclose(p->file);
    release(p);
}

void publish_keep(publication *p)
{
    if (!p || !p->resumes) {
        publish_abandon(p);
        return;
    }
    fclose(p->file);
    release(p);
}
