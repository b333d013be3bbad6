/* The options of every subcommand. Each takes the options that it can use and refuses the others by name.
 * An invalid value is bad input (status 1); a wrong option is wrong usage (status 2). */
#include "../support/command.h"
#include "../support/files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Checks that stderr is one line that starts with "xq" and contains `part`, and that stdout is empty. */
static void refused(int status, const char *part, const char *arguments)
{
    struct command_result r = command_run("%s", arguments);
    cr_expect_eq(r.status, status, "xq %s: status %d: %s", arguments, r.status, r.err);
    cr_expect(strstr(r.err, part), "xq %s: no '%s' in: %s", arguments, part, r.err);
    cr_expect_eq(strncmp(r.err, "xq", 2), 0, "%s", r.err);
    cr_expect_eq(strchr(r.err, '\n'), r.err + strlen(r.err) - 1, "not one line: %s", r.err);
    cr_expect_str_empty(r.out);
}

/* A limit that is accepted by mistake would prune the cache that this process inherits. */
static void use_own_cache(void)
{
    setenv("XQ_CACHE_DIR", files_directory(), 1);
}

TestSuite(cli_options, .init = use_own_cache);

/* ----------------------------------------------------------------- options of each command */

/* The shared options that each command refuses. Options of its own are not listed. */
static const struct {
    const char *command, *unused;
} commands[] = {
    {"info", "--seed --templates"},
    {"gen", "--device --seed --cache-dir --kernels --no-compile"},
    {"prepare d", "--model --layer-kind --base --bits --axis-v --zero-point --clip "
                  "--accumulator-bits --page --dtype "
                  "--queries --device --seed --cache-dir --kernels --no-compile --verbose"},
    {"run", "--base --queries --seed"},
    {"compare", "--base"},
    {"verify", ""},
    {"cache export", "--base --seed --kernels --no-compile"},
    {"emit", "--base --device --seed --kernels --no-compile"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const char *const common[] = {"--device",     "--json",      "--seed",  "--cache-dir", "--kernels",
                                     "--no-compile", "--templates", "--quiet", "--verbose"};
static const char *const of_spec[] = {
    "--model",  "--layer-kind",  "--method",     "--bits",     "--group",   "--axis-k",
    "--axis-v", "--clip",        "--zero-point", "--rank",     "--groups",  "--rotation",
    "--page",   "--no-rotation", "--base",       "--feedback", "--weights", "--accumulator-bits",
    "--dtype",  "--queries",     "--spec",       "--set"};

static bool has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        if ((at == text || at[-1] == ' ') && (!at[length] || at[length] == ' '))
            return true;
    return false;
}

/* Whether --help lists the option at the beginning of a line. */
static bool listed(const char *help, const char *option)
{
    char line[64];
    snprintf(line, sizeof line, "\n  %s ", option);
    return strstr(help, line) != NULL;
}

static void check_option(int command, const char *help, const char *option)
{
    char arguments[256];
    bool unused = has_word(commands[command].unused, option);
    cr_expect_eq(listed(help, option), !unused, "%s %s", commands[command].command, option);
    if (!unused)
        return;
    snprintf(arguments, sizeof arguments, "%s %s 1", commands[command].command, option);
    refused(2, "; leave it out", arguments);
    refused(2, option, arguments);
}

Test(cli_options, each_command_takes_what_it_can_use_and_refuses_the_rest_by_name, .timeout = 120)
{
    for (int i = 0; i < COMMANDS; i++) {
        struct command_result r = command_run("%s --help", commands[i].command);
        char *help = strdup(r.out);
        cr_assert_eq(r.status, 0, "%s", r.err);
        for (size_t j = 0; j < sizeof common / sizeof *common; j++)
            check_option(i, help, common[j]);
        bool takes_spec = listed(help, "--method");
        for (size_t j = 0; takes_spec && j < sizeof of_spec / sizeof *of_spec; j++)
            check_option(i, help, of_spec[j]);
        free(help);
    }
}

Test(cli_options, an_option_without_effect_beside_another_is_refused, .timeout = 120)
{
    refused(2, "--family: has no effect with --print-spec",
            "gen --model llama-3.1-8b --print-spec --family foo");
    refused(2, "--out: has no effect with --print-spec", "gen --model llama-3.1-8b --print-spec --out d");
    refused(2, "--set tuning.attend: has no effect, because no such kernel runs here; valid: append, rope",
            "gen --model llama-3.1-8b --family append,rope --out d --set tuning.attend.warps=4");
    refused(2, "--ptx: has no effect with --print-spec", "gen --model llama-3.1-8b --print-spec --ptx");
    refused(2, "--json: has no effect with --print-spec", "gen --model llama-3.1-8b --print-spec --json f");
    refused(2, "--bits: has no effect with --list-models", "gen --list-models --bits 4");
    refused(2, "--features: has no effect with --list-models", "gen --list-models --features");
    refused(2, "--arch: has no effect with --features", "gen --features --arch sm_80");
    refused(2, "--print-spec: has no effect with --list-parameters", "gen --list-parameters --print-spec");
    refused(2, "--bits: has no effect on --list-parameters without --model",
            "gen --list-parameters --bits 4");
    refused(2, "--arch: has no effect on --list-parameters without", "gen --list-parameters --arch sm_80");
    refused(2, "--json: has no effect without --out DIR",
            "gen --model llama-3.1-8b --family rope --json -");
    refused(2, "--tier: has no effect with --case", "verify --case 3 --tier full");
    refused(2, "--cases: has no effect with --case", "verify --case 3 --cases 4");
    refused(2, "--bits: has no effect with --fp16-kv",
            "run --input a --output b --model llama-3.1-8b --fp16-kv --bits 4");
    refused(2, "--prepared: has no effect with --fp16-kv",
            "run --input a --output b --model llama-3.1-8b --fp16-kv --prepared f");
    refused(2, "--quiet: has no effect with --verbose", "info --quiet --verbose");
    refused(2, "--to: only export takes it", "cache list --to d");
    refused(2, "--device: only export takes it", "cache clear --device sim");
    refused(2, "--bits: only export takes it", "cache verify --bits 4");
    refused(2, "--older-than: only prune takes it", "cache export --to d --older-than 3");
    refused(2, "unexpected argument '0123'; only export takes KEYs", "cache clear 0123");
    refused(2, "export needs --to DIR", "cache export");
    refused(2, "--bits: has no effect without --model or --spec", "cache export --to d --bits 4");
    refused(2, "--max-batch: has no effect without --model", "cache export --to d --max-batch 4");
    refused(2, "--device: has no effect without --model", "cache export --to d --device sim");
    refused(2, "'0123': a KEY has no effect with --model",
            "cache export 0123 --to d --model llama-3.1-8b --arch sm_80");
    refused(2, "--family: has no effect with --model or --spec",
            "cache export --to d --model llama-3.1-8b --arch sm_80 --family rope");
    refused(2, "export needs --arch ARCH[,ARCH]", "cache export --to d --model llama-3.1-8b");
    refused(2, "--device: has no effect with --arch",
            "cache export --to d --model llama-3.1-8b --arch sm_80 --device sim");
    refused(2, "--set arch: has no effect on export; give --arch",
            "cache export --to d --model llama-3.1-8b --set 'arch=\"sm_80\"'");
    refused(2, "--group: prepared weights depend on it only with", "prepare d --group 64");
    refused(2, "--group: prepared weights depend on it only with", "prepare d --set cache.group=64");
    refused(2, "--axis-k: prepared weights depend on it only with --pack", "prepare d --axis-k channel");
    refused(2, "--axis-k: prepared weights depend on it only with --pack",
            "prepare d --set 'cache.axis_k=\"channel\"'");
    refused(2, "--weights: has no effect without --pack", "prepare d --weights int8");
    refused(2, "--weights: has no effect without --pack", "prepare d --set 'weights=\"int8\"'");
    refused(2,
            "--base-layer: method latent has no base layer, only x-cl and latent-cl have one; leave it out",
            "compare --model llama-3.1-8b --synthetic --base-layer 1");
}

/* ----------------------------------------------------------------- values */

Test(cli_options, a_value_out_of_bounds_is_bad_input_with_the_valid_values, .timeout = 120)
{
    refused(1, "--threads: 0; valid: 1 to 64", "prepare d --threads 0");
    refused(1, "--threads: -1; valid: 1 to 64", "prepare d --threads -1");
    refused(1, "--threads: 99999999999999999999; valid: 1 to 64",
            "prepare d --threads 99999999999999999999");
    refused(1, "--cases: 0; valid: 1 to 1000000", "verify --cases 0");
    refused(1, "--cases: -5; valid: 1 to 1000000", "verify --cases -5");
    refused(1, "--case: -1; valid: 0 to 9007199254740991", "verify --case -1");
    refused(1, "--case: -2; valid: 0 to 9007199254740991", "verify --case -2");
    refused(1, "--seed: -1; valid: 0 to 9007199254740991", "verify --seed -1");
    refused(1, "--seed: 9007199254740993; valid:", "compare --seed 9007199254740993");
    refused(1, "--tokens: -2147483648; valid: 1 to 16777216", "compare --tokens -2147483648");
    refused(1, "--tokens: 0; valid:", "compare --tokens 0");
    refused(1, "--batch: 0; valid: 1 to 65535", "compare --batch 0");
    refused(1, "--queries: 0; valid: 1 to 65536", "compare --queries 0");
    refused(1, "--base-layer: -1; valid: 0 to 9999", "compare --base-layer -1");
    refused(1, "--layer: -1; valid: 0 to 9999", "run --layer -1");
    refused(1, "--layers: '32' is no layer of the model; valid: layers 0 to 31",
            "compare --model llama-3.1-8b --synthetic --layers 32");
    refused(1, "--base-layer: 31; valid: 0 to 30",
            "compare --model llama-3.1-8b --synthetic --method x-cl --base-layer 31");
    refused(1, "--chunk: 0; valid: 1 to 1048576", "run --chunk 0");
    refused(1, "--tier: 'huge'", "verify --tier huge");
    refused(1, "--store: 'f64'", "prepare d --store f64");
}

Test(cli_options, help_names_the_valid_values)
{
    struct command_result r = command_run("verify --help");
    cr_expect(strstr(r.out, "1 to 1000000") && strstr(r.out, "0 to 9007199254740991"), "%s", r.out);
    r = command_run("prepare --help");
    cr_expect(strstr(r.out, "1 to 64"), "%s", r.out);
}

/* Both faults have the same status, because it depends on the reader of a value whether a text is not a
 * number or not a valid number. */
Test(cli_options, a_value_of_another_type_is_bad_input_too, .timeout = 120)
{
    refused(1, "--threads: 'many' is not an integer; valid: 1 to 64", "prepare d --threads many");
    refused(1, "--base-layer: '2.0' is not an integer", "prepare d --base-layer 2.0");
    refused(1, "--cases: '1e3' is not an integer; valid: 1 to 1000000", "verify --cases 1e3");
    refused(1, "--case: 'nan' is not an integer; valid:", "verify --case nan");
    refused(1, "--seed: 'x' is not an integer; valid:", "verify --seed x");
    static const char *const counts[] = {"--tokens",     "--batch",  "--queries",
                                         "--base-layer", "--layers", "--bits"};
    char arguments[160];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        snprintf(arguments, sizeof arguments, "compare --model llama-3.1-8b --synthetic %s abc", counts[i]);
        refused(1, counts[i], arguments);
    }
    static const char *const of_run[] = {"--layer", "--chunk", "--base-layer"};
    for (size_t i = 0; i < sizeof of_run / sizeof *of_run; i++) {
        snprintf(arguments, sizeof arguments, "run --input a --output b %s abc", of_run[i]);
        refused(1, of_run[i], arguments);
    }
    static const char *const keys[][2] = {
        {"--bits", "cache.bits"},       {"--group", "cache.group"},
        {"--axis-k", "cache.axis_k"},   {"--axis-v", "cache.axis_v"},
        {"--clip", "cache.clip"},       {"--zero-point", "cache.zero_point"},
        {"--rank", "--rank"},           {"--groups", "--groups"},
        {"--page", "cache.page"},       {"--accumulator-bits", "cache.accumulator_bits"},
        {"--dtype", "dtype"},           {"--weights", "weights"},
        {"--queries", "queries"},       {"--method", "cache.method"},
        {"--layer-kind", "layer_kind"}, {"--arch", "arch"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(arguments, sizeof arguments, "gen --print-spec --model llama-3.1-8b %s abc", keys[i][0]);
        refused(1, keys[i][1], arguments);
    }
    refused(1, "--set cache.bits", "gen --print-spec --model llama-3.1-8b --set cache.bits=abc");
    refused(1, "device 'abc'", "info --device abc");
    refused(1, "device 'cuda:abc'", "info --device cuda:abc");
    refused(1, "--older-than: 'abc'", "cache prune --older-than abc");
    refused(1, "--larger-than: 'abc'", "cache prune --larger-than abc");
    refused(1, "--tier: 'abc'", "verify --tier abc");
    refused(1, "--store: 'abc'", "prepare d --store abc");
    refused(1, "'abc' is not known", "gen --model llama-3.1-8b --family abc");
}

#define COMPARE "compare --model llama-3.1-8b --synthetic "

/* Numbers are written in the same form for all options. */
Test(cli_options, numbers_are_those_of_json_everywhere, .timeout = 240)
{
    static const char *const bad[] = {" 16", "16 ", "+16", "016", "0x10", "16.", "1 6", "--16", "\t16"};
    static const char *const options[][2] = {
        {"compare --synthetic --model smollm2-135m", "--tokens"},
        {"compare --synthetic --model smollm2-135m", "--layers"},
        {"compare --synthetic --model smollm2-135m", "--bits"},
        {"verify", "--seed"},
        {"run --input a --output b", "--chunk"},
        {"prepare d", "--threads"},
        {"cache prune", "--older-than"},
        {"cache prune", "--larger-than"},
        {"gen --print-spec --model smollm2-135m", "--page"},
        {"gen --print-spec --model smollm2-135m", "--clip"},
        {"gen --print-spec --model smollm2-135m", "--rank"},
        {"info", "--device cuda:"},
    };
    char arguments[200];
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            const char *option = options[i][1];
            const char *separator = option[strlen(option) - 1] == ':' ? "" : "=";
            snprintf(arguments, sizeof arguments, "%s %s%s\"$(printf -- '%s')\"", options[i][0], option,
                     separator, bad[j]);
            struct command_result r = command_run("%s", arguments);
            cr_expect_eq(r.status, 1, "%s: status %d, %s%s", arguments, r.status, r.err, r.out);
            const char *shown = bad[j][0] == '\t' ? "\\x0916" : bad[j];
            cr_expect(strstr(r.err, shown) && strchr(r.err, '\''), "%s: %s", arguments, r.err);
        }
    refused(1, "--older-than: '1e9' is no number of days; valid: 0 to 36500",
            "cache prune --older-than 1e9");
    refused(1, "--larger-than: '99999999999T' is no size; valid: 0 to 8388608T",
            "cache prune --larger-than 99999999999T");
    refused(1, "--bits: '0' is no bit width; valid: 2, 3, 4, 8", COMPARE "--bits 0");
}

