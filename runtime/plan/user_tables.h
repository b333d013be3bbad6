/* The user's own tables of tuned parameters (docs/tuning.md). */
#ifndef RUNTIME_PLAN_USER_TABLES_H
#define RUNTIME_PLAN_USER_TABLES_H

#include "../../gen/gen.h"

/* Adds the file `first`, unless it is NULL; then the file that XQ_TUNED names; then xq/tuned.json of the
 * configuration folder (XDG_CONFIG_HOME, else HOME/.config), if there is one. If XQ_TUNED is empty,
 * nothing is looked up in any table, not even in the built-in ones, and `first` is refused
 * (XQ_ERROR_ARGUMENT). Errors: XQ_ERROR_IO for a file that cannot be read, those of gen_add_table. */
xq_status user_tables_add(gen *g, const char *first, error *err);

#endif
