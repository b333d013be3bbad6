/* xq: calls the subcommands. */
#include "../runtime/base/blas.h"
#include "cli.h"
#include "signals.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
    const char *const *parts; /* names of its own subcommands; ends with NULL; NULL: none */
};

/* One subcommand in each line, in the order of --help. */
static const struct subcommand subcommands[] = {
    {"info", cli_info, cli_info_summary, NULL},           {"gen", cli_gen, cli_gen_summary, NULL},
    {"prepare", cli_prepare, cli_prepare_summary, NULL},  {"run", cli_run, cli_run_summary, NULL},
    {"compare", cli_compare, cli_compare_summary, NULL},  {"verify", cli_verify, cli_verify_summary, NULL},
    {"tune", cli_tune, cli_tune_summary, cli_tune_parts}, {"emit", cli_emit, cli_emit_summary, NULL},
    {"cache", cli_cache, cli_cache_summary, NULL},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

/* The variables that xq and its libraries read from the environment; tests/cli/test_cli_options.c checks
 * the list against the sources. */
static const char environment[] =
    "  XQ_CACHE_DIR       folder of the kernel cache, like --cache-dir; '' means no cache. If it is\n"
    "                     not set: XDG_CACHE_HOME/xq, or else HOME/.cache/xq\n"
    "  XQ_KERNELS         kernel stores, like --kernels: folders separated by colons. They are\n"
    "                     searched before the cache, and never written\n"
    "  XQ_NO_COMPILE      1: nothing is compiled, and a kernel that is neither in a store nor in the\n"
    "                     cache is an error; 0 or '': missing kernels are compiled\n"
    "  XQ_TUNED           a table of tuned parameters (docs/tuning.md). It takes precedence over the\n"
    "                     table in the configuration folder, XDG_CONFIG_HOME/xq/tuned.json or else\n"
    "                     HOME/.config/xq/tuned.json; '' means no table at all\n"
    "  XQ_NVRTC           the NVRTC library to compile with. If it is not set, xq searches CUDA_HOME,\n"
    "                     CUDA_PATH, the loader's path, /usr/local/cuda*, and the Python environments\n"
    "                     in VIRTUAL_ENV, PATH and HOME/.local\n"
    "  XQ_LIBCUDA         the NVIDIA driver's library (libcuda.so.1)\n"
    "  XQ_NVML            NVIDIA's management library, which reports what else uses the GPU\n"
    "                     (libnvidia-ml.so.1)\n"
    "  XQ_LOCK_DIR        folder of the lock files that let measurements on a GPU take turns (/tmp)\n"
    "  CUDA_VISIBLE_DEVICES\n"
    "                     read by the driver: the GPUs that cuda:0, cuda:1, ... name\n"
    "  OPENBLAS_NUM_THREADS, OPENBLAS_CORETYPE\n"
    "                     read by OpenBLAS, which prepare, run and compare use; xq sets the latter where\n"
    "                     OpenBLAS does not know the CPU\n";

static void print_help(FILE *out)
{
    fputs("usage: xq SUBCOMMAND [options]\n\n"
          "xq generates, compiles, verifies and times kernels for attention over a cache of quantized\n"
          "activations.\n\n",
          out);
    for (int i = 0; i < SUBCOMMANDS; i++) {
        fprintf(out, "  %-9s %s", subcommands[i].name, subcommands[i].summary);
        for (const char *const *part = subcommands[i].parts; part && *part; part++)
            fprintf(out, "%s%s%s", part == subcommands[i].parts ? " (parts: " : ", ", *part,
                    part[1] ? "" : ")");
        fputc('\n', out);
    }
    fputs("\n`xq SUBCOMMAND --help` and `xq help SUBCOMMAND` explain a subcommand; `xq --version`\n"
          "prints the version.\n"
          "\n"
          "Exit status: 0 success; 1 bad input: a file or a value that is not valid; 2 wrong usage: an\n"
          "option that is unknown, lacks its value, or cannot be used here; 3 missing device or\n"
          "toolchain.\n"
          "\n"
          "Environment:\n",
          out);
    fputs(environment, out);
}

static const struct subcommand *find(const char *name)
{
    for (int i = 0; i < SUBCOMMANDS; i++)
        if (strcmp(name, subcommands[i].name) == 0)
            return &subcommands[i];
    return NULL;
}

static int unknown_subcommand(const char *given)
{
    const char *names[SUBCOMMANDS + 3] = {"help", "--help", "--version"};
    for (int i = 0; i < SUBCOMMANDS; i++)
        names[i + 3] = subcommands[i].name;
    const char *what = *given == '-' ? "option" : "subcommand";
    const char *nearest = cli_nearest(given, names, sizeof names[0], SUBCOMMANDS + 3);
    if (nearest)
        return cli_usage("", "unknown %s '%s'; did you mean '%s'? (`xq --help` lists them all)", what,
                         given, nearest);
    return cli_usage("", "unknown %s '%s'; `xq --help` lists them all", what, given);
}

static bool has_part(const struct subcommand *subcommand, const char *name)
{
    const char *const *part = subcommand ? subcommand->parts : NULL;
    while (part && *part && strcmp(*part, name) != 0)
        part++;
    return part && *part;
}

/* `xq help [SUBCOMMAND]`, with argv[0] "help". */
static int help(int argc, char **argv)
{
    static char option[] = "--help";
    const struct subcommand *subcommand = argc > 1 ? find(argv[1]) : NULL;
    if (argc == 3 && has_part(subcommand, argv[2]))
        return subcommand->run(3, (char *[]){argv[1], argv[2], option, NULL});
    if (argc > 2)
        return cli_usage("", "unexpected argument '%s'; usage: xq help [SUBCOMMAND]", argv[2]);
    if (argc < 2 || strcmp(argv[1], option) == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "help") == 0) {
        puts("usage: xq help [SUBCOMMAND]\n\nThe same as `xq --help`, or `xq SUBCOMMAND --help`.");
        return CLI_OK;
    }
    char *arguments[] = {argv[1], option, NULL};
    return subcommand ? subcommand->run(2, arguments) : unknown_subcommand(argv[1]);
}