Test(cli_options, an_option_without_its_value_is_wrong_usage)
{
    refused(2, "an argument is empty; usage: xq prepare MODEL_DIR|--show FILE", "prepare ''");
    refused(2, "an argument is empty; usage: xq cache list|verify|export|prune|clear", "cache ''");
    refused(2, "--json needs an argument: FILE|-", "info --json --quiet");
    refused(2, "--json needs an argument: FILE|-", "info --json ''");
    refused(2, "--json needs an argument: FILE|-", "info --json=");
    refused(2, "--out needs an argument: FILE", "prepare d --out");
}

Test(cli_options, lists_lose_nothing)
{
    refused(1, "--layers: ',' has an empty item; valid: L,L...", COMPARE "--layers ,");
    refused(1, "--bits: '4,,8' has an empty item", COMPARE "--bits 4,,8");
    refused(1, "--bits: '4,' has an empty item", COMPARE "--bits 4,");
    refused(1, "--bits: '4' comes twice", COMPARE "--bits 4,4");
    refused(1, "--layers: '1' comes twice", COMPARE "--layers 1 --layers 2,1");
    refused(1, "--bits: too many bit widths; valid: at most 8", COMPARE "--bits 1,2,3,4,5,6,7,8,9");
    refused(1, "--layers: 'x' is no layer of the model", COMPARE "--layers x");
    refused(1, "--layers: '99999999999999999999' is no layer", COMPARE "--layers 99999999999999999999");
    refused(1, "--family: ',rope' has an empty item", "gen --model llama-3.1-8b --family ,rope");
    char arguments[512] =
        "compare --model llama-3.1-70b --synthetic --layers 79"; /* all but the last are valid */
    for (int i = 0; i < 60; i++)
        snprintf(arguments + strlen(arguments), sizeof arguments - strlen(arguments), ",%d", i);
    strcat(arguments, ",x");
    refused(1, "--layers: 'x' is no layer of the model", arguments);
}

