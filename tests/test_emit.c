/* xq emit: the contents of the folder, that compilers accept it, that it attends as libxq does, and what it
 * refuses. This program links no code of xq: it loads libxq.so, and bundles that it has built. */
#include "command.h"
#include "fake_cuda.h"
#include "files.h"
#include "library_session.h"
#include "shell.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A copy of a text, which lasts as long as the test. */
static const char *keep(const char *text)
{
    static char *kept[64];
    static size_t count;
    cr_assert_lt(count, sizeof kept / sizeof kept[0]);
    kept[count] = strdup(text);
    return kept[count++];
}

/* ---------------------------------------------------------------- bundles */

/* Writes a spec of session_attend's model to a file, and returns the path, which stays valid. */
static const char *spec_file(const char *rest)
{
    char text[1024];
    static int count;
    snprintf(text, sizeof text, "spec-%d.json", count++);
    const char *path = keep(files_path(files_directory(), text));
    int length = snprintf(text, sizeof text, "{" SESSION_MODEL ", %s}", rest);
    files_write(path, text, (size_t)length);
    return path;
}

#define LATENT "\"cache\": {\"method\": \"latent\", \"rank_k\": 128, \"rank_v\": 64, \"page\": 32}"
#define LIMITS "--max-batch 2 --max-tokens 512 --max-append 512"

