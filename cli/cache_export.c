#include "cache_export.h"
#include "../runtime/launch/last_error.h"
#include "../runtime/plan/absent.h"
#include "../runtime/plan/create.h"
#include "../runtime/plan/user_tables.h"
#include "plans.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An export in progress. */
struct export
{
    const cli_command *command;
    const struct export_options *o;
    cache *store;
    const char *cache_dir; /* compiled kernels are kept here: in the cache, or else in the store */
    cJSON *keys;           /* keys of the kernels that are in the store now */
    int copied, were_there;
    double bytes; /* of the copied kernels */
    struct cli_plan_choice choice;
    struct cli_progress progress;
};

/* -------------------------------------------------------------------- usage */

static int check_copy(const cli_command *command)
{
    static const char *const of_plans[] = {"--fused",   "--unfused",   "--fp16-kv",    "--fp8-kv",
                                           "--checked", "--max-batch", "--max-tokens", "--max-queries",
                                           "--device",  "--templates", "--bits",       "--base-layer"};
    for (size_t i = 0; i < sizeof of_plans / sizeof of_plans[0]; i++)
        if (cli_given(command, of_plans[i]))
            return cli_usage("cache", "%s: has no effect without --model or --spec; leave it out",
                             of_plans[i]);
    for (int i = 0; i < command->given_count; i++)
        if (command->given_of_spec[i])
            return cli_usage("cache", "%s: has no effect without --model or --spec; leave it out",
                             command->given[i]);
    return CLI_OK;
}

static int check_plans(const cli_command *command, const struct export_options *o)
{
    if (command->positional_count > 1)
        return cli_usage("cache", "'%s': a KEY has no effect with --model or --spec; leave it out",
                         command->positional[1]);
    if (o->families.count)
        return cli_usage("cache", "--family: has no effect with --model or --spec, whose plans need all "
                                  "their families; leave it out");
    if (cli_spec_sets(&o->spec, "arch"))
        return cli_usage("cache", "--set arch: has no effect on export; give --arch");
    if (cli_excludes_set(command, "--bits", "cache.bits") != CLI_OK)
        return CLI_USAGE;
    if (o->archs.count && cli_given(command, "--device"))
        return cli_usage("cache", "--device: has no effect with --arch; leave it out");
    if (!o->archs.count && !cli_given(command, "--device"))
        return cli_usage("cache", "export needs --arch ARCH[,ARCH], for GPUs that need not be here, or "
                                  "--device, for a GPU of this machine or the software device");
    return CLI_OK;
}

int export_check(const cli_command *command, const struct export_options *o)
{
    if (!o->to)
        return cli_usage("cache", "export needs --to DIR");
    if (cli_needs_folder(command, "--to", o->to, "") != CLI_OK)
        return CLI_BAD_INPUT;
    if (strchr(o->to, ':'))
        return cli_bad_input(
            "cache",
            "--to: '%s' has a colon, which separates the stores in XQ_KERNELS; give a DIR without one",
            o->to);
    if (cli_names_model(&o->spec))
        return check_plans(command, o);
    return check_copy(command);
}

/* ------------------------------------------------------------------ entries */

static xq_status note(struct export *e, const char *key, double bytes, bool was_there, error *err)
{
    if (err->status != XQ_OK)
        return err->status;
    const cJSON *known;
    cJSON_ArrayForEach(known, e->keys)
    {
        if (strcmp(known->valuestring, key) == 0)
            return XQ_OK; /* plans share kernels */
    }
    cJSON_AddItemToArray(e->keys, cJSON_CreateString(key));
    e->copied += !was_there;
    e->were_there += was_there;
    e->bytes += was_there ? 0 : bytes;
    return XQ_OK;
}

/* An error of writing the store names --to, the option that chose it. */
static void name_store(error *err)
{
    if (err->status == XQ_ERROR_IO)
        error_field(err, "--to");
}

static double bytes_of(const cache_entry *entry)
{
    double bytes = 0;
    for (int i = 0; i < CACHE_PARTS; i++)
        bytes += (double)entry->parts[i].bytes;
    return bytes;
}

/* ---------------------------------------------------------- entries of the cache */

static bool in_list(const struct cli_list *list, const char *text)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

/* A key on the command line may be the beginning of an entry's key. */
static bool begins(const cache_item *item, const char *key)
{
    return strncmp(item->key, key, strlen(key)) == 0;
}

