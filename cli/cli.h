/* What the subcommands of `xq` share: option parsing, specs from options, errors, progress, JSON.
 *
 * To add a subcommand NAME: write cli/NAME.c with `int cli_NAME(int argc, char **argv)` (argv[0] is
 * "NAME"; the result is the exit status) and `cli_NAME_summary`, and list both in the table of main.c. It
 * declares a cli_command, calls cli_parse, does its work, and reports failures through cli_fail. cli/info.c
 * is an example. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "../gen/gen.h"
#include "../runtime/base/publish.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses. A value that is not valid, of the option's type or not, is bad input; an option that is
 * unknown, lacks its value, or cannot be used here is wrong usage. */
enum { CLI_OK = 0, CLI_BAD_INPUT = 1, CLI_USAGE = 2, CLI_MISSING = 3 };

/* ---------------------------------------------------------------- options */

enum { CLI_MOST_OPTIONS = 64 };     /* of a command, the shared ones included */
enum { CLI_MOST_ARGUMENTS = 1024 }; /* that are no options */

/* A larger seed would be another number in JSON. */
#define CLI_MOST_SEED ((INT64_C(1) << 53) - 1)

enum cli_option_type {
    CLI_FLAG,   /* bool: takes no argument */
    CLI_STRING, /* const char *: points into argv; never empty */
    CLI_TEXT,   /* the same, but '' is a value too */
    CLI_INT,    /* int64_t */
    CLI_LIST,   /* struct cli_list: may be repeated, and holds comma-separated items, each once */
    CLI_TEXTS   /* struct cli_texts: may be repeated, and holds each argument whole */
};

struct cli_list {
    char **items; /* released by cli_list_free */
    int count;
};
void cli_list_free(struct cli_list *list);

struct cli_texts {
    const char *items[64]; /* point into argv */
    int count;
};

typedef struct cli_option {
    const char *name; /* "--bits" */
    enum cli_option_type type;
    void *value;          /* of the type above; keeps its value when the option is absent */
    const char *argument; /* shown in --help, e.g. "N"; NULL for a flag */
    const char *help;     /* one line. Where one of a few words is meant, it lists them, behind a colon or
                             alone: "type of weights: f16 (default), int8". Shells then offer these
                             (scripts/pages/options.awk) */
} cli_option;

/* The valid values of an integer option, or of each item of a list; --help shows them. */
typedef struct cli_bounds {
    const char *name;
    int64_t least, most;
} cli_bounds;

/* A common option, or one of the spec, that a subcommand cannot use, and why. A name without dashes is a
 * member of the spec that has no option, for --set. */
typedef struct cli_unused {
    const char *name, *why;
} cli_unused;

/* Options that subcommands share, but for those that they leave out (cli_unused). Zero-initialize. */
struct cli_common {
    const char *device;    /* --device; NULL: auto */
    const char *json;      /* --json FILE|-; NULL: none */
    const char *cache_dir; /* --cache-dir; NULL: the default; "": none */
    const char *kernels;   /* --kernels; NULL: the default; "": none */
    bool no_compile;       /* --no-compile */
    const char *templates; /* --templates; NULL: those built in */
    int64_t seed;          /* --seed */
    bool quiet, verbose;
    char model_file[4096]; /* the config.json that --model leads to, for errors; "": none */
};

/* Options that describe a spec. Zero-initialize; NULL and false mean "not given". Numbers stay texts, since
 * the generator knows what is valid. */
struct cli_spec {
    const char *spec_file; /* "-": standard input, which can be read once */
    const char *model;
    const char *layer_kind, *method, *bits, *group, *axis_k, *axis_v, *zero_point, *clip, *rank, *groups,
        *accumulator_bits, *page, *dtype, *weights, *queries;
    struct cli_texts set; /* KEY=JSON */
    bool rotation, no_rotation, feedback, base;
};

typedef struct cli_command {
    const char *name, *summary; /* summary: one line */
    const char *arguments;      /* positional arguments as shown in usage, e.g. "FILE"; NULL: none */
    const char *description;    /* paragraphs for --help below the summary; NULL: none */
    const cli_option *options;  /* ends with a null name; NULL: none of its own */
    struct cli_common *common;
    struct cli_spec *spec;    /* NULL: takes no spec */
    const cli_bounds *bounds; /* of integer options; ends with a null name; NULL: none */
    const cli_unused *unused; /* ends with a null name; NULL: none */
    int positional_min, positional_max;
    /* Filled by cli_parse: */
    const char *positional[CLI_MOST_ARGUMENTS];
    int positional_count;
    const char *given[CLI_MOST_OPTIONS]; /* names of the options that were given, each once */
    bool given_of_spec[CLI_MOST_OPTIONS];
    int given_count;
} cli_command;

/* Parses argv[1..argc). Returns true to go on; false when the command is over (--help printed, or a
 * error reported), with the exit status in *status. Options may follow positional arguments;
 * "--" ends options; both "--name value" and "--name=value" are understood. */
