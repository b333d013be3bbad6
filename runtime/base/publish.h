/* Publishing a file: it appears under its name complete and on disk, or not at all (temporary name in
 * the same folder, fsync, rename). Links are followed: what they lead to is replaced, and they stay. A file
 * that is replaced passes its mode on to the new one, and its owner where the process may do that.
 *
 * A FIFO, a character device, and an open file by its name in /proc or /dev (as /dev/stdout) cannot be
 * replaced: bytes go into them as they are written. A folder, a block device and a file without
 * permission to write are refused. */
#ifndef RUNTIME_BASE_PUBLISH_H
#define RUNTIME_BASE_PUBLISH_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct publication publication;

/* What a path leads to, so that outputs can be compared with inputs and with each other before any is
 * begun. */
typedef struct publish_identity {
    dev_t device;
    ino_t inode;    /* of the file that is there; where none is, of its folder */
    char name[256]; /* where none is: its name in that folder; else "" */
    bool is_device; /* a character device, which several may write */
} publish_identity;

/* Errors are those of publish_begin, as far as they show without writing. */
xq_status publish_identify(const char *path, publish_identity *out, error *err);
bool publish_same(const publish_identity *a, const publish_identity *b);

/* Under a temporary name of its own, or into what cannot be replaced. A FIFO is opened by the first write,
 * or by commit, which waits for its reader. */
xq_status publish_begin(const char *path, publication **out, error *err);

/* Under PATH.partial, which stays when the process is killed, and may hold what an earlier one has written:
 * `position` is at its end. One process at a time has it; where another has it now, this is publish_begin.
 * What cannot be replaced is refused. */
xq_status publish_resume(const char *path, publication **out, error *err);

/* Appends. After a failure nothing more needs to be written: commit reports it too. */
xq_status publish_write(publication *p, const void *data, size_t size, error *err);
/* Appends zeros up to `position` (not before the end). */
xq_status publish_pad(publication *p, uint64_t position, error *err);
/* Makes what was written so far survive this process. */
xq_status publish_flush(publication *p, error *err);
/* After publish_resume alone: overwrites bytes written before; drops everything from `position` on. */
xq_status publish_patch(publication *p, uint64_t position, const void *data, size_t size, error *err);
xq_status publish_cut(publication *p, uint64_t position, error *err);

uint64_t publish_position(const publication *p);
const char *publish_path(const publication *p);      /* as given */
const char *publish_temporary(const publication *p); /* the file's name until commit; NULL: there is none */
bool publish_resumes(const publication *p);          /* that is PATH.partial */

/* Each ends the publication: commit makes the file appear, abandon leaves no trace. keep, and a commit that
 * fails, leave PATH.partial where it holds anything (a temporary name of its own: no trace). NULL is fine
 * for abandon and keep. */
xq_status publish_commit(publication *p, error *err);
void publish_abandon(publication *p);
void publish_keep(publication *p);

#endif