/* ----------------------------------------------------------------- suggestions */

Test(cli_options, unknown_options_suggest_what_is_near_and_nothing_else, .timeout = 120)
{
    refused(2, "did you mean '--help'?", "gen --hlep");
    refused(2, "did you mean '--help'?", "verify -help");
    refused(2, "did you mean '--quiet'?", "info --quite");
    refused(2, "did you mean '--device'?", "info --dev sim");
    refused(2, "did you mean '--dump-cache'?", "run --dump");
    refused(2, "did you mean '--out'?", "gen --out-dir d");
    refused(2, "did you mean '--cache-dir'?", "info --cache_dir d");
    refused(2, "did you mean '--version'?", "--versoin");
    refused(2, "did you mean 'verify'?", "help verfy");
    static const char *const far[] = {"info -x", "info --frobnicate", "verify --zz", "gen --o",
                                      "cache list --kj=3"};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        struct command_result r = command_run("%s", far[i]);
        cr_expect_eq(r.status, 2);
        cr_expect(!strstr(r.err, "did you mean"), "%s", r.err);
    }
}

Test(cli_options, help_of_a_subcommand_is_the_same_both_ways)
{
    for (int i = 0; i < COMMANDS; i++) {
        char name[32];
        sscanf(commands[i].command, "%31s", name);
        char *first = strdup(command_run("%s --help", name).out);
        struct command_result second = command_run("help %s", name);
        cr_expect_str_eq(second.out, first);
        cr_expect_eq(second.status, 0);
        free(first);
    }
    char *all = strdup(command_run("--help").out);
    cr_expect_str_eq(command_run("help").out, all);
    cr_expect_str_eq(command_run("help --help").out, all);
    cr_expect(strstr(command_run("help help").out, "usage: xq help [SUBCOMMAND]"));
    free(all);
    refused(2, "unexpected argument 'gen'", "help info gen");
    refused(2, "unexpected argument 'info'", "--version info");
    refused(2, "unknown subcommand 'frobnicate'", "help frobnicate");
}

