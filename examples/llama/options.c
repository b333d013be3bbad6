#include "options.h"
#include "fail.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: llama perplexity MODEL TEXT [options]     teacher-forced perplexity of a text file\n"
    "       llama logits MODEL --ids FILE --out FILE  logits [tokens, vocabulary] as safetensors\n"
    "       llama generate MODEL --prompt TEXT        greedy continuation\n"
    "\n"
    "MODEL is a Hugging Face directory with config.json (llama, gemma3_text), safetensors, "
    "tokenizer.json.\n"
    "\n"
    "The cache:\n"
    "  --cache NAME           what is cached: f32, fp16 (default), kivi, x, latent, x-cl, latent-cl\n"
    "  --bits B               bits of a cached element: 2, 3, 4, 8 (4)\n"
    "  --first-layers N       first layers, which have --first-bits (3); for x-cl and latent-cl the last "
    "of\n"
    "                         them is the base layer, and the others have the plain method\n"
    "  --first-bits B         bits of the first layers (4)\n"
    "  --layer-bits B,B,...   bits of each layer, in place of --bits and --first-bits\n"
    "  --group N|row, --axis-k token|channel, --axis-v token|channel, --zero-point float|integer,\n"
    "  --clip SHARE, --rank N|K,V, --groups N|K,V, --rotation, --no-rotation, --feedback,\n"
    "  --accumulator-bits B, --page N\n"
    "                         the same as for xq's specs\n"
    "  --set cache.KEY=JSON   any other key of a spec's cache\n"
    "  --weights TYPE         type of the projections that rematerialize: f16, bf16, int8, e4m3\n"
    "                         (the default of specs)\n"
    "  --prepared FILE        file that `xq prepare` wrote; latent methods and rotated x need it\n"
    "  --device NAME          host (default): the kernels' arithmetic on the CPU; sim, cuda, auto: the "
    "kernels\n"
    "\n"
    "perplexity:\n"
    "  --window N             tokens of a window; each window is a sequence of its own (1024)\n"
    "  --windows N            windows from the beginning of the text (all whole windows)\n"
    "  --chunk N              tokens that are appended before they attend; 1: decoding (the window)\n"
    "  --bos auto|none|ID     token that begins a window; auto: the tokenizer's, if it has one (auto)\n"
    "  --record FILE          file to keep the predictions in, which other caches are then compared with;\n"
    "                         needs --cache fp16\n"
    "  --reference FILE       file that --record wrote for this model and text; the result then has the "
    "KL\n"
    "                         divergence from it, its mean and 99th percentile over tokens in nats, and "
    "the\n"
    "                         share of tokens with the same most likely successor\n"
    "  --reference-windows N  first windows that are recorded or compared (all)\n"
    "  --json FILE|-          file to write the result to, as JSON; - is stdout\n"
    "  --quiet                print no progress\n"
    "generate:\n"
    "  --tokens N             tokens to generate (64)\n"
    "\n"
    "  --python PROGRAM       Python with the package `tokenizers` ($PYTHON, or else python3)\n";

/* ------------------------------------------------------------------ values */

static int whole(const char *option, const char *value, int least, int most)
{
    char *end;
    long number = strtol(value, &end, 10);
    bool is_number = end != value && !*end;
    if (!is_number || number < least || number > most)
        fail(is_number ? EXIT_INPUT : EXIT_USAGE, "%s: '%s' is no whole number from %d to %d", option,
             value, least, most);
    return (int)number;
}

static void set(choice *c, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(c->cache, key);
    cJSON_AddItemToObject(c->cache, key, value);
}

/* Sets a key to a number if the text is one, and to the text otherwise, so that xq refuses a bad value and
 * names the valid ones. NaN and infinity stay text, because JSON has no such numbers. */
static void set_value(choice *c, const char *key, const char *value)
{
    char *end;
    double number = strtod(value, &end);
    bool is_number = end != value && !*end && isfinite(number);
    set(c, key, is_number ? cJSON_CreateNumber(number) : cJSON_CreateString(value));
}

/* Reads "K,V", or "N" for both. Returns whether the value is a pair. */
static bool read_pair(const char *option, const char *value, int *k, int *v)
{
    int used = 0;
    if (sscanf(value, "%d,%d%n", k, v, &used) == 2 && !value[used])
        return true;
    *k = *v = whole(option, value, 1, 1 << 20);
    return false;
}

static void set_rank(choice *c, const char *value)
{
    int k, v;
    if (read_pair("--rank", value, &k, &v) || c->method == CACHE_LATENT)
        set(c, "rank_v", cJSON_CreateNumber(v));
    set(c, "rank_k", cJSON_CreateNumber(k));
}

static void set_groups(choice *c, int k, int v)
{
    set(c, "groups_k", cJSON_CreateNumber(k));
    set(c, "groups_v", cJSON_CreateNumber(v));
}

