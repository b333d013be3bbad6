/* Publishing a file: it appears under its name complete and on disk, or not at all (temporary name in
 * the same folder, fsync, rename). */
#ifndef PREPARE_PUBLISH_H
#define PREPARE_PUBLISH_H

#include "../gen/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct publication publication;

/* Under a temporary name of its own. */
xq_status publish_begin(const char *path, publication **out, error *err);

/* Under PATH.partial, which stays when the process is killed, and may hold what an earlier one has written:
 * `position` is at its end. One process at a time has it; where another has it now, this is publish_begin.
 */
xq_status publish_resume(const char *path, publication **out, error *err);

/* Appends. After a failure nothing more needs to be written: commit reports it too. */
xq_status publish_write(publication *p, const void *data, size_t size, error *err);
/* Appends zeros up to `position` (not before the end). */
xq_status publish_pad(publication *p, uint64_t position, error *err);
/* Overwrites bytes written before. */
xq_status publish_patch(publication *p, uint64_t position, const void *data, size_t size, error *err);
/* Drops everything from `position` on. */
xq_status publish_cut(publication *p, uint64_t position, error *err);
/* Makes what was written so far survive this process. */
xq_status publish_flush(publication *p, error *err);

uint64_t publish_position(const publication *p);
const char *publish_temporary(const publication *p); /* the file's name until commit */
bool publish_resumes(const publication *p);          /* that is PATH.partial */

/* Each ends the publication: commit makes the file appear, abandon leaves no trace. keep, and a commit that
 * fails, leave PATH.partial (a temporary name of its own: no trace). NULL is fine for abandon and keep. */
xq_status publish_commit(publication *p, error *err);
void publish_abandon(publication *p);
void publish_keep(publication *p);

#endif
