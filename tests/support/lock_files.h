/* Lock files such as measurements on a GPU use (autotune/measure/turn.h). */
#ifndef TESTS_LOCK_FILES_H
#define TESTS_LOCK_FILES_H

#include <stdbool.h>
#include <sys/types.h>

/* Points XQ_LOCK_DIR at an empty folder, and returns the path of the lock file for this UUID in it. The
 * text stays valid until the next call. */
const char *lock_file_of(const char *uuid);

/* Starts a process that creates the file if it is missing, and holds its lock until lock_file_release. */
pid_t lock_file_hold(const char *path);
void lock_file_release(pid_t holder);

/* Whether a process waits for the lock. The test fails if /proc/locks cannot be read. */
bool lock_file_is_waited_for(const char *path);

#endif