/* Writes a bundle with prefix `name` into a new folder, and returns the folder's path. */
static const char *emit(const char *spec, const char *name, const char *options)
{
    static int count;
    char folder[32];
    snprintf(folder, sizeof folder, "bundle-%d", count++);
    const char *path = files_path(files_directory(), folder);
    struct command_result r =
        command_run("emit --spec %s --name %s --out %s " LIMITS " %s", spec, name, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_empty(r.err);
    return path;
}

static char *shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs a command that must succeed; the caller frees its output. */
static char *shell(const char *format, ...)
{
    char command[8192], *output = NULL;
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    int status = shell_run(command, &output);
    cr_assert_eq(status, 0, "%s: %s", command, output);
    return output;
}

static bool exists(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Builds the bundle as a shared library, with the software device linked in if `software`. `compiler` is a
 * compiler with options, such as "gcc -std=c99". */
static const char *build(const char *folder, const char *name, const char *compiler, bool software)
{
    static char library[4096];
    char capitals[64];
    size_t i = 0;
    for (; name[i]; i++)
        capitals[i] = name[i] == '_' ? '_' : (char)(name[i] - 'a' + 'A');
    capitals[i] = 0;
    snprintf(library, sizeof library, "%s/lib%s%s.so", folder, name, software ? "_sim" : "");
    free(shell("cd %s && %s " SHELL_SANITIZER
               " -Wall -Wextra -Werror -O1 -fPIC -shared %s%s%s %s.c %s_plans.c "
               "-x none %s%s -o %s -lpthread -ldl -lm",
               folder, compiler, software ? "-D" : "", software ? capitals : "",
               software ? "_SOFTWARE_DEVICE=device_sim_open" : "", name, name,
               software ? shell_build_folder() : "", software ? "/tests/sim.a" : "", library));
    return library;
}

typedef xq_status load_function(xq_context *context, const char *folder, const char *name, xq_plan **plan);

static load_function *bundle_load(const struct library *l, const char *name)
{
    load_function *load;
    void *found = library_find(l, name, "bundle_load");
    memcpy(&load, &found, sizeof load);
    return load;
}

static struct library libxq(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/libxq.so", shell_build_folder());
    return library_load(path, "xq");
}

/* ------------------------------------------------------------- contents */

Test(emit, the_folder_holds_what_the_readme_says, .timeout = 300)
{
    static const char *const names[] = {"duo.h",
                                        "duo.c",
                                        "duo_plans.c",
                                        "example.c",
                                        "duo.mk",
                                        "README.md",
                                        "bundle.json",
                                        "CMakeLists.txt",
                                        "LICENSE",
                                        "LAYOUT.md",
                                        "kernels/lib/page.cuh",
                                        "kernels/2bit/sm_80/attend.cu",
                                        "kernels/4bit/sm_90a/append.cu"};
    const char *folder = emit(spec_file(LATENT), "duo", "--bits 2,4 --arch sm_80,sm_90a");
    size_t size;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_expect(exists(folder, names[i]), "%s", names[i]);
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `2bit` | all | latent | 2 |"), "%s", readme);
    cr_expect(strstr(readme, "| `4bit` | sm_90a | "));
    cr_expect(strstr(readme, "| `uk` | [256, 128] |") && strstr(readme, "| `av` | [64, 128] |"));
    cr_expect(strstr(readme, "[tokens, 256]") && strstr(readme, "| `max_tokens` | 512 |"));
    free(readme);
    char *kernel = files_read(files_path(folder, "kernels/2bit/sm_80/attend.cu"), &size);
    cr_expect(strstr(kernel, "2 bits") && strstr(kernel, "__global__"));
    free(kernel);
    /* The page about the layout has no links, which would lead nowhere. */
    char *layout = files_read(files_path(folder, "LAYOUT.md"), &size);
    cr_expect(strstr(layout, "## Cache pages") && !strstr(layout, ".md)"));
    free(layout);
}

Test(emit, weights_that_may_be_left_out_are_not_in_the_example, .timeout = 300)
{
    const char *folder =
        emit(spec_file("\"cache\": {\"method\": \"latent\", \"feedback\": true}"), "fed", "--arch sm_80");
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size),
         *example = files_read(files_path(folder, "example.c"), &size);
    cr_expect(strstr(readme, "| `k_cost` | [128, 64] |"), "%s", readme);
    cr_expect(strstr(example, "weights.ak") && !strstr(example, "k_cost"), "%s", example);
    free(readme);
    free(example);
}

Test(emit, twice_gives_the_same_bytes, .timeout = 300)
{
    const char *spec = spec_file(LATENT);
    const char *first = keep(emit(spec, "twin", "--arch sm_80")),
               *second = emit(spec, "twin", "--arch sm_80");
    free(shell("diff -r %s %s", first, second));
    /* A bundle that is written over an earlier one removes that one's files, but no file of the user. */
    files_write(files_path(second, "mine.c"), "int mine;\n", 10);
    struct command_result r = command_run(
        "emit --spec %s --name twin --bits 2 --files --arch sm_80,sm_86 --out %s " LIMITS, spec, second);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(exists(second, "plans/2bit.sm_86.xqplan") && !exists(second, "kernels/4bit"));
    r = command_run("emit --spec %s --name twin --arch sm_80 --out %s " LIMITS, spec, second);
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect(exists(second, "mine.c") && !exists(second, "plans"));
    free(shell("diff -r -x mine.c %s %s", first, second));
}

static const char *const compilers[] = {"gcc -std=c99",          "gcc -std=c11",
                                        "clang -std=c99",        "clang -std=c11",
                                        "g++ -x c++ -std=c++17", "clang++ -x c++ -std=c++17"};

Test(emit, compilers_take_it_without_a_warning, .timeout = 300)
{
    const char *folder = emit(spec_file(LATENT), "strict", "--arch sm_80");
    for (size_t i = 0; i < sizeof compilers / sizeof compilers[0]; i++)
        free(shell(
            "cd %s && for f in strict.c strict_plans.c example.c; do %s -Wall -Wextra -Werror -O1 -c $f "
            "-o out.o || exit 1; done",
            folder, compilers[i]));
}

Test(emit, exports_names_of_its_prefix_alone, .timeout = 300)
{
    const char *folder = emit(spec_file(LATENT), "my_own", "--arch sm_80");
    char *names =
        shell("cd %s && gcc -c my_own.c my_own_plans.c && nm -g --defined-only my_own.o my_own_plans.o | "
              "awk 'NF == 3 { print $3 }'",
              folder);
    cr_expect(strstr(names, "my_own_plan_attend\n") && strstr(names, "my_own_bundle_images\n"));
    for (char *name = strtok(names, "\n"); name; name = strtok(NULL, "\n"))
        cr_expect_eq(strncmp(name, "my_own_", 7), 0, "%s", name);
    free(names);
    free(shell("cd %s && ! grep -n '\\bxq_[a-z]\\|[^$]\\bXQ_[A-Z]' my_own.h my_own_plans.c example.c && "
               "! grep -n '[$]MY_OWN' my_own.h my_own.c",
               folder));
    char *kept = shell("cd %s && grep -o '\\bXQ_[A-Z]*' my_own.c | sort -u", folder);
    cr_expect_str_eq(kept, "XQ_LIBCUDA\n");
    free(kept);
}

/* ---------------------------------------------------------------- kinds of layers */

Test(emit, each_kind_of_layer_has_a_plan, .timeout = 300)
{
    static const char *const types = "\"layer_types\": [\"sliding_attention\", \"sliding_attention\", "
                                     "\"full_attention\", \"sliding_attention\"]";
    char text[1024];
    int length = snprintf(
        text, sizeof text,
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64, \"num_hidden_layers\": 4, \"sliding_window\": 64, %s}}",
        types);
    const char *spec = files_path(files_directory(), "mixed.json");
    files_write(spec, text, (size_t)length);
    const char *folder = emit(spec, "mixed", "--bits 4,8 --arch sm_80");
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `sliding-4bit` | 0-1, 3 |") && strstr(readme, "| `full-8bit` | 2 |"), "%s",
              readme);
    free(readme);
    folder = emit(spec, "mixed", "--layer-kind full --arch sm_80");
    readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `full-4bit` | 2 |") && !strstr(readme, "sliding-4bit"), "%s", readme);
    free(readme);
}

