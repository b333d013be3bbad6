#include "publish.h"

#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct publication {
    char *given, *path; /* path: after following links */
    char *temporary;    /* NULL: bytes go straight into the file at `path` */
    FILE *file;         /* NULL: a FIFO into which nothing was written yet */
    uint64_t position;
    bool resumes;
};

static xq_status failed(const publication *p, error *err)
{
    return place_failed(p->given, strerror(errno ? errno : EIO), err);
}

static void release(publication *p)
{
    free(p->given);
    free(p->path);
    free(p->temporary);
    free(p);
}

/* ---------------------------------------------------------------- identity */

xq_status publish_identify(const char *path, publish_identity *out, error *err)
{
    place at = {0};
    *out = (publish_identity){0};
    if (place_find(path, &at, err) != XQ_OK)
        return err->status;
    out->device = at.st.st_dev;
    out->inode = at.st.st_ino;
    out->is_device = S_ISCHR(at.st.st_mode);
    if (at.kind == PLACE_NEW)
        snprintf(out->name, sizeof out->name, "%s", place_name(at.path));
    return XQ_OK;
}

bool publish_same(const publish_identity *a, const publish_identity *b)
{
    return !a->is_device && a->device == b->device && a->inode == b->inode && strcmp(a->name, b->name) == 0;
}

/* --------------------------------------------------------------- beginning */

enum {
    ENDING = 16, /* bytes by which a temporary name may be longer */
    STEM = 240   /* bytes of the file's own name in it, which leave room for the ending in NAME_MAX */
};

static publication *create(const char *given, const place *at, error *err)
{
    publication *p = calloc(1, sizeof *p);
    if (p) {
        p->given = strdup(given);
        p->path = strdup(at->path);
    }
    if (p && p->given && p->path) {
        p->temporary =
            at->kind == PLACE_NEW || at->kind == PLACE_FILE ? malloc(strlen(p->path) + ENDING) : NULL;
        if (p->temporary || at->kind == PLACE_STREAM || at->kind == PLACE_OPEN_FILE)
            return p;
    }
    if (p)
        release(p);
    error_set(err, XQ_ERROR_MEMORY, "file", "out of memory writing %s", given);
    return NULL;
}

/* Gives a new file the mode, and as far as possible the owner, of the file that it will replace. Not every
 * file system has these. */
static void take_after(int fd, const place *at)
{
    struct stat st;
    if (at->kind != PLACE_FILE || fstat(fd, &st) != 0)
        return;
    mode_t mode = at->st.st_mode & 07777;
    bool same = st.st_uid == at->st.st_uid && st.st_gid == at->st.st_gid;
    if (!same && fchown(fd, at->st.st_uid, at->st.st_gid) != 0)
        mode &= (mode_t)(fchown(fd, (uid_t)-1, at->st.st_gid) == 0 ? ~S_ISUID : ~(S_ISUID | S_ISGID));
    (void)!fchmod(fd, mode);
}

/* Opens the temporary file. It begins with the mode of the file that it will replace, so that a private
 * file is private from the start. Other files begin with mode 0666, from which the kernel takes the
 * umask. */
static int open_temporary(publication *p, const place *at)
{
    mode_t mode = at->kind == PLACE_FILE ? at->st.st_mode & 0777 : 0666;
    int fd = place_make_temporary(p->path, STEM, mode, p->temporary, strlen(p->path) + ENDING);
    if (fd >= 0)
        take_after(fd, at);
    return fd;
}

/* Opening a FIFO waits for its reader, and the caller may yet find that there is nothing to write. */
static bool opens_later(const place *at)
{
    return at->kind == PLACE_STREAM && S_ISFIFO(at->st.st_mode);
}

static xq_status open_at_last(publication *p, error *err)
{
    if (p->file)
        return XQ_OK;
    int fd = open(p->path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && (p->file = fdopen(fd, "wb")))
        return XQ_OK;
    failed(p, err);
    if (fd >= 0)
        close(fd);
    return err->status;
}

static xq_status begin(const char *path, const place *at, publication **out, error *err)
{
    publication *p = create(path, at, err);
    if (!p)
        return err->status;
    if (opens_later(at)) {
        *out = p;
        return XQ_OK;
    }
    int fd = p->temporary ? open_temporary(p, at) : place_open(at);
    p->file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (p->file) {
        *out = p;
        return XQ_OK;
    }
    failed(p, err);
    if (fd >= 0) {
        close(fd);
        if (p->temporary)
            unlink(p->temporary);
    }
    release(p);
    return err->status;
}

