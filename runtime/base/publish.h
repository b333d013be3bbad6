/* Publishing a file: the file appears under its name complete and on disk, or not at all (temporary name
 * in the same folder, fsync, rename). Links are followed: the file that a link leads to is replaced, and
 * the link stays. The new file takes over the mode of the file that it replaces, and its owner where the
 * process may set it.
 *
 * A FIFO, a character device, and an open file named in /proc or /dev (such as /dev/stdout) cannot be
 * replaced: bytes go into them as they are written. A folder, a block device and a file without permission
 * to write are refused. */
#ifndef RUNTIME_BASE_PUBLISH_H
#define RUNTIME_BASE_PUBLISH_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct publication publication;

/* The file that a path leads to. With it, outputs can be compared with inputs and with each other before
 * any output is begun. */
typedef struct publish_identity {
    dev_t device;
    ino_t inode;    /* inode of the file, or of its folder if there is no file */
    char name[256]; /* name in that folder if there is no file; else "" */
    bool is_device; /* a character device, which several outputs may share */
} publish_identity;

/* Fills `out`. Errors are those errors of publish_begin that show without writing. */
xq_status publish_identify(const char *path, publish_identity *out, error *err);
bool publish_same(const publish_identity *a, const publish_identity *b);

/* Begins a publication under a temporary name, or into a file that cannot be replaced. A FIFO is opened by
 * the first write, or by commit, and that call waits for its reader. */
xq_status publish_begin(const char *path, publication **out, error *err);

/* Begins or resumes a publication under PATH.partial. This file stays when the process is killed, and may
 * hold what an earlier process has written; `position` is then at its end. Only one process at a time has
 * the file; if another process has it, this function does what publish_begin does. Files that cannot be
 * replaced are refused. */
xq_status publish_resume(const char *path, publication **out, error *err);

/* Appends. After a failure nothing more needs to be written, because commit reports the failure too. */
xq_status publish_write(publication *p, const void *data, size_t size, error *err);
/* Appends zeros up to `position`, which must not be before the end. */
xq_status publish_pad(publication *p, uint64_t position, error *err);
/* Makes everything written so far survive this process. */
xq_status publish_flush(publication *p, error *err);
/* Only after publish_resume: patch overwrites bytes that were written before; cut drops everything from
 * `position` on. */
xq_status publish_patch(publication *p, uint64_t position, const void *data, size_t size, error *err);
xq_status publish_cut(publication *p, uint64_t position, error *err);

uint64_t publish_position(const publication *p);
const char *publish_path(const publication *p);      /* as given */
const char *publish_temporary(const publication *p); /* name until commit; NULL: there is none */
bool publish_resumes(const publication *p);          /* the temporary name is PATH.partial */

/* Each of these calls ends the publication. commit makes the file appear, and abandon leaves no trace.
 * keep, and a commit that fails, leave PATH.partial if it holds anything, but no trace of another
 * temporary file. NULL is fine for abandon and keep. */
xq_status publish_commit(publication *p, error *err);
void publish_abandon(publication *p);
void publish_keep(publication *p);

#endif
