/* Options: parsing, --help, and the spec that they describe. */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 64 };

/* The options of a command: its own, those of a spec, the common ones. */
struct option_table {
    cli_option options[MAX_OPTIONS + 1];
    int count, own, spec; /* own: how many are the command's; spec: how many follow of the spec */
};

/* A command's own option stands before a shared one of the same name: `compare --bits 4,8`. */
static void add_options(struct option_table *table, const cli_option *options)
{
    for (; options->name && table->count < MAX_OPTIONS; options++) {
        bool taken = false;
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
        add_options(table, command->options);
    table->own = table->count;
    if (command->spec) {
        struct cli_spec *s = command->spec;
        const cli_option options[] = {
            {"--model", CLI_STRING, &s->model, "NAME|DIR|FILE",
             "preset, Hugging Face model directory, or config.json"},
            {"--layer-kind", CLI_STRING, &s->layer_kind, "KIND",
             "of a model that mixes them, the layers meant: full, sliding, nope (no RoPE)"},
            {"--method", CLI_STRING, &s->method, "NAME", "what is cached: x, latent, x-cl, latent-cl"},
            {"--bits", CLI_INT, &s->bits, "N", "bits of a cached element: 2, 3, 4, 8 (4)"},
            {"--group", CLI_STRING, &s->group, "N|row",
             "elements that share a scale: 32, 64, 128, 256, row (128)"},
            {"--axis-k", CLI_STRING, &s->axis_k, "AXIS",
             "groups of K's stream, or the only one: token (default), channel"},
            {"--axis-v", CLI_STRING, &s->axis_v, "AXIS", "groups of V's stream: token (default), channel"},
            {"--zero-point", CLI_STRING, &s->zero_point, "KIND",
             "of a group: float (default, an f16 minimum), integer"},
            {"--clip", CLI_STRING, &s->clip, "SHARE", "of a group's range that codes span: 0.1 to 1 (1)"},
            {"--rank", CLI_STRING, &s->rank, "N|K,V", "columns kept of the latents (all)"},
            {"--groups", CLI_INT, &s->groups, "N", "groups of KV heads with an SVD of their own (1)"},
            {"--rotation", CLI_FLAG, &s->rotation, NULL,
             "rotate what is cached, which spreads outliers (x, latent, latent-cl)"},
            {"--feedback", CLI_FLAG, &s->feedback, NULL,
             "make up for a channel's error in later ones: x, latent; a slower append"},
            {"--no-rotation", CLI_FLAG, &s->no_rotation, NULL, "cache what the weights give, unrotated"},
            {"--base", CLI_FLAG, &s->base, NULL, "cross-layer: the layer that starts the accumulator"},
            {"--accumulator-bits", CLI_INT, &s->accumulator_bits, "N",
             "cross-layer: bits of the accumulator: 16 (default), 8, 4"},
            {"--page", CLI_INT, &s->page, "N", "tokens of a cache page: multiples of 16 to 256 (64)"},
            {"--dtype", CLI_STRING, &s->dtype, "TYPE", "type of activations: f16 (default), bf16"},
            {"--weights", CLI_STRING, &s->weights, "TYPE",
             "type of packed weights: f16 (default), bf16, int8, e4m3"},
            {"--queries", CLI_STRING, &s->queries, "ONE|MANY",
             "queries of a sequence in one call: one (default), many"},
            {"--spec", CLI_STRING, &s->spec_file, "FILE",
             "a whole spec as JSON; other options override it"},
            {NULL, CLI_FLAG, NULL, NULL, NULL},
        };
        add_options(table, options);
    }
    table->spec = table->count - table->own;
    if (command->common) {
        struct cli_common *c = command->common;
        const cli_option options[] = {
            {"--device", CLI_STRING, &c->device, "NAME", "auto (default), cuda[:N], sim[:GPU]"},
            {"--json", CLI_STRING, &c->json, "FILE|-", "write the results as JSON to a file or stdout"},
            {"--seed", CLI_INT, &c->seed, "N", "seed of random inputs (0)"},
            {"--cache-dir", CLI_STRING, &c->cache_dir, "DIR", "kernel cache; '' for none"},
            {"--templates", CLI_STRING, &c->templates, "DIR",
             "read templates from DIR, not those built in"},
            {"--quiet", CLI_FLAG, &c->quiet, NULL, "no warnings, no progress"},
            {"--verbose", CLI_FLAG, &c->verbose, NULL, "all messages, and complete compiler logs"},
            {NULL, CLI_FLAG, NULL, NULL, NULL},
        };
        add_options(table, options);
    }
}

/* ------------------------------------------------------------------ help */

static void print_options(const char *title, const cli_option *options, int count)
{
    if (count == 0)
        return;
    printf("\n%s:\n", title);
    for (int i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", options[i].name, options[i].argument ? " " : "",
                 options[i].argument ? options[i].argument : "");
        printf("  %-24s %s\n", left, options[i].help);
    }
}