/* Whether a value holds a number like 1e400, which cJSON would write as null. */
static bool has_infinity(const cJSON *value)
{
    if (cJSON_IsNumber(value) && !isfinite(value->valuedouble))
        return true;
    for (const cJSON *child = value->child; child; child = child->next)
        if (has_infinity(child))
            return true;
    return false;
}

static void set_any(choice *c, const char *value)
{
    const char *equals = strchr(value, '=');
    char key[64];
    if (strncmp(value, "cache.", 6) != 0 || !equals || equals == value + 6 || equals - value - 6 >= 64)
        fail(EXIT_USAGE, "--set: '%s' is not of the form cache.KEY=JSON", value);
    snprintf(key, sizeof key, "%.*s", (int)(equals - value - 6), value + 6);
    cJSON *json = cJSON_ParseWithOpts(equals + 1, NULL, 1);
    if (!json)
        fail(EXIT_USAGE, "--set: '%s' is not JSON", equals + 1);
    if (has_infinity(json))
        fail(EXIT_USAGE, "--set: '%s' holds a number that is too large", equals + 1);
    if (strcmp(key, "groups") == 0) { /* groups stands for both groups_k and groups_v */
        set(c, "groups_k", cJSON_Duplicate(json, 1));
        snprintf(key, sizeof key, "groups_v");
    }
    set(c, key, json);
}

/* ----------------------------------------------------------------- options */

static bool read_cache_option(choice *c, const char *option, const char *value)
{
    static const struct {
        const char *option, *key;
    } keys[] = {{"--group", "group"},
                {"--axis-k", "axis_k"},
                {"--axis-v", "axis_v"},
                {"--zero-point", "zero_point"},
                {"--accumulator-bits", "accumulator_bits"},
                {"--page", "page"},
                {"--clip", "clip"}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(option, keys[i].option) == 0) {
            set_value(c, keys[i].key, value);
            return true;
        }
    if (strcmp(option, "--groups") == 0) {
        int k, v;
        read_pair(option, value, &k, &v);
        set_groups(c, k, v);
        return true;
    }
    if (strcmp(option, "--bits") == 0 || strncmp(option, "--first-", 8) == 0 ||
        strcmp(option, "--layer-bits") == 0)
        c->widths = option;
    if (strcmp(option, "--bits") == 0)
        c->bits = whole(option, value, 1, 16);
    else if (strcmp(option, "--first-layers") == 0)
        c->first_layers = whole(option, value, 0, 1 << 16);
    else if (strcmp(option, "--first-bits") == 0)
        c->first_bits = whole(option, value, 1, 16);
    else if (strcmp(option, "--layer-bits") == 0)
        c->layer_bits = value;
    else if (strcmp(option, "--weights") == 0)
        c->weights = value;
    else if (strcmp(option, "--prepared") == 0)
        c->prepared = value;
    else if (strcmp(option, "--set") == 0)
        set_any(c, value);
    else
        return false;
    return true;
}

static bool read_option(options *o, const char *option, const char *value)
{
    const struct {
        const char *option;
        const char **text;
    } texts[] = {{"--ids", &o->ids},       {"--out", &o->out},
                 {"--json", &o->json},     {"--python", &o->python},
                 {"--device", &o->device}, {"--prompt", &o->prompt},
                 {"--record", &o->record}, {"--reference", &o->reference}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(option, texts[i].option) == 0) {
            *texts[i].text = value;
            return true;
        }
    if (strcmp(option, "--window") == 0)
        o->window = whole(option, value, 2, 1 << 20);
    else if (strcmp(option, "--windows") == 0)
        o->windows = whole(option, value, 1, 1 << 24);
    else if (strcmp(option, "--reference-windows") == 0)
        o->reference_windows = whole(option, value, 1, 1 << 24);
    else if (strcmp(option, "--chunk") == 0)
        o->chunk = whole(option, value, 1, 1 << 20);
    else if (strcmp(option, "--tokens") == 0)
        o->tokens = whole(option, value, 1, 1 << 20);
    else if (strcmp(option, "--bos") == 0)
        o->bos = strcmp(value, "auto") == 0 ? BOS_AUTO
                 : strcmp(value, "none") == 0
                     ? BOS_NONE
                     : whole("--bos: it is neither auto nor none, and", value, 0, 1 << 24);
    else
        return read_cache_option(&o->choice, option, value);
    return true;
}

/* Refuses an option that the command would ignore. */
static void check_use(const char *command, const char *option)
{
    static const struct {
        const char *option, *commands;
    } uses[] = {{"--window", "perplexity"},
                {"--windows", "perplexity"},
                {"--json", "perplexity"},
                {"--quiet", "perplexity"},
                {"--record", "perplexity"},
                {"--reference", "perplexity"},
                {"--reference-windows", "perplexity"},
                {"--chunk", "perplexity, logits"},
                {"--bos", "perplexity, generate"},
                {"--ids", "logits"},
                {"--out", "logits"},
                {"--prompt", "generate"},
                {"--tokens", "generate"}};
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++)
        if (strcmp(option, uses[i].option) == 0 && !strstr(uses[i].commands, command))
            fail(EXIT_USAGE, "%s: has no effect on %s, only on %s; leave it out", option, command,
                 uses[i].commands);
}

