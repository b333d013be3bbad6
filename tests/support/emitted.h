/* Bundles that xq emit writes and compilers build, for tests. Failures end the test. */
#ifndef TESTS_EMITTED_H
#define TESTS_EMITTED_H

#include "library_session.h"

#include <stdbool.h>

/* A copy of a text, which lasts as long as the test. */
const char *emitted_keep(const char *text);

/* Writes a spec of session_attend's model to a file, and returns the path, which stays valid. */
const char *emitted_spec(const char *rest);

#define EMITTED_LATENT "\"cache\": {\"method\": \"latent\", \"rank_k\": 128, \"rank_v\": 64, \"page\": 32}"
#define EMITTED_LIMITS "--max-batch 2 --max-tokens 512 --max-append 512"

/* Writes a bundle with prefix `name` into a new folder, and returns the folder's path. */
const char *emitted(const char *spec, const char *name, const char *options);

/* Whether a folder has a file of this name. */
bool emitted_has(const char *folder, const char *name);

/* Builds the bundle as a shared library, with the software device linked in if `software`. `compiler` is a
 * compiler with options, such as "gcc -std=c99". */
const char *emitted_library(const char *folder, const char *name, const char *compiler, bool software);

#endif
