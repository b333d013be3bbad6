/* A generator for tests, and what they often ask of it. */
#ifndef TESTS_GENERATOR_H
#define TESTS_GENERATOR_H

#include "../gen/gen.h"

#include <cjson/cJSON.h>

/* With the templates built in, and without tables of tuned parameters; one for the test's process, never
 * destroyed by the test. */
gen *generator(void);

/* The completed spec as text (caller frees); fails the test where completion fails. */
char *generator_complete(const char *spec_json);

/* The same without `choices`: equal for specs that say the same in other words. */
char *generator_complete_values(const char *spec_json);

/* The completed spec, parsed; caller deletes. */
cJSON *generator_complete_parsed(const char *spec_json);

/* {"model": what the text of a config.json reads as}; fails the test where reading fails. Caller deletes.
 */
cJSON *generator_config(const char *config);

/* The completed spec of such a model, parsed. `kind`: of a model that mixes kinds of layers; else NULL.
 * Caller deletes. */
cJSON *generator_complete_config(const char *config, const char *kind);

/* Fails the test unless completion fails with this status and field, and a message that names the field
 * and contains `text`. */
void generator_refuses(const char *spec_json, xq_status status, const char *field, const char *text);

/* Reading this config.json, or completing its model, fails with this field, and a message with this text.
 */
void generator_refuses_config(const char *config, xq_status status, const char *field, const char *text);

/* A member at a path like "cache.bits" or "layout.streams.0.width"; fails the test if it is absent. */
const cJSON *generator_member(const cJSON *root, const char *path);
double generator_number(const cJSON *root, const char *path);
const char *generator_string(const cJSON *root, const char *path);

#endif
