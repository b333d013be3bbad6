/* gen.h: calls into the Lua modules, with JSON texts on the C side. */
#include "../runtime/base/check.h"
#include "gen.h"

#include "../runtime/base/lfs_pointer.h"
#include "json.h"
#include "sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gen {
    source files;
    table_list tables;
    sandbox box;
    char *presets;
    char *tuned_as; /* NULL without a device */
    int header_count;
    const char **header_names;
    const char **header_texts;
    char **header_memory; /* the texts, owned */
};

/* ---------------------------------------------------------------- calls */

enum { MOST_ARGUMENTS = 4, MOST_RESULTS = 2 };

/* One call of a module function. An argument is a parsed JSON value, or a text, or otherwise a number.
 * Results are strings, or tables, which become JSON. */
typedef struct call {
    const char *module, *function;
    int arguments, results, keep_null;
    struct {
        const cJSON *json;
        const char *text;
        int number;
    } argument[MOST_ARGUMENTS];
    char *result[MOST_RESULTS]; /* on the heap */
} call;

static int run_call(lua_State *L)
{
    const call *c = lua_touserdata(L, 1);
    sandbox_require(L, c->module);
    lua_getfield(L, -1, c->function);
    for (int i = 0; i < c->arguments; i++)
        if (c->argument[i].json)
            json_push(L, c->argument[i].json, c->keep_null);
        else if (c->argument[i].text)
            lua_pushstring(L, c->argument[i].text);
        else
            lua_pushinteger(L, c->argument[i].number);
    lua_call(L, c->arguments, c->results);
    for (int i = lua_gettop(L) - c->results + 1; i <= lua_gettop(L); i++)
        if (lua_istable(L, i)) {
            sandbox_require(L, "json");
            lua_getfield(L, -1, "encode");
            lua_pushvalue(L, i);
            lua_call(L, 1, 1);
            lua_replace(L, i);
            lua_pop(L, 1);
        }
    return c->results;
}

static xq_status call_module(gen *g, call *c, error *err)
{
    lua_State *L = g->box.L;
    if (sandbox_run(&g->box, run_call, c, c->results, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < c->results; i++) {
        const char *text = lua_tostring(L, i - c->results);
        c->result[i] = strdup(text ? text : "");
        if (!c->result[i])
            error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    }
    lua_pop(L, c->results);
    if (err->status != XQ_OK)
        for (int i = 0; i < c->results; i++) {
            free(c->result[i]);
            c->result[i] = NULL;
        }
    return err->status;
}

static xq_status missing(error *err, const char *name)
{
    check_not_null(name, NULL, err);
    return err->status;
}

/* ---------------------------------------------------------------- life */

/* A header as NVRTC gets it: the first line makes diagnostics name the file in the repository. */
static char *with_line_directive(const struct embed_file *file)
{
    size_t size = file->size + strlen(file->name) + 16;
    char *text = malloc(size);
    if (text)
        snprintf(text, size, "#line 1 \"%s\"\n%s", file->name, file->text);
    return text;
}

static xq_status collect_headers(gen *g, error *err)
{
    static const char folder[] = "templates/lib/";
    size_t most = g->files.count + 1;
    g->header_names = calloc(most, sizeof *g->header_names);
    g->header_texts = calloc(most, sizeof *g->header_texts);
    g->header_memory = calloc(most, sizeof *g->header_memory);
    if (!g->header_names || !g->header_texts || !g->header_memory)
        return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    for (size_t i = 0; i < g->files.count; i++) {
        const struct embed_file *file = &g->files.files[i];
        if (strncmp(file->name, folder, sizeof folder - 1) != 0)
            continue;
        char *text = with_line_directive(file);
        if (!text)
            return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
        g->header_names[g->header_count] = file->name + sizeof folder - 1;
        g->header_texts[g->header_count] = text;
        g->header_memory[g->header_count++] = text;
    }
    return XQ_OK;
}

/* These must be the first calls of a generator, because other modules read the list of architectures when
 * they are loaded. */
static xq_status know_device(gen *g, const gen_arch *device, error *err)
{
    call arch = {.module = "arch", .function = "know", .arguments = 1, .results = 1};
    call tuned = {.module = "tuned", .function = "know", .arguments = 1};
    cJSON *json = cJSON_CreateObject(), *gpu = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(json, "name", device->name) ||
        !cJSON_AddNumberToObject(json, "shared_bytes", (double)device->shared_bytes) ||
        !cJSON_AddNumberToObject(json, "shared_bytes_sm", (double)device->shared_bytes_sm) ||
        !cJSON_AddNumberToObject(json, "threads_sm", device->threads_sm) ||
        !cJSON_AddNumberToObject(json, "registers_sm", device->registers_sm) ||
        !cJSON_AddStringToObject(gpu, "name", device->gpu ? device->gpu : "") ||
        !cJSON_AddStringToObject(gpu, "arch", device->name) ||
        !cJSON_AddNumberToObject(gpu, "multiprocessors", device->multiprocessors))
        error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    arch.argument[0].json = json;
    tuned.argument[0].json = gpu;
    if (err->status == XQ_OK && call_module(g, &arch, err) == XQ_OK)
        g->tuned_as = arch.result[0];
    if (err->status == XQ_OK && device->gpu)
        call_module(g, &tuned, err);
    cJSON_Delete(json);
    cJSON_Delete(gpu);
    return err->status;
}

