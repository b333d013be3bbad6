/* JSON objects in canonical form: two texts that mean the same become the same bytes. */
#ifndef AUTOTUNE_SEARCH_CANONICAL_H
#define AUTOTUNE_SEARCH_CANONICAL_H

#include "../../runtime/base/error.h"

/* Members are sorted by the bytes of their names, at every depth. There is no white space. A number has the
 * fewest digits, of 15 to 17, that give the same double. Malformed JSON, a value that is not an object, and
 * a number that a double cannot hold are refused with the field name `field`. Caller frees *out. */
xq_status canonical_object(const char *json, const char *field, char **out, error *err);

#endif
