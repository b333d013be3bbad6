/* How commands report what was noticed during measurements (autotune/measure/noticed.h). */
#ifndef CLI_NOTICED_H
#define CLI_NOTICED_H

#include "../autotune/measure/noticed.h"
#include "cli.h"

/* Prints one line on stderr where times may be off, unless --quiet is given. */
void cli_warn_noticed(const char *subcommand, const struct cli_common *common,
                      const measure_noticed *noticed);

/* Adds the member "load" to a command's JSON: an object, or null where nothing is known. */
void cli_add_load(cJSON *object, const measure_noticed *noticed);

#endif
