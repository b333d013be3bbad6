/* The options that describe a spec: no value counts as "not given", no option overrides another in silence,
 * and a printed spec can be given back with changes. */
#include "../support/command.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The output of `xq gen OPTIONS --print-spec`; the caller frees it. */
static char *printed(const char *options)
{
    struct command_result r = command_run("gen %s --print-spec", options);
    cr_assert_eq(r.status, 0, "%s: %s", options, r.err);
    return strdup(r.out);
}

static const char *write_text(const char *name, const char *text)
{
    const char *path = files_path(files_directory(), name);
    files_write(path, text, strlen(text));
    return path;
}

/* A spec that is printed and given back with more options equals the spec that all options give at once. */
static void gives_back(const char *first, const char *more, const char *all)
{
    char *spec = printed(first), *direct = printed(all), *changed, options[512];
    snprintf(options, sizeof options, "--spec '%s' %s", write_text("f.json", spec), more);
    changed = printed(options);
    cr_assert_str_eq(changed, direct, "%s; then %s", first, more);
    free(spec);
    free(direct);
    free(changed);
}

Test(cli_spec, print_edit_give_back, .timeout = 60)
{
    gives_back("--model smollm2-135m", "--bits 8", "--model smollm2-135m --bits 8");
    gives_back("--model smollm2-135m --bits 3 --clip 0.95", "--bits 8",
               "--bits 8 --model smollm2-135m --clip 0.95");
    gives_back("--model llama-3.1-8b --group row --rank 512,256", "--page 32 --weights int8",
               "--page 32 --weights int8 --group row --rank 512,256 --model llama-3.1-8b");
    gives_back("--model llama-3.1-8b --method latent", "--method x --no-rotation",
               "--model llama-3.1-8b --no-rotation --method x");
    gives_back("--model llama-3.1-8b --rotation", "--no-rotation", "--model llama-3.1-8b --no-rotation");
    gives_back("--model llama-3.1-8b --arch sm_90a", "--bits 2",
               "--arch sm_90a --model llama-3.1-8b --bits 2");
    gives_back("--model llama-3.1-8b --arch sm_90a --set tuning.attend.warps=4", "--arch sm_86",
               "--model llama-3.1-8b --arch sm_86 --set tuning.attend.warps=4");
    gives_back("--model llama-3.1-8b --bits 8", "--model smollm2-135m", "--model smollm2-135m --bits 8");
    gives_back("--model gemma-3-1b --layer-kind full --bits 8", "--layer-kind sliding",
               "--model gemma-3-1b --layer-kind sliding --bits 8");
    gives_back(
        "--model llama-3.1-8b --method latent-cl --accumulator-bits 8 --base", "--rank 512",
        "--model llama-3.1-8b --method latent-cl --accumulator-bits 8 --base --set cache.rank_k=512");
    gives_back("--model llama-3.1-8b --bits 8 --page 32", "--set cache.bits=null",
               "--model llama-3.1-8b --page 32");
}

Test(cli_spec, config_json_is_read_once_and_given_back)
{
    char options[512];
    const char *config = write_text("config.json", "{\"model_type\": \"llama\", \"hidden_size\": 512, "
                                                   "\"num_attention_heads\": 8, \"rope_theta\": 5e5}");
    snprintf(options, sizeof options, "--model '%s'", config);
    char more[600];
    snprintf(more, sizeof more, "%s --bits 8", options);
    gives_back(options, "--bits 8", more);
}

