/* xq gen in parts: sources and specs (gen.c), and what can be tuned (gen_parameters.c). */
#ifndef CLI_GEN_H
#define CLI_GEN_H

#include "../gen/gen.h"
#include "cli.h"

/* --list-parameters: of `families` (all, where it is empty), as a table on standard output and as JSON
 * where --json says. With `spec_json` (or NULL) also what is chosen for that spec. */
xq_status gen_list_parameters(gen *g, const struct cli_list *families, const char *spec_json,
                              const struct cli_common *common, error *err);

/* Prints how many combinations of a family's parameters are valid for a spec, and what rules out the
 * others: "combinations" of gen_parameters and gen_space. */
void gen_print_combinations(const cJSON *combinations);

#endif