/* The meaning of --rank depends on --cache, which may come after it, so --rank is set last. */
static void read_options(options *o, int count, char **arguments, const char **positional, int *positionals)
{
    const char *rank = NULL;
    for (int i = 0; i < count; i++) {
        const char *option = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(option, "--help") == 0) {
            fputs(help, stdout);
            exit(0);
        }
        if (strncmp(option, "--", 2) != 0) {
            if (*positionals == 2)
                fail(EXIT_USAGE, "'%s' is one argument too many; --help lists the arguments", option);
            positional[(*positionals)++] = option;
            continue;
        }
        check_use(o->command, option);
        if (strcmp(option, "--quiet") == 0) {
            o->quiet = true;
            continue;
        }
        if (strcmp(option, "--feedback") == 0) {
            set(&o->choice, "feedback", cJSON_CreateTrue());
            continue;
        }
        if (strcmp(option, "--rotation") == 0 || strcmp(option, "--no-rotation") == 0) {
            set(&o->choice, "rotation", cJSON_CreateBool(option[2] == 'r'));
            continue;
        }
        if (!value || (strncmp(value, "--", 2) == 0 && strcmp(option, "--prompt") != 0))
            fail(EXIT_USAGE, "%s needs a value; --help lists the options", option);
        i++;
        if (strcmp(option, "--rank") == 0)
            rank = value;
        else if (strcmp(option, "--cache") == 0) {
            if (!method_find(value, &o->choice.method))
                fail(EXIT_INPUT, "--cache: '%s' is not known; valid: %s", value, method_names);
        } else if (!read_option(o, option, value)) {
            fail(EXIT_USAGE, "%s is not known; --help lists the options", option);
        }
    }
    if (rank)
        set_rank(&o->choice, rank);
}

static void check_name(const char *command)
{
    if (strcmp(command, "perplexity") != 0 && strcmp(command, "logits") != 0 &&
        strcmp(command, "generate") != 0)
        fail(EXIT_USAGE, "'%s' is no command; valid: perplexity, logits, generate", command);
}

static void check_reference(const options *o)
{
    if (o->record && o->choice.method != CACHE_FP16)
        fail(EXIT_USAGE, "--record: --cache %s makes no reference; valid: fp16",
             method_name(o->choice.method));
    if (o->record && o->reference)
        fail(
            EXIT_USAGE,
            "--record and --reference: give one of them; a run makes a reference, or is compared with one");
    if (o->reference_windows > 0 && !o->record && !o->reference)
        fail(EXIT_USAGE, "--reference-windows needs --record FILE or --reference FILE");
}

static void check_command(const options *o, int positionals)
{
    const bool perplexity = strcmp(o->command, "perplexity") == 0,
               logits = strcmp(o->command, "logits") == 0;
    if (positionals != (perplexity ? 2 : 1))
        fail(EXIT_USAGE, "%s takes %s; --help shows the usage", o->command,
             perplexity ? "a model directory and a text file" : "a model directory");
    if (logits && (!o->ids || !o->out))
        fail(EXIT_USAGE, "logits needs --ids FILE and --out FILE");
    if (!perplexity && !logits && !o->prompt)
        fail(EXIT_USAGE, "generate needs --prompt TEXT");
    check_reference(o);
    const cJSON *key = o->choice.cache->child;
    if (o->choice.method < CACHE_KIVI && (key || o->choice.widths))
        fail(EXIT_USAGE, "--cache %s: has no option '%s'; leave it out", method_name(o->choice.method),
             key ? key->string : o->choice.widths);
}

void options_read(options *o, int count, char **arguments)
{
    const char *python = getenv("PYTHON"), *positional[2] = {NULL, NULL};
    int positionals = 0;
    *o = (options){.python = python && *python ? python : "python3",
                   .device = "host",
                   .window = 1024,
                   .tokens = 64,
                   .bos = BOS_AUTO,
                   .choice = {.method = CACHE_FP16,
                              .bits = 4,
                              .first_layers = FIRST_LAYERS_AUTO,
                              .first_bits = 4,
                              .cache = cJSON_CreateObject()}};
    if (count < 2 || strcmp(arguments[1], "--help") == 0) {
        fputs(help, count < 2 ? stderr : stdout);
        exit(count < 2 ? EXIT_USAGE : 0);
    }
    o->command = arguments[1];
    check_name(o->command);
    read_options(o, count - 2, arguments + 2, positional, &positionals);
    check_command(o, positionals);
    o->model = positional[0];
    o->text = positional[1];
}