Test(cli_options, defaults_that_depend_are_told)
{
    struct command_result r = command_run("gen --help");
    cr_expect(strstr(r.out, "(latent; x if every query head has its own KV head)"), "%s", r.out);
    cr_expect(strstr(r.out, "with rotation 0.8 at 2 bits, 0.95 at 3 and 4"), "%s", r.out);
    cr_expect(strstr(r.out, "default for x and latent; latent-cl allows it"), "%s", r.out);
}

/* `xq --help` lists the NAME of every getenv("NAME") in the program, and the variables of its libraries. */
Test(cli_options, help_lists_the_environment)
{
    char *help = strdup(command_run("--help").out);
    FILE *names =
        popen("grep -rhoE 'getenv\\(\"[A-Z_]+\"\\)' --include=*.c gen runtime prepare autotune cli "
              "| grep -oE '[A-Z_]{3,}' | sort -u; echo CUDA_HOME; echo CUDA_PATH",
              "r");
    char name[128];
    int count = 0;
    while (fgets(name, sizeof name, names)) {
        name[strcspn(name, "\n")] = 0;
        cr_expect(strstr(help, name), "%s is not in xq --help", name);
        count++;
    }
    pclose(names);
    cr_expect_geq(count, 10);
    free(help);
}

/* ----------------------------------------------------------------- output */

