/* Runs of xq tune on the software device over a small layer, and their results. Failures end the test. */
#ifndef TESTS_TUNING_RUN_H
#define TESTS_TUNING_RUN_H

#include "../../autotune/search/store.h"

#include <cjson/cJSON.h>

/* Writes the spec of a small layer, which is quick on the software device. */
const char *tuning_spec(void);

/* For store_list: adds 1 to the int at `user` for each row. */
xq_status tuning_count_row(void *user, const store_row *row, error *err);

/* Waits until the store has a row. The store may not exist yet. */
void tuning_wait_for_a_row(const char *path);

/* Returns the result of a run, which must succeed; the caller deletes it. */
cJSON *tuning_run(const char *arguments);

/* A job of a result; the numbers and texts of an object; and a parameter of a trial. */
const cJSON *tuning_job(const cJSON *root, int index);
double tuning_number(const cJSON *object, const char *name);
const char *tuning_text(const cJSON *object, const char *name);
double tuning_parameter(const cJSON *trial, const char *name);

/* Returns a folder with one of the built-in templates, in which `from` is replaced by `to`. */
const char *tuning_templates(const char *name, const char *from, const char *to);

#endif
