/* A generator for tests, and shortcuts for what tests often do with it. */
#ifndef TESTS_GENERATOR_H
#define TESTS_GENERATOR_H

#include "../../gen/gen.h"

#include <cjson/cJSON.h>

/* A generator with the built-in templates and no tables of tuned parameters. The process has one; tests do
 * not destroy it. */
gen *generator(void);

/* The completed spec as text, which the caller frees. The test fails if completion fails. */
char *generator_complete(const char *spec_json);

/* The completed spec without its `choices`. Two specs that mean the same give equal texts. */
char *generator_complete_values(const char *spec_json);

/* The completed spec, parsed; the caller deletes it. */
cJSON *generator_complete_parsed(const char *spec_json);

/* {"model": ...}, read from the text of a config.json. The test fails if reading fails. The caller deletes
 * the object. */
cJSON *generator_config(const char *config);

/* The completed spec of such a model, parsed. `kind` names a kind of layer in a model that mixes kinds; it
 * is NULL for other models. The caller deletes the object. */
cJSON *generator_complete_config(const char *config, const char *kind);

/* Fails the test unless completion fails with this status and field, and a message that names the field
 * and contains `text`. */
void generator_refuses(const char *spec_json, xq_status status, const char *field, const char *text);

/* Fails the test unless reading this config.json, or completing its model, fails with this status and
 * field, and a message that contains `text`. */
void generator_refuses_config(const char *config, xq_status status, const char *field, const char *text);

/* A member at a path such as "cache.bits" or "layout.streams.0.width"; the test fails if the member is
 * absent. */
const cJSON *generator_member(const cJSON *root, const char *path);
double generator_number(const cJSON *root, const char *path);
const char *generator_string(const cJSON *root, const char *path);

#endif
