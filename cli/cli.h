/* The interface that the subcommands of `xq` share: option parsing, specs from options, errors, progress,
 * JSON.
 *
 * To add a subcommand NAME, write cli/NAME.c with `int cli_NAME(int argc, char **argv)` (argv[0] is "NAME";
 * the result is the exit status) and `cli_NAME_summary`, and list both in the table of main.c. The function
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

/* Exit statuses. An invalid value is bad input, whether or not it has the option's type. An option that is
 * unknown, lacks its value, or cannot be used here is wrong usage. */
enum { CLI_OK = 0, CLI_BAD_INPUT = 1, CLI_USAGE = 2, CLI_MISSING = 3 };

/* ---------------------------------------------------------------- options */

enum { CLI_MOST_OPTIONS = 64 };     /* options of one command, including the shared ones */
enum { CLI_MOST_ARGUMENTS = 1024 }; /* positional arguments */

/* JSON readers hold numbers as doubles, which could not represent a larger seed. */
#define CLI_MOST_SEED ((INT64_C(1) << 53) - 1)

enum cli_option_type {
    CLI_FLAG,   /* bool: takes no argument */
    CLI_STRING, /* const char *: points into argv; never empty */
    CLI_TEXT,   /* as CLI_STRING, but '' is a value too */
    CLI_INT,    /* int64_t */
    CLI_LIST,   /* struct cli_list: may be repeated; comma-separated items, each given once */
    CLI_TEXTS   /* struct cli_texts: may be repeated; each argument is one item */
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
    void *value;          /* of the type above; unchanged when the option is absent */
    const char *argument; /* shown in --help, e.g. "N"; NULL for a flag */
    const char *help;     /* one line. Where an option takes one of a few words, it lists them, either alone
                             or after a colon: "type of weights: f16 (default), int8". Shells then offer
                             these words (scripts/pages/options.awk) */
} cli_option;

/* The valid values of an integer option, or of each item of a list; --help shows them. */
typedef struct cli_bounds {
    const char *name;
    int64_t least, most;
} cli_bounds;

/* A common option, or an option of the spec, that a subcommand cannot use, and the reason. A name without
 * dashes is a member of the spec that has no option; it cannot be given by --set. */
typedef struct cli_unused {
    const char *name, *why;
} cli_unused;

/* The options that subcommands share; a subcommand may leave some out (cli_unused). Zero-initialize. */
struct cli_common {
    const char *device;    /* --device; NULL: auto */
    const char *json;      /* --json FILE|-; NULL: none */
    const char *cache_dir; /* --cache-dir; NULL: the default; "": none */
    const char *kernels;   /* --kernels; NULL: the default; "": none */
    bool no_compile;       /* --no-compile */
    const char *templates; /* --templates; NULL: the built-in ones */
    int64_t seed;          /* --seed */
    bool quiet, verbose;
    char model_file[4096]; /* the config.json that --model leads to, for error messages; "": none */
};

/* Options that describe a spec. Zero-initialize; NULL and false mean "not given". Numbers are kept as
 * texts, because the generator knows which values are valid. */
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
    const cli_option *options;  /* ends with a null name; NULL: the command has none of its own */
    struct cli_common *common;
    struct cli_spec *spec;    /* NULL: the command takes no spec */
    const cli_bounds *bounds; /* for integer options; ends with a null name; NULL: none */
    const cli_unused *unused; /* ends with a null name; NULL: none */
    int positional_min, positional_max;
    /* cli_parse fills these: */
    const char *positional[CLI_MOST_ARGUMENTS];
    int positional_count;
    const char *given[CLI_MOST_OPTIONS]; /* names of the given options, each once */
    bool given_of_spec[CLI_MOST_OPTIONS];
    int given_count;
} cli_command;

/* Parses argv[1..argc). Returns true when the command should go on, and false when it is over (--help was
 * printed, or an error was reported), with the exit status in *status. Options may follow positional
 * arguments, "--" ends the options, and both "--name value" and "--name=value" are understood. */
bool cli_parse(cli_command *command, int argc, char **argv, int *status);

/* Numbers are read as JSON (RFC 8259) writes them: without white space, plus signs, leading zeros, and
 * anything but decimal digits. All numbers of options are read so, and those of specs too (cli/spec.c). */

/* Reads a whole number without a point or an exponent; nothing may follow it. */
enum cli_number { CLI_NUMBER, CLI_NO_NUMBER, CLI_TOO_LARGE /* for *value */ };
enum cli_number cli_read_whole(const char *text, int64_t *value);

