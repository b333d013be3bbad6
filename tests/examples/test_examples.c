/* The examples, built as a user builds them, against an installed xq. They run on the software device, and
 * on stand-ins for the driver and for NCCL. Their own checks are tested too: an example that computes a
 * wrong result must notice. */
#include "../support/files.h"
#include "../support/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *said; /* output of the last command */

/* Runs a command and returns its exit status. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[8000];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    free(said);
    return shell_run(command, &said);
}

/* Installs xq into an empty prefix, and copies the examples into its folder `examples`. */
static const char *stage(void)
{
    const char *folder = files_directory();
    cr_assert_eq(run("DESTDIR= sh scripts/install.sh %s %s && cp -r examples %s/examples",
                     shell_build_folder(), folder, folder),
                 0, "%s", said);
    return folder;
}

/* Builds example `name` again; `kind` is shared or static. */
static void build(const char *folder, const char *name, const char *kind)
{
    int status =
        run("cd %s/examples/%s && export PKG_CONFIG_PATH=%s/lib/pkgconfig && make() { env -u MAKEFLAGS "
            "make -s --no-print-directory \"$@\"; } && make clean && "
            "make CFLAGS='-O1 -Wall -Wextra -Werror %s' STATIC=%d",
            folder, name, folder, SHELL_SANITIZER, strcmp(kind, "static") == 0);
    cr_assert_eq(status, 0, "%s, %s: %s", name, kind, said);
}

/* The environment of a program for which the stand-in driver has GPUs and runs their kernels. Leaks are
 * checked only on the software device, since the leak sanitizer has crashed beside the threads of a loaded
 * driver and NVRTC. */
static const char *stand_in(const char *capabilities)
{
    static char text[8192];
    snprintf(text, sizeof text,
             "ASAN_OPTIONS=detect_leaks=0 XQ_LIBCUDA=%s/tests/libsim_cuda.so FAKE_CUDA_CAPABILITIES=%s",
             shell_build_folder(), capabilities);
    return text;
}

static void assert_said(const char *text)
{
    cr_assert(strstr(said, text), "'%s' is missing:\n%s", text, said);
}

static const struct example {
    const char *folder, *program;
    const char *says[6]; /* output on the software device */
} examples[] = {
    {"decode",
     "decode",
     {"step 8          tokens 38 + 20 + 52, pages 3 + 2 + 4, relative error ",
      "47520 bytes for 110 tokens of 3 layers; fp16 keys and values would take 168960",
      "9 of 9 given out"}},
    {"cuda-graph", "graph", {"padding", "the software device has no graphs", "relative error  "}},
    {"tensor-parallel",
     "parallel",
     {"rank 0          heads 0 to 1", "rank 1          heads 2 to 3", "sums            by shared memory",
      "x                   144 bytes a token a rank, 144 on one rank",
      "latent, joint        72 bytes a token a rank,  72 on one rank",
      "latent, per group    72 bytes a token a rank, 144 on one rank"}},
    {"continuous-batching",
     "batching",
     {"78 of 78 outputs are bit for bit those of the request alone", "; waiting 4 5; ", "3 of them shared",
      "appended 2 times for 5 requests", "33 taken from a pool of 12; at the end 12 are free"}},
};
enum { EXAMPLES = sizeof examples / sizeof examples[0] };

/* Checks that a program refuses arguments that it cannot use. */
static void says_its_usage(const char *folder, const char *example, const char *program)
{
    char usage[256];
    snprintf(usage, sizeof usage, "usage: %s [DEVICE], where DEVICE is auto (default), cuda", program);
    static const char *const arguments[] = {"sim 99", "sim 99 99", "--help sim", "--help"};
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(run("%s/%s/%s %s", folder, example, program, arguments[i]), i < 3, "%s", said);
        cr_assert_eq(strncmp(said, usage, strlen(usage)), 0, "%s", said);
        cr_assert_eq(strchr(said, '\n')[1], 0, "%s", said);
    }
}

Test(examples, the_smallest_ones_say_their_usage, .timeout = 120)
{
    const char *folder = stage(), *installed = files_path(folder, "examples");
    static const char *const programs[][2] = {
        {"minimal", "minimal"}, {"embed", "embed"}, {"embed", "layers"}};
    for (int i = 0; i < 3; i++) {
        build(folder, programs[i][0], "shared");
        says_its_usage(installed, programs[i][0], programs[i][1]);
    }
}

Test(examples, build_and_run_on_the_software_device_shared_and_static, .timeout = 300)
{
    static const char *const kinds[] = {"shared", "static"};
    const char *folder = stage();
    for (int k = 0; k < 2; k++)
        for (const struct example *e = examples; e < examples + EXAMPLES; e++) {
            build(folder, e->folder, kinds[k]);
            cr_assert_eq(run("%s/examples/%s/%s sim", folder, e->folder, e->program), 0, "%s", said);
            assert_said("(software device)");
            for (int i = 0; i < 6 && e->says[i]; i++)
                assert_said(e->says[i]);
            cr_assert_eq(run("%s/examples/%s/%s nothing", folder, e->folder, e->program), 1, "%s", said);
            assert_said(e->program);
            assert_said(": xq_context_create: XQ_ERROR_ARGUMENT: device 'nothing'");
            says_its_usage(files_path(folder, "examples"), e->folder, e->program);
        }
}

