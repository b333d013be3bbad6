#include "noticed.h"

#include <stdio.h>

void cli_warn_noticed(const char *subcommand, const struct cli_common *common,
                      const measure_noticed *noticed)
{
    if (!common->quiet && *noticed->unlocked)
        fprintf(stderr, "xq %s: warning: measurements did not wait for those of other processes: %s\n",
                subcommand, noticed->unlocked);
}