static bool is_chosen(const struct export *e, const cache_item *item)
{
    const cli_command *command = e->command;
    bool named = command->positional_count == 1;
    for (int i = 1; i < command->positional_count; i++)
        named = named || begins(item, command->positional[i]);
    return named && (!e->o->families.count || in_list(&e->o->families, item->name)) &&
           (!e->o->archs.count || in_list(&e->o->archs, item->arch));
}

/* Checks that every name on the command line matches an entry, and that no chosen entry is damaged. */
static xq_status check_items(const struct export *e, const cache *c, const cache_item *items, int count,
                             error *err)
{
    const struct cli_list *lists[] = {&e->o->families, &e->o->archs};
    int chosen = 0;
    for (int i = 1; i < e->command->positional_count && err->status == XQ_OK; i++) {
        bool found = false;
        for (int k = 0; k < count; k++)
            found = found || begins(&items[k], e->command->positional[i]);
        if (!found)
            error_set(err, XQ_ERROR_SPEC, "argument", "%s: no entry of %s has a key that begins with it",
                      e->command->positional[i], cache_dir(c));
    }
    for (int list = 0; list < 2; list++)
        for (int i = 0; i < lists[list]->count && err->status == XQ_OK; i++) {
            bool found = false;
            for (int k = 0; k < count; k++)
                found = found || strcmp(list ? items[k].arch : items[k].name, lists[list]->items[i]) == 0;
            if (!found)
                error_set(err, XQ_ERROR_SPEC, "argument",
                          "%s: %s has no entry for %s; `xq cache list` lists its kernels",
                          list ? "--arch" : "--family", cache_dir(c), lists[list]->items[i]);
        }
    for (int i = 0; i < count && err->status == XQ_OK; i++) {
        chosen += is_chosen(e, &items[i]);
        if (is_chosen(e, &items[i]) && items[i].damaged)
            error_set(err, XQ_ERROR_FORMAT, "cache",
                      "entry %s of %s is damaged, and nothing was exported; remove it with `xq cache "
                      "clear`, or name the other entries",
                      items[i].key, cache_dir(c));
    }
    if (err->status == XQ_OK && chosen == 0)
        error_set(err, XQ_ERROR_SPEC, "argument",
                  "%s has no such kernels; `xq cache list` lists its kernels", cache_dir(c));
    return err->status;
}

static xq_status copy_entry(struct export *e, const cache *c, const char *key, error *err)
{
    cache_entry entry;
    bool was_there = false;
    if (!cache_get(c, key, &entry))
        return error_set(err, XQ_ERROR_FORMAT, "cache", "entry %s of %s was removed or damaged meanwhile",
                         key, cache_dir(c));
    cache_put(e->store, key, &entry, &was_there, err);
    name_store(err);
    note(e, key, bytes_of(&entry), was_there, err);
    cache_entry_free(&entry);
    return err->status;
}

static xq_status copy_all(struct export *e, const cache *c, error *err)
{
    cache_item *items = NULL;
    int count = 0;
    cli_progress_update(&e->progress, 0, cache_dir(c));
    if (cache_list(c, true, &items, &count, err) == XQ_OK)
        check_items(e, c, items, count, err);
    for (int i = 0; i < count && err->status == XQ_OK; i++)
        if (is_chosen(e, &items[i]))
            copy_entry(e, c, items[i].key, err);
    free(items);
    return err->status;
}

/* -------------------------------------------------------------------- plans */

static xq_status put_kernel(void *user, const kernel_build *built, error *err)
{
    struct export *e = user;
    const compiled *c = &built->compiled;
    bool was_there = false;
    compiled_put(c, e->store, &was_there, err);
    name_store(err);
    if (e->cache_dir == e->o->to)
        was_there = c->cached;
    double bytes = (double)(strlen(c->source) + strlen(c->options) + strlen(c->log) + strlen(c->ptx)) +
                   (double)c->cubin_bytes;
    return note(e, c->key.name, bytes, was_there, err);
}

static xq_status export_plan(struct export *e, xq_context *context, const char *spec,
                             xq_implementation implementation, error *err)
{
    const struct export_options *o = e->o;
    xq_plan_options plan = XQ_PLAN_OPTIONS_INIT;
    plan.spec_json = spec;
    plan.implementation = implementation;
    plan.max_batch = (int32_t)o->max_batch;
    plan.max_tokens = o->max_tokens;
    plan.max_queries = o->max_queries;
    plan.checked = o->checked;
    return plan_visit_kernels(context, &plan, put_kernel, e, err);
}