Test(emit, a_cross_layer_cache_has_plans_before_and_after_its_base, .timeout = 300)
{
    const char *folder = emit(spec_file("\"cache\": {\"method\": \"x-cl\", \"bits\": 2, \"page\": 32}"),
                              "cl", "--arch sm_80 --base-layer 1");
    for (int i = 0; i < 3; i++)
        cr_expect(exists(folder, (const char *[]){"kernels/plain-4bit/sm_80/attend.cu",
                                                  "kernels/base-4bit/sm_80/accumulate.cu",
                                                  "kernels/delta-2bit/sm_80/accumulate.cu"}[i]),
                  "%d", i);
    free(shell("cd %s && ! test -e kernels/plain-4bit/sm_80/accumulate.cu", folder));
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "**Accumulate** (`cl_plan_accumulate`)") && !strstr(readme, "`append_indptr`"),
              "%s", readme);
    free(readme);
    folder = emit(
        spec_file("\"cache\": {\"method\": \"x\", \"axis_k\": \"channel\", \"group\": 32, \"page\": 32}"),
        "ch", "--arch sm_80");
    readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(!strstr(readme, "**Accumulate**") && strstr(readme, "`append_indptr`") &&
                  strstr(readme, " of the page, behind its records |"),
              "%s", readme);
    free(readme);
}

/* ---------------------------------------------------------------- attention */

static const struct method {
    const char *name, *rest, *plan, *options;
    bool latent;
} methods[] = {
    {"latent", LATENT, "4bit", "--arch sm_80", true},
    {"x, by channel",
     "\"cache\": {\"method\": \"x\", \"rotation\": false, \"axis_k\": \"channel\", \"group\": 32, "
     "\"bits\": 3, "
     "\"page\": 32}, \"weights\": \"int8\"",
     "3bit", "--arch sm_80 --files", false},
    {"x-cl", "\"cache\": {\"method\": \"x-cl\", \"page\": 32}", "base-4bit", "--arch sm_80 --base-layer 0",
     false},
};
enum { METHODS = sizeof methods / sizeof methods[0] };

/* The image of a plan; the caller frees it. */
static unsigned char *saved(const struct session *s, xq_plan *plan, size_t *bytes)
{
    session_must(s, s->library->plan_save(plan, NULL, 0, bytes));
    unsigned char *image = malloc(*bytes);
    session_must(s, s->library->plan_save(plan, image, *bytes, bytes));
    return image;
}

Test(emit, attends_bit_for_bit_as_libxq_does, .timeout = 600)
{
    const struct library xq = libxq();
    const struct session whole = session_open(&xq, "sim:a100");
    for (int i = 0; i < METHODS; i++) {
        const struct method *m = &methods[i];
        const char *folder = emit(spec_file(m->rest), "mini", m->options);
        const bool files = strstr(m->options, "--files");
        const struct library mini = library_load(
            build(folder, "mini", i % 2 ? "g++ -x c++ -std=c++17" : "gcc -std=c99", true), "mini");
        const struct session part = session_open(&mini, "sim:a100");
        xq_plan *loaded = NULL, *same = NULL;
        size_t bytes;
        session_must(&part,
                     bundle_load(&mini, "mini")(part.context, files ? folder : NULL, m->plan, &loaded));
        unsigned char *image = saved(&part, loaded, &bytes);
        session_must(&whole, xq.plan_load(whole.context, image, bytes, &same));
        const struct session_result a = session_attend(&whole, same, m->latent),
                                    b = session_attend(&part, loaded, m->latent);
        session_expect_same(&a, &b, m->name);
        mini.plan_destroy(loaded);
        xq.plan_destroy(same);
        mini.context_destroy(part.context);
        free(image);
    }
    xq.context_destroy(whole.context);
}

