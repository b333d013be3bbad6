/* Tests bundles of xq emit as programs use them: they attend as libxq does, they find the image for a GPU,
 * and their example runs. This program links no code of xq: it loads libxq.so, and bundles that it has
 * built. */
#include "../../support/emitted.h"
#include "../../support/fake_cuda.h"
#include "../../support/files.h"
#include "../../support/shell.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---------------------------------------------------------------- attention */

static const struct method {
    const char *name, *rest, *plan, *options;
    bool latent;
} methods[] = {
    {"latent", EMITTED_LATENT, "4bit", "--arch sm_80", true},
    {"x, by channel",
     "\"cache\": {\"method\": \"x\", \"rotation\": false, \"axis_k\": \"channel\", \"group\": 32, "
     "\"bits\": 3, \"page\": 32}, \"weights\": \"int8\"",
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

Test(bundle, attends_bit_for_bit_as_libxq_does, .timeout = 600)
{
    const struct library xq = libxq();
    const struct session whole = session_open(&xq, "sim:a100");
    for (int i = 0; i < METHODS; i++) {
        const struct method *m = &methods[i];
        const char *folder = emitted(emitted_spec(m->rest), "mini", m->options);
        const bool files = strstr(m->options, "--files");
        const struct library mini = library_load(
            emitted_library(folder, "mini", i % 2 ? "g++ -x c++ -std=c++17" : "gcc -std=c99", true),
            "mini");
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
Test(bundle, an_image_is_that_of_a_plan_of_libxq, .timeout = 300)
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
    o.spec_json = "{" SESSION_MODEL ", " EMITTED_LATENT "}";
    o.max_batch = 2;
    o.max_tokens = o.max_append = 512;
    session_must(&s, create(s.context, &o, &plan));
    unsigned char *image = saved(&s, plan, &bytes);
    const char *folder = emitted(emitted_spec(EMITTED_LATENT), "same", "--arch sm_90a --files");
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
    return shell_output("cd %s && ASAN_OPTIONS=detect_leaks=0 XQ_LIBCUDA=%s/tests/libfake_cuda.so ./%s",
                        folder, shell_build_folder(), program);
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

Test(bundle, the_example_builds_and_runs, .timeout = 300)
{
    const char *folder = emitted(emitted_spec(EMITTED_LATENT), "demo", "--arch sm_80");
    free(shell_output("cd %s && gcc " SHELL_SANITIZER
                      " -std=c99 -O1 example.c demo.c demo_plans.c -lpthread -ldl -lm -o example",
                      folder));
    char *output = run_on_driver(folder, "example");
    cr_expect(strstr(output, "bytes a token instead of 512; first outputs"), "%s", output);
    free(output);
    says_its_usage(folder, "cuda 99",
                   "usage: example [DEVICE], where DEVICE is auto (default), cuda or cuda:N\n");
    free(shell_output(
        "cd %s && { cat demo.mk; printf 'all: ; $(CC) $(DEMO_CPPFLAGS) example.c $(DEMO_SOURCES) "
        "$(DEMO_LIBS) -o "
        "made\\n'; } > makefile && env -u MAKEFLAGS make -s CC='gcc " SHELL_SANITIZER "'",
        folder));
    free(run_on_driver(folder, "made"));
    free(shell_output(
        "cd %s && cmake -S . -B cmake -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS='" SHELL_SANITIZER
        "' > log && cmake --build cmake >> log",
        folder));
    free(run_on_driver(folder, "cmake/example"));
}

Test(bundle, the_example_of_files_takes_their_folder)
{
    const char *folder = emitted(emitted_spec(EMITTED_LATENT), "demo", "--arch sm_80 --files");
    free(shell_output("cd %s && gcc " SHELL_SANITIZER
                      " -O0 example.c demo.c demo_plans.c -lpthread -ldl -lm -o example",
                      folder));
    free(shell_output("ASAN_OPTIONS=detect_leaks=0 XQ_LIBCUDA=%s/tests/libfake_cuda.so %s/example auto %s",
                      shell_build_folder(), folder, folder));
    says_its_usage(folder, "auto . 99",
                   "usage: example [DEVICE [FOLDER]], where DEVICE is auto (default), cuda or cuda:N, and "
                   "FOLDER has plans/ (default .)\n");
}

/* The leak checker is on: the example frees what it allocates. */
Test(bundle, the_example_serves_every_form_of_cache, .timeout = 600)
{
    for (int i = 1; i < METHODS; i++) {
        const char *folder = emitted(emitted_spec(methods[i].rest), "demo", methods[i].options);
        free(shell_output(
            "cd %s && gcc -std=c99 -O1 -Wall -Wextra -Werror -DDEMO_SOFTWARE_DEVICE=device_sim_open "
            "example.c demo.c demo_plans.c -fsanitize=address " SHELL_SANITIZER
            " %s/tests/sim.a -lpthread -ldl -lm -o example",
            folder, shell_build_folder()));
        char *output = shell_output("cd %s && ASAN_OPTIONS=detect_leaks=1 ./example sim:a100", folder);
        cr_expect(strstr(output, "bytes a token instead of 512; first outputs"), "%s", output);
        cr_expect_null(strstr(output, "0000 0000 0000 0000"), "%s", output);
        free(output);
    }
}

Test(bundle, a_source_that_is_missing_makes_no_runtime)
{
    char *output = NULL;
    cr_expect_eq(try(&output, "sh scripts/amalgamate.sh runtime/base/half.c /nowhere/x.c"), 1);
    cr_expect_str_eq(output, "amalgamate: cannot read /nowhere/x.c\n");
    free(output);
}

Test(bundle, two_bundles_live_in_one_program, .timeout = 300)
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
    const char *one = emitted_keep(emitted(emitted_spec(EMITTED_LATENT), "one", "--arch sm_80"));
    const char *two = emitted(emitted_spec(EMITTED_LATENT), "two", "--arch sm_80 --bits 2");
    files_write(files_path(one, "main.cpp"), program, strlen(program));
    free(shell_output("cd %s && gcc " SHELL_SANITIZER
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

Test(bundle, a_gpu_gets_the_newest_image_that_it_runs, .timeout = 300)
{
    static const char archs[] = "--arch sm_80,sm_86,sm_90a,sm_90";
    const char *spec = emitted_spec(EMITTED_LATENT), *files, *folder;
    char options[128];
    snprintf(options, sizeof options, "%s --files", archs);
    files = emitted_keep(emitted(spec, "pick", options));
    folder = emitted(spec, "pick", archs);
    const char *library = emitted_library(folder, "pick", "gcc -std=c11", false);
    expect_target(library, files, 80, "sm_80");
    expect_target(library, files, 86, "sm_86");
    expect_target(library, files, 87, "sm_86");
    expect_target(library, files, 90, "sm_90a");
    expect_target(library, files, 100, "sm_90"); /* PTX; that of sm_90a runs only on 9.0 */
    expect_target(library, files, 120, "sm_90");
}

Test(bundle, an_image_that_needs_too_much_shared_memory_is_passed_over, .timeout = 300)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    const char *folder = emitted(emitted_spec("\"cache\": {\"page\": 32}"), "tight", "--arch sm_80");
    const struct library l = library_load(emitted_library(folder, "tight", "gcc -std=c11", false), "tight");
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

Test(bundle, what_a_bundle_does_not_have_is_refused_by_name, .timeout = 300)
{
    struct fake_cuda_state *fake = fake_cuda_use();
    fake->major = 8;
    fake->minor = 0;
    const char *spec = emitted_spec(EMITTED_LATENT),
               *in_files = emitted_keep(emitted(spec, "files", "--files --bits 2,4 --arch sm_90"));
    const char *folder = emitted(spec, "inside", "--bits 2,4 --arch sm_80");
    const struct library l =
        library_load(emitted_library(folder, "inside", "gcc -std=c11", false), "inside");
    const struct session s = session_open(&l, "cuda");
    load_function *load = bundle_load(&l, "inside");
    expect_load(&s, load, NULL, "8bit", XQ_ERROR_ARGUMENT,
                "the bundle has no plan '8bit'; valid: 2bit, 4bit");
    expect_load(&s, load, folder, "4bit", XQ_ERROR_ARGUMENT,
                "folder: the images are compiled in; valid: NULL");
    expect_load(&s, load, NULL, NULL, XQ_ERROR_ARGUMENT, "name");
    l.context_destroy(s.context);

    const struct library m =
        library_load(emitted_library(in_files, "files", "gcc -std=c11", false), "files");
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