Test(cli_spec, set_takes_any_key, .timeout = 60)
{
    static const char *const same[][2] = {
        {"--set cache.bits=8 --set weights='\"int8\"'", "--bits 8 --weights int8"},
        {"--set cache='{\"bits\": 8, \"page\": 32}'", "--page 32 --bits 8"},
        {"--set cache.bits=8 --set cache='{\"page\": 32}' --bits 8", "--page 32 --bits 8"},
        {"--set=cache.group='\"row\"'", "--group row"},
        {"--set cache.bits=8.0", "--bits 8"},
        {"--set cache.group=1.28e2", "--group 128"},
        {"--set model.rope_scaling.factor=16 --set model.name='\"m\"'",
         "--set model='{\"name\": \"m\", \"rope_scaling\": {\"factor\": 16}}'"},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        char options[512];
        snprintf(options, sizeof options, "--model llama-3.1-8b %s", same[i][0]);
        char *set = printed(options);
        snprintf(options, sizeof options, "--model llama-3.1-8b %s", same[i][1]);
        char *named = printed(options);
        cr_assert_str_eq(set, named, "%s", same[i][0]);
        free(set);
        free(named);
    }
    char *plain = printed("--model mistral-7b --set model.rope_theta=null");
    cr_assert(strstr(plain, "\"theta\":\t10000,"), "%s", plain);
    free(plain);
}

Test(cli_spec, standard_input_may_hold_the_spec)
{
    const char *path = write_text("f.json", "{\"model\": \"smollm2-135m\", \"cache\": {\"page\": 32}}");
    char options[512];
    snprintf(options, sizeof options, "--spec - --arch sm_80,sm_90a --bits 8 <'%s'", path);
    char *both = printed(options),
         *second = printed("--model smollm2-135m --bits 8 --page 32 --arch sm_90a");
    cr_assert(strstr(both, second), "%s", both);
    free(both);
    free(second);
    struct command_result r = command_run("gen --print-spec --spec - <&-");
    cr_assert_eq(r.status, 1);
    cr_assert_str_eq(r.err, "xq gen: cannot read standard input: this stream is closed\n");
    r = command_run("gen --print-spec --spec - </dev/null");
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.err, "xq gen: standard input:1:1: malformed JSON: it ends too early"), "%s", r.err);
}

/* ---------------------------------------------------------------- refusals */

static void refused(const char *options, int status, const char *message)
{
    char arguments[512];
    snprintf(arguments, sizeof arguments, "gen --print-spec --model llama-3.1-8b %s", options);
    struct command_result r = command_run("%s", arguments);
    cr_assert_eq(r.status, status, "%s: %s", options, r.err);
    cr_assert_str_eq(r.out, "", "%s", options);
    cr_assert_eq(strncmp(r.err, "xq gen: ", 8), 0, "%s", r.err);
    cr_assert(strstr(r.err, message), "%s: %s", options, r.err);
    cr_assert_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "not one line: %s", r.err);
}