static xq_status list_presets(gen *g, error *err)
{
    call c = {.module = "models", .function = "names", .results = 1};
    if (call_module(g, &c, err) == XQ_OK)
        g->presets = c.result[0];
    return err->status;
}

xq_status gen_create_for(const char *template_dir, const gen_arch *device, gen **out, error *err)
{
    gen *g = calloc(1, sizeof *g);
    if (!g)
        return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    if (source_open(&g->files, template_dir, err) == XQ_OK && collect_headers(g, err) == XQ_OK &&
        sandbox_open(&g->box, &g->files, &g->tables, err) == XQ_OK &&
        (!device || know_device(g, device, err) == XQ_OK))
        list_presets(g, err);
    if (err->status == XQ_OK)
        *out = g;
    else
        gen_destroy(g);
    return err->status;
}

xq_status gen_create(const char *template_dir, gen **out, error *err)
{
    return gen_create_for(template_dir, NULL, out, err);
}

const char *gen_tuned_as(const gen *g)
{
    return g->tuned_as;
}

void gen_destroy(gen *g)
{
    if (!g)
        return;
    sandbox_close(&g->box);
    for (int i = 0; i < g->header_count; i++)
        free(g->header_memory[i]);
    free(g->header_memory);
    free(g->header_names);
    free(g->header_texts);
    free(g->presets);
    free(g->tuned_as);
    tables_close(&g->tables);
    source_close(&g->files);
    free(g);
}

/* ---------------------------------------------------------------- specs */

static cJSON *parse_spec(const char *text, error *err)
{
    return json_parse(text, strlen(text), "spec", JSON_STRICT, XQ_ERROR_SPEC, err);
}

/* Makes a call whose first argument is the spec, and which has one result. */
static xq_status call_with_spec(gen *g, const char *spec_json, call *c, char **result, error *err)
{
    cJSON *spec = parse_spec(spec_json, err);
    if (!spec)
        return err->status;
    c->argument[0].json = spec;
    if (call_module(g, c, err) == XQ_OK)
        *result = c->result[0];
    cJSON_Delete(spec);
    return err->status;
}

static bool add_size(cJSON *object, const gen_size *size)
{
    return cJSON_AddNumberToObject(object, "tokens", (double)size->tokens) &&
           cJSON_AddNumberToObject(object, "batch", (double)size->batch) &&
           cJSON_AddNumberToObject(object, "queries", (double)size->queries);
}

/* The options of gen/spec.lua's `complete`. Returns NULL when out of memory. */
static cJSON *completion_json(const gen_completion *how)
{
    cJSON *options = cJSON_CreateObject(), *calls = how->calls.tokens ? cJSON_CreateObject() : NULL;
    cJSON *untuned = how->untuned_count ? cJSON_CreateStringArray(how->untuned, how->untuned_count)
                                        : cJSON_CreateArray();
    bool good = options && untuned && (!how->arch || cJSON_AddStringToObject(options, "arch", how->arch)) &&
                cJSON_AddBoolToObject(options, "anew", how->calls.tokens != 0);
    if (good && calls)
        good = add_size(calls, &how->calls);
    if (good)
        cJSON_AddItemToObject(options, "untuned", untuned);
    if (good && calls)
        cJSON_AddItemToObject(options, "calls", calls);
    if (good)
        return options;
    cJSON_Delete(options);
    cJSON_Delete(calls);
    cJSON_Delete(untuned);
    return NULL;
}

