/* xq cache: manages the kernel cache. */
#include "../runtime/launch/plan.h"
#include "cache_export.h"
#include "layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_log_line(void *user, xq_log_level level, const char *message)
{
    const struct cli_common *common = user;
    if (level != XQ_LOG_WARNING && !common->verbose)
        return;
    cli_progress_pause();
    fprintf(stderr, "xq cache: %s%s\n", level == XQ_LOG_WARNING ? "warning: " : "", message);
    cli_progress_resume();
}

static cJSON *items_json(const cache *c, const cache_item *items, int count, bool checked)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "cache_dir", cache_dir(c));
    cJSON *entries = cJSON_AddArrayToObject(root, "entries");
    for (int i = 0; i < count; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "key", items[i].key);
        cJSON_AddStringToObject(o, "kernel", items[i].name);
        cJSON_AddStringToObject(o, "arch", items[i].arch);
        cJSON_AddNumberToObject(o, "bytes", (double)items[i].bytes);
        cJSON_AddNumberToObject(o, "created", (double)items[i].created);
        cJSON_AddNumberToObject(o, "used", (double)items[i].used);
        if (checked)
            cJSON_AddBoolToObject(o, "damaged", items[i].damaged);
        cJSON_AddItemToArray(entries, o);
    }
    return root;
}

static void print_items(const cache *c, const cache_item *items, int count, bool checked)
{
    size_t total = 0;
    int damaged = 0;
    for (int i = 0; i < count; i++) {
        char created[32] = "";
        struct tm time;
        if (localtime_r(&items[i].created, &time))
            strftime(created, sizeof created, "%Y-%m-%d %H:%M", &time);
        if (!checked || items[i].damaged)
            printf("%s  %-12s %-10s %8.1f KiB  %s%s\n", cli_show(items[i].key).text,
                   cli_show(items[i].name).text, cli_show(items[i].arch).text,
                   (double)items[i].bytes / 1024, created, items[i].damaged ? "  damaged" : "");
        total += items[i].bytes;
        damaged += items[i].damaged;
    }
    printf("%d kernel%s, %.1f MiB in %s", count, count == 1 ? "" : "s", (double)total / (1 << 20),
           cli_show(cache_dir(c)).text);
    if (checked)
        printf(": %d damaged", damaged);
    putchar('\n');
}

/* Runs the action list, or verify where `check` is set. */
static int show(const cache *c, const struct cli_common *common, bool check)
{
    cache_item *items = NULL;
    int count = 0, status = CLI_OK;
    error err = ERROR_INIT;
    struct cli_progress progress;
    cli_progress_begin(&progress, common, check ? "checking" : "listing");
    cli_progress_update(&progress, 0, cache_dir(c));
    cache_list(c, check, &items, &count, &err);
    cli_progress_end(&progress);
    if (err.status != XQ_OK) {
        status = cli_fail("cache", common, &err);
        error_clear(&err);
        return status;
    }
    cJSON *json = items_json(c, items, count, check);
    if (!cli_json_to_stdout(common))
        print_items(c, items, count, check);
    if (cli_write_json(common, json, &err) != XQ_OK)
        status = cli_fail("cache", common, &err);
    for (int i = 0; i < count && status == CLI_OK; i++)
        if (items[i].damaged) {
            fprintf(stderr,
                    "xq cache: some entries are damaged. In a cache they are compiled again when they are "
                    "next used, and `xq cache clear` removes them. Export a damaged store again\n");
            status = CLI_BAD_INPUT;
        }
    cJSON_Delete(json);
    free(items);
    error_clear(&err);
    return status;
}

static int clear(const cache *c, const struct cli_common *common)
{
    int removed = 0;
    error err = ERROR_INIT;
    struct cli_progress progress;
    cli_progress_begin(&progress, common, "clearing");
    cli_progress_update(&progress, 0, cache_dir(c));
    cache_clear(c, NULL, &removed, &err);
    cli_progress_end(&progress);
    if (err.status != XQ_OK) {
        int status = cli_fail("cache", common, &err);
        error_clear(&err);
        return status;
    }
    if (!common->quiet && !cli_json_to_stdout(common))
        printf("removed %d kernel%s from %s\n", removed, removed == 1 ? "" : "s",
               cli_show(cache_dir(c)).text);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "removed", removed);
    int status = cli_write_json(common, json, &err) == XQ_OK ? CLI_OK : cli_fail("cache", common, &err);
    cJSON_Delete(json);
    error_clear(&err);
    return status;
}

/* ---------------------------------------------------------------- pruning */

struct prune_options {
    const char *older_than, *larger_than;
};

enum { MOST_DAYS = 36500 };
#define MOST_BYTES 9223372036854775808.0 /* 8388608T */

/* Returns CLI_OK, or the exit status of an error that it has reported. */
static int read_days(const char *text, cache_limits *limits)
{
    const char *rest;
    if (!cli_read_number(text, &limits->most_seconds, &rest) || *rest || !(limits->most_seconds >= 0) ||
        limits->most_seconds > MOST_DAYS)
        return cli_bad_input(
            "cache", "--older-than: '%s' is no number of days; valid: 0 to %d, for example 30 or 0.5", text,
            MOST_DAYS);
    limits->by_age = true;
    limits->most_seconds *= 24 * 3600;
    return CLI_OK;
}

