/* Tables of tuned parameters for tests. */
#ifndef TESTS_TUNED_TABLE_H
#define TESTS_TUNED_TABLE_H

#include "../../gen/gen.h"

#include <stdbool.h>

/* One result of a table. Fields that are 0 get the values of a usual result: a modelled GPU of capability
 * 8.9 with 100 multiprocessors, and attend with 4 warps for one sequence of 4096 tokens. */
struct tuned_result {
    const char *device;
    int capability, multiprocessors;
    bool measured;
    int tokens, batch, queries, warps;
    const char *parameters; /* tuning parameters as JSON, in place of `warps` */
    const char *source;     /* hash of the family's sources; NULL: those of attend, built in */
    const char *family;
};

/* Hash of the sources of attend; valid until the next call. */
const char *tuned_source(gen *g);

/* The text of a table of these results, for the shape of a spec. It stays valid until the next call. */
const char *tuned_table(const char *spec_json, const struct tuned_result *results, int count);

/* Writes the table to a file and points XQ_TUNED at it. Returns its path. */
const char *tuned_table_use(const char *spec_json, const struct tuned_result *results, int count);

#endif