/* The image equals the one that libxq makes of the same spec for the same architecture. */
Test(emit, an_image_is_that_of_a_plan_of_libxq, .timeout = 300)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    fake->major = 9;
    fake->minor = 0;
    setenv("XQ_TUNED", "", 1);
    const struct library xq = libxq();
    const struct session s = session_open(&xq, "cuda");
    __typeof__(&xq_plan_create) create;
    void *found = library_find(&xq, "xq", "plan_create");
    memcpy(&create, &found, sizeof create);
    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;
    xq_plan *plan = NULL;
    size_t bytes, file_bytes;
    o.spec_json = "{" SESSION_MODEL ", " LATENT "}";
    o.max_batch = 2;
    o.max_tokens = o.max_append = 512;
    session_must(&s, create(s.context, &o, &plan));
    unsigned char *image = saved(&s, plan, &bytes);
    const char *folder = emit(spec_file(LATENT), "same", "--arch sm_90a --files");
    char *file = files_read(files_path(folder, "plans/4bit.sm_90a.xqplan"), &file_bytes);
    cr_expect_eq(bytes, file_bytes);
    cr_expect(bytes == file_bytes && memcmp(image, file, bytes) == 0);
    free(file);
    free(image);
    xq.plan_destroy(plan);
    xq.context_destroy(s.context);
}

/* ---------------------------------------------------------------- on a driver */

/* Runs a program with the fake driver. */
static char *run_on_driver(const char *folder, const char *program)
{
    return shell("cd %s && ASAN_OPTIONS=detect_leaks=0 XQ_LIBCUDA=%s/tests/libfake_cuda.so ./%s", folder,
                 shell_build_folder(), program);
}

