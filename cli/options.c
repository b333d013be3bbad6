/* Parses options, prints --help, and checks options against each other. */
#include "../gen/json.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options of a command: its own, then those of a spec, then the common ones. */
struct option_table {
    cli_option options[CLI_MOST_OPTIONS + 1];
    const char *arguments[CLI_MOST_OPTIONS + 1]; /* last argument of an option; NULL: not given */
    int count, own, spec; /* counts: all options, the command's own, those of the spec */
};

/* Why a command cannot use an option, or NULL. A command that does not use the kernel cache has no use
 * for kernel stores and --no-compile either. */
static const char *why_unused(const cli_command *command, const char *name)
{
    bool of_cache = strcmp(name, "--kernels") == 0 || strcmp(name, "--no-compile") == 0;
    for (const cli_unused *u = command->unused; u && u->name; u++)
        if (strcmp(u->name, name) == 0 || (of_cache && strcmp(u->name, "--cache-dir") == 0))
            return u->why;
    return NULL;
}

/* A command's own option replaces a shared one of the same name, as in `compare --bits 4,8`. */
static void add_options(const cli_command *command, struct option_table *table, const cli_option *options)
{
    for (; options->name && table->count < CLI_MOST_OPTIONS; options++) {
        bool taken = why_unused(command, options->name) != NULL;
        for (int i = 0; i < table->count && !taken; i++)
            taken = strcmp(table->options[i].name, options->name) == 0;
        if (!taken)
            table->options[table->count++] = *options;
    }
}

static void collect(const cli_command *command, struct option_table *table)
{
    memset(table, 0, sizeof *table);
    if (command->options)
        add_options(command, table, command->options);
    table->own = table->count;
    if (command->spec) {
        struct cli_spec *s = command->spec;
        const cli_option options[] = {
            {"--model", CLI_STRING, &s->model, "NAME|DIR|FILE",
             "preset, Hugging Face model directory, or config.json"},
            {"--layer-kind", CLI_STRING, &s->layer_kind, "KIND",
             "kind of layers, if the model mixes kinds: full, sliding, nope (no RoPE)"},
            {"--method", CLI_STRING, &s->method, "NAME",
             "what is cached: x, latent, x-cl, latent-cl (latent; x if every query head has its own KV "
             "head)"},
            {"--bits", CLI_STRING, &s->bits, "N", "bits of a cached element: 2, 3, 4, 8 (4)"},
            {"--group", CLI_STRING, &s->group, "N|row",
             "elements that share a scale: 32, 64, 128, 256, row (128)"},
            {"--axis-k", CLI_STRING, &s->axis_k, "AXIS",
             "direction of the groups in K's stream, or in the only stream: token (default), channel"},
            {"--axis-v", CLI_STRING, &s->axis_v, "AXIS",
             "direction of the groups in V's stream: token (default), channel"},
            {"--zero-point", CLI_STRING, &s->zero_point, "KIND",
             "zero point of a group: float (default, an f16 minimum), integer"},
            {"--clip", CLI_STRING, &s->clip, "SHARE",
             "share of a group's range that its codes span: 0.1 to 1 (1; with rotation 0.8 at 2 bits, 0.95 "
             "at 3 and 4)"},
            {"--rank", CLI_STRING, &s->rank, "N|K,V", "columns of the latents that are kept (all)"},
            {"--groups", CLI_STRING, &s->groups, "N|K,V",
             "groups of KV heads, for keys and for values; each group has a latent of its own (as many as "
             "KV heads; 1 with --rank)"},
            {"--rotation", CLI_FLAG, &s->rotation, NULL,
             "rotate what is cached, which spreads outliers (default for x and latent; latent-cl allows "
             "it)"},
            {"--feedback", CLI_FLAG, &s->feedback, NULL,
             "correct the quantization error of each channel in later channels (x and latent only; slower "
             "append)"},
            {"--no-rotation", CLI_FLAG, &s->no_rotation, NULL, "do not rotate what is cached"},
            {"--base", CLI_FLAG, &s->base, NULL, "cross-layer: this layer starts the accumulator"},
            {"--accumulator-bits", CLI_STRING, &s->accumulator_bits, "N",
             "cross-layer: bits of the accumulator: 16 (default), 8, 4"},
            {"--page", CLI_STRING, &s->page, "N", "tokens of a cache page: multiples of 16 up to 256 (64)"},
            {"--dtype", CLI_STRING, &s->dtype, "TYPE", "type of activations: f16 (default), bf16"},
            {"--weights", CLI_STRING, &s->weights, "TYPE",
             "type of packed weights: f16, bf16, int8, e4m3 (int8 at 2 to 4 bits where the fused kernel "
             "makes scores straight from the codes of a latent, else f16)"},
            {"--queries", CLI_STRING, &s->queries, "ONE|MANY",
             "queries of a sequence in one call: one (default), many"},
            {"--spec", CLI_STRING, &s->spec_file, "FILE|-",
             "whole spec as JSON, as --print-spec prints it; other options override it"},
            {"--set", CLI_TEXTS, &s->set, "KEY=JSON",
             "any key of the spec, for example tuning.attend.warps=4; null restores its default (may be "
             "repeated)"},
            {NULL, CLI_FLAG, NULL, NULL, NULL},
        };
        add_options(command, table, options);
    }
    table->spec = table->count - table->own;
    if (command->common) {
        struct cli_common *c = command->common;
        const cli_option options[] = {
            {"--device", CLI_STRING, &c->device, "NAME", "device: auto (default), cuda[:N], sim[:GPU]"},
            {"--json", CLI_STRING, &c->json, "FILE|-",
             "file to write the results to, as JSON; - is stdout"},
            {"--seed", CLI_INT, &c->seed, "N", "seed of random inputs (0)"},
            {"--cache-dir", CLI_TEXT, &c->cache_dir, "DIR",
             "folder of the kernel cache; '' means no cache"},
            {"--kernels", CLI_TEXT, &c->kernels, "DIR[:DIR]",
             "kernel stores, which are searched before the cache and never written; '' means no stores"},
            {"--no-compile", CLI_FLAG, &c->no_compile, NULL,
             "compile nothing; a kernel that is neither in a store nor in the cache is an error"},
            {"--templates", CLI_STRING, &c->templates, "DIR",
             "folder of templates that replace the built-in ones"},
            {"--quiet", CLI_FLAG, &c->quiet, NULL, "print no warnings, no progress and no summary line"},
            {"--verbose", CLI_FLAG, &c->verbose, NULL, "print all messages and complete compiler logs"},
            {NULL, CLI_FLAG, NULL, NULL, NULL},
        };
        add_options(command, table, options);
    }
}

