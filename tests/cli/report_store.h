/* Stores with known answers, for tests of xq tune report. Failures end the test. */
#ifndef TESTS_REPORT_STORE_H
#define TESTS_REPORT_STORE_H

#include "../support/store_fixture.h"

#define REPORT_SPEC "{\"cache\":{\"bits\":4},\"model\":\"smollm2-135m\"}"

/* Returns the hashes of the sources of a fused step, as xq tune stores them. */
const char *report_source(void);

extern const store_device report_software, report_gpu;

/* The number of valid parameters of attend for this spec on an RTX 4090. */
int report_candidates(void);

/* A question about the default parameters of attend with these changes, such as {"warps":4}. */
store_row report_row(const store_device *device, const char *changes);

/* Adds an answer to such a question. */
void report_add_time(store *s, const store_device *device, const char *changes, double microseconds);
void report_add_failure(store *s, const store_device *device, const char *changes, store_outcome outcome,
                        const char *reason);

/* Opens an empty store, and says where it is. */
store *report_new_store(const char **path);

/* Adds three times and three failures of the software device. */
void report_fill(store *s);

/* Path of a store with these answers. */
const char *report_store(void);

/* Expects that a text has this part. */
void report_has(const char *whole, const char *part);

/* SQL that puts texts into a store which a terminal or a browser would interpret. */
#define REPORT_HOSTILE                                                                                     \
    "UPDATE device SET name = '</title><script>alert(1)</script>&\"' || char(39, 27, 10, 7) || '[0]`id`';" \
    "UPDATE measurement SET reason = '<b>' || char(27) || '[2J&amp;' WHERE reason IS NOT NULL;"            \
    "UPDATE measurement SET parameters ="                                                                  \
    "  replace(parameters, '\"warps\":4', '\"warps\":\"<i>''; touch pwned; ''\\u001b\"')"

#endif