bool cli_parse(cli_command *command, int argc, char **argv, int *status);

/* Numbers, as JSON (RFC 8259) writes them: without white space, plus signs, leading zeros, and anything but
 * decimal digits. Every option with a number reads it so, and those of a spec too (cli/spec.c). */

/* A whole number without a point and an exponent, and nothing behind it. */
enum cli_number { CLI_NUMBER, CLI_NO_NUMBER, CLI_TOO_LARGE /* for *value */ };
enum cli_number cli_read_whole(const char *text, int64_t *value);

/* A number at the beginning of the text; *rest is what follows it. False where there is none. A number too
 * large for a double is infinite. */
bool cli_read_number(const char *text, double *value, const char **rest);

/* Whether a text is UTF-8, as JSON must be. */
bool cli_is_utf8(const char *text);

/* Whether the command line has this option. */
bool cli_given(const cli_command *command, const char *name);

/* Options that have no effect beside another one are wrong usage, reported here. `names` ends with NULL.
 * Each returns CLI_OK or CLI_USAGE. */

/* With `option` given, none of `names` is. */
int cli_excludes(const cli_command *command, const char *option, const char *const *names);
/* With `option` given, nothing but `names` is; with `spec`, those of the spec too. */
int cli_takes_only(const cli_command *command, const char *option, const char *const *names, bool spec);
/* Whether the options say which model, by --model, --spec or --set; and wrong usage where they do not. */
bool cli_names_model(const struct cli_spec *spec);
int cli_needs_model(const cli_command *command);

/* The spec that the options describe, as the JSON text of xq_spec_complete: its choices, not completed;
 * caller frees. Reads --spec and --model files. */
xq_status cli_spec_json(const struct cli_spec *spec, const struct cli_common *common, char **json,
                        error *err);

/* Sets common->model_file for what --model, or prepare's MODEL_DIR, gives; cli_parse does it for --model.
 * False: `model` is NULL or no path. */
bool cli_find_model_file(const char *model, struct cli_common *common);

/* CLI_OK where the options of a spec go together, and --set holds JSON; else reports what is wrong. */
int cli_spec_check(const cli_command *command);

/* Whether --set gives this key, e.g. "cache.bits". */
bool cli_spec_sets(const struct cli_spec *spec, const char *key);

/* Whether --set gives what this option gives, e.g. cache.axis_k for "--axis-k". */
bool cli_spec_sets_option(const struct cli_spec *spec, const char *option);

/* --set of tuning.FAMILY has an effect only on families that run, `names`; XQ_ERROR_ARGUMENT for another.
 */
xq_status cli_spec_check_tuning(const struct cli_spec *spec, const char *const *names, int count,
                                error *err);

/* Adds a member to the overrides of a spec (gen_override), at a key like "cache.bits"; takes `value`, also
 * on failure. Errors: XQ_ERROR_ARGUMENT where another value is there; XQ_ERROR_MEMORY. */
xq_status cli_override(cJSON *overrides, const char *key, cJSON *value, error *err);

/* The spec with overrides on top, as cli_spec_json has it. Takes `overrides`. Caller frees *out. */
xq_status cli_spec_override(gen *g, const char *spec_json, cJSON *overrides, char **out, error *err);

/* The one of `names` (`count` of them, `stride` bytes apart, each a const char *) that `given` was probably
 * meant to be, or NULL: few edits apart (swapping neighbours is one), or the beginning of it. Dashes in
 * front do not count. */
const char *cli_nearest(const char *given, const void *names, size_t stride, int count);

/* ----------------------------------------------------------------- errors */

/* Prints `xq SUBCOMMAND: …` on stderr and returns the exit status for the failure. */
int cli_fail(const char *subcommand, const struct cli_common *common, const error *err);

/* A failure for which cli_fail returns CLI_USAGE: an option that cannot be used here, where only the work
 * shows it. Returns XQ_ERROR_ARGUMENT. */
