/* What was noticed during measurements (autotune/measure/noticed.h), as commands tell it. */
#ifndef CLI_NOTICED_H
#define CLI_NOTICED_H

#include "../autotune/measure/noticed.h"
#include "cli.h"

/* One line on stderr where times may be off, unless --quiet. */
void cli_warn_noticed(const char *subcommand, const struct cli_common *common,
                      const measure_noticed *noticed);

/* The member "load" of a command's JSON: an object, or null where nothing is known. */
void cli_add_load(cJSON *object, const measure_noticed *noticed);

#endif