Test(cli_options, a_model_that_is_a_path_is_not_answered_with_presets)
{
    static const char *const paths[] = {"./foo/", "dir/that/is/missing", "\\~/models/x", "../x",
                                        "config.json"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char arguments[128];
        snprintf(arguments, sizeof arguments, "gen --print-spec --model %s", paths[i]);
        refused(1, "does not exist", arguments);
        cr_expect(!strstr(command_run("%s", arguments).err, "llama-3.1-8b"));
    }
    refused(1, "the shell replaces ~", "gen --print-spec --model \\~/models/x");
    /* The error for an unknown name suggests the nearest name, and says how to list all. */
    refused(1, "did you mean 'llama-3.1-8b'?", "gen --print-spec --model lama-3.1-8b");
    refused(1, "`xq gen --list-models`", "gen --print-spec --model lama-3.1-8b");
    cr_expect_lt(strlen(command_run("gen --print-spec --model zzz").err), 250);
}

Test(cli_options, control_characters_are_not_echoed)
{
#define RED "\"$(printf '\\033[31mx\\ny')\""
    refused(2, "\\x1b[31mx\\x0ay", "gen --" RED);
    refused(2, "\\x1b[31mx\\x0ay", RED);
    refused(2, "\\x1b[31mx\\x0ay", "info " RED);
    refused(1, "\\x1b[31mx\\x0ay", "info --device " RED);
    refused(1, "\\x1b[31mx\\x0ay", "gen --print-spec --spec " RED);
    refused(1, "\\x1b[31mx\\x0ay", "gen --print-spec --model ./" RED);
    refused(1, "\\x1b[31mx\\x0ay", "gen --print-spec --model llama-3.1-8b --method " RED);
    refused(1, "\\x1b[31mx\\x0ay", "gen --model llama-3.1-8b --out /nonexistent/" RED);
    const char *path = files_path(files_directory(), "spec.json");
    const char *text = "{\"model\": \"llama-3.1-8b\", \"cache\": {\"\\u001b[31mx\\ny\": 1}}";
    char arguments[512];
    files_write(path, text, strlen(text));
    snprintf(arguments, sizeof arguments, "gen --print-spec --spec %s", path);
    refused(1, "\\x1b[31mx\\x0ay", arguments);
}