xq_status cli_misuse(error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print one line on stderr, `xq SUBCOMMAND: …` (or `xq: …` for ""), and return CLI_USAGE or CLI_BAD_INPUT.
 */
int cli_usage(const char *subcommand, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_bad_input(const char *subcommand, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text from outside as a line may show it: runtime/base/printable.h. For an argument of printf:
 * printf("%s", cli_show(path).text). */
struct cli_shown {
    char text[1024];
};
struct cli_shown cli_show(const char *text);

/* The options of a context that the common options describe. Warnings go to stderr unless --quiet. They are
 * those of the process: the last call decides. */
void cli_context_options(const char *subcommand, const struct cli_common *common,
                         xq_context_options *options);

/* Opens a context with the common options; warnings go to stderr unless --quiet. Returns CLI_OK, or
 * the exit status after reporting the failure (*context is then NULL). */
int cli_open(const char *subcommand, const struct cli_common *common, xq_context **context);

/* Finds NVRTC, for a subcommand that would otherwise report its absence once for each thing it does; not
 * where there are kernel stores, or nothing may be compiled. */
xq_status cli_require_toolchain(xq_context *context, error *err);

/* ------------------------------------------------------------- input, output
 * A command names what it reads, begins all that it will write, works, and writes. So a path that cannot be
 * written is an error before the work, and a command that fails leaves what was there: what was begun and
 * not committed is dropped when it ends (cli_end), or is interrupted. */

/* Names a file, or a model directory, that the command reads: no output may be it, or a file that is read
 * in it. NULL and what does not exist are fine. */
void cli_reads(const char *option, const char *path);
/* Calls cli_reads for each file that the common options, and the spec's unless NULL, name. */
void cli_reads_common(const struct cli_common *common, const struct cli_spec *spec);

/* Reads a whole file, or standard input, NUL-terminated; caller frees. */
xq_status cli_read_file(const char *path, char **text, size_t *size, error *err);
xq_status cli_read_stdin(char **text, size_t *size, error *err);

/* Begins a file to write with publish_write (../runtime/base/publish.h), "-" for standard output;
 * cli_commit_output ends it. `option` names it in errors, and must last. */
xq_status cli_begin_output(const char *option, const char *path, publication **out, error *err);
xq_status cli_commit_output(publication *file, error *err);
/* What a signal that ends the process must do: removes what was begun and not committed. */
void cli_remove_temporaries(int signal_number);
/* Between the two a signal that ends the process waits. For a moment in which files that belong together
 * appear; what is written then must be regular files. */
void cli_hold_signals(void);
void cli_release_signals(void);
/* Notes a file that appeared by another owner's commit; a failure of standard output names what is
 * complete. */
void cli_has_written(const char *path);
/* The same through publish_resume. */
xq_status cli_begin_resumable(const char *option, const char *path, publication **out, error *err);
/* A folder for several files: made where it is missing, and then removed again if the command fails. */
xq_status cli_begin_folder(const char *path, error *err);
/* Leaves a publication to another owner, who ends it. */
void cli_release_output(publication *file);

/* Whether standard output takes the JSON, or a file by the name of /dev/stdout, so that nothing else may go
 * there. */
bool cli_json_to_stdout(const struct cli_common *common);

/* Begins the output that --json asks for; without --json nothing. */
xq_status cli_begin_json(const struct cli_common *common, error *err);
/* Writes `json` there. */
xq_status cli_write_json(const struct cli_common *common, const cJSON *json, error *err);

/* Around a command, in main: descriptors 0 to 2 are open, whatever the caller closed; and what was not
 * committed is dropped and standard output checked. Returns the exit status. `command` may be "". */
void cli_open_standard_streams(void);
int cli_end(const char *command, int status);

/* Seconds on a clock that nobody sets; only differences mean anything. */
double cli_seconds(void);

/* ---------------------------------------------------------------- progress
 * A line on stderr, only on a terminal, only without --quiet, only once two seconds have passed since the
 * beginning; the end erases it. A thread draws it, so that it moves during long calls. One at a time. */
struct cli_progress {
    bool running;
};
void cli_progress_begin(struct cli_progress *p, const struct cli_common *common, const char *what);

/* The line names `detail` from now on. `fraction`: of the work that is done so far; 0: unknown. Texts are
 * copied. */
void cli_progress_update(struct cli_progress *p, double fraction, const char *detail);

/* A step of it, until the next one, NULL for none, or the next update. Nothing without a line. */
void cli_progress_step(const char *step);
void cli_progress_end(struct cli_progress *p);
/* The step of a measurement that has to wait for another process (autotune/measure/turn.h). */
void cli_show_waiting(void *unused, bool waits);
/* In a process that was forked while a line ran: there is none here, and its thread is not here either. */
void cli_progress_forget(void);

/* Around whatever else is written to a terminal meanwhile: erases the line, and holds it back. */
void cli_progress_pause(void);
void cli_progress_resume(void);

/* ------------------------------------------------------------- subcommands
 * Each has a summary, which is one line of --help, and an entry point. */

extern const char cli_cache_summary[];
int cli_cache(int argc, char **argv);
extern const char cli_compare_summary[];
int cli_compare(int argc, char **argv);
extern const char cli_emit_summary[];
int cli_emit(int argc, char **argv);
extern const char cli_gen_summary[];
int cli_gen(int argc, char **argv);
extern const char cli_info_summary[];
int cli_info(int argc, char **argv);
extern const char cli_prepare_summary[];
int cli_prepare(int argc, char **argv);
extern const char cli_run_summary[];
int cli_run(int argc, char **argv);
extern const char cli_tune_summary[];
extern const char *const cli_tune_parts[]; /* its own subcommands; ends with NULL */
int cli_tune(int argc, char **argv);
extern const char cli_verify_summary[];
int cli_verify(int argc, char **argv);

#endif