Test(cli_spec, no_value_is_taken_for_none, .timeout = 60)
{
    static const char *const cases[][2] = {
        {"--bits 0", "cache.bits: 0 is not valid; valid: 2, 3, 4, 8"},
        {"--bits four", "not 'four'; valid: 2, 3, 4, 8"},
        {"--bits 4.5", "not 4.5; valid: 2, 3, 4, 8"},
        {"--bits 99999999999999999999", "valid: 2, 3, 4, 8"},
        {"--page 0", "cache.page: 0 is not valid; valid: multiples of 16 from 16 to 256"},
        {"--page -16", "cache.page: -16 is not valid; valid: multiples of 16 from 16 to 256"},
        {"--page 17", "cache.page: 17 is not valid; valid: multiples of 16 from 16 to 256"},
        {"--page x", "not 'x'; valid: multiples of 16 from 16 to 256"},
        {"--group 0", "cache.group: 0 is not valid; valid: 32, 64, 128, 256, \"row\""},
        {"--group column", "not 'column'; valid: 32, 64, 128, 256, \"row\""},
        {"--groups 0", "cache.groups_k: 0 does not divide num_key_value_heads (8); valid: 1, 2, 4, 8"},
        {"--groups -2", "valid: 1, 2, 4, 8"},
        {"--groups 2,3", "cache.groups_v: 3 does not divide num_key_value_heads (8); valid: 1, 2, 4, 8"},
        {"--groups x", "--groups: 'x' is not valid; valid: N, or K,V, whole numbers from 1"},
        {"--groups 2,", "--groups: '2,' is not valid; valid: N, or K,V, whole numbers from 1"},
        {"--method x --groups 0", "valid: 1;"},
        {"--method x-cl --accumulator-bits 0", "cache.accumulator_bits: 0 is not valid; valid: 16, 8, 4"},
        {"--rank 0", "cache.rank_k: 0 is not valid; valid: 1 to 1024"},
        {"--rank -1", "cache.rank_k: -1 is not valid; valid: 1 to 1024"},
        {"--rank 64,0", "cache.rank_v: 0 is not valid; valid: 1 to 1024"},
        {"--rank 1e400", "--rank: '1e400' is not valid; valid: N, or K,V, whole numbers from 1"},
        {"--rank 64,0.5", "--rank: '64,0.5' is not valid; valid: N, or K,V, whole numbers from 1"},
        {"--rank 1,2,3", "--rank: '1,2,3' is not valid; valid: N, or K,V"},
        {"--clip 0", "cache.clip: 0 is not valid; valid: 0.1 to 1"},
        {"--clip nan", "not 'nan'; valid: 0.1 to 1"},
        {"--clip inf", "not 'inf'; valid: 0.1 to 1"},
        {"--clip 1e400", "cache.clip: inf is not valid; valid: 0.1 to 1"},
        {"--clip -1e400", "cache.clip: -inf is not valid; valid: 0.1 to 1"},
        {"--clip 1e-400", "not '1e-400'; valid: 0.1 to 1"},
        {"--set cache.clip=1e400", "cache.clip: inf is not valid; valid: 0.1 to 1"},
        {"--set model.rope_theta=1e400", "model.rope_theta: inf is not valid; valid: 1 to 1e+15"},
        {"--set tuning.attend.warps=1e400", "tuning.attend.warps: inf is not valid; valid: "},
        {"--set cache=[]", "cache: must be an object"},
        {"--set tuning=[]", "tuning: must be an object"},
        {"--set tuning.foo={}", "tuning.foo: is not known"},
        {"--set cache.clipp=null", "cache.clipp: is not known; did you mean 'clip'?"},
        {"--set foo=null", "foo: is not known"},
        {"--set tuning.foo=null", "tuning.foo: is not known"},
        {"--set tuning.gemm='{\"x\": null}'", "tuning.gemm.x: is not known"},
        {"--set tuning.accumulate={}", "tuning.accumulate: "},
        {"--set tuning.attend=[]", "tuning.attend: must be an object, not a list"},
        {"--set arch=3", "arch: must be a string (GPU architecture), not 3; valid: sm_80, "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i][0], 1, cases[i][1]);
    refused("--bits ''", 2, "--bits needs an argument: N");
    refused("--method=", 2, "--method needs an argument: NAME");
}