/* Runs a command, sets `output`, and returns the exit status. */
static int try(char **output, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int try(char **output, const char *format, ...)
{
    char command[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    return shell_run(command, output);
}

/* Checks that the example refuses arguments that it cannot use, and shows its usage. */
static void says_its_usage(const char *folder, const char *arguments, const char *usage)
{
    char *output = NULL;
    cr_expect_eq(try(&output, "%s/example %s", folder, arguments), 1);
    cr_expect_str_eq(output, usage);
    free(output);
    cr_expect_eq(try(&output, "%s/example --help", folder), 0);
    cr_expect_str_eq(output, usage);
    free(output);
}

Test(emit, the_example_builds_and_runs, .timeout = 300)
{
    const char *folder = emit(spec_file(LATENT), "demo", "--arch sm_80");
    free(shell("cd %s && gcc " SHELL_SANITIZER
               " -std=c99 -O1 example.c demo.c demo_plans.c -lpthread -ldl -lm -o example",
               folder));
    char *output = run_on_driver(folder, "example");
    cr_expect(strstr(output, "bytes a token instead of 512; first outputs"), "%s", output);
    free(output);
    says_its_usage(folder, "cuda 99",
                   "usage: example [DEVICE], where DEVICE is auto (default), cuda or cuda:N\n");
    free(shell("cd %s && { cat demo.mk; printf 'all: ; $(CC) $(DEMO_CPPFLAGS) example.c $(DEMO_SOURCES) "
               "$(DEMO_LIBS) -o "
               "made\\n'; } > makefile && env -u MAKEFLAGS make -s CC='gcc " SHELL_SANITIZER "'",
               folder));
    free(run_on_driver(folder, "made"));
    free(shell("cd %s && cmake -S . -B cmake -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS='" SHELL_SANITIZER
               "' > log && cmake --build cmake >> log",
               folder));
    free(run_on_driver(folder, "cmake/example"));
}

Test(emit, the_example_of_files_takes_their_folder)
{
    const char *folder = emit(spec_file(LATENT), "demo", "--arch sm_80 --files");
    free(shell("cd %s && gcc " SHELL_SANITIZER
               " -O0 example.c demo.c demo_plans.c -lpthread -ldl -lm -o example",
               folder));
    free(shell("ASAN_OPTIONS=detect_leaks=0 XQ_LIBCUDA=%s/tests/libfake_cuda.so %s/example auto %s",
               shell_build_folder(), folder, folder));
    says_its_usage(folder, "auto . 99",
                   "usage: example [DEVICE [FOLDER]], where DEVICE is auto (default), cuda or cuda:N, and "
                   "FOLDER has plans/ (default .)\n");
}

/* The leak checker is on: the example frees what it allocates. */
Test(emit, the_example_serves_every_form_of_cache, .timeout = 600)
{
    for (int i = 1; i < METHODS; i++) {
        const char *folder = emit(spec_file(methods[i].rest), "demo", methods[i].options);
        free(shell("cd %s && gcc -std=c99 -O1 -Wall -Wextra -Werror -DDEMO_SOFTWARE_DEVICE=device_sim_open "
                   "example.c demo.c demo_plans.c -fsanitize=address " SHELL_SANITIZER
                   " %s/tests/sim.a -lpthread -ldl -lm -o example",
                   folder, shell_build_folder()));
        char *output = shell("cd %s && ASAN_OPTIONS=detect_leaks=1 ./example sim:a100", folder);
        cr_expect(strstr(output, "bytes a token instead of 512; first outputs"), "%s", output);
        cr_expect_null(strstr(output, "0000 0000 0000 0000"), "%s", output);
        free(output);
    }
}

Test(emit, a_source_that_is_missing_makes_no_runtime)
{
    char *output = NULL;
    cr_expect_eq(try(&output, "sh scripts/amalgamate.sh runtime/base/half.c /nowhere/x.c"), 1);
    cr_expect_str_eq(output, "amalgamate: cannot read /nowhere/x.c\n");
    free(output);
}

Test(emit, two_bundles_live_in_one_program, .timeout = 300)
{
    static const char program[] =
        "#include \"one.h\"\n#include \"two.h\"\n#include <cstdio>\n"
        "int main()\n{\n"
        "    one_context *a = NULL;\n    two_context *b = NULL;\n    one_plan *p = NULL;\n    two_plan *q "
        "= NULL;\n"
        "    bool good = one_context_create(NULL, &a) == ONE_OK && two_context_create(NULL, &b) == TWO_OK "
        "&&\n"
        "        one_bundle_load(a, NULL, \"4bit\", &p) == ONE_OK && two_bundle_load(b, NULL, \"2bit\", "
        "&q) == TWO_OK;\n"
        "    one_plan_info i = ONE_PLAN_INFO_INIT;\n    two_plan_info j = TWO_PLAN_INFO_INIT;\n"
        "    good = good && one_plan_query(p, &i) == ONE_OK && two_plan_query(q, &j) == TWO_OK;\n"
        "    std::printf(\"%d %zu %zu\\n\", good, i.page_bytes, j.page_bytes);\n"
        "    one_plan_destroy(p);\n    two_plan_destroy(q);\n"
        "    one_context_destroy(a);\n    two_context_destroy(b);\n    return !good;\n}\n";
    const char *one = keep(emit(spec_file(LATENT), "one", "--arch sm_80"));
    const char *two = emit(spec_file(LATENT), "two", "--arch sm_80 --bits 2");
    files_write(files_path(one, "main.cpp"), program, strlen(program));
    free(shell("cd %s && gcc " SHELL_SANITIZER
               " -std=c11 -c one.c one_plans.c %s/two.c %s/two_plans.c && g++ " SHELL_SANITIZER
               " -std=c++17 -Wall "
               "-Wextra "
               "-Werror -I. -I%s main.cpp *.o -lpthread -ldl -lm -o both",
               one, two, two, two));
    char *output = run_on_driver(one, "both");
    size_t pages[2];
    int good = 0;
    cr_assert_eq(sscanf(output, "%d %zu %zu", &good, &pages[0], &pages[1]), 3, "%s", output);
    cr_expect(good && pages[0] > pages[1] && pages[1] > 0, "%s", output);
    free(output);
}

/* ---------------------------------------------------------------- images for a GPU */

static void expect_target(const char *library, const char *file_of, int capability, const char *target)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    char path[4096];
    size_t bytes, file_bytes;
    fake->major = capability / 10;
    fake->minor = capability % 10;
    const struct library l = library_load(library, "pick");
    const struct session s = session_open(&l, "cuda");
    xq_plan *plan = NULL;
    session_must(&s, bundle_load(&l, "pick")(s.context, NULL, "4bit", &plan));
    unsigned char *image = saved(&s, plan, &bytes);
    snprintf(path, sizeof path, "%s/plans/4bit.%s.xqplan", file_of, target);
    char *file = files_read(path, &file_bytes);
    cr_expect(bytes == file_bytes && memcmp(image, file, bytes) == 0, "%d: not %s", capability, target);
    free(file);
    free(image);
    l.plan_destroy(plan);
    l.context_destroy(s.context);
}

Test(emit, a_gpu_gets_the_newest_image_that_it_runs, .timeout = 300)
{
    static const char archs[] = "--arch sm_80,sm_86,sm_90a,sm_90";
    const char *spec = spec_file(LATENT), *files, *folder;
    char options[128];
    snprintf(options, sizeof options, "%s --files", archs);
    files = keep(emit(spec, "pick", options));
    folder = emit(spec, "pick", archs);
    const char *library = build(folder, "pick", "gcc -std=c11", false);
    expect_target(library, files, 80, "sm_80");
    expect_target(library, files, 86, "sm_86");
    expect_target(library, files, 87, "sm_86");
    expect_target(library, files, 90, "sm_90a");
    expect_target(library, files, 100, "sm_90"); /* PTX; that of sm_90a runs only on 9.0 */
    expect_target(library, files, 120, "sm_90");
}

Test(emit, an_image_that_needs_too_much_shared_memory_is_passed_over, .timeout = 300)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    const char *folder = emit(spec_file("\"cache\": {\"page\": 32}"), "tight", "--arch sm_80");
    const struct library l = library_load(build(folder, "tight", "gcc -std=c11", false), "tight");
    fake->major = 8;
    fake->minor = 0;
    fake->shared_bytes_block = 1024;
    const struct session s = session_open(&l, "cuda");
    xq_plan *plan = NULL;
    cr_expect_eq(bundle_load(&l, "tight")(s.context, NULL, "4bit", &plan), XQ_ERROR_UNSUPPORTED);
    const char *message = library_message(&l, s.context);
    cr_expect(strstr(message, "plan '4bit' is compiled for sm_80, and ") &&
                  strstr(message, "shared memory"),
              "%s", message);
    cr_expect_null(plan);
    l.context_destroy(s.context);
}

