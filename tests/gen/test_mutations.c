/* Tests specs and config.json files with random faults: each is completed, or refused with a message. */
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- faults of text */

static uint64_t random_state;

static unsigned next_random(unsigned below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % below;
}

static void mutate(char *text)
{
    static const char alphabet[] = "{}[]\":,0123456789.-e+ntrufalsx\\ \n\x01\xff";
    for (unsigned n = 1 + next_random(4); n > 0; n--) {
        size_t length = strlen(text), at = next_random((unsigned)length);
        char replacement = alphabet[next_random(sizeof alphabet - 1)];
        switch (next_random(3)) {
        case 0:
            text[at] = replacement;
            break;
        case 1:
            memmove(text + at, text + at + 1, length - at);
            break;
        default:
            memmove(text + at + 1, text + at, length - at + 1);
            text[at] = replacement;
        }
    }
}

Test(mutations, garbled_specs_are_completed_or_refused_with_a_message)
{
    char *seed = generator_complete("{\"model\": \"llama-3.2-1b\", \"cache\": {\"group\": \"row\"}}");
    size_t size = strlen(seed);
    char *text = malloc(size + 16);
    int completed_count = 0;
    for (int i = 0; i < 1500; i++) {
        random_state = (uint64_t)i;
        strcpy(text, seed);
        mutate(text);
        error err = ERROR_INIT;
        char *completed = NULL;
        if (gen_complete(generator(), text, &completed, &err) == XQ_OK) {
            completed_count++;
        } else {
            cr_assert(err.status == XQ_ERROR_SPEC || err.status == XQ_ERROR_UNSUPPORTED, "%s: %d %s", text,
                      err.status, err.message);
            cr_assert(err.message[0] && !completed);
        }
        free(completed);
        error_clear(&err);
    }
    cr_assert_lt(completed_count, 1500);
    free(text);
    free(seed);
}

/* ---------------------------------------------------------------- faults of values */

static int count_values(const cJSON *value)
{
    int count = 1;
    const cJSON *child;
    cJSON_ArrayForEach(child, value) count += count_values(child);
    return count;
}

/* Finds the n-th value in depth-first order. *parent becomes the value that holds it. */
static cJSON *find_value(cJSON *value, int *n, cJSON **parent)
{
    cJSON *child, *found;
    cJSON_ArrayForEach(child, value)
    {
        *parent = value;
        if ((*n)-- == 0)
            return child;
        if ((found = find_value(child, n, parent)))
            return found;
    }
    return NULL;
}

/* Replaces a random value by one from the list, or removes it. */
static void spoil(cJSON *root)
{
    static const char *const others[] = {"null", "true",  "false", "0",          "-1",
                                         "1.5",  "1e300", "\"x\"", "\"full\"",   "[]",
                                         "[1]",  "[[]]",  "{}",    "{\"a\": 1}", "[null]"};
    int n = (int)next_random((unsigned)count_values(root) - 1);
    cJSON *parent = NULL, *value = find_value(root, &n, &parent);
    unsigned which = next_random(sizeof others / sizeof *others + 1);
    if (which == sizeof others / sizeof *others) {
        cJSON_Delete(cJSON_DetachItemViaPointer(parent, value));
        return;
    }
    cJSON *other = cJSON_Parse(others[which]);
    if (value->string)
        cJSON_ReplaceItemInObjectCaseSensitive(parent, value->string, other);
    else
        cJSON_ReplaceItemViaPointer(parent, value, other);
}

static void check_refusal(const error *err, const char *text)
{
    cr_assert(err->status == XQ_ERROR_SPEC || err->status == XQ_ERROR_UNSUPPORTED ||
                  err->status == XQ_ERROR_FORMAT,
              "%s: %d %s", text, err->status, err->message);
    cr_assert(err->message[0] && err->field[0], "%s: %s", text, err->message);
}