/* Reads a number at the beginning of the text; *rest is the text after it. Returns false where there is no
 * number. A number too large for a double becomes infinite. */
bool cli_read_number(const char *text, double *value, const char **rest);

/* Whether a text is valid UTF-8, which JSON requires. */
bool cli_is_utf8(const char *text);

/* Whether the command line has this option. */
bool cli_given(const cli_command *command, const char *name);

/* An option that has no effect beside another one is wrong usage; the functions below report it. `names`
 * ends with NULL. Each returns CLI_OK or CLI_USAGE. */

/* Where `option` is given, none of `names` may be given. */
int cli_excludes(const cli_command *command, const char *option, const char *const *names);
/* Where `option` is given, no others than `names` may be given; with `spec`, options of the spec may be
 * too. */
int cli_takes_only(const cli_command *command, const char *option, const char *const *names, bool spec);
/* Where `option` is given, --set may not give `key`, which is the same choice. */
int cli_excludes_set(const cli_command *command, const char *option, const char *key);
/* Reports bad input where `path`, the value of `option`, is "-" and a folder is needed. `hint` follows the
 * message. Returns CLI_OK or CLI_BAD_INPUT. */
int cli_needs_folder(const cli_command *command, const char *option, const char *path, const char *hint);
/* Whether the options name a model by --model, --spec or --set. cli_needs_model reports wrong usage where
 * they do not. */
bool cli_names_model(const struct cli_spec *spec);
int cli_needs_model(const cli_command *command);

/* The spec that the options describe, as a JSON text for xq_spec_complete: its choices, not completed.
 * Caller frees. Reads the files of --spec and --model. */
xq_status cli_spec_json(const struct cli_spec *spec, const struct cli_common *common, char **json,
                        error *err);

/* Sets common->model_file for the value of --model or for prepare's MODEL_DIR; cli_parse does it for
 * --model. Returns false where `model` is NULL or no path that exists. */
bool cli_find_model_file(const char *model, struct cli_common *common);

/* Returns CLI_OK where the options of a spec are compatible and --set holds JSON; else reports the
 * error. */
int cli_spec_check(const cli_command *command);

/* Whether --set gives this key, e.g. "cache.bits". */
bool cli_spec_sets(const struct cli_spec *spec, const char *key);

/* Whether --set gives the member of this option, e.g. cache.axis_k for "--axis-k". */
bool cli_spec_sets_option(const struct cli_spec *spec, const char *option);

/* --set of tuning.FAMILY has an effect only on families that run, which `names` lists. Returns
 * XQ_ERROR_ARGUMENT for any other family. */
xq_status cli_spec_check_tuning(const struct cli_spec *spec, const char *const *names, int count,
                                error *err);

/* Adds a member to the overrides of a spec (gen_override) at a key like "cache.bits". Takes `value`, also
 * on failure. Errors: XQ_ERROR_ARGUMENT where the key has another value already; XQ_ERROR_MEMORY. */
xq_status cli_override(cJSON *overrides, const char *key, cJSON *value, error *err);

/* The spec with overrides on top, in the form of cli_spec_json. Takes `overrides`. Caller frees *out. */
xq_status cli_spec_override(gen *g, const char *spec_json, cJSON *overrides, char **out, error *err);

/* The one of `names` that `given` was probably meant to be, or NULL: it is a few edits apart (swapping
 * neighbours is one edit), or one of the two begins the other. `names` has `count` entries, `stride` bytes
 * apart, each a const char *. Leading dashes do not count. */
const char *cli_nearest(const char *given, const void *names, size_t stride, int count);

/* ----------------------------------------------------------------- errors */

/* Prints `xq SUBCOMMAND: …` on stderr and returns the exit status for the failure. */
int cli_fail(const char *subcommand, const struct cli_common *common, const error *err);

/* Sets an error for which cli_fail returns CLI_USAGE: an option cannot be used here, which only the work
 * has shown. Returns XQ_ERROR_ARGUMENT. */