static void expect_load(const struct session *s, load_function *load, const char *folder, const char *name,
                        xq_status status, const char *text)
{
    xq_plan *plan = NULL;
    cr_expect_eq(load(s->context, folder, name, &plan), status, "%s", text);
    cr_expect(strstr(library_message(s->library, s->context), text), "%s: %s", text,
              library_message(s->library, s->context));
    cr_expect_null(plan);
}

Test(emit, what_a_bundle_does_not_have_is_refused_by_name, .timeout = 300)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    fake->major = 8;
    fake->minor = 0;
    const char *spec = spec_file(LATENT),
               *in_files = keep(emit(spec, "files", "--files --bits 2,4 --arch sm_90"));
    const char *folder = emit(spec, "inside", "--bits 2,4 --arch sm_80");
    const struct library l = library_load(build(folder, "inside", "gcc -std=c11", false), "inside");
    const struct session s = session_open(&l, "cuda");
    load_function *load = bundle_load(&l, "inside");
    expect_load(&s, load, NULL, "8bit", XQ_ERROR_ARGUMENT,
                "the bundle has no plan '8bit'; valid: 2bit, 4bit");
    expect_load(&s, load, folder, "4bit", XQ_ERROR_ARGUMENT,
                "folder: the images are compiled in; valid: NULL");
    expect_load(&s, load, NULL, NULL, XQ_ERROR_ARGUMENT, "name");
    l.context_destroy(s.context);

    const struct library m = library_load(build(in_files, "files", "gcc -std=c11", false), "files");
    const struct session t = session_open(&m, "cuda");
    load = bundle_load(&m, "files");
    expect_load(&t, load, in_files, "4bit", XQ_ERROR_UNSUPPORTED, "is compiled for sm_90, and ");
    m.context_destroy(t.context);
    fake->major = 9;
    const struct session u = session_open(&m, "cuda");
    expect_load(&u, load, NULL, "4bit", XQ_ERROR_ARGUMENT, "folder must not be NULL");
    expect_load(&u, load, "/nowhere", "4bit", XQ_ERROR_IO, "cannot read /nowhere/plans/4bit.sm_90.xqplan");
    const char *image = files_path(in_files, "plans/2bit.sm_90.xqplan");
    size_t bytes;
    char *data = files_read(image, &bytes);
    files_write(image, data, bytes - 1);
    expect_load(&u, load, in_files, "2bit", XQ_ERROR_FORMAT, "is not the bundle's file");
    data[bytes / 2] ^= 1;
    files_write(image, data, bytes);
    expect_load(&u, load, in_files, "2bit", XQ_ERROR_FORMAT, "its checksum does not match");
    free(data);
    m.context_destroy(u.context);
}

/* ---------------------------------------------------------------- tables */

