/* Files that are locked as measurements on a GPU lock theirs (autotune/measure/turn.h). */
#ifndef TESTS_LOCK_FILES_H
#define TESTS_LOCK_FILES_H

#include <stdbool.h>
#include <sys/types.h>

/* Points XQ_LOCK_DIR at a fresh folder, and returns the path of the file for this UUID in it; the text
 * stays valid until the next call. */
const char *lock_file_of(const char *uuid);

/* Starts a process that makes the file where it is missing, and holds its lock until it is released. */
pid_t lock_file_hold(const char *path);
void lock_file_release(pid_t holder);

/* Whether a process waits for the lock. Skips the test where the system does not tell. */
bool lock_file_is_waited_for(const char *path);

#endif