xq_status gen_complete_with(gen *g, const char *spec_json, const gen_completion *how, char **completed,
                            error *err)
{
    if (!spec_json)
        return missing(err, "spec_json");
    cJSON *spec = parse_spec(spec_json, err);
    if (!spec)
        return err->status;
    cJSON *options = completion_json(how);
    call c = {.module = "spec", .function = "complete", .arguments = 2, .results = 1, .keep_null = 1};
    c.argument[0].json = spec;
    c.argument[1].json = options;
    if (!options)
        error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
    else if (call_module(g, &c, err) == XQ_OK)
        *completed = c.result[0];
    cJSON_Delete(options);
    cJSON_Delete(spec);
    return err->status;
}

xq_status gen_complete(gen *g, const char *spec_json, char **completed, error *err)
{
    return gen_complete_with(g, spec_json, &(const gen_completion){0}, completed, err);
}

/* ------------------------------------------------- tables of tuned parameters */

/* Turns a failure of gen/tuned.lua, which checks a table, into a fault of that table's file. */
static xq_status blame_table(const char *name, error *err)
{
    char message[sizeof err->message], field[sizeof err->field];
    if (err->status != XQ_ERROR_SPEC)
        return err->status;
    memcpy(message, err->message, sizeof message);
    memcpy(field, err->field, sizeof field);
    error_clear(err);
    error_set(err, XQ_ERROR_FORMAT, "file", "%s: %s", name, message);
    error_at(err, name, 0);
    return error_field(err, field);
}

/* Returns NULL where the table is refused. */
static cJSON *checked_table(gen *g, const char *name, const char *json, size_t size, error *err)
{
    cJSON *document = json_parse(json, size, name, JSON_STRICT, XQ_ERROR_FORMAT, err);
    if (!document)
        return NULL;
    call c = {.module = "tuned", .function = "check", .arguments = 1};
    c.argument[0].json = document;
    if (call_module(g, &c, err) == XQ_OK)
        return document;
    cJSON_Delete(document);
    blame_table(name, err);
    return NULL;
}

xq_status gen_check_table(gen *g, const char *name, const char *json, size_t size, error *err)
{
    cJSON_Delete(checked_table(g, name, json, size, err));
    return err->status;
}

xq_status gen_add_table(gen *g, const char *name, const char *json, size_t size, error *err)
{
    cJSON *document = checked_table(g, name, json, size, err);
    return document ? tables_add(&g->tables, name, document, err) : err->status;
}

xq_status gen_sizes(gen *g, const char *completed_json, const char *family, const gen_size *largest,
                    int most, char **json, error *err)
{
    cJSON *spec = parse_spec(completed_json, err), *options = cJSON_CreateObject();
    if (spec && !add_size(options, largest))
        error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
    call c = {.module = "tuning", .function = "sizes", .arguments = 4, .results = 1, .keep_null = 1};
    c.argument[0].json = spec;
    c.argument[1].text = family;
    c.argument[2].json = options;
    c.argument[3].number = most;
    if (err->status == XQ_OK && call_module(g, &c, err) == XQ_OK)
        *json = c.result[0];
    cJSON_Delete(options);
    cJSON_Delete(spec);
    return err->status;
}

xq_status gen_ignore_tables(gen *g, error *err)
{
    call c = {.module = "tuned", .function = "ignore"};
    return call_module(g, &c, err);
}

xq_status gen_list_tables(gen *g, const char *arch, char **json, error *err)
{
    call c = {.module = "tuned", .function = "list", .arguments = 1, .results = 1};
    c.argument[0].text = arch;
    if (call_module(g, &c, err) == XQ_OK)
        *json = c.result[0];
    return err->status;
}

xq_status gen_list_gpus(gen *g, const char *arch, char **json, error *err)
{
    call c = {.module = "tuned", .function = "gpus", .arguments = 1, .results = 1};
    c.argument[0].text = arch;
    if (call_module(g, &c, err) == XQ_OK)
        *json = c.result[0];
    return err->status;
}

xq_status gen_take_note(gen *g, char **note, error *err)
{
    call c = {.module = "tuned", .function = "take_note", .results = 1};
    if (call_module(g, &c, err) == XQ_OK)
        *note = c.result[0];
    return err->status;
}