static int read_size(const char *text, cache_limits *limits)
{
    static const char units[] = "KMGT";
    const char *rest;
    bool good = cli_read_number(text, &limits->most_bytes, &rest);
    const char *unit = good && *rest ? strchr(units, *rest) : NULL;
    limits->most_bytes *= unit ? exp2(10.0 * (double)(unit - units + 1)) : 1;
    if (!good || (*rest && (!unit || rest[1])) || !(limits->most_bytes >= 0) ||
        limits->most_bytes > MOST_BYTES)
        return cli_bad_input("cache",
                             "--larger-than: '%s' is no size; valid: 0 to 8388608T, in bytes or with K, M, "
                             "G or T, for example 500M",
                             text);
    limits->by_size = true;
    return CLI_OK;
}

static int read_limits(const struct prune_options *o, cache_limits *limits)
{
    int status = o->older_than ? read_days(o->older_than, limits) : CLI_OK;
    return status == CLI_OK && o->larger_than ? read_size(o->larger_than, limits) : status;
}

static int prune(const cache *c, const struct cli_common *common, const cache_limits *limits)
{
    cache_pruned done;
    error err = ERROR_INIT;
    if (cache_prune(c, limits, &done, &err) != XQ_OK) {
        int status = cli_fail("cache", common, &err);
        error_clear(&err);
        return status;
    }
    if (!common->quiet && !cli_json_to_stdout(common))
        printf("removed %d kernel%s, %.1f MiB, from %s; %.1f MiB remain\n", done.removed,
               done.removed == 1 ? "" : "s", (double)done.bytes_removed / (1 << 20),
               cli_show(cache_dir(c)).text, (double)done.bytes_left / (1 << 20));
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "removed", done.removed);
    cJSON_AddNumberToObject(json, "removed_bytes", (double)done.bytes_removed);
    cJSON_AddNumberToObject(json, "left_bytes", (double)done.bytes_left);
    cJSON_AddNumberToObject(json, "leftovers", done.leftovers);
    int status = cli_write_json(common, json, &err) == XQ_OK ? CLI_OK : cli_fail("cache", common, &err);
    cJSON_Delete(json);
    error_clear(&err);
    return status;
}

/* ---------------------------------------------------------------- command */

enum action { LIST, VERIFY, EXPORT, PRUNE, CLEAR, ACTIONS };

