/* Builds the spec that the options describe: the choices of a --spec file, the model of --model in place of
 * the file's, and the other options as overrides on top. */
#include "../gen/json.h"
#include "choices.h"
#include "cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "spec", "out of memory");
}

/* ----------------------------------------------------------------- options */

/* Makes an infinite number, such as 1e400, print as a number that is read as infinity again, so that the
 * generator can name the valid values. cJSON would print null. */
static bool keep_infinity(cJSON *value)
{
    if (cJSON_IsNumber(value) && isinf(value->valuedouble)) {
        value->valuestring = strdup(value->valuedouble < 0 ? "-1e999" : "1e999");
        value->type = value->valuestring ? cJSON_Raw : cJSON_Number;
        return value->valuestring;
    }
    for (cJSON *child = value->child; child; child = child->next)
        if (!keep_infinity(child))
            return false;
    return true;
}

/* Parses the JSON text of an option; `option` names it in errors. */
static xq_status parse(const char *text, const char *option, cJSON **value, error *err)
{
    *value = json_parse(text, strlen(text), option, JSON_STRICT, XQ_ERROR_ARGUMENT, err);
    if (*value && !keep_infinity(*value)) {
        cJSON_Delete(*value);
        *value = NULL;
        no_memory(err);
    }
    return err->status;
}

/* Whether the text is a number, even one that JSON's parser refuses because no value can hold it. */
static bool is_number(const char *text)
{
    double number;
    const char *rest;
    return cli_read_number(text, &number, &rest) && !*rest;
}

/* A number where the text is one. Otherwise the text itself, which the generator refuses with a list of the
 * valid values. */
static cJSON *number_or_text(const char *text)
{
    error ignored = ERROR_INIT;
    cJSON *value = NULL;
    if (is_number(text))
        parse(text, "", &value, &ignored);
    error_clear(&ignored);
    return value ? value : cJSON_CreateString(text);
}