Test(emit, parameters_come_from_tables, .timeout = 300)
{
    unsetenv("XQ_TUNED"); /* tests normally run without tables */
    const char *spec = spec_file(LATENT), *directory = files_directory(),
               *table = files_path(directory, "table.json");
    struct command_result r =
        command_run("tune --spec %s --families attend --contexts 64,512 --batches 1 --device sim:a100 "
                    "--strategy random --most 3 --store %s/s.db --quiet",
                    spec, directory);
    cr_assert_eq(r.status, 0, "%s", r.err);
    r = command_run("tune export --store %s/s.db --out %s --quiet", directory, table);
    cr_assert_eq(r.status, 0, "%s", r.err);
    char options[4200];
    /* Shorter calls get other parameters, and therefore a kernel of their own. */
    free(shell("sed -i '/\"tokens\":64,/s/\"warps\":[0-9]*/\"warps\":4/; "
               "/\"tokens\":512,/s/\"warps\":[0-9]*/\"warps\":8/' %s",
               table));
    snprintf(options, sizeof options, "--arch sm_80 --table %s", table);
    const char *folder = emit(spec, "tuned", options);
    size_t size;
    char *readme = files_read(files_path(folder, "README.md"), &size);
    cr_expect(strstr(readme, "| `4bit` | sm_80 | ") && strstr(readme, "tuned on NVIDIA A100"), "%s",
              readme);
    free(readme);
}

/* ---------------------------------------------------------------- bad input */

Test(emit, bad_input_is_refused_before_the_work)
{
    static const struct {
        const char *arguments;
        int status;
        const char *line;
    } bad[] = {
        {"--model smollm2-135m", 2, "xq emit: --out DIR is missing; it names the folder to write to\n"},
        {"--model smollm2-135m --out -", 1, "xq emit: --out: '-' is standard output; valid: a folder\n"},
        {"--model smollm2-135m --out x --embed --files", 2,
         "xq emit: --embed and --files: give one of them\n"},
        {"--model smollm2-135m --out x --bits 4 --set cache.bits=2", 2,
         "xq emit: --bits and --set cache.bits: give one of them\n"},
        {"--model smollm2-135m --out x --arch sm_80 --set 'arch=\"sm_90\"'", 2,
         "xq emit: --set arch: --arch names the architectures\n"},
        {"--model smollm2-135m --out x --device cuda", 2,
         "xq emit: --device has no effect: --arch names the GPUs that the bundle is for\n"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct command_result r = command_run("emit %s", bad[i].arguments);
        cr_expect_eq(r.status, bad[i].status, "%s", bad[i].arguments);
        cr_expect(strncmp(r.err, bad[i].line, 12) == 0, "%s", r.err);
        if (i < 4)
            cr_expect_str_eq(r.err, bad[i].line);
        cr_expect_str_empty(r.out);
    }
    cr_expect_eq(access("x", F_OK), -1);
}

Test(emit, a_name_must_be_a_prefix_of_symbols)
{
    static const char *const names[] = {
        "Xq",   "9lives", "a-b",     "a__b",
        "a_",   "_a",     "example", "",
        "x",    "math",   "install", "plan",
        "cuda", "shape",  "without", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct command_result r = command_run("emit --model smollm2-135m --out x --name '%s'", names[i]);
        cr_expect_neq(r.status, 0, "%s", names[i]);
        cr_expect(strstr(r.err, "xq emit: --name"), "%s", r.err);
    }
}

/* The bytes do not depend on the folder. No kernel cache is used. */
Test(emit, bytes_do_not_depend_on_where_it_is_written, .timeout = 300)
{
    const char *spec = spec_file(LATENT), *folder = files_directory();
    free(shell("cd %s && mkdir -p a b/longer && for f in a b/longer; do (cd $f && %s emit --spec %s --arch "
               "sm_80 --files "
               "--cache-dir '' --out bundle --quiet " LIMITS
               ") || exit 1; done && diff -r a/bundle b/longer/bundle",
               folder, command_program(), spec));
    free(shell("cd %s && ! grep -rla \"$PWD\" a/bundle", folder));
}

/* After a signal at any moment there is no bundle, a whole one, or one that the next emit completes. */
Test(emit, a_signal_leaves_no_half_bundle, .timeout = 300)
{
    const char *spec = spec_file(LATENT), *whole = keep(emit(spec, "sig", "--arch sm_80"));
    for (int i = 0; i < 12; i++) {
        const char *folder = files_path(files_directory(), "bundle");
        if (i % 2)
            free(shell("cp -r %s %s && cd %s && mv sig.c old.c && sed -i s/sig.c/old.c/ bundle.json", whole,
                       folder, folder));
        pid_t pid = command_start("emit --spec %s --name sig --arch sm_80 --out %s " LIMITS, spec, folder);
        usleep((useconds_t)(i * 40000 + 20000));
        kill(pid, i % 3 ? SIGTERM : SIGINT);
        command_wait(pid);
        if (exists(folder, "bundle.json") && !exists(folder, "old.c"))
            free(shell("diff -r %s %s", whole, folder));
        else if (!exists(folder, "bundle.json"))
            cr_expect_eq(access(folder, F_OK), -1);
        struct command_result r =
            command_run("emit --spec %s --name sig --arch sm_80 --out %s " LIMITS, spec, folder);
        cr_assert_eq(r.status, 0, "%s", r.err);
        free(shell("diff -r %s %s", whole, folder));
    }
}

Test(emit, one_process_at_a_time_writes_into_a_folder, .timeout = 120)
{
    const char *spec = spec_file(LATENT), *folder = files_path(files_directory(), "locked");
    char *output = NULL;
    char command[8192];
    snprintf(command, sizeof command, "mkdir %s && flock %s %s emit --spec %s --arch sm_80 --out %s",
             folder, folder, command_program(), spec, folder);
    cr_expect_eq(shell_run(command, &output), 1);
    cr_expect(strstr(output, "--out: another xq emit is writing into "), "%s", output);
    cr_expect_eq(files_count(folder), 0);
    free(output);
}

Test(emit, links_lead_nowhere_out_of_the_folder, .timeout = 120)
{
    const char *spec = spec_file(LATENT), *folder = emit(spec, "linked", "--arch sm_80");
    const char *outside = keep(files_directory()), *precious = keep(files_path(outside, "precious"));
    files_write(precious, "mine\n", 5);
    /* The manifest lists a file that is reached through a link. That file is not removed. */
    free(shell("cd %s && ln -s %s link && sed -i 's|\"bundle.json\"|\"link/precious\", &|' bundle.json && "
               "grep -q link/ bundle.json",
               folder, outside));
    struct command_result r =
        command_run("emit --spec %s --name linked --arch sm_80 --out %s " LIMITS, spec, folder);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(access(precious, F_OK), 0);
    /* A link in the place of a file is not written through. */
    free(shell("cd %s && ln -sf %s linked.c", folder, precious));
    r = command_run("emit --spec %s --name linked --arch sm_80 --out %s " LIMITS, spec, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "linked.c, and would replace it"), "%s", r.err);
    size_t size;
    char *kept = files_read(precious, &size);
    cr_expect_str_eq(kept, "mine\n");
    free(kept);
    /* The manifest belongs to another program. */
    const char *other = files_directory();
    files_write(files_path(other, "bundle.json"), "{\"plans\":[],\"files\":[\"notes.txt\"]}", 35);
    r = command_run("emit --spec %s --arch sm_80 --out %s", spec, other);
    cr_expect(r.status == 1 && strstr(r.err, "is no bundle that xq emit wrote"), "%s", r.err);
}

