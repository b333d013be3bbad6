/* xq: dispatches to the subcommands. */
#include "../examples/llama/blas.h"
#include "cli.h"

#include <stdio.h>
#include <string.h>

struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

/* One line a subcommand, in the order of --help. */
static const struct subcommand subcommands[] = {
    {"info", cli_info, "devices, toolchain, ceilings, cache location"},
    {"gen", cli_gen, "write the specialized sources of a spec"},
    {"prepare", cli_prepare, "weights of a Hugging Face model directory to .xqw"},
    {"run", cli_run, "one layer on tensors of a safetensors file: append, then attend"},
    {"compare", cli_compare, "fp16 KV, unfused and fused side by side"},
    {"verify", cli_verify, "the correctness matrix on a device"},
    {"cache", cli_cache, "list, verify, prune or clear the kernel cache"},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

const char *cli_summary(const char *subcommand)
{
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(subcommands[i].name, subcommand) == 0)
            return subcommands[i].summary;
    return "";
}

static void print_help(FILE *out)
{
    fputs("usage: xq SUBCOMMAND [options]\n\n"
          "Attention over a cache of low-bit quantized activations: writes, compiles, checks and times\n"
          "the kernels.\n\n",
          out);
    for (int i = 0; i < SUBCOMMANDS; i++)
        fprintf(out, "  %-9s %s\n", subcommands[i].name, subcommands[i].summary);
    fputs("\n`xq SUBCOMMAND --help` explains each; `xq --version` prints the version.\n"
          "Exit status: 0 success, 1 bad input, 2 wrong usage, 3 missing device or toolchain.\n",
          out);
}

static int unknown_subcommand(const char *given)
{
    const char *nearest = cli_nearest(given, subcommands, sizeof subcommands[0], SUBCOMMANDS);
    if (nearest)
        fprintf(stderr, "xq: unknown subcommand '%s'; did you mean '%s'? (`xq --help` lists all)\n", given,
                nearest);
    else
        fprintf(stderr, "xq: unknown subcommand '%s'; `xq --help` lists those there are\n", given);
    return CLI_USAGE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("xq %d.%d.%d\n", XQ_VERSION_MAJOR, XQ_VERSION_MINOR, XQ_VERSION_PATCH);
        return CLI_OK;
    }
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(argv[1], subcommands[i].name) == 0) {
            blas_use_the_whole_cpu(argv);
            return subcommands[i].run(argc - 1, argv + 1);
        }
    return unknown_subcommand(argv[1]);
}

int main(int argc, char **argv)
{
    cli_open_standard_streams();
    int status = run(argc, argv);
    return cli_end(argc > 1 && *cli_summary(argv[1]) ? argv[1] : "", status);
}