/* Runs --help, --version, or a subcommand. */
static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *first = argv[1];
    const struct subcommand *subcommand = find(first);
    if (subcommand) {
        blas_use_the_whole_cpu(argv);
        return subcommand->run(argc - 1, argv + 1);
    }
    if (strcmp(first, "help") == 0)
        return help(argc - 1, argv + 1);
    bool wants_help = strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0;
    if (!wants_help && strcmp(first, "--version") != 0)
        return unknown_subcommand(first);
    if (argc > 2)
        return cli_usage("", "unexpected argument '%s' after %s", argv[2], first);
    if (wants_help)
        print_help(stdout);
    else
        printf("xq %d.%d.%d\n", XQ_VERSION_MAJOR, XQ_VERSION_MINOR, XQ_VERSION_PATCH);
    return CLI_OK;
}

/* Blocks SIGHUP, SIGINT, SIGQUIT, SIGTERM and SIGXCPU (signals.h) before the constructors of libraries run,
 * because OpenBLAS's constructor starts threads. It makes a system call, because the C library and
 * sanitizers are not set up yet. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static void block_signals(void)
{
    static const uint64_t mask = 1u << (SIGHUP - 1) | 1u << (SIGINT - 1) | 1u << (SIGQUIT - 1) |
                                 1u << (SIGTERM - 1) | 1u << (SIGXCPU - 1);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, NULL, sizeof mask);
}

__attribute__((section(".preinit_array"),
               used)) static void (*const before_libraries)(void) = block_signals;

int main(int argc, char **argv)
{
    cli_open_standard_streams();
    cli_signals_start(cli_remove_temporaries);
    int status = run(argc, argv);
    return cli_end(argc > 1 && find(argv[1]) ? argv[1] : "", status);
}