static int find_action(const char *given, enum action *out)
{
    static const char *const names[ACTIONS] = {"list", "verify", "export", "prune", "clear"};
    for (int i = 0; i < ACTIONS; i++)
        if (strcmp(given, names[i]) == 0) {
            *out = (enum action)i;
            return CLI_OK;
        }
    const char *nearest = cli_nearest(given, names, sizeof names[0], ACTIONS);
    return cli_usage("cache", "'%s' is not known; valid: list, verify, export, prune, clear%s%s%s", given,
                     nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* Whether every action takes this option. */
static bool is_for_all(const char *option)
{
    static const char *const names[] = {"--cache-dir", "--json", "--quiet", "--verbose"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(option, names[i]) == 0)
            return true;
    return false;
}

static bool is_for_prune(const char *option)
{
    return strcmp(option, "--older-than") == 0 || strcmp(option, "--larger-than") == 0;
}

static int check_options(const cli_command *command, const struct prune_options *prune,
                         const struct export_options *export, enum action action, cache_limits *limits)
{
    if (action != EXPORT && command->positional_count > 1)
        return cli_usage("cache", "unexpected argument '%s'; only export takes KEYs",
                         command->positional[1]);
    for (int i = 0; i < command->given_count; i++) {
        const char *given = command->given[i];
        enum action only = is_for_prune(given) ? PRUNE : EXPORT;
        if (!is_for_all(given) && action != only)
            return cli_usage("cache", "%s: only %s takes it; leave it out", given,
                             only == PRUNE ? "prune" : "export");
    }
    if (action == PRUNE && !prune->older_than && !prune->larger_than)
        return cli_usage("cache", "prune needs --older-than DAYS, --larger-than SIZE, or both");
    if (action == EXPORT)
        return export_check(command, export);
    return read_limits(prune, limits);
}

static int act(cache *c, const cli_command *command, const struct export_options *export,
               enum action action, const cache_limits *limits)
{
    const struct cli_common *common = command->common;
    error err = ERROR_INIT;
    if (action == EXPORT && cli_names_model(&export->spec))
        return export_run(c, command, export); /* compiling for a model needs no cache */
    if (!*cache_dir(c))
        return cli_usage("cache", "there is no cache folder; set --cache-dir, XQ_CACHE_DIR or HOME");
    if (action == EXPORT)
        return export_run(c, command, export);
    if (cli_begin_json(common, &err) != XQ_OK) {
        int status = cli_fail("cache", common, &err);
        error_clear(&err);
        return status;
    }
    if (action == CLEAR)
        return clear(c, common);
    if (action == PRUNE)
        return prune(c, common, limits);
    return show(c, common, action == VERIFY);
}

const char cli_cache_summary[] = "list, verify, export, prune or clear compiled kernels";

static const char description[] =
    "list    lists the kernels, with their size and age\n"
    "verify  checks every file of every entry; the exit status is 1 if one is damaged\n"
    "export  fills the folder of --to, a kernel store that ships with a program (docs/kernel-cache.md).\n"
    "        Without a model it copies entries of the cache: all of them, or those that KEYs (or their\n"
    "        beginnings), --family and --arch select. With --model or --spec it compiles exactly what\n"
    "        plans of that spec need, on --device, or on GPUs of --arch, which need not be here\n"
    "prune   removes some kernels: --older-than DAYS, --larger-than SIZE, or both\n"
    "clear   removes all kernels; they are compiled again when they are needed\n\n"
    "--cache-dir DIR takes a store as well as a cache.";

static int run(cli_command *command, const struct prune_options *prune, const struct export_options *export)
{
    enum action action = LIST;
    cache_limits limits = {0};
    int status = find_action(command->positional[0], &action);
    if (status == CLI_OK)
        status = check_options(command, prune, export, action, &limits);
    if (status != CLI_OK)
        return status;
    logger log = {command->common->quiet ? NULL : print_log_line, command->common};
    cache *c = cache_open(command->common->cache_dir, &log);
    if (!c) {
        fprintf(stderr, "xq cache: out of memory\n");
        return CLI_BAD_INPUT;
    }
    status = act(c, command, export, action, &limits);
    cache_close(c);
    return status;
}

int cli_cache(int argc, char **argv)
{
    struct prune_options prune = {0};
    struct export_options export = {
        .base_layer = CLI_BASE_LAYER, .max_batch = 1, .max_tokens = 4096, .max_queries = 1};
    const cli_option options[] = {
        {"--to", CLI_STRING, &export.to, "DIR", "export: folder of the store, made if it is missing"},
        {"--arch", CLI_LIST, &export.archs, "ARCH[,ARCH]",
         "GPU architectures to export for: sm_80, sm_86, sm_90a, sm_100, sm_120, …"},
        {"--family", CLI_LIST, &export.families, "NAME[,NAME]",
         "kernels to export, without a model: attend, append, …"},
        {"--bits", CLI_LIST, &export.bits, "N[,N]",
         "bit widths to export, each with plans of its own: 2, 3, 4, 8 (4)"},
        {"--base-layer", CLI_INT, &export.base_layer, "N",
         "export: cross-layer: the layer that starts the accumulator (2)"},
        {"--fused", CLI_FLAG, &export.fused, NULL, "export: add plans of the fused kernels (default)"},
        {"--unfused", CLI_FLAG, &export.unfused, NULL, "export: add plans of the unfused kernels"},
        {"--fp16-kv", CLI_FLAG, &export.fp16_kv, NULL, "export: add plans of the fp16 cache"},
        {"--fp8-kv", CLI_FLAG, &export.fp8_kv, NULL, "export: add plans of the fp8 cache"},
        {"--checked", CLI_FLAG, &export.checked, NULL, "export: make plans that check their calls"},
        {"--max-batch", CLI_INT, &export.max_batch, "N", "export: max_batch of the plans (1)"},
        {"--max-tokens", CLI_INT, &export.max_tokens, "N", "export: max_tokens of the plans (4096)"},
        {"--max-queries", CLI_INT, &export.max_queries, "N",
         "export: max_queries of the plans; above 1, kernels for one query and for many (1)"},
        {"--older-than", CLI_STRING, &prune.older_than, "DAYS",
         "prune: age of the kernels to remove, in days since their last use"},
        {"--larger-than", CLI_STRING, &prune.larger_than, "SIZE",
         "prune: size to keep, for example 500M; kernels whose last use is longest ago go first"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    struct cli_common common = {0};
    cli_command command = {
        .name = "cache",
        .summary = cli_cache_summary,
        .arguments = "list|verify|export|prune|clear [KEY...]",
        .description = description,
        .options = options,
        .bounds = (const cli_bounds[]){{"--base-layer", 0, LAYER_MOST_LAYERS - 1},
                                       {"--max-batch", 1, PLAN_MOST_BLOCKS},
                                       {"--max-tokens", 1, PLAN_MOST_TOKENS},
                                       {"--max-queries", 1, PLAN_MOST_QUERIES},
                                       {NULL, 0, 0}},
        .common = &common,
        .spec = &export.spec,
        .unused = (const cli_unused[]){{"--seed", "nothing is random here"},
                                       {"--kernels", "--cache-dir DIR takes a store too"},
                                       {"--no-compile", "export compiles the kernels of a model"},
                                       {"--base", "--base-layer names the layer"},
                                       {NULL, NULL}},
        .positional_min = 1,
        .positional_max = CLI_MOST_ARGUMENTS,
    };
    int status;
    if (cli_parse(&command, argc, argv, &status))
        status = run(&command, &prune, &export);
    cli_list_free(&export.archs);
    cli_list_free(&export.families);
    cli_list_free(&export.bits);
    return status;
}