/* The stand-in driver runs PTX. Its GPU is newer than all images of the bundle. */
Test(examples, an_emitted_bundle_in_a_cmake_project, .timeout = 300)
{
    const char *folder = stage();
    cr_assert_eq(run("cd %s/examples/emitted && PATH=%s/bin:$PATH && export PATH && "
                     "cmake -S . -B build -DCMAKE_C_FLAGS='-Wall -Wextra -Werror " SHELL_SANITIZER "' "
                     "-DCMAKE_CXX_FLAGS='-Wall -Wextra -Werror " SHELL_SANITIZER "' && cmake --build build",
                     folder, folder),
                 0, "%s", said);
    cr_assert_eq(run("%s %s/examples/emitted/build/decode", stand_in("100"), folder), 0, "%s", said);
    assert_said("6 steps of 2 sequences in 2 layers; 144 bytes a token instead of 512");
    assert_said("the same bits wherever the pages lie");
    says_its_usage(files_path(folder, "examples"), "emitted/build", "decode");
    cr_assert_eq(run("%s/examples/emitted/build/decode sim", folder), 1, "%s", said);
    assert_said("decode: ATTENTION_ERROR_NO_DEVICE: this library has no software device; valid devices: "
                "auto, cuda, cuda:N");
}

/* --------------------------------------------------------------- the graph */

/* The next line of a log, without its end; NULL after the last. */
static char *next_line(char **at)
{
    char *line = *at, *end = line ? strchr(line, '\n') : NULL;
    if (!end)
        return NULL;
    *end = 0;
    *at = end + 1;
    return line;
}

enum { LAUNCHES = 4 }; /* launches of a step: append and attend in two layers */

/* Reads the lines after "begin": only the launches of a step are recorded, and none of them runs. */
static void read_capture(char **at, char *recorded[LAUNCHES])
{
    static const char *const kernels[LAUNCHES] = {"xq_append 1x2x1 ", "xq_attend 3x2x3 ",
                                                  "xq_append 1x2x1 ", "xq_attend 3x2x3 "};
    for (int i = 0; i < LAUNCHES; i++) {
        char *line = next_line(at);
        cr_assert(line && strncmp(line, "record ", 7) == 0, "launch %d of the capture: %s", i, line);
        recorded[i] = line + 7;
        cr_expect(strncmp(recorded[i], kernels[i], strlen(kernels[i])) == 0, "launch %d: %s", i,
                  recorded[i]);
    }
    cr_assert_str_eq(next_line(at), "end");
}

Test(cuda_graph, is_recorded_once_and_replayed_as_it_was_recorded, .timeout = 120)
{
    const char *folder = stage();
    char *recorded[LAUNCHES], *log, *line;
    int captures = 0, replays = 0;
    build(folder, "cuda-graph", "shared");
    cr_assert_eq(
        run("%s FAKE_CUDA_LOG=%s/log %s/examples/cuda-graph/graph", stand_in("81"), folder, folder), 0,
        "%s", said);
    assert_said("Fake GPU 0");
    assert_said("captured after step 1 for up to 192 tokens, replayed in 9 steps: bit for bit");
    size_t size;
    char *text = log = files_read(files_path(folder, "log"), &size);
    while ((line = next_line(&log))) {
        if (strcmp(line, "begin") == 0) {
            read_capture(&log, recorded);
            captures++;
        }
        for (int i = 0; i < LAUNCHES && strcmp(line, "replay") == 0; i++) {
            const char *launch = next_line(&log);
            cr_assert(launch && strncmp(launch, "run ", 4) == 0, "%s", launch);
            cr_assert_str_eq(launch + 4, recorded[i]);
        }
        replays += strcmp(line, "replay") == 0;
        cr_assert(strncmp(line, "record", 6) != 0, "outside the capture: %s", line);
    }
    cr_expect_eq(captures, 1);
    cr_expect_eq(replays, 9);
    free(text);
}

Test(cuda_graph, without_a_driver_says_so, .timeout = 120)
{
    const char *folder = stage();
    build(folder, "cuda-graph", "shared");
    cr_assert_eq(run("XQ_LIBCUDA=/nonexistent/libcuda.so %s/examples/cuda-graph/graph cuda", folder), 1,
                 "%s", said);
    assert_said("graph: xq_context_create: XQ_ERROR_NO_DEVICE");
    cr_assert_eq(run("XQ_LIBCUDA=/nonexistent/libcuda.so %s/examples/cuda-graph/graph", folder), 0, "%s",
                 said);
    assert_said("the software device has no graphs");
}

/* -------------------------------------------------------------------- ranks */

