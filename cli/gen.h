/* The parts of xq gen: sources and specs (gen.c), and tuning parameters (gen_parameters.c). */
#ifndef CLI_GEN_H
#define CLI_GEN_H

#include "../gen/gen.h"
#include "cli.h"

/* --list-parameters: prints the parameters of `families` (of all families, where the list is empty) as a
 * table on standard output, and writes them as JSON where --json asks for it. `spec_json` may be NULL; with
 * a spec, the values chosen for it are listed too. */
xq_status gen_list_parameters(gen *g, const struct cli_list *families, const char *spec_json,
                              const struct cli_common *common, error *err);

/* Prints how many combinations of a family's parameters are valid for a spec, and which constraints rule
 * out the others: the member "combinations" of gen_parameters and gen_space. */
void gen_print_combinations(const cJSON *combinations);

#endif