static void print_help(const cli_command *command, const struct option_table *table)
{
    printf("usage: xq %s%s%s [options]\n\n%s\n", command->name, command->arguments ? " " : "",
           command->arguments ? command->arguments : "", cli_summary(command->name));
    if (command->description)
        printf("\n%s\n", command->description);
    const cli_option *o = table->options;
    print_options("options", o, table->own);
    print_options("the spec", o + table->own, table->spec);
    print_options("common", o + table->own + table->spec, table->count - table->own - table->spec);
}

/* --------------------------------------------------------------- parsing */

void cli_list_free(struct cli_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->items[i]);
    list->count = 0;
}

static bool add_to_list(struct cli_list *list, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, ",");
        if (length > 0) {
            if (list->count == (int)(sizeof list->items / sizeof list->items[0]))
                return false;
            char *item = strndup(text, length);
            if (!item)
                return false;
            list->items[list->count++] = item;
        }
        text += length + (text[length] == ',');
    }
    return true;
}

/* Stores an option's argument; false when it is not of the option's type. */
static bool store(const cli_option *option, const char *text)
{
    char *end;
    errno = 0;
    switch (option->type) {
    case CLI_FLAG:
        *(bool *)option->value = true;
        return true;
    case CLI_STRING:
        *(const char **)option->value = text;
        return true;
    case CLI_INT: {
        long long value = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return false;
        *(int64_t *)option->value = value;
        return true;
    }
    case CLI_NUMBER: {
        double value = strtod(text, &end);
        if (end == text || *end || errno)
            return false;
        *(double *)option->value = value;
        return true;
    }
    case CLI_LIST:
        return *text && add_to_list(option->value, text);
    }
    return false;
}

static const char *type_name(enum cli_option_type type)
{
    static const char *const names[] = {"nothing", "a text", "an integer", "a number",
                                        "up to 32 comma-separated items"};
    return names[type];
}

static int unknown_option(const cli_command *command, const struct option_table *table, const char *given,
                          size_t length)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)length, given);
    const char *nearest = cli_nearest(name, table->options, sizeof table->options[0], table->count);
    if (nearest)
        return cli_usage(command->name, "unknown option '%s'; did you mean '%s'?", name, nearest);
    return cli_usage(command->name, "unknown option '%s'; `xq %s --help` lists those there are", name,
                     command->name);
}

/* One option at argv[*i]; moves *i over a separate argument. Returns CLI_OK or CLI_USAGE. */
static int parse_option(const cli_command *command, const struct option_table *table, int argc, char **argv,
                        int *i)
{
    const char *given = argv[*i];
    size_t length = strcspn(given, "=");
    const cli_option *option = NULL;
    for (int k = 0; k < table->count; k++)
        if (strlen(table->options[k].name) == length && strncmp(table->options[k].name, given, length) == 0)
            option = &table->options[k];
    if (!option)
        return unknown_option(command, table, given, length);

    const char *text = given[length] == '=' ? given + length + 1 : NULL;
    if (option->type == CLI_FLAG) {
        if (text)
            return cli_usage(command->name, "%s takes no argument", option->name);
    } else if (!text) {
        if (*i + 1 >= argc)
            return cli_usage(command->name, "%s needs an argument: %s", option->name, option->argument);
        text = argv[++*i];
    }
    if (!store(option, text))
        return cli_usage(command->name, "%s: '%s' is not %s", option->name, text, type_name(option->type));
    return CLI_OK;
}

bool cli_parse(cli_command *command, int argc, char **argv, int *status)
{
    struct option_table table;
    collect(command, &table);
    command->positional_count = 0;
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
            int limit = (int)(sizeof command->positional / sizeof command->positional[0]);
            if (command->positional_count >= command->positional_max ||
                command->positional_count >= limit) {
                *status = cli_usage(command->name, "unexpected argument '%s'; usage: xq %s%s%s [options]",
                                    given, command->name, command->arguments ? " " : "",
                                    command->arguments ? command->arguments : "");
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
    return true;
}

/* ------------------------------------------------------------ suggestions */

/* Edit distance (insertions, deletions, substitutions), of names up to 63 bytes. */
static int distance(const char *a, const char *b)
{
    int row[64];
    int n = (int)strlen(b);
    if (n > 63 || strlen(a) > 63)
        return 1000;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *given, const void *names, size_t stride, int count)
{
    const char *nearest = NULL;
    int best = 1 + (int)strlen(given) / 3; /* farther than this is no typing mistake */
    for (int i = 0; i < count; i++) {
        const char *name = *(const char *const *)((const char *)names + (size_t)i * stride);
        int d = distance(given, name);
        if (d <= best) {
            best = d - 1;
            nearest = name;
        }
    }
    return nearest;
}