Test(emit, what_no_kernel_can_be_made_of_leaves_no_folder, .timeout = 120)
{
    static const char *const bad[][2] = {
        {"--arch sm_75", "'sm_75' is not known"},
        {"--bits 5", "cache.bits"},
        {"--layer-kind sliding", "layer_kind"},
        {"--base-layer 1", "--base-layer"},
        {"--set tuning.gemm.rows=64", "--set tuning.gemm: has no effect"},
        {"--table /nowhere.json", "/nowhere.json"},
        {"--max-batch 70000", "--max-batch"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *folder = files_path(files_directory(), "refused");
        struct command_result r = command_run("emit --model smollm2-135m --out %s %s", folder, bad[i][0]);
        cr_expect_neq(r.status, 0, "%s", bad[i][0]);
        cr_expect(strstr(r.err, bad[i][1]), "%s: %s", bad[i][0], r.err);
        cr_expect_eq(access(folder, F_OK), -1, "%s", bad[i][0]);
    }
}

Test(emit, files_that_are_no_bundles_are_not_replaced, .timeout = 120)
{
    const char *spec = spec_file(LATENT), *folder = files_directory();
    files_write(files_path(folder, "README.md"), "mine\n", 5);
    struct command_result r = command_run("emit --spec %s --arch sm_80 --out %s", spec, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "holds README.md, and is no bundle that xq emit wrote; valid: a new folder"),
              "%s", r.err);
    folder = emit(spec, "mine", "--arch sm_80");
    files_write(files_path(folder, "other.h"), "mine\n", 5);
    r = command_run("emit --spec %s --arch sm_80 --name other --out %s", spec, folder);
    cr_expect_eq(r.status, 1);
    cr_expect(strstr(r.err, "other.h, and would replace it"), "%s", r.err);
    cr_expect(exists(folder, "mine.h") && !exists(folder, "other.c"));
}
