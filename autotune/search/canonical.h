/* JSON objects in canonical form: two texts that say the same become the same bytes. */
#ifndef AUTOTUNE_SEARCH_CANONICAL_H
#define AUTOTUNE_SEARCH_CANONICAL_H

#include "../../runtime/base/error.h"

/* Members sorted by the bytes of their names, at every depth; no white space; numbers with the fewest of 15
 * to 17 digits that give the same double. Refused, by the name `field`: malformed JSON, what is no object,
 * and numbers that a double cannot hold. Caller frees *out. */
xq_status canonical_object(const char *json, const char *field, char **out, error *err);

#endif