static xq_status add_values(cJSON *overrides, const struct cli_spec *s, error *err)
{
    const struct {
        const char *key, *text;
        bool number;
    } values[] = {
        {"model.layer_kind", s->layer_kind, false},
        {"cache.method", s->method, false},
        {"cache.bits", s->bits, true},
        {"cache.group", s->group, true},
        {"cache.axis_k", s->axis_k, false},
        {"cache.axis_v", s->axis_v, false},
        {"cache.zero_point", s->zero_point, false},
        {"cache.clip", s->clip, true},
        {"cache.accumulator_bits", s->accumulator_bits, true},
        {"cache.page", s->page, true},
        {"dtype", s->dtype, false},
        {"weights", s->weights, false},
        {"queries", s->queries, false},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (values[i].text) {
            const char *text = values[i].text;
            cJSON *value = values[i].number ? number_or_text(text) : cJSON_CreateString(text);
            if (cli_override(overrides, values[i].key, value, err) != XQ_OK)
                return err->status;
        }
    return XQ_OK;
}

/* Whether a value is a whole, finite number. The generator's error for any other number would name a member
 * that was not given. */
static bool is_whole(const cJSON *value)
{
    return cJSON_IsNumber(value) && value->valuedouble == floor(value->valuedouble);
}

/* The numbers of an option for keys and for values: "512" for both, or "512,256". */
static xq_status read_pair(const char *option, const char *text, cJSON **k, cJSON **v, error *err)
{
    char first[64];
    const char *comma = strchr(text, ',');
    snprintf(first, sizeof first, "%.*s", comma ? (int)(comma - text) : 63, text);
    *k = number_or_text(first);
    *v = number_or_text(comma ? comma + 1 : text);
    if (is_whole(*k) && is_whole(*v))
        return XQ_OK;
    return error_set(err, XQ_ERROR_SPEC, "spec",
                     "%s: '%.200s' is not valid; valid: N, or K,V, whole numbers from 1", option, text);
}

/* Overrides key_k with the number for keys and, unless key_v is NULL, key_v with the number for values. */
static xq_status add_pair(cJSON *overrides, const char *option, const char *text, const char *key_k,
                          const char *key_v, error *err)
{
    cJSON *k = NULL, *v = NULL;
    if (read_pair(option, text, &k, &v, err) == XQ_OK) {
        cli_override(overrides, key_k, k, err);
        k = NULL;
        if (key_v && err->status == XQ_OK) {
            cli_override(overrides, key_v, v, err);
            v = NULL;
        }
    }
    cJSON_Delete(k);
    cJSON_Delete(v);
    return err->status;
}

/* --groups N sets the groups of keys and of values. It removes the spec's `groups`, which has no meaning
 * beside these two. */
static xq_status add_groups(cJSON *overrides, const char *groups, error *err)
{
    if (!groups)
        return XQ_OK;
    if (add_pair(overrides, "--groups", groups, "cache.groups_k", "cache.groups_v", err) != XQ_OK)
        return err->status;
    return cli_override(overrides, "cache.groups", cJSON_CreateNull(), err);
}

static xq_status add_flags(cJSON *overrides, const struct cli_spec *s, error *err)
{
    const struct {
        const char *key;
        bool given, value;
    } flags[] = {
        {"cache.rotation", s->rotation, true},
        {"cache.rotation", s->no_rotation, false},
        {"cache.feedback", s->feedback, true},
        {"cache.base", s->base, true},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (flags[i].given &&
            cli_override(overrides, flags[i].key, cJSON_CreateBool(flags[i].value), err) != XQ_OK)
            return err->status;
    return XQ_OK;
}

/* The generator reads as many levels of nested objects (gen/json.h). */
enum { MOST_LEVELS = 32 };

/* Reads the key before the equals sign: names with points between them. Returns false where there is
 * none. */
static bool read_key(const char *set, char *key, size_t size)
{
    const char *equals = strchr(set, '=');
    size_t length = equals ? (size_t)(equals - set) : 0;
    if (length == 0 || length >= size)
        return false;
    snprintf(key, size, "%.*s", (int)length, set);
    return key[0] != '.' && key[length - 1] != '.' && !strstr(key, "..");
}

bool cli_spec_sets(const struct cli_spec *spec, const char *key)
{
    char given[256];
    for (int i = 0; i < spec->set.count; i++)
        if (read_key(spec->set.items[i], given, sizeof given) && strcmp(given, key) == 0)
            return true;
    return false;
}

/* Whether a text is a word whose quotes, which would make it JSON, the shell may have removed. */
static bool is_bare_word(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    return *text && strspn(text, letters) == strlen(text);
}

static int levels_of_value(const cJSON *value)
{
    int most = 0;
    for (const cJSON *child = value->child; child; child = child->next) {
        int levels = levels_of_value(child);
        most = levels > most ? levels : most;
    }
    return most + (cJSON_IsObject(value) || cJSON_IsArray(value));
}

static int levels_of_key(const char *key)
{
    int levels = 1;
    for (; *key; key++)
        levels += *key == '.';
    return levels;
}

/* Adds one --set. Errors: XQ_ERROR_ARGUMENT where it contradicts another option; XQ_ERROR_SPEC where it is
 * malformed. */
static xq_status add_set(cJSON *overrides, const char *set, error *err)
{
    char key[256], option[300];
    cJSON *value = NULL;
    error malformed = ERROR_INIT;
    if (!read_key(set, key, sizeof key))
        return error_set(err, XQ_ERROR_SPEC, "argument",
                         "--set: '%.200s' is not of the form KEY=JSON, with a key of up to 255 bytes; for "
                         "example, cache.bits=8",
                         set);
    if (!cli_is_utf8(key))
        return error_set(err, XQ_ERROR_SPEC, "argument", "--set: the key '%s' is not UTF-8", key);
    const char *text = set + strlen(key) + 1;
    snprintf(option, sizeof option, "--set %s", key);
    if (parse(text, option, &value, &malformed) == XQ_OK) {
        if (levels_of_key(key) + levels_of_value(value) <= MOST_LEVELS)
            return cli_override(overrides, key, value, err);
        cJSON_Delete(value);
        return error_set(err, XQ_ERROR_SPEC, "argument",
                         "--set: the key '%.200s' and its value have more than %d levels", key,
                         MOST_LEVELS);
    }
    if (malformed.status == XQ_ERROR_ARGUMENT && is_bare_word(text) && !is_number(text))
        error_set(err, XQ_ERROR_SPEC, "argument",
                  "%s: %.200s is not JSON; put a text in double quotes: --set '%s=\"%.200s\"'", option,
                  text, key, text);
    else
        error_set(err, malformed.status == XQ_ERROR_ARGUMENT ? XQ_ERROR_SPEC : malformed.status, "argument",
                  "%s", malformed.message);
    error_clear(&malformed);
    return err->status;
}

/* Adds all options but --rank, which depends on the method. */
static xq_status add_options(cJSON *overrides, const struct cli_spec *s, error *err)
{
    if (add_values(overrides, s, err) != XQ_OK || add_groups(overrides, s->groups, err) != XQ_OK ||
        add_flags(overrides, s, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < s->set.count && err->status == XQ_OK; i++)
        add_set(overrides, s->set.items[i], err);
    return err->status;
}

/* Whether the overrides have a member of this name in the spec, its model or its cache. An object for
 * `model` changes members of the model, and does not count as the member `model`. */
static bool overrides_have(const cJSON *overrides, const char *name)
{
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(overrides, "model"),
                *cache = cJSON_GetObjectItemCaseSensitive(overrides, "cache"),
                *own = cJSON_GetObjectItemCaseSensitive(overrides, name);
    return (own && !(own == model && cJSON_IsObject(own))) ||
           cJSON_GetObjectItemCaseSensitive(model, name) || cJSON_GetObjectItemCaseSensitive(cache, name);
}

/* The member of a spec that an option gives: axis_k for "--axis-k". */
static const char *member_of(const char *option, char *name, size_t size)
{
    snprintf(name, size, "%s", option + strspn(option, "-"));
    for (char *dash = strchr(name, '-'); dash; dash = strchr(dash, '-'))
        *dash = '_';
    return name;
}

/* All values of --set in one object. Caller deletes. */
static cJSON *all_set(const struct cli_spec *spec, error *err)
{
    cJSON *overrides = cJSON_CreateObject();
    for (int i = 0; i < spec->set.count && err->status == XQ_OK; i++)
        add_set(overrides, spec->set.items[i], err);
    return overrides;
}

bool cli_spec_sets_option(const struct cli_spec *spec, const char *option)
{
    char name[64];
    error ignored = ERROR_INIT; /* cli_spec_check reports errors */
    cJSON *overrides = all_set(spec, &ignored);
    bool sets = overrides_have(overrides, member_of(option, name, sizeof name));
    cJSON_Delete(overrides);
    error_clear(&ignored);
    return sets;
}

static bool is_among(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

xq_status cli_spec_check_tuning(const struct cli_spec *spec, const char *const *names, int count,
                                error *err)
{
    char list[512] = "";
    cJSON *overrides = all_set(spec, err);
    const cJSON *family;
    for (int i = 0; i < count; i++)
        if (!is_among(names[i], names, i))
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "", names[i]);
    cJSON_ArrayForEach(family, cJSON_GetObjectItemCaseSensitive(overrides, "tuning"))
    {
        if (err->status == XQ_OK && !is_among(family->string, names, count))
            cli_misuse(err, "--set tuning.%s: has no effect, because no such kernel runs here; valid: %s",
                       family->string, list);
    }
    cJSON_Delete(overrides);
    return err->status;
}

/* --set must not give a member whose option the command does not take. */
static xq_status check_unused(const cli_command *command, const cJSON *overrides, error *err)
{
    char name[64];
    for (const cli_unused *u = command->unused; u && u->name; u++)
        if (overrides_have(overrides, member_of(u->name, name, sizeof name)))
            return error_set(err, XQ_ERROR_ARGUMENT, "argument", "--set of %s: %s; leave it out", name,
                             u->why);
    return XQ_OK;
}

int cli_spec_check(const cli_command *command)
{
    const char *subcommand = command->name;
    const struct cli_spec *s = command->spec;
    if (s->rotation && s->no_rotation)
        return cli_usage(subcommand, "--rotation and --no-rotation: give one of them");
    if (s->rank && (cli_spec_sets(s, "cache.rank_k") || cli_spec_sets(s, "cache.rank_v")))
        return cli_usage(subcommand, "--rank and --set cache.rank_k or cache.rank_v: give one of them");
    error err = ERROR_INIT;
    cJSON *overrides = cJSON_CreateObject();
    if (add_options(overrides, s, &err) == XQ_OK)
        check_unused(command, overrides, &err);
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(overrides, "model");
    /* An object changes members of the model, unless it names another preset. */
    bool another = model && (!cJSON_IsObject(model) || cJSON_HasObjectItem(model, "preset"));
    if (err.status == XQ_OK && s->model && another)
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "--model and --set model: give one of them");
    int status = CLI_OK;
    if (err.status != XQ_OK)
        status =
            (err.status == XQ_ERROR_ARGUMENT ? cli_usage : cli_bad_input)(subcommand, "%s", err.message);
    cJSON_Delete(overrides);
    error_clear(&err);
    return status;
}

/* --rank N sets the rank of both latents, or the only rank of a method that has one latent. */
static xq_status add_rank(cJSON *overrides, const char *rank, const char *spec_json, error *err)
{
    struct cli_choices chosen;
    cli_choices_read(spec_json, &chosen);
    bool one = chosen.joint_latent && !strchr(rank, ',');
    return add_pair(overrides, "--rank", rank, "cache.rank_k", one ? NULL : "cache.rank_v", err);
}

/* ------------------------------------------------------------------- files */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static xq_status read_json_file(const char *path, const char *name, xq_status malformed, char **text,
                                error *err)
{
    size_t size;
    if ((strcmp(path, "-") == 0 ? cli_read_stdin(text, &size, err)
                                : cli_read_file(path, text, &size, err)) != XQ_OK)
        return err->status;
    return json_refuse_nul(*text, size, name, malformed, err);
}

/* Converts a config.json to the `model` object. */
static xq_status model_from_file(gen *g, const char *path, char **model, error *err)
{
    char *text = NULL;
    if (read_json_file(path, path, XQ_ERROR_FORMAT, &text, err) == XQ_OK)
        gen_model_from_config(g, text, path, model, err);
    free(text);
    return err->status;
}

/* Whether a name is meant as a path, and not as the name of a preset. */
static bool names_path(const char *name)
{
    return strchr(name, '/') || *name == '.' || *name == '~' || ends_with(name, ".json");
}

static xq_status no_such_path(const char *name, error *err)
{
    error_set(err, XQ_ERROR_IO, "file", "--model: %s does not exist%s", name,
              *name == '~' ? "; the shell replaces ~ only at the beginning of a word: --model ~/..."
              : ends_with(name, ".json")
                  ? ""
                  : "; valid: a model directory, a config.json, or a preset of `xq gen --list-models`");
    return error_at(err, name, 0);
}

bool cli_find_model_file(const char *model, struct cli_common *common)
{
    struct stat st;
    *common->model_file = 0;
    if (model && stat(model, &st) == 0)
        snprintf(common->model_file, sizeof common->model_file, "%s%s", model,
                 S_ISDIR(st.st_mode) ? "/config.json" : "");
    return *common->model_file;
}

/* Reads the value of --model: a directory with a config.json, such a file, or else the name of a preset. */
static xq_status read_model(gen *g, const char *name, char **model, error *err)
{
    struct cli_common found;
    if (cli_find_model_file(name, &found))
        return model_from_file(g, found.model_file, model, err);
    if (names_path(name))
        return no_such_path(name, err);
    if (!cli_is_utf8(name))
        return error_set(err, XQ_ERROR_SPEC, "spec",
                         "--model: '%s' is not UTF-8, and is neither a file nor a preset", name);
    cJSON *value = cJSON_CreateString(name);
    *model = cJSON_PrintUnformatted(value);
    cJSON_Delete(value);
    return *model ? XQ_OK : no_memory(err);
}

/* ------------------------------------------------------------------- specs */

static const char *spec_name(const struct cli_spec *s)
{
    return !s->spec_file ? "spec" : strcmp(s->spec_file, "-") == 0 ? "standard input" : s->spec_file;
}

static xq_status read_spec(const struct cli_spec *s, char **text, error *err)
{
    if (s->spec_file)
        return read_json_file(s->spec_file, spec_name(s), XQ_ERROR_SPEC, text, err);
    *text = strdup("{}");
    return *text ? XQ_OK : no_memory(err);
}

/* The spec of the file with all options but --rank on top. */
static xq_status apply_options(gen *g, const struct cli_spec *s, char **json, error *err)
{
    char *text = NULL, *model = NULL, *overrides_text = NULL;
    cJSON *overrides = cJSON_CreateObject();
    if (read_spec(s, &text, err) == XQ_OK && (!s->model || read_model(g, s->model, &model, err) == XQ_OK) &&
        add_options(overrides, s, err) == XQ_OK) {
        overrides_text = cJSON_PrintUnformatted(overrides);
        const gen_overrides o = {.spec_json = text,
                                 .spec_source = spec_name(s),
                                 .model_json = model,
                                 .overrides_json = overrides_text};
        if (!overrides_text)
            no_memory(err);
        else
            gen_override(g, &o, json, err);
    }
    cJSON_Delete(overrides);
    free(overrides_text);
    free(model);
    free(text);
    return err->status;
}

static xq_status apply_rank(gen *g, const char *rank, char **json, error *err)
{
    char *with_rank = NULL;
    cJSON *overrides = cJSON_CreateObject();
    if (add_rank(overrides, rank, *json, err) == XQ_OK) {
        if (cli_spec_override(g, *json, overrides, &with_rank, err) == XQ_OK) {
            free(*json);
            *json = with_rank;
        }
    } else {
        cJSON_Delete(overrides);
    }
    return err->status;
}

xq_status cli_spec_json(const struct cli_spec *spec, const struct cli_common *common, char **json,
                        error *err)
{
    gen *g = NULL;
    char *out = NULL;
    if (!cli_names_model(spec))
        return error_set(err, XQ_ERROR_SPEC, "spec",
                         "no model given; use --model NAME|DIR|config.json, or --spec FILE");
    if (gen_create(common->templates, &g, err) == XQ_OK && apply_options(g, spec, &out, err) == XQ_OK &&
        (!spec->rank || apply_rank(g, spec->rank, &out, err) == XQ_OK))
        *json = out;
    else
        free(out);
    gen_destroy(g);
    return err->status;
}