xq_status gen_shape(gen *g, const char *completed_json, gen_hash *out, error *err)
{
    cJSON *spec = parse_spec(completed_json, err);
    if (!spec)
        return err->status;
    call c = {.module = "tuned", .function = "shape", .arguments = 1, .results = 1};
    c.argument[0].json = spec;
    if (call_module(g, &c, err) == XQ_OK) {
        snprintf(out->hex, sizeof out->hex, "%s", c.result[0]);
        free(c.result[0]);
    }
    cJSON_Delete(spec);
    return err->status;
}

/* ---------------------------------------------------------------- more of specs */

xq_status gen_override(gen *g, const gen_overrides *o, char **out, error *err)
{
    if (!o->spec_json || !o->overrides_json)
        return missing(err, o->spec_json ? "overrides_json" : "spec_json");
    const char *origin = o->spec_source ? o->spec_source : "spec";
    call c = {.module = "spec", .function = "override", .results = 1, .keep_null = 1};
    c.arguments = o->model_json ? 3 : 2;
    cJSON *spec = json_parse(o->spec_json, strlen(o->spec_json), origin, JSON_STRICT, XQ_ERROR_SPEC, err),
          *model = NULL, *overrides = NULL;
    if (err->status == XQ_OK)
        overrides = json_parse(o->overrides_json, strlen(o->overrides_json), "overrides", JSON_STRICT,
                               XQ_ERROR_SPEC, err);
    if (err->status == XQ_OK && o->model_json)
        model = json_parse(o->model_json, strlen(o->model_json), "model", JSON_STRICT, XQ_ERROR_SPEC, err);
    c.argument[0].json = spec;
    c.argument[1].json = overrides;
    c.argument[2].json = model;
    if (err->status == XQ_OK && call_module(g, &c, err) == XQ_OK)
        *out = c.result[0];
    cJSON_Delete(spec);
    cJSON_Delete(overrides);
    cJSON_Delete(model);
    return err->status;
}

xq_status gen_model_from_config(gen *g, const char *config_json, const char *origin, char **model,
                                error *err)
{
    if (!config_json)
        return missing(err, "config_json");
    origin = origin ? origin : "config.json";
    if (lfs_pointer_refuse(origin, config_json, strlen(config_json), err) != XQ_OK)
        return err->status;
    cJSON *config = json_parse(config_json, strlen(config_json), origin, JSON_PYTHON, XQ_ERROR_FORMAT, err);
    if (!config)
        return err->status;
    call c = {.module = "config", .function = "read", .arguments = 2, .results = 1, .keep_null = 1};
    c.argument[0].json = config;
    c.argument[1].text = origin;
    if (call_module(g, &c, err) == XQ_OK)
        *model = c.result[0];
    cJSON_Delete(config);
    return err->status;
}

/* With `layer` NULL, the kind of any layer that keeps keys and values. */
static xq_status layer_kind(gen *g, const char *spec_json, const int *layer, char **kind, error *err)
{
    if (!spec_json)
        return missing(err, "spec_json");
    call c = {.module = "spec",
              .function = layer ? "layer_kind" : "any_layer_kind",
              .arguments = layer ? 2 : 1,
              .results = 1,
              .keep_null = 1};
    c.argument[1].number = layer ? *layer : 0;
    return call_with_spec(g, spec_json, &c, kind, err);
}

xq_status gen_layer_kind(gen *g, const char *spec_json, int layer, char **kind, error *err)
{
    return layer_kind(g, spec_json, &layer, kind, err);
}

xq_status gen_any_layer_kind(gen *g, const char *spec_json, char **kind, error *err)
{
    return layer_kind(g, spec_json, NULL, kind, err);
}

const char *gen_presets(gen *g)
{
    return g->presets;
}

xq_status gen_features(gen *g, char **page, error *err)
{
    call c = {.module = "features_page", .function = "text", .results = 1};
    if (call_module(g, &c, err) == XQ_OK)
        *page = c.result[0];
    return err->status;
}

xq_status gen_bundle_text(gen *g, const char *name, const cJSON *json, char **text, error *err)
{
    call c = {.module = "bundle",
              .function = "render",
              .arguments = 2,
              .results = 1,
              .argument = {{.text = name}, {.json = json}}};
    if (call_module(g, &c, err) == XQ_OK)
        *text = c.result[0];
    return err->status;
}