/* ------------------------------------------------------------------ help */

static const cli_bounds *bounds_of(const cli_command *command, const char *name)
{
    static const cli_bounds seed = {"--seed", 0, CLI_MOST_SEED};
    for (const cli_bounds *b = command->bounds; b && b->name; b++)
        if (strcmp(b->name, name) == 0)
            return b;
    return strcmp(name, seed.name) == 0 ? &seed : NULL;
}

static void print_options(const cli_command *command, const char *title, const cli_option *options,
                          int count)
{
    if (count == 0)
        return;
    printf("\n%s:\n", title);
    for (int i = 0; i < count; i++) {
        char left[64];
        const cli_bounds *bounds = bounds_of(command, options[i].name);
        snprintf(left, sizeof left, "%s%s%s", options[i].name, options[i].argument ? " " : "",
                 options[i].argument ? options[i].argument : "");
        printf("  %-24s %s", left, options[i].help);
        if (bounds)
            printf("; %lld to %lld", (long long)bounds->least, (long long)bounds->most);
        putchar('\n');
    }
}

static void print_help(const cli_command *command, const struct option_table *table)
{
    printf("usage: xq %s%s%s [options]\n\n%s\n", command->name, command->arguments ? " " : "",
           command->arguments ? command->arguments : "", command->summary);
    if (command->description)
        printf("\n%s\n", command->description);
    const cli_option *o = table->options;
    print_options(command, "options", o, table->own);
    print_options(command, "the spec", o + table->own, table->spec);
    print_options(command, "common", o + table->own + table->spec, table->count - table->own - table->spec);
    printf("\nAn option may be repeated with the same value. Only options that take lists may be repeated "
           "with others.\n");
}

/* ---------------------------------------------------------------- values */

void cli_list_free(struct cli_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct cli_list){0};
}