/* A path may hold any bytes, but JSON must be UTF-8. */
Test(cli_options, what_is_not_utf8_is_named_and_json_is_always_utf8, .timeout = 60)
{
#define FF "\"$(printf 'a\\377')\""
    static const char *const options[] = {"--method", "--bits", "--clip", "--rank", "--group", "--dtype"};
    char arguments[512], message[64];
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        snprintf(arguments, sizeof arguments, "gen --print-spec --model llama-3.1-8b %s " FF, options[i]);
        snprintf(message, sizeof message, "%s: 'a\\xff' is not UTF-8", options[i]);
        refused(1, message, arguments);
    }
    refused(1, "--model: 'a\\xff' is not UTF-8", "gen --print-spec --model " FF);
    refused(1, "--device: 'a\\xff' is not UTF-8", "info --device " FF);
    refused(1, "--out: 'a\\xff' is not UTF-8, and --json writes UTF-8", "prepare d --json - --out " FF);
    refused(1, "'a\\xff' is not UTF-8, and --json writes UTF-8", "prepare --json - " FF);
    const char *directory = files_directory();
    struct command_result r = command_run("gen --model smollm2-135m --family rope --out %s/" FF, directory);
    cr_expect_eq(r.status, 0, "without --json it is a name like others: %s", r.err);
    setenv("XQ_CACHE_DIR", "/tmp/a\377b/missing", 1);
    r = command_run("info --device sim --json -");
    cr_expect(strstr(r.out, "/tmp/a\xef\xbf\xbd"
                            "b/missing"),
              "%s", r.out);
    cr_expect(!strchr(r.out, '\377'), "%s", r.out);
}

Test(cli_options, a_path_with_a_newline_is_one_line)
{
    const char *directory = files_directory();
    struct command_result r = command_run(
        "gen --model smollm2-135m --family rope --out %s/\"$(printf 'a\\033\\nb')\"", directory);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect(strstr(r.out, "/a\\x1b\\x0ab\n"), "%s", r.out);
    r = command_run("cache list --cache-dir %s/\"$(printf 'c\\nd')\"", directory);
    cr_expect(strstr(r.out, "/c\\x0ad\n"), "%s", r.out);
}

Test(cli_options, megabytes_are_cut_and_what_is_valid_still_follows)
{
    enum { SIZE = 2 << 20 };
    const char *path = files_path(files_directory(), "spec.json");
    char *text = malloc(SIZE + 128), arguments[512];
    int head = sprintf(text, "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"");
    memset(text + head, 'm', SIZE);
    strcpy(text + head + SIZE, "\"}}");
    files_write(path, text, strlen(text));
    free(text);
    snprintf(arguments, sizeof arguments, "gen --print-spec --spec %s", path);
    refused(1, "valid: x, latent, x-cl, latent-cl", arguments);
    cr_expect_lt(strlen(command_run("%s", arguments).err), 1100);
    refused(2, "unknown option '--aaaa", "info --$(head -c 100000 /dev/zero | tr '\\0' a)");
    cr_expect_lt(strlen(command_run("info --$(head -c 100000 /dev/zero | tr '\\0' a)").err), 1100);
}