xq_status gen_parameters(gen *g, const char *const *families, int count, const char *spec_json, char **json,
                         error *err)
{
    call c = {.module = "parameters",
              .function = "list",
              .arguments = spec_json ? 2 : 1,
              .results = 1,
              .keep_null = 1};
    cJSON *names = count ? cJSON_CreateStringArray(families, count) : cJSON_CreateArray(), *spec = NULL;
    if (!names)
        error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    else if (spec_json)
        spec = parse_spec(spec_json, err);
    c.argument[0].json = names;
    c.argument[1].json = spec;
    if (err->status == XQ_OK && call_module(g, &c, err) == XQ_OK)
        *json = c.result[0];
    cJSON_Delete(spec);
    cJSON_Delete(names);
    return err->status;
}

xq_status gen_space(gen *g, const char *spec_json, const char *family, char **json, error *err)
{
    if (!spec_json || !family)
        return missing(err, spec_json ? "family" : "spec_json");
    call c = {.module = "space", .function = "list", .arguments = 2, .results = 1, .keep_null = 1};
    c.argument[1].text = family;
    return call_with_spec(g, spec_json, &c, json, err);
}

xq_status gen_draw_tuning(gen *g, const char *spec_json, int seed, char **json, error *err)
{
    if (!spec_json)
        return missing(err, "spec_json");
    call c = {.module = "space", .function = "draw", .arguments = 2, .results = 1, .keep_null = 1};
    c.argument[1].number = seed;
    return call_with_spec(g, spec_json, &c, json, err);
}

xq_status gen_family_source(const gen *g, const char *family, gen_hash *out, error *err)
{
    uint64_t hash;
    if (!source_hash_family(&g->files, family, &hash)) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "family: '%.100s' is not known", family);
        return error_field(err, "family");
    }
    snprintf(out->hex, sizeof out->hex, "%016llx", (unsigned long long)hash);
    return XQ_OK;
}

/* ---------------------------------------------------------------- kernels */

xq_status gen_render(gen *g, const char *completed_json, const char *family, gen_kernel *out, error *err)
{
    if (!completed_json || !family)
        return missing(err, completed_json ? "family" : "completed_json");
    cJSON *spec = parse_spec(completed_json, err);
    if (!spec)
        return err->status;
    char subject[160];
    source_template(&g->files, family, subject, sizeof subject);
    g->box.subject = subject;
    call c = {.module = "emit", .function = "render", .arguments = 2, .results = 2, .keep_null = 1};
    c.argument[0].json = spec;
    c.argument[1].text = family;
    if (call_module(g, &c, err) == XQ_OK)
        *out = (gen_kernel){c.result[0], c.result[1]};
    g->box.subject = NULL;
    cJSON_Delete(spec);
    return err->status;
}

void gen_kernel_free(gen_kernel *k)
{
    free(k->source);
    free(k->info);
    *k = (gen_kernel){NULL, NULL};
}

void gen_source_line(const gen *g, const char *file, int number, char *line, size_t size)
{
    const struct embed_file *found = source_find(&g->files, file);
    source_line(found && number > 0 ? found->text : "", number, line, size);
}

void gen_headers(const gen *g, int *count, const char *const **names, const char *const **texts)
{
    *count = g->header_count;
    *names = g->header_names;
    *texts = g->header_texts;
}

/* ---------------------------------------------------------------- layout */

enum { UNIT_CODES = 16 * 64 };

typedef struct unit_map {
    const char *order;
    int bits;
    int32_t *bit_offset;
} unit_map;

static int run_unit_map(lua_State *L)
{
    unit_map *map = lua_touserdata(L, 1);
    sandbox_require(L, "layout");
    lua_getfield(L, -1, "unit_map");
    lua_pushstring(L, map->order);
    lua_pushinteger(L, map->bits);
    lua_call(L, 2, 1);
    for (int i = 0; i < UNIT_CODES * map->bits; i++) {
        lua_rawgeti(L, -1, i + 1);
        map->bit_offset[i] = (int32_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    return 0;
}

xq_status gen_unit_map(gen *g, const char *order, int bits, int32_t **bit_offset, error *err)
{
    if (!order)
        return missing(err, "order");
    if (bits < 1 || bits > 16)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "bits is %d; valid: 2, 3, 4, 8, 16", bits);
    unit_map map = {order, bits, malloc(UNIT_CODES * (size_t)bits * sizeof(int32_t))};
    if (!map.bit_offset)
        return error_set(err, XQ_ERROR_MEMORY, "template", "out of memory");
    if (sandbox_run(&g->box, run_unit_map, &map, 0, err) == XQ_OK)
        *bit_offset = map.bit_offset;
    else
        free(map.bit_offset);
    return err->status;
}