static bool add_item(struct cli_list *list, const char *text, size_t length)
{
    char **items = realloc(list->items, sizeof *items * (size_t)(list->count + 1));
    if (items)
        list->items = items;
    char *item = items ? strndup(text, length) : NULL;
    if (item)
        list->items[list->count++] = item;
    return item != NULL;
}

static bool in_list(const struct cli_list *list, const char *text, size_t length)
{
    for (int i = 0; i < list->count; i++)
        if (strlen(list->items[i]) == length && strncmp(list->items[i], text, length) == 0)
            return true;
    return false;
}

/* A number that does not fit into 64 bits is outside any bounds. */
static int read_integer(const cli_command *command, const cli_option *option, const char *text,
                        int64_t *value)
{
    const cli_bounds *bounds = bounds_of(command, option->name);
    enum cli_number found = cli_read_whole(text, value);
    if (found == CLI_NO_NUMBER)
        return bounds ? cli_bad_input(command->name, "%s: '%s' is not an integer; valid: %lld to %lld",
                                      option->name, text, (long long)bounds->least, (long long)bounds->most)
                      : cli_bad_input(command->name, "%s: '%s' is not an integer", option->name, text);
    bool overflow = found == CLI_TOO_LARGE;
    if (bounds && (overflow || *value < bounds->least || *value > bounds->most))
        return cli_bad_input(command->name, "%s: %s; valid: %lld to %lld", option->name, text,
                             (long long)bounds->least, (long long)bounds->most);
    if (overflow)
        return cli_bad_input(command->name, "%s: %s does not fit into 64 bits", option->name, text);
    return CLI_OK;
}

static int store_integer(const cli_command *command, const cli_option *option, const char *text)
{
    int64_t value = 0;
    int status = read_integer(command, option, text, &value);
    if (status == CLI_OK)
        *(int64_t *)option->value = value;
    return status;
}

/* Each item of a list with bounds must be an integer within them. */
static int check_integers(const cli_command *command, const cli_option *option)
{
    const struct cli_list *list = option->value;
    int64_t value;
    int status = CLI_OK;
    for (int i = 0; i < list->count && status == CLI_OK && bounds_of(command, option->name); i++)
        status = read_integer(command, option, list->items[i], &value);
    return status;
}

static int store_list(const cli_command *command, const cli_option *option, const char *text)
{
    for (const char *item = text;; item++) {
        size_t length = strcspn(item, ",");
        if (length == 0)
            return cli_bad_input(command->name, "%s: '%s' has an empty item; valid: %s", option->name, text,
                                 option->argument);
        if (in_list(option->value, item, length))
            return cli_bad_input(command->name, "%s: '%.*s' comes twice; give each once", option->name,
                                 (int)length, item);
        if (!add_item(option->value, item, length))
            return cli_bad_input(command->name, "%s: out of memory", option->name);
        item += length;
        if (!*item)
            return check_integers(command, option);
    }
}

static int store_text(const cli_command *command, const cli_option *option, const char *text)
{
    struct cli_texts *texts = option->value;
    int most = (int)(sizeof texts->items / sizeof texts->items[0]);
    if (texts->count == most)
        return cli_usage(command->name, "%s: given too often; valid: at most %d times", option->name, most);
    texts->items[texts->count++] = text;
    return CLI_OK;
}

bool cli_is_utf8(const char *text)
{
    return !text[json_utf8_bytes(text)];
}

/* Whether an option's value is a path, which may be any bytes. */
static bool is_path(const cli_option *option)
{
    return option->argument && (strstr(option->argument, "FILE") || strstr(option->argument, "DIR"));
}

static int check_utf8(const cli_command *command, const cli_option *option, const char *text)
{
    if (!text || is_path(option) || option->type == CLI_TEXTS || cli_is_utf8(text))
        return CLI_OK; /* add_set checks the texts of --set */
    return cli_bad_input(command->name, "%s: '%s' is not UTF-8", option->name, text);
}

/* The file of --json may name any path of the command, so all of them must be UTF-8. */
static int check_paths(const cli_command *command, const struct option_table *table)
{
    if (!command->common || !command->common->json)
        return CLI_OK;
    for (int i = 0; i < command->positional_count; i++)
        if (!cli_is_utf8(command->positional[i]))
            return cli_bad_input(command->name,
                                 "'%s' is not UTF-8, and --json writes UTF-8; give another path",
                                 command->positional[i]);
    for (int i = 0; i < table->count; i++)
        if (table->arguments[i] && !cli_is_utf8(table->arguments[i]))
            return cli_bad_input(command->name,
                                 "%s: '%s' is not UTF-8, and --json writes UTF-8; give another path",
                                 table->options[i].name, table->arguments[i]);
    return CLI_OK;
}

