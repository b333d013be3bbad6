/* xq cache export: fills a kernel store. */
#ifndef CLI_CACHE_EXPORT_H
#define CLI_CACHE_EXPORT_H

#include "../runtime/compile/cache.h"
#include "cli.h"

struct export_options {
    const char *to;
    struct cli_list archs, families, bits;
    bool fused, unfused, fp16_kv, fp8_kv, checked;
    int64_t base_layer, max_batch, max_tokens, max_queries;
    struct cli_spec spec;
};

/* Checks the options of a parsed command, and reports wrong usage. Returns CLI_OK, or an exit status. */
int export_check(const cli_command *command, const struct export_options *o);

/* Where the options name a model, compiles the kernels that its plans need. Otherwise copies the entries of
 * `c` that the keys of the command line, the families and the architectures choose. Returns an exit
 * status. */
int export_run(cache *c, const cli_command *command, const struct export_options *o);

#endif