Test(cli_spec, contradictions_are_wrong_usage)
{
    static const char *const cases[][2] = {
        {"--rotation --no-rotation", "--rotation and --no-rotation: give one of them"},
        {"--no-rotation --rotation", "--rotation and --no-rotation: give one of them"},
        {"--bits 4 --bits 8", "--bits: given twice, as '4' and as '8'"},
        {"--model llama-2-7b", "--model: given twice, as 'llama-3.1-8b' and as 'llama-2-7b'"},
        {"--bits 4 --set cache.bits=8", "cache.bits: given twice, as 4 and as 8"},
        {"--set cache.bits=8 --set cache.bits=null", "cache.bits: given twice, as 8 and as null"},
        {"--set cache.bits=8 --set cache=4", "cache: given twice, as {\"bits\":8} and as 4"},
        {"--set dtype=4 --set dtype.x=4", "dtype.x: given twice"},
        {"--no-rotation --set cache.rotation=true", "cache.rotation: given twice, as false and as true"},
        {"--rank 64 --set cache.rank_v=32", "--rank and --set cache.rank_k or cache.rank_v: give one"},
        {"--set model='\"llama-2-7b\"'", "--model and --set model: give one of them"},
        {"--set model.preset='\"llama-2-7b\"'", "--model and --set model: give one of them"},
        {"--arch sm_80 --set arch='\"sm_90\"'", "--arch and --set arch: give one of them"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i][0], 2, cases[i][1]);
    static const char *const malformed[][2] = {
        {"--set cache.bits", "--set: 'cache.bits' is not of the form KEY=JSON"},
        {"--set =4", "--set: '=4' is not of the form KEY=JSON"},
        {"--set cache..bits=4", "--set: 'cache..bits=4' is not of the form KEY=JSON"},
        {"--set cache.method=latent", "--set cache.method: latent is not JSON; put a text in double "
                                      "quotes: --set 'cache.method=\"latent\"'"},
        {"--set cache.bits=", "--set cache.bits:1:1: malformed JSON: it ends too early"},
        {"--set cache.clip=1e-400", "--set cache.clip:1:1: 1e-400 is too small to be told from zero"},
        {"--set cache.bits=1$(printf '%0400d' 0)",
         "--set cache.bits:1:1: the number has more than 60 characters"},
        {"--set $(printf 'a.%.0s' $(seq 40))a=1", "--set: the key 'a.a.a."},
        {"--set $(printf 'a.%.0s' $(seq 30))a='{\"a\": []}'", "and its value have more than 32 levels"},
        {"--set model.rope.theta=0", "model.rope: cannot be given beside model.rope_theta"},
        {"--set cache.bits='4 8'",
         "--set cache.bits:1:3: malformed JSON: nothing more is expected, not '8'"},
        {"--set cache='{\"bits\": 4, \"bits\": 4}'",
         "--set cache:1:13: bits: given twice in one JSON object"},
        {"--set model.name='\"a\\u0000b\"'", "--set model.name:1:3: a string has a NUL character"},
        {"--set model.name=\"$(printf '\"\\377\"')\"", "--set model.name:1:2: byte ff is not UTF-8"},
        {"--set \"$(printf '\\377=4')\"", "--set: the key '\\xff' is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        refused(malformed[i][0], 1, malformed[i][1]);
    free(printed("--model llama-3.1-8b --bits 8 --bits 8 --set cache.bits=8 --rotation --rotation"));
}

Test(cli_spec, set_gives_nothing_that_a_command_cannot_use)
{
    static const char *const cases[][2] = {
        {"prepare . --set cache.bits=4",
         "--set of bits: prepared weights do not depend on it; leave it out"},
        {"prepare . --set 'cache={\"page\": 32}'",
         "--set of page: prepared weights do not depend on it; leave it out"},
        {"prepare . --set tuning.attend.warps=4",
         "--set of tuning: prepared weights do not depend on it; leave it out"},
        {"prepare . --set 'model=\"llama-2-7b\"'", "--set of model: the model is MODEL_DIR; leave it out"},
        {"compare --model llama-2-7b --synthetic --set 'arch=\"sm_80\"'",
         "--set of arch: the device determines it; leave it out"},
        {"run --input i --output o --model llama-2-7b --fp16-kv --set 'cache={\"bits\": 2}'",
         "--set of the key that --bits sets: has no effect with --fp16-kv; leave it out"},
        {"compare --model llama-2-7b --synthetic --set cache.base=true",
         "--set of base: --base-layer names the layer; leave it out"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char expected[256];
        snprintf(expected, sizeof expected, "xq %.*s: %s", (int)strcspn(cases[i][0], " "), cases[i][0],
                 cases[i][1]);
        command_refuses(cases[i][0], 2, expected);
    }
}

Test(cli_spec, set_may_give_the_model)
{
    char *named = printed("--model smollm2-135m"), *set = printed("--set 'model=\"smollm2-135m\"'");
    cr_assert_str_eq(set, named);
    free(named);
    free(set);
}

Test(cli_spec, two_names_of_an_option_are_one)
{
    command_refuses("prepare . -o a --out b", 2, "xq prepare: --out: given twice, as 'a' and as 'b'");
    command_refuses("prepare . --out b -o a", 2, "xq prepare: -o: given twice, as 'b' and as 'a'");
}

Test(cli_spec, spec_files_are_refused_with_line_and_column)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\n  \"model\": \"smollm2-135m\",\n  \"cache\": {\"bits\": 4,}\n}", ":3:23: malformed JSON"},
        {"{\"model\": \"smollm2-135m\"", ":1:25: malformed JSON: it ends too early"},
        {"", ":1:1: malformed JSON: it ends too early"},
        {"{\"model\": \"smollm2-135m\"}\n}", ":2:1: malformed JSON: nothing more is expected, not '}'"},
        {"{\"model\": \"a\",\n\"model\": \"b\"}", ":2:1: model: given twice in one JSON object"},
        {"{\"model\": \"smollm2\\u0000-135m\"}", ":1:19: a string has a NUL character"},
        {"{\"model\": \"\xFF\"}", ":1:12: byte ff is not UTF-8"},
        {"{\"model\": NaN}", ":1:11: malformed JSON: a value is expected, not 'NaN}'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = write_text("bad.json", cases[i].text);
        struct command_result r = command_run("gen --print-spec --spec '%s'", path);
        cr_assert_eq(r.status, 1);
        cr_assert(strstr(r.err, cases[i].message) && strstr(r.err, path), "%s", r.err);
        cr_assert_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "not one line: %s", r.err);
    }
    const char *path = files_path(files_directory(), "nul.json");
    files_write(path, "{\"model\":\n \0\"smollm2-135m\"}", 26);
    struct command_result r = command_run("gen --print-spec --spec '%s'", path);
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.err, "nul.json:2:2: malformed JSON: a NUL byte"), "%s", r.err);
    r = command_run("gen --print-spec --model '%s'", path);
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.err, "nul.json:2:2: malformed JSON: a NUL byte"), "%s", r.err);
}