/* Completes a spec. The spec must be refused properly, or its completed form must complete to itself. */
static void check_completion(const char *spec_json)
{
    error err = ERROR_INIT;
    char *completed = NULL, *again = NULL;
    if (gen_complete(generator(), spec_json, &completed, &err) != XQ_OK) {
        check_refusal(&err, spec_json);
    } else {
        again = generator_complete(completed);
        cr_assert_str_eq(again, completed, "%s", spec_json);
    }
    free(completed);
    free(again);
    error_clear(&err);
}

static void check_spoiled(const char *seed, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        random_state = (uint64_t)i * 7919;
        cJSON *root = cJSON_Parse(seed);
        for (unsigned n = 1 + next_random(2); n > 0; n--)
            spoil(root);
        char *text = cJSON_PrintUnformatted(root);
        check_completion(text);
        free(text);
        cJSON_Delete(root);
    }
}

/* Leaves out the computed parts of the spec, because faults in these would hide all other faults. */
static void check_spoiled_spec(const char *spec_json)
{
    static const char *const computed[] = {"keys",
                                           "layout",
                                           "accumulator",
                                           "weights_layout",
                                           "unfused_weights_layout",
                                           "kv_weights_layout",
                                           "kv_e4m3_weights_layout"};
    cJSON *root = generator_complete_parsed(spec_json);
    for (size_t i = 0; i < sizeof computed / sizeof *computed; i++)
        cJSON_DeleteItemFromObject(root, computed[i]);
    char *seed = cJSON_PrintUnformatted(root);
    check_spoiled(seed, 300);
    free(seed);
    cJSON_Delete(root);
}

Test(mutations, specs_with_values_of_other_types_are_refused_by_field)
{
    check_spoiled_spec("{\"model\": {\"preset\": \"gemma-3-4b\", \"layer_kind\": \"full\"}}");
    check_spoiled_spec("{\"model\": {\"preset\": \"gpt-oss-20b\", \"layer_kind\": \"sliding\"}, "
                       "\"cache\": {\"group\": \"row\"}}");
    check_spoiled_spec(
        "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent-cl\", \"axis_k\": \"channel\"}}");
    check_spoiled_spec(
        "{\"model\": \"falcon-rw-1b\", \"cache\": {\"method\": \"x-cl\", \"accumulator_bits\": 4}}");
    check_spoiled(
        "{\"model\": {\"preset\": \"gemma-2-2b\", \"layer_kind\": \"full\", \"sliding_window_pattern\": 3, "
        "\"num_hidden_layers\": 6, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
        "\"truncate\": false, \"mscale\": 1}}, \"weights\": \"int8\", \"dtype\": \"bf16\", "
        "\"queries\": \"many\"}",
        300);
}

static void check_spoiled_config(const char *name, int rounds)
{
    char path[96];
    snprintf(path, sizeof path, "tests/configs/%s.json", name);
    size_t size;
    char *seed = files_read(path, &size);
    for (int i = 0; i < rounds; i++) {
        random_state = (uint64_t)i * 7919;
        cJSON *root = cJSON_Parse(seed);
        spoil(root);
        char *text = cJSON_PrintUnformatted(root), *model = NULL, *spec = NULL;
        error err = ERROR_INIT;
        if (gen_model_from_config(generator(), text, "config.json", &model, &err) != XQ_OK) {
            check_refusal(&err, text);
        } else {
            spec = malloc(strlen(model) + 64);
            sprintf(spec, "{\"model\": %s}", model);
            check_completion(spec);
        }
        error_clear(&err);
        free(spec);
        free(model);
        free(text);
        cJSON_Delete(root);
    }
    free(seed);
}

Test(mutations, configs_with_values_of_other_types_are_refused_by_field)
{
    static const char *const names[] = {"bloom-560m",   "falcon-40b", "falcon-rw-1b", "gemma-2-9b",
                                        "gemma-3-1b",   "gemma-3-4b", "gpt-neox-20b", "gpt-oss-20b",
                                        "mpt-7b",       "olmo-2-7b",  "phi-3-mini",   "qwen2.5-7b",
                                        "qwen3-30b-a3b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_spoiled_config(names[i], 120);
}
