/* The user's own tables of tuned parameters (docs/tuning.md). */
#ifndef RUNTIME_PLAN_USER_TABLES_H
#define RUNTIME_PLAN_USER_TABLES_H

#include "../../gen/gen.h"

/* Adds the file `first`, unless NULL; then the one that XQ_TUNED names, then xq/tuned.json of the
 * configuration folder (XDG_CONFIG_HOME, else HOME/.config), where there is one. With an empty XQ_TUNED
 * nothing is looked up in any table, also not in those built in, and `first` is refused
 * (XQ_ERROR_ARGUMENT). Errors: XQ_ERROR_IO for a file that cannot be read, those of gen_add_table. */
xq_status user_tables_add(gen *g, const char *first, error *err);

#endif