static xq_status export_plans(struct export *e, xq_context *context, const char *spec, error *err)
{
    for (int i = 0; i < SHAPE_IMPLEMENTATIONS && err->status == XQ_OK; i++)
        if (e->choice.implementations[i])
            export_plan(e, context, spec, (xq_implementation)i, err);
    return err->status;
}

static xq_status export_for_gpu(struct export *e, const char *arch, const cJSON *gpu, const char *spec,
                                error *err)
{
    const struct cli_common *common = e->command->common;
    const absent_gpu absent = {.arch = arch,
                               .name = cJSON_GetStringValue(cJSON_GetObjectItem(gpu, "name")),
                               .multiprocessors =
                                   (int)cJSON_GetNumberValue(cJSON_GetObjectItem(gpu, "multiprocessors"))};
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    cli_context_options("cache", common, &options);
    options.kernels = ""; /* so that this NVRTC compiles everything that is exported */
    options.cache_dir = e->cache_dir;
    cli_progress_update(&e->progress, 0, absent.name);
    if (absent_context(&options, &absent, &context, err) == XQ_OK)
        export_plans(e, context, spec, err);
    xq_context_destroy(context);
    return err->status;
}

/* Exports for every GPU of an architecture for which the tables may give different parameters. */
static xq_status export_for_arch(struct export *e, gen *g, const char *arch, const char *spec, error *err)
{
    char *json = NULL, *chosen = NULL, *completed = NULL;
    cJSON *overrides = cJSON_CreateObject(), *gpus = NULL;
    const cJSON *gpu;
    if (cli_override(overrides, "arch", cJSON_CreateString(arch), err) != XQ_OK)
        cJSON_Delete(overrides);
    else if (cli_spec_override(g, spec, overrides, &chosen, err) == XQ_OK &&
             gen_complete(g, chosen, &completed, err) == XQ_OK &&
             gen_list_gpus(g, arch, &json, err) == XQ_OK)
        gpus = cJSON_Parse(json);
    cJSON_ArrayForEach(gpu, gpus)
    {
        if (err->status == XQ_OK)
            export_for_gpu(e, arch, gpu, chosen, err);
    }
    cJSON_Delete(gpus);
    free(json);
    free(chosen);
    free(completed);
    return err->status;
}

static xq_status export_for_archs(struct export *e, gen *g, const char *spec, error *err)
{
    const struct cli_list *archs = &e->o->archs;
    for (int i = 0; i < archs->count && err->status == XQ_OK; i++)
        export_for_arch(e, g, archs->items[i], spec, err);
    return err->status;
}

static xq_status export_for_device(struct export *e, const char *spec, error *err)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    cli_context_options("cache", e->command->common, &options);
    options.kernels = "";
    options.cache_dir = e->cache_dir;
    xq_status status = xq_context_create(&options, &context);
    if (status == XQ_OK)
        export_plans(e, context, spec, err);
    else
        last_error_read(context, status, err);
    xq_context_destroy(context);
    return err->status;
}

/* Reads which plans the options ask for; without a named implementation they are fused plans. */
static void read_choice(struct export *e)
{
    const struct export_options *o = e->o;
    e->choice = (struct cli_plan_choice){
        .spec = &o->spec,
        .bits = &o->bits,
        .base_layer = o->base_layer,
        .base_given = cli_given(e->command, "--base-layer"),
        .implementations = {[XQ_FUSED] = o->fused || (!o->unfused && !o->fp16_kv && !o->fp8_kv),
                            [XQ_UNFUSED] = o->unfused,
                            [XQ_FP16_KV] = o->fp16_kv,
                            [XQ_FP8_KV] = o->fp8_kv},
    };
}

/* Exports the plans of every kind of layer. */
static xq_status export_model(struct export *e, error *err)
{
    const struct cli_common *common = e->command->common;
    struct cli_plans *plans = calloc(1, sizeof *plans);
    gen *g = NULL;
    read_choice(e);
    if (!plans)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
    else if (gen_create(common->templates, &g, err) == XQ_OK && user_tables_add(g, NULL, err) == XQ_OK)
        cli_plans_find(g, &e->choice, common, plans, err);
    for (int i = 0; plans && i < plans->count && err->status == XQ_OK; i++)
        if (e->o->archs.count)
            export_for_archs(e, g, plans->plans[i].spec, err);
        else
            export_for_device(e, plans->plans[i].spec, err);
    gen_destroy(g);
    if (plans)
        cli_plans_free(plans);
    free(plans);
    return err->status;
}