/* With two GPUs the ranks use the stand-in for NCCL. With one GPU both ranks share it. */
Test(tensor_parallel, sums_by_nccl_where_each_rank_has_a_gpu, .timeout = 120)
{
    const char *folder = stage();
    build(folder, "tensor-parallel", "shared");
    cr_assert_eq(run("mkdir %s/nccl && cp %s/tests/libfake_nccl.so %s/nccl/libnccl.so.2", folder,
                     shell_build_folder(), folder),
                 0, "%s", said);
    static const char *const capabilities[] = {"81,81", "81"};
    static const char *const by[] = {"sums            by NCCL", "sums            by shared memory"};
    static const char *const second[] = {"rank 1          heads 2 to 3, KV head 1 to 1, on Fake GPU 1",
                                         "rank 1          heads 2 to 3, KV head 1 to 1, on Fake GPU 0"};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(run("LD_LIBRARY_PATH=%s/nccl %s %s/examples/tensor-parallel/parallel", folder,
                         stand_in(capabilities[i]), folder),
                     0, "%s", said);
        assert_said(by[i]);
        assert_said(second[i]);
    }
}

/* The table in the README is the output of the command. */
Test(tensor_parallel, readme_has_the_table_of_memory, .timeout = 120)
{
    const char *folder = files_directory();
    cr_assert_eq(
        run("XQ=%s/xq python3 examples/tensor-parallel/table.py > %s/table && grep -q 70B %s/table && "
            "sed -n '/<!-- table.py -->/,/<!-- end -->/p' examples/tensor-parallel/README.md | "
            "grep '^|' | diff - %s/table",
            shell_build_folder(), folder, folder, folder),
        0, "%s", said);
}

/* This is left out under sanitizers, which would find nothing here. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

/* ---------------------------------------------------------------- mistakes */

/* A mistake in an example, or in the reference that it compares with, as a sed command on a file of
 * examples/; and the text that the program must then print. Each command changes one line. */
static const struct mistake {
    const char *example; /* NAME/PROGRAM */
    const char *file, *edit, *environment, *says;
} mistakes[] = {
    {"decode/decode", "embed/reference.h", "s/sqrt(HEAD_DIM))/sqrt(HEAD_DIM + 4))/", "", "relative error"},
    {"decode/decode", "decode/decode.c", "s/free_pages\\[--free_count\\]/free_pages[free_count - 1]/", "",
     "XQ_ERROR_ARGUMENT: table.indices[1]"},
    {"decode/decode", "decode/decode.c", "s/x\\[l - layers\\]\\[s\\]\\[seq/x[l - layers][0][seq/", "",
     "quantization"},
    {"cuda-graph/graph", "cuda-graph/graph.c", "/need(driver.copy_to_device/d", "stand-in",
     "step 2: the graph's outputs are not those of plain launches"},
    {"cuda-graph/graph", "cuda-graph/graph.c", "/need(driver.graph_launch/d", "stand-in",
     "step 2: the graph's outputs are not those of plain launches"},
    {"tensor-parallel/parallel", "tensor-parallel/parallel.c",
     "s/first = part.first_kv_head \\* HEAD_DIM/first = 0/", "", "from one rank's"},
    {"tensor-parallel/parallel", "tensor-parallel/reduce.h",
     "s/reduction->parts\\[0\\]\\[i\\] + reduction->parts\\[1\\]\\[i\\]/reduction->parts[rank][i]/", "",
     "the ranks have different sums"},
    {"continuous-batching/batching", "continuous-batching/batching.c",
     "s/position\\[i\\] = running\\[i\\]->length - 1/position[i] = running[i]->length - 2/", "",
     "merging         relative error"},
    {"continuous-batching/batching", "continuous-batching/pages.h",
     "s/pool.references\\[page\\]++/(void)0/", "", "XQ_ERROR_ARGUMENT: table.indices"},
    {"continuous-batching/batching", "continuous-batching/batching.c",
     "s/^    if (prefix_is_cached)/    if (0)/", "", "batching: pages were lost, or freed twice"},
    {"continuous-batching/batching", "continuous-batching/batching.c",
     "s/drop_page(r->pages\\[--r->page_count\\])/r->page_count--/", "", "batching: "},
};
enum { MISTAKES = sizeof mistakes / sizeof mistakes[0] };

Test(examples, notice_their_own_mistakes, .timeout = 300)
{
    const char *folder = stage();
    for (const struct mistake *m = mistakes; m < mistakes + MISTAKES; m++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(m->example, "/"), m->example);
        cr_assert_eq(run("cd %s/examples && cp %s saved && sed -i '%s' %s && ! cmp -s saved %s", folder,
                         m->file, m->edit, m->file, m->file),
                     0, "'%s' changes nothing in %s", m->edit, m->file);
        build(folder, name, "shared");
        cr_expect_eq(run("%s %s/examples/%s %s", *m->environment ? stand_in("81") : "", folder, m->example,
                         *m->environment ? "cuda" : "sim"),
                     1, "%s with %s: %s", m->file, m->edit, said);
        assert_said(m->says);
        cr_assert_eq(run("cd %s/examples && mv saved %s", folder, m->file), 0, "%s", said);
    }
}

#endif