xq_status cli_misuse(error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each prints one line on stderr, `xq SUBCOMMAND: …` (or `xq: …` for ""), and returns CLI_USAGE or
 * CLI_BAD_INPUT. */
int cli_usage(const char *subcommand, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_bad_input(const char *subcommand, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes a text from outside safe to print on one line (runtime/base/printable.h). For arguments of printf:
 * printf("%s", cli_show(path).text). */
struct cli_shown {
    char text[1024];
};
struct cli_shown cli_show(const char *text);

/* Sets the options of a context from the common options. Warnings go to stderr unless --quiet is given.
 * These settings are shared by the whole process: the last call decides. */
void cli_context_options(const char *subcommand, const struct cli_common *common,
                         xq_context_options *options);

/* Opens a context with the common options; warnings go to stderr unless --quiet is given. Returns CLI_OK,
 * or the exit status after reporting the failure (*context is then NULL). */
int cli_open(const char *subcommand, const struct cli_common *common, xq_context **context);

/* Finds NVRTC early, so that its absence is reported once and not for each thing that the subcommand does.
 * Does nothing if there are kernel stores, or if nothing may be compiled. */
xq_status cli_require_toolchain(xq_context *context, error *err);

/* ------------------------------------------------------------- input, output
 * A command names all files that it reads, begins all files that it will write, works, and then writes. So
 * a path that cannot be written is an error before the work, and a command that fails leaves existing files
 * as they were: outputs that were begun and not committed are dropped when the command ends (cli_end), or
 * is interrupted. */

/* Names a file, or a model directory, that the command reads. No output may be this file, or a file that is
 * read in this directory. NULL and paths that do not exist are allowed. */
void cli_reads(const char *option, const char *path);
/* Calls cli_reads for each file that the common options name, and the options of `spec` unless it is
 * NULL. */
void cli_reads_common(const struct cli_common *common, const struct cli_spec *spec);

/* Reads a whole file, or standard input, NUL-terminated; caller frees. */
xq_status cli_read_file(const char *path, char **text, size_t *size, error *err);
xq_status cli_read_stdin(char **text, size_t *size, error *err);

/* Begins a file that publish_write (../runtime/base/publish.h) fills and cli_commit_output ends; "-" is
 * standard output. `option` names the file in errors, and must stay valid. */
xq_status cli_begin_output(const char *option, const char *path, publication **out, error *err);
xq_status cli_commit_output(publication *file, error *err);
/* Cleans up before a signal ends the process: removes files that were begun and not committed. */
void cli_remove_temporaries(int signal_number);
/* Between these two calls, a signal that ends the process waits. They enclose the moment in which files
 * that belong together appear; only regular files may be written then. */
void cli_hold_signals(void);
void cli_release_signals(void);
/* Notes a file that another owner's commit has made appear. Where standard output fails, the message names
 * the complete files. */
void cli_has_written(const char *path);
/* Like cli_begin_output, but the publication can be resumed (publish_resume). */
xq_status cli_begin_resumable(const char *option, const char *path, publication **out, error *err);
/* Begins a folder for several files. It is made where it is missing, and is then removed again if the
 * command fails. */
xq_status cli_begin_folder(const char *path, error *err);
/* Leaves a publication to another owner, who must end it. */
void cli_release_output(publication *file);

/* Whether JSON, or a file named like /dev/stdout, goes to standard output, so that nothing else may go
 * there. */
bool cli_json_to_stdout(const struct cli_common *common);

/* Begins the output that --json asks for; does nothing without --json. */
xq_status cli_begin_json(const struct cli_common *common, error *err);
/* Writes `json` to that output. */
xq_status cli_write_json(const struct cli_common *common, const cJSON *json, error *err);

/* These enclose a command, in main. The first makes sure that descriptors 0 to 2 are open, whatever the
 * caller closed. cli_end drops outputs that were not committed, checks standard output, and returns the
 * exit status. `command` may be "". */
void cli_open_standard_streams(void);
int cli_end(const char *command, int status);

/* Seconds on a monotonic clock; only differences have a meaning. */
double cli_seconds(void);

/* ---------------------------------------------------------------- progress
 * One line on stderr, only on a terminal, only without --quiet, and only once two seconds have passed since
 * the beginning; the end erases it. A thread draws it, so that it moves during long calls. Only one line
 * can exist at a time. */
struct cli_progress {
    bool running;
};
void cli_progress_begin(struct cli_progress *p, const struct cli_common *common, const char *what);

/* The line shows `detail` from now on. `fraction` is the part of the work that is done; 0: unknown. Texts
 * are copied. */
void cli_progress_update(struct cli_progress *p, double fraction, const char *detail);

/* Shows a step of that detail, until the next step (NULL for none) or the next update. Does nothing without
 * a line. */
void cli_progress_step(const char *step);
void cli_progress_end(struct cli_progress *p);
/* Shows that a measurement waits for another process (autotune/measure/turn.h), or that it goes on. */
void cli_show_waiting(void *unused, bool waits);
/* For a process that was forked while a line ran: it has neither the line nor the thread that draws it. */
void cli_progress_forget(void);

/* These enclose any other output to a terminal: pause erases the line and holds it back until resume. */
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