/* ---------------------------------------------------------------------- run */

/* The path that `path` leads to, with links followed as far as the path exists. Returns false where it
 * leads nowhere. */
static bool resolve(const char *path, char out[PATH_MAX])
{
    char copy[PATH_MAX], *at = copy;
    if (snprintf(copy, sizeof copy, "%s", path) >= PATH_MAX)
        return false;
    for (; !realpath(at, out); at = dirname(at))
        if (strcmp(at, ".") == 0)
            return false;
    const char *rest = at == copy ? path + strlen(at) : path;
    size_t length = strlen(out);
    int more = snprintf(out + length, PATH_MAX - length, "/%s", rest + strspn(rest, "/"));
    for (length += (size_t)more; length < PATH_MAX && length > 1 && out[length - 1] == '/'; length--)
        out[length - 1] = 0;
    return length < PATH_MAX;
}

/* Whether `path` is `folder` or lies below it; both are resolved. */
static bool lies_in(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == 0 || path[length] == '/');
}

/* A store that ships must not be part of the cache, and the cache must not be part of the store. */
static xq_status check_apart(const char *kept, const char *store, error *err)
{
    char from[PATH_MAX], to[PATH_MAX], kernels[PATH_MAX + 16];
    if (!*kept || !resolve(kept, from) || !resolve(store, to))
        return XQ_OK;
    snprintf(kernels, sizeof kernels, "%s/kernels", to);
    if (strcmp(from, to) == 0)
        return cli_misuse(err, "--to: %s is the kernel cache itself; give another folder", store);
    if (lies_in(to, from))
        return cli_misuse(err, "--to: %s lies in the kernel cache %s; give a folder outside of it", store,
                          kept);
    if (lies_in(from, kernels))
        return cli_misuse(err, "--to: the kernel cache %s lies in %s/kernels; give another folder", kept,
                          store);
    return XQ_OK;
}

static xq_status open_store(struct export *e, const cache *c, error *err)
{
    if (check_apart(cache_dir(c), e->o->to, err) != XQ_OK)
        return err->status;
    e->cache_dir = *cache_dir(c) ? cache_dir(c) : e->o->to;
    e->store = cache_open(e->o->to, cache_log(c));
    return e->store ? XQ_OK : error_set(err, XQ_ERROR_MEMORY, "cache", "out of memory");
}

static xq_status write_report(struct export *e, error *err)
{
    const struct cli_common *common = e->command->common;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "store", cache_dir(e->store));
    cJSON_AddNumberToObject(root, "exported", e->copied);
    cJSON_AddNumberToObject(root, "exported_bytes", e->bytes);
    cJSON_AddNumberToObject(root, "were_there", e->were_there);
    cJSON_AddItemToObject(root, "keys", e->keys);
    e->keys = NULL;
    if (!common->quiet && !cli_json_to_stdout(common)) {
        printf("exported %d kernel%s, %.1f MiB, to %s", e->copied, e->copied == 1 ? "" : "s",
               e->bytes / (1 << 20), cli_show(cache_dir(e->store)).text);
        if (e->were_there)
            printf("; %d more %s there already", e->were_there, e->were_there == 1 ? "was" : "were");
        putchar('\n');
    }
    cli_write_json(common, root, err);
    cJSON_Delete(root);
    return err->status;
}

int export_run(cache *c, const cli_command *command, const struct export_options *o)
{
    struct export e = {.command = command, .o = o, .keys = cJSON_CreateArray()};
    bool model = cli_names_model(&o->spec);
    error err = ERROR_INIT;
    if (cli_begin_json(command->common, &err) == XQ_OK && open_store(&e, c, &err) == XQ_OK) {
        cli_progress_begin(&e.progress, command->common, "exporting");
        model ? export_model(&e, &err) : copy_all(&e, c, &err);
        cli_progress_end(&e.progress);
    }
    if (err.status == XQ_OK)
        write_report(&e, &err);
    int status = err.status == XQ_OK ? CLI_OK : cli_fail("cache", command->common, &err);
    cJSON_Delete(e.keys);
    cache_close(e.store);
    error_clear(&err);
    return status;
}