Test(cli_spec, compare_takes_bits_from_one_place)
{
    struct command_result r = command_run(
        "compare --synthetic --model smollm2-135m --bits 4,8 --set cache.bits=3 --tokens 32 --device sim");
    cr_assert_eq(r.status, 2);
    cr_assert_str_eq(r.err, "xq compare: --bits and --set cache.bits: give one of them\n");
    r = command_run("compare --synthetic --model smollm2-135m --set cache.bits=5 --tokens 32 --device sim");
    cr_assert_eq(r.status, 1);
    cr_assert(strstr(r.err, "cache.bits: 5 is not valid"), "%s", r.err);
}

/* --set alone may name the model. */
Test(cli_spec, a_model_by_set)
{
    static const char *const same[] = {
        "--model llama-2-7b",
        "--set model='\"llama-2-7b\"'",
        "--set model.preset='\"llama-2-7b\"'",
    };
    char *first = NULL;
    for (int i = 0; i < 3; i++) {
        struct command_result r = command_run("gen --print-spec %s", same[i]);
        cr_assert_eq(r.status, 0, "%s: %s", same[i], r.err);
        if (first)
            cr_expect_str_eq(r.out, first, "%s", same[i]);
        else
            first = strdup(r.out);
    }
    free(first);
    struct command_result r = command_run("gen --print-spec --set model.hidden_size=128");
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "num_attention_heads"), "%s", r.err);
    r = command_run("gen --print-spec --set model.rope_theta=5");
    cr_expect_eq(r.status, 2);
    cr_expect(strstr(r.err, "no model given"), "%s", r.err);
}