/* Stores an option's argument, or reports an error. */
static int store(const cli_command *command, const cli_option *option, const char *text)
{
    switch (option->type) {
    case CLI_FLAG:
        *(bool *)option->value = true;
        return CLI_OK;
    case CLI_STRING:
    case CLI_TEXT:
        *(const char **)option->value = text;
        return CLI_OK;
    case CLI_INT:
        return store_integer(command, option, text);
    case CLI_LIST:
        return store_list(command, option, text);
    case CLI_TEXTS:
        return store_text(command, option, text);
    }
    return CLI_USAGE;
}

/* --------------------------------------------------------------- parsing */

static int unknown_option(const cli_command *command, const struct option_table *table, const char *given,
                          int length)
{
    char name[64];
    const char *names[CLI_MOST_OPTIONS + 2] = {"--help", "-h"};
    snprintf(name, sizeof name, "%.*s", length, given);
    const char *why = why_unused(command, name);
    if (why)
        return cli_usage(command->name, "%s: %s; leave it out", name, why);
    for (int i = 0; i < table->count; i++)
        names[i + 2] = table->options[i].name;
    const char *nearest = cli_nearest(name, names, sizeof names[0], table->count + 2);
    if (nearest)
        return cli_usage(command->name, "unknown option '%.*s'; did you mean '%s'?", length, given,
                         nearest);
    return cli_usage(command->name, "unknown option '%.*s'; `xq %s --help` lists them all", length, given,
                     command->name);
}

static void note_given(cli_command *command, const struct option_table *table, const cli_option *option)
{
    int index = (int)(option - table->options);
    if (cli_given(command, option->name))
        return;
    command->given_of_spec[command->given_count] = index >= table->own && index < table->own + table->spec;
    command->given[command->given_count++] = option->name;
}

/* The argument of the option at argv[*i], after "=" or in the next word; NULL after reporting wrong usage.
 * Another option in place of the argument means that the argument was forgotten. */
static const char *argument_of(const cli_command *command, const cli_option *option, int argc, char **argv,
                               int *i)
{
    const char *equals = strchr(argv[*i], '='), *text = equals ? equals + 1 : NULL;
    if (!text && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0)
        text = argv[++*i];
    if (text && (*text || option->type == CLI_TEXT))
        return text;
    cli_usage(command->name, "%s needs an argument: %s", option->name, option->argument);
    return NULL;
}

/* Refuses an option that is given twice with different arguments, because one of them would be ignored. Two
 * names of one option (-o, --out) share one value. */
static int check_repeated(const cli_command *command, struct option_table *table, const cli_option *option,
                          const char *text)
{
    int first = 0;
    if (option->type == CLI_LIST || option->type == CLI_TEXTS)
        return CLI_OK;
    while (table->options[first].value != option->value)
        first++;
    const char **before = &table->arguments[first];
    if (text && *before && strcmp(*before, text) != 0)
        return cli_usage(command->name, "%s: given twice, as '%s' and as '%s'", option->name, *before,
                         text);
    *before = text;
    return CLI_OK;
}

/* Parses one option at argv[*i], and moves *i over a separate argument. Returns an exit status. */
static int parse_option(cli_command *command, struct option_table *table, int argc, char **argv, int *i)
{
    const char *given = argv[*i], *text = NULL;
    size_t length = strcspn(given, "=");
    const cli_option *option = NULL;
    for (int k = 0; k < table->count && !option; k++)
        if (strlen(table->options[k].name) == length && strncmp(table->options[k].name, given, length) == 0)
            option = &table->options[k];
    if (!option)
        return unknown_option(command, table, given, (int)length);
    if (option->type == CLI_FLAG && given[length] == '=')
        return cli_usage(command->name, "%s takes no argument", option->name);
    if (option->type != CLI_FLAG && !(text = argument_of(command, option, argc, argv, i)))
        return CLI_USAGE;
    note_given(command, table, option);
    int status = check_repeated(command, table, option, text);
    if (status == CLI_OK)
        status = check_utf8(command, option, text);
    return status == CLI_OK ? store(command, option, text) : status;
}

