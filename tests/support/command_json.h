/* Runs xq for its JSON. */
#ifndef TESTS_COMMAND_JSON_H
#define TESTS_COMMAND_JSON_H

#include "command.h"

#include <cjson/cJSON.h>

/* Runs `xq ARGUMENTS`, and returns the JSON that it prints, which the caller deletes. The test fails if the
 * command does, or if it prints anything else. */
cJSON *command_json(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The JSON that a command has printed, for tests that look at the result otherwise, too. */
cJSON *command_json_of(const struct command_result *result);

/* The JSON in a file; the caller deletes it. */
cJSON *command_json_file(const char *path);

#endif