xq_status publish_begin(const char *path, publication **out, error *err)
{
    place at = {0};
    return place_find(path, &at, err) == XQ_OK ? begin(path, &at, out, err) : err->status;
}

enum { BUSY = -2, GONE = -3, ODD = -4 }; /* other results than -1, which sets errno */

/* Opens and locks a file. The process that had it before may have renamed or removed it meanwhile. */
static int open_locked(const char *name)
{
    struct stat mine, named;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return -1;
    int result = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        result = BUSY; /* or the file system has no locks; no process may rely on them there */
    else if (fstat(fd, &mine) != 0)
        result = -1;
    else if (!S_ISREG(mine.st_mode))
        result = ODD;
    else if (stat(name, &named) != 0 || mine.st_dev != named.st_dev || mine.st_ino != named.st_ino)
        result = GONE;
    if (result < 0)
        close(fd);
    return result;
}

xq_status publish_resume(const char *path, publication **out, error *err)
{
    place at = {0};
    if (place_find(path, &at, err) != XQ_OK)
        return err->status;
    if (at.kind != PLACE_NEW && at.kind != PLACE_FILE)
        return place_failed(path, "it is no regular file, which this output must be", err);
    publication *p = create(path, &at, err);
    if (!p)
        return err->status;
    snprintf(p->temporary, strlen(p->path) + ENDING, "%s.partial", p->path);
    int fd = open_locked(p->temporary);
    while (fd == GONE)
        fd = open_locked(p->temporary);
    if (fd == BUSY) {
        release(p);
        return begin(path, &at, out, err);
    }
    p->file = fd < 0 ? NULL : fdopen(fd, "r+b");
    if (p->file && fseeko(p->file, 0, SEEK_END) == 0) {
        take_after(fd, &at);
        p->position = (uint64_t)ftello(p->file);
        p->resumes = true;
        *out = p;
        return XQ_OK;
    }
    place_failed(p->temporary, fd == ODD ? "it is no regular file" : strerror(errno), err);
    if (p->file)
        fclose(p->file);
    else if (fd >= 0)
        close(fd);
    release(p);
    return err->status;
}

/* ----------------------------------------------------------------- writing */

xq_status publish_write(publication *p, const void *data, size_t size, error *err)
{
    if (err->status != XQ_OK || open_at_last(p, err) != XQ_OK)
        return err->status;
    errno = 0;
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
    return !p->file || fflush(p->file) == 0 ? XQ_OK : failed(p, err);
}

uint64_t publish_position(const publication *p)
{
    return p->position;
}

const char *publish_path(const publication *p)
{
    return p->given;
}

const char *publish_temporary(const publication *p)
{
    return p->temporary;
}

bool publish_resumes(const publication *p)
{
    return p->resumes;
}

/* -------------------------------------------------------------------- ends */

/* The file is renamed before it is closed, because closing it would let another process take
 * PATH.partial. */
xq_status publish_commit(publication *p, error *err)
{
    if (err->status != XQ_OK) { /* an earlier write failed, and the file is cut short */
        publish_keep(p);
        return err->status;
    }
    if (open_at_last(p, err) != XQ_OK) {
        release(p);
        return err->status;
    }
    errno = 0;
    bool good = !ferror(p->file) && fflush(p->file) == 0;
    if (good && p->temporary)
        good = fsync(fileno(p->file)) == 0 && rename(p->temporary, p->path) == 0;
    if (!good) {
        failed(p, err);
        if (p->temporary && !p->resumes)
            unlink(p->temporary);
        __fpurge(p->file);
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
    if (p->temporary)
        unlink(p->temporary);
    if (p->file) {
        __fpurge(p->file); /* a stream gets no bytes beyond those it has already */
        fclose(p->file);
    } else {
        int fd = open(p->path, O_WRONLY | O_CLOEXEC | O_NONBLOCK); /* ends the wait of a FIFO's reader */
        if (fd >= 0)
            close(fd);
    }
    release(p);
}

void publish_keep(publication *p)
{
    if (!p || !p->resumes || p->position == 0) {
        publish_abandon(p);
        return;
    }
    fclose(p->file);
    release(p);
}
