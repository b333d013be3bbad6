/* What the subcommands of `xq` share: option parsing, specs from options, errors, progress, JSON.
 *
 * To add a subcommand NAME: write cli/NAME.c with `int cli_NAME(int argc, char **argv)` (argv[0] is
 * "NAME"; the result is the exit status) and list it in the table of main.c. It declares a cli_command,
 * calls cli_parse, does its work, and reports failures through cli_fail. cli/info.c is an example. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "../gen/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit statuses. */
enum { CLI_OK = 0, CLI_BAD_INPUT = 1, CLI_USAGE = 2, CLI_MISSING = 3 };

/* ---------------------------------------------------------------- options */

enum cli_option_type {
    CLI_FLAG,   /* bool: takes no argument */
    CLI_STRING, /* const char *: points into argv */
    CLI_INT,    /* int64_t */
    CLI_NUMBER, /* double */
    CLI_LIST    /* struct cli_list: may be repeated, and holds comma-separated items */
};

struct cli_list {
    char *items[32]; /* released by cli_list_free */
    int count;
};
void cli_list_free(struct cli_list *list);

typedef struct cli_option {
    const char *name; /* "--bits" */
    enum cli_option_type type;
    void *value;          /* of the type above; keeps its value when the option is absent */
    const char *argument; /* shown in --help, e.g. "N"; NULL for a flag */
    const char *help;     /* one line */
} cli_option;

/* Options that every subcommand takes. Zero-initialize. */
struct cli_common {
    const char *device;    /* --device; NULL: auto */
    const char *json;      /* --json FILE|-; NULL: none */
    const char *cache_dir; /* --cache-dir; NULL: the default */
    const char *templates; /* --templates; NULL: those built in */
    int64_t seed;          /* --seed */
    bool quiet, verbose;
};

/* Options that describe a spec. Zero-initialize; 0 or NULL means "not given". */
struct cli_spec {
    const char *spec_file;
    const char *model;
    const char *layer_kind;
    const char *method, *group, *axis_k, *axis_v, *zero_point, *clip, *rank, *dtype, *weights, *queries;
    int64_t bits, groups, accumulator_bits, page;
    bool rotation, no_rotation, feedback, base;
};

typedef struct cli_command {
    const char *name;
    const char *arguments;     /* positional arguments as shown in usage, e.g. "FILE"; NULL: none */
    const char *description;   /* paragraphs for --help below the summary; NULL: none */
    const cli_option *options; /* ends with a null name; NULL: none of its own */
    struct cli_common *common;
    struct cli_spec *spec; /* NULL: takes no spec */
    int positional_min, positional_max;
    const char *positional[16]; /* filled by cli_parse */
    int positional_count;
} cli_command;

/* Parses argv[1..argc). Returns true to go on; false when the command is over (--help printed, or a
 * usage error reported), with the exit status in *status. Options may follow positional arguments;
 * "--" ends options; both "--name value" and "--name=value" are understood. */
bool cli_parse(cli_command *command, int argc, char **argv, int *status);

/* The spec that the options describe, as the JSON text of xq_spec_complete; caller frees. Reads --spec
 * and --model files. `arch` may be NULL: left to the device. */
xq_status cli_spec_json(const struct cli_spec *spec, const struct cli_common *common, const char *arch,
                        char **json, error *err);

/* The config.json that --model named in the last cli_spec_json of this program; "" if it named none. */
const char *cli_model_file(void);

/* Makes a parsed spec one for this kind of layers ("full", "sliding", "nope"), of a model that mixes them.
 */
void cli_spec_set_kind(cJSON *spec, const char *kind);

/* The one of `names` (`count` of them, `stride` bytes apart, each a const char *) nearest to `given`,
 * or NULL when none is close. */
const char *cli_nearest(const char *given, const void *names, size_t stride, int count);

/* The one-line summary of a subcommand, from the table of main.c; "" if unknown. */
const char *cli_summary(const char *subcommand);

/* ----------------------------------------------------------------- errors */

/* Prints `xq SUBCOMMAND: …` on stderr and returns the exit status for the failure. */
int cli_fail(const char *subcommand, const struct cli_common *common, const error *err);

/* Prints a usage error and returns CLI_USAGE. */
int cli_usage(const char *subcommand, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Opens a context with the common options; warnings go to stderr unless --quiet. Returns CLI_OK, or
 * the exit status after reporting the failure (*context is then NULL). */
int cli_open(const char *subcommand, const struct cli_common *common, xq_context **context);

/* Finds NVRTC, for a subcommand that would otherwise report its absence once for each thing it does. */
xq_status cli_require_toolchain(xq_context *context, error *err);

/* ----------------------------------------------------------------- output */

/* Whether the JSON goes to stdout, so that nothing else may. */
bool cli_json_to_stdout(const struct cli_common *common);

/* Writes `json` where --json says (nothing without --json): stdout, or a file published by rename. */
xq_status cli_write_json(const struct cli_common *common, const cJSON *json, error *err);

/* Reads a whole file, NUL-terminated; caller frees. */
xq_status cli_read_file(const char *path, char **text, size_t *size, error *err);

/* Publishes a file: temporary name, fsync, rename. */
xq_status cli_write_file(const char *path, const void *data, size_t size, error *err);

/* Progress on stderr, only on a terminal, only without --quiet, only once two seconds have passed. */
struct cli_progress {
    const char *what; /* "verifying" */
    double started, shown;
    bool enabled, visible;
};
void cli_progress_begin(struct cli_progress *p, const struct cli_common *common, const char *what);
void cli_progress_update(struct cli_progress *p, double fraction, const char *detail);
void cli_progress_end(struct cli_progress *p);

/* ------------------------------------------------------------- subcommands */

int cli_cache(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_gen(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_prepare(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_verify(int argc, char **argv);

#endif
