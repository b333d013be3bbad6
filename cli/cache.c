/* xq cache: looks after the kernel cache. */
#include "../runtime/cache.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_warning(void *user, xq_log_level level, const char *message)
{
    (void)user;
    if (level != XQ_LOG_WARNING)
        return;
    cli_progress_pause();
    fprintf(stderr, "xq cache: warning: %s\n", message);
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
            printf("%s  %-12s %-10s %8.1f KiB  %s%s\n", items[i].key, items[i].name, items[i].arch,
                   (double)items[i].bytes / 1024, created, items[i].damaged ? "  damaged" : "");
        total += items[i].bytes;
        damaged += items[i].damaged;
    }
    printf("%d kernel%s, %.1f MiB in %s", count, count == 1 ? "" : "s", (double)total / (1 << 20),
           cache_dir(c));
    if (checked)
        printf(": %d damaged", damaged);
    putchar('\n');
}

/* list and verify. */
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
    if (err.status != XQ_OK)
        return cli_fail("cache", common, &err);
    cJSON *json = items_json(c, items, count, check);
    if (!cli_json_to_stdout(common))
        print_items(c, items, count, check);
    if (cli_write_json(common, json, &err) != XQ_OK)
        status = cli_fail("cache", common, &err);
    for (int i = 0; i < count && status == CLI_OK; i++)
        if (items[i].damaged) {
            fprintf(stderr, "xq cache: there are damaged entries; they are rebuilt when next used, or "
                            "`xq cache clear` removes them\n");
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
        printf("removed %d kernel%s from %s\n", removed, removed == 1 ? "" : "s", cache_dir(c));
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "removed", removed);
    int status = cli_write_json(common, json, &err) == XQ_OK ? CLI_OK : cli_fail("cache", common, &err);
    cJSON_Delete(json);
    error_clear(&err);
    return status;
}

int cli_cache(int argc, char **argv)
{
    struct cli_common common = {0};
    cli_command command = {
        .name = "cache",
        .arguments = "list|verify|clear",
        .description = "list    the kernels there are, with their size and age\n"
                       "verify  checks every file of every entry; exit status 1 where one is damaged\n"
                       "clear   removes all of them; they are compiled again when needed",
        .common = &common,
        .positional_min = 1,
        .positional_max = 1,
    };
    int status;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    const char *action = command.positional[0];
    static const char *const actions[] = {"list", "verify", "clear"};
    if (strcmp(action, "list") != 0 && strcmp(action, "verify") != 0 && strcmp(action, "clear") != 0) {
        const char *nearest = cli_nearest(action, actions, sizeof actions[0], 3);
        return cli_usage("cache", "'%s' is none of list, verify, clear%s%s%s", action,
                         nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    }
    logger log = {common.quiet ? NULL : print_warning, NULL};
    cache *c = cache_open(common.cache_dir, &log);
    if (!c) {
        fprintf(stderr, "xq cache: out of memory\n");
        return CLI_BAD_INPUT;
    }
    if (!*cache_dir(c))
        status = cli_usage("cache", "there is no cache folder: set --cache-dir, XQ_CACHE_DIR or HOME");
    else if (strcmp(action, "clear") == 0)
        status = clear(c, &common);
    else
        status = show(c, &common, strcmp(action, "verify") == 0);
    cache_close(c);
    return status;
}
