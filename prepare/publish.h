/* Publishing a file: it appears under its name complete and on disk, or not at all (temporary name in
 * the same folder, fsync, rename). */
#ifndef PREPARE_PUBLISH_H
#define PREPARE_PUBLISH_H

#include "../gen/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct publication publication;

xq_status publish_begin(const char *path, publication **out, error *err);
/* Appends. After a failure nothing more needs to be written: commit reports it too. */
xq_status publish_write(publication *p, const void *data, size_t size, error *err);
/* Appends zeros up to `position` (not before the end). */
xq_status publish_pad(publication *p, uint64_t position, error *err);
/* Overwrites bytes written before. */
xq_status publish_patch(publication *p, uint64_t position, const void *data, size_t size, error *err);
uint64_t publish_position(const publication *p);
/* Each ends the publication: commit makes the file appear, abandon leaves no trace. NULL is fine. */
xq_status publish_commit(publication *p, error *err);
void publish_abandon(publication *p);

#endif
