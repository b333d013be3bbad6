/* Tables of tuned parameters for tests. */
#ifndef TESTS_TUNED_TABLE_H
#define TESTS_TUNED_TABLE_H

#include "../gen/gen.h"

#include <stdbool.h>

/* A result of a table. What is left 0 is that of a usual one: a modelled GPU of capability 8.9 with 100
 * multiprocessors, attend with 4 warps for one sequence of 4096 tokens. */
struct tuned_result {
    const char *device;
    int capability, multiprocessors;
    bool measured;
    int tokens, batch, queries, warps;
    const char *parameters; /* in place of warps */
    const char *source;     /* of the family; NULL: of the templates built in */
    const char *family;
};

/* A hash of the sources of attend. */
const char *tuned_source(gen *g);

/* The text of a table of these results, for the shape of a spec; valid until the next call. */
const char *tuned_table(const char *spec_json, const struct tuned_result *results, int count);

/* Writes the table to a file and points XQ_TUNED at it. Returns its path. */
const char *tuned_table_use(const char *spec_json, const struct tuned_result *results, int count);

#endif