bool cli_parse(cli_command *command, int argc, char **argv, int *status)
{
    struct option_table table;
    collect(command, &table);
    command->positional_count = command->given_count = 0;
    bool options_over = false;
    for (int i = 1; i < argc; i++) {
        const char *given = argv[i];
        if (!options_over && (strcmp(given, "--help") == 0 || strcmp(given, "-h") == 0)) {
            print_help(command, &table);
            *status = CLI_OK;
            return false;
        }
        if (!options_over && strcmp(given, "--") == 0) {
            options_over = true;
        } else if (!options_over && given[0] == '-' && given[1]) {
            *status = parse_option(command, &table, argc, argv, &i);
            if (*status != CLI_OK)
                return false;
        } else {
            if (command->positional_count > 1 && command->positional_count == command->positional_max) {
                *status =
                    cli_usage(command->name, "'%s' is one argument too many; valid: at most %d arguments",
                              given, command->positional_max);
                return false;
            }
            if (command->positional_count == command->positional_max) {
                *status = cli_usage(command->name, "unexpected argument '%s'; usage: xq %s%s%s [options]",
                                    given, command->name, command->arguments ? " " : "",
                                    command->arguments ? command->arguments : "");
                return false;
            }
            if (!*given) {
                *status = cli_usage(command->name, "an argument is empty; usage: xq %s %s [options]",
                                    command->name, command->arguments);
                return false;
            }
            command->positional[command->positional_count++] = given;
        }
    }
    if (command->positional_count < command->positional_min) {
        *status = cli_usage(command->name, "missing argument; usage: xq %s %s [options]", command->name,
                            command->arguments ? command->arguments : "");
        return false;
    }
    *status = check_paths(command, &table);
    if (*status == CLI_OK && command->spec)
        *status = cli_spec_check(command);
    if (*status != CLI_OK)
        return false;
    if (command->spec)
        cli_find_model_file(command->spec->model, command->common);
    *status = cli_excludes(command, "--verbose", (const char *const[]){"--quiet", NULL});
    return *status == CLI_OK;
}

/* ------------------------------------------------------ options beside one another */

bool cli_given(const cli_command *command, const char *name)
{
    for (int i = 0; i < command->given_count; i++)
        if (strcmp(command->given[i], name) == 0)
            return true;
    return false;
}

int cli_excludes(const cli_command *command, const char *option, const char *const *names)
{
    for (; *names && cli_given(command, option); names++) {
        if (cli_given(command, *names))
            return cli_usage(command->name, "%s: has no effect with %s; leave it out", *names, option);
        if (command->spec && cli_spec_sets_option(command->spec, *names))
            return cli_usage(command->name,
                             "--set of the key that %s sets: has no effect with %s; leave it out", *names,
                             option);
    }
    return CLI_OK;
}

static bool among(const char *name, const char *const *names)
{
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

int cli_takes_only(const cli_command *command, const char *option, const char *const *names, bool spec)
{
    for (int i = 0; i < command->given_count && cli_given(command, option); i++)
        if (strcmp(command->given[i], option) != 0 && !among(command->given[i], names) &&
            !(spec && command->given_of_spec[i]))
            return cli_usage(command->name, "%s: has no effect with %s; leave it out", command->given[i],
                             option);
    return CLI_OK;
}

int cli_excludes_set(const cli_command *command, const char *option, const char *key)
{
    if (cli_given(command, option) && cli_spec_sets(command->spec, key))
        return cli_usage(command->name, "%s and --set %s: give one of them", option, key);
    return CLI_OK;
}

int cli_needs_folder(const cli_command *command, const char *option, const char *path, const char *hint)
{
    if (strcmp(path, "-") == 0)
        return cli_bad_input(command->name, "%s: '-' is standard output; valid: a folder%s", option, hint);
    return CLI_OK;
}

bool cli_names_model(const struct cli_spec *spec)
{
    static const char *const keys[] = {"model", "model.preset", "model.hidden_size"};
    bool named = spec->model || spec->spec_file;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        named = named || cli_spec_sets(spec, keys[i]);
    return named;
}

int cli_needs_model(const cli_command *command)
{
    if (cli_names_model(command->spec))
        return CLI_OK;
    return cli_usage(command->name, "no model given; use --model NAME|DIR|config.json, or --spec FILE");
}
