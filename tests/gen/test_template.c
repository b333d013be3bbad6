/* Tests templates: golden renderings and errors (tests/golden; XQ_UPDATE_GOLDEN=1 rewrites the expected
 * files), the sandbox, and determinism. */
#include "../../gen/sandbox.h"
#include "../../runtime/compile/nvrtc.h"
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SPEC                                                                                               \
    "{\"model\": {\"name\": \"golden\", \"hidden_size\": 512, \"num_attention_heads\": 8, "                \
    "\"num_key_value_heads\": 2, \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", " \
    "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "                               \
    "\"original_max_position_embeddings\": 8192}}}"

/* The NAME.spec.lua of a test's template. */
static const char family_text[] =
    "return {\n"
    "  name = \"%s\", entry = \"xq_%s\", summary = \"a test\",\n"
    "  parameters = {{name = \"warps\", values = {1, 2, 4}, default = 2, doc = \"warps\"}},\n"
    "  resources = function(spec, p) return {threads = 32 * p.warps, shared_bytes = 1024, extra = 7} end,\n"
    "}\n";

/* A folder of templates, and a generator that uses it. */
typedef struct overlay {
    const char *directory;
    gen *g;
} overlay;

static void write_text(const overlay *o, const char *name, const char *ending, const char *text)
{
    char file[256];
    snprintf(file, sizeof file, "%s%s", name, ending);
    files_write(files_path(o->directory, file), text, strlen(text));
}

/* Adds a template as the family `name`. `family` is its spec.lua, or NULL for the usual one. */
static void add_family(overlay *o, const char *name, const char *text, const char *family)
{
    char usual[1024];
    if (!o->directory)
        o->directory = files_directory();
    snprintf(usual, sizeof usual, family_text, name, name);
    write_text(o, name, ".cu.lt", text);
    write_text(o, name, ".spec.lua", family ? family : usual);
}

static void open_overlay(overlay *o)
{
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(o->directory, &o->g, &err), XQ_OK, "%s", err.message);
}

/* Renders `text` as the template of the only family, "case". */
static xq_status render_text(const char *text, const char *family, gen_kernel *kernel, error *err)
{
    overlay o = {NULL, NULL};
    add_family(&o, "case", text, family);
    open_overlay(&o);
    gen_render(o.g, SPEC, "case", kernel, err);
    gen_destroy(o.g);
    return err->status;
}

/* ---------------------------------------------------------------- golden */

static void compare_with_file(const char *path, const char *actual)
{
    if (getenv("XQ_UPDATE_GOLDEN")) {
        files_write(path, actual, strlen(actual));
        return;
    }
    size_t size;
    char *expected = files_read(path, &size);
    cr_assert_str_eq(actual, expected, "%s differs:\n%s", path, actual);
    free(expected);
}

static void check_golden_error(const char *name, const error *err, const gen_kernel *kernel,
                               const char *path)
{
    char place[320], actual[2048];
    cr_assert_eq(err->status, XQ_ERROR_TEMPLATE, "%s: %s", name, err->message);
    cr_assert_str_eq(err->stage, "template");
    cr_assert(!kernel->source && !kernel->info);
    snprintf(place, sizeof place, "templates/%s.cu.lt:%d: ", name, err->line);
    cr_assert_eq(strncmp(err->message, place, strlen(place)), 0, "%s", err->message);
    snprintf(actual, sizeof actual, "%s\n", err->message);
    compare_with_file(path, actual);
}

static void check_golden(gen *g, const char *name)
{
    char path[320];
    snprintf(path, sizeof path, "tests/golden/%s.out", name);
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    gen_render(g, SPEC, name, &kernel, &err);
    if (strncmp(name, "error_", 6) == 0) {
        check_golden_error(name, &err, &kernel, path);
    } else {
        cr_assert_eq(err.status, XQ_OK, "%s: %s", name, err.message);
        compare_with_file(path, kernel.source);
    }
    gen_kernel_free(&kernel);
    error_clear(&err);
}

/* Checks the templates of tests/golden whose names start with error_, or all others. */
static void check_golden_files(int errors)
{
    DIR *directory = opendir("tests/golden");
    cr_assert_not_null(directory, "run from the repository's root");
    char names[64][256];
    int count = 0;
    overlay o = {NULL, NULL};
    for (struct dirent *entry; (entry = readdir(directory));) {
        char *name = names[count], path[320];
        snprintf(name, sizeof names[0], "%s", entry->d_name);
        char *end = strstr(name, ".cu.lt");
        if (!end || errors != (strncmp(name, "error_", 6) == 0))
            continue;
        *end = 0;
        snprintf(path, sizeof path, "tests/golden/%s.cu.lt", name);
        size_t size;
        char *text = files_read(path, &size);
        add_family(&o, name, text, NULL);
        free(text);
        cr_assert_lt(++count, 64);
    }
    closedir(directory);
    cr_assert_geq(count, 3);
    open_overlay(&o);
    for (int i = 0; i < count; i++)
        check_golden(o.g, names[i]);
    gen_destroy(o.g);
}

Test(template, renderings_match_the_golden_files)
{
    check_golden_files(0);
}

Test(template, errors_match_the_golden_files)
{
    check_golden_files(1);
}

Test(template, lines_refer_to_the_template)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    render_text("int a;\n% for i = 1, 3 do\nint b${i};\n% end\n% local x = 1\n% x = 2\n% x = 3\n% x = "
                "4\nint c;\nint d;\n",
                NULL, &kernel, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    int line = 0, seen = 0;
    char *rest = kernel.source;
    for (char *text; (text = strsep(&rest, "\n")); line++) { /* lines are counted as a compiler does */
        static const struct {
            const char *text;
            int line;
        } places[] = {{"int a;", 1},  {"int b1;", 3}, {"int b2;", 3},
                      {"int b3;", 3}, {"int c;", 9},  {"int d;", 10}};
        int number;
        if (sscanf(text, "#line %d \"templates/case.cu.lt\"", &number) == 1)
            line = number - 1;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++)
            if (strcmp(text, places[i].text) == 0) {
                cr_assert_eq(line, places[i].line, "%s at %d", text, line);
                seen++;
            }
    }
    cr_assert_eq(seen, 6);
    gen_kernel_free(&kernel);
}

Test(template, info_holds_the_resources)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    cr_assert_eq(render_text("int a;\n", NULL, &kernel, &err), XQ_OK, "%s", err.message);
    cr_assert_str_eq(kernel.info, "{\"family\":\"case\",\"entry\":\"xq_case\",\"threads\":64,"
                                  "\"shared_bytes\":1024,\"extra\":7}");
    gen_kernel_free(&kernel);
}

Test(template, the_banner_comes_first)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    cr_assert_eq(render_text("int a;\n", NULL, &kernel, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(strncmp(kernel.source, "// Generated by xq ", 19), 0);
    cr_assert(strstr(kernel.source, "Do not edit"));
    cr_assert(strstr(kernel.source, "golden: hidden_size 512, 8 heads, 2 KV heads, head_dim 64"));
    gen_kernel_free(&kernel);
}

/* ---------------------------------------------------------------- families */

static void family_refused(const char *family, xq_status status, const char *text)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    cr_assert_eq(render_text("int a;\n", family, &kernel, &err), status, "%s", err.message);
    cr_assert(strstr(err.message, text), "%s", err.message);
    cr_assert_null(kernel.source);
}

#define FAMILY(MEMBERS) "return {name = \"case\", entry = \"xq_case\", summary = \"\", " MEMBERS "}\n"
#define RESOURCES       "resources = function() return {threads = 32, shared_bytes = 0} end"

Test(family, unknown_families_are_refused)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    cr_assert_eq(gen_render(generator(), SPEC, "atend", &kernel, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.field, "family");
    cr_assert(strstr(err.message, "did you mean 'attend'?"), "%s", err.message);
    error_clear(&err);
    cr_assert_eq(gen_render(generator(), SPEC, "../gen/spec", &kernel, &err), XQ_ERROR_ARGUMENT);
}

Test(family, faulty_descriptions_name_their_file)
{
    family_refused("return {", XQ_ERROR_TEMPLATE, "templates/case.spec.lua:1: ");
    family_refused("return 7", XQ_ERROR_TEMPLATE, "templates/case.spec.lua:1: must return a table");
    family_refused(FAMILY("parameters = {}"), XQ_ERROR_TEMPLATE, "resources must be a function");
    family_refused(FAMILY("parameters = {{name = \"a\", values = {1}, default = 2}}, " RESOURCES),
                   XQ_ERROR_TEMPLATE, "the default is none of its values");
    family_refused("local t\nlocal x = t.y\n", XQ_ERROR_TEMPLATE, "templates/case.spec.lua:2: ");
    family_refused(FAMILY("parameters = {}, resources = function() return {} end"), XQ_ERROR_TEMPLATE,
                   "threads");
}

Test(family, a_refusal_is_unsupported_when_rendered)
{
    family_refused(
        FAMILY("parameters = {}, " RESOURCES ", supports = function(spec) return \"needs bits 8\" end"),
        XQ_ERROR_UNSUPPORTED, "case cannot serve this spec: needs bits 8");
    family_refused(FAMILY("parameters = {}, " RESOURCES
                          ", constraints = {{text = \"bits must be 8\", check = function(spec) return "
                          "spec.cache.bits == 8 end}}"),
                   XQ_ERROR_UNSUPPORTED, "bits must be 8");
    family_refused(
        FAMILY("parameters = {}, resources = function() return {threads = 32, shared_bytes = 200000} end"),
        XQ_ERROR_UNSUPPORTED, "shared memory on sm_80");
    family_refused(
        FAMILY("parameters = {}, resources = function() return {threads = 2048, shared_bytes = 0} end"),
        XQ_ERROR_UNSUPPORTED, "threads a block");
}

Test(family, defaults_may_depend_on_the_spec)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    render_text("int a = ${tuning.warps};\n",
                FAMILY("parameters = {{name = \"warps\", values = {1, 2}, default = 1}}, " RESOURCES
                       ", defaults = function(spec) return {warps = spec.model.head_dim // 32} end"),
                &kernel, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    cr_assert(strstr(kernel.source, "int a = 2;"));
    gen_kernel_free(&kernel);
}

/* ---------------------------------------------------------------- sandbox */

/* Each line of Lua stands in a template, and causes the error with this message. */
static const struct escape {
    const char *code, *message;
} escapes[] = {
    {"io.open(\"/etc/passwd\")", "'io' is not defined"},
    {"os.execute(\"true\")", "'os' is not defined"},
    {"debug.getinfo(1)", "'debug' is not defined"},
    {"require(\"host\")", "'require' is not defined"},
    {"load(\"return 1\")", "'load' is not defined"},
    {"loadstring(\"return 1\")", "'loadstring' is not defined"},
    {"dofile(\"/etc/passwd\")", "'dofile' is not defined"},
    {"loadfile(\"/etc/passwd\")", "'loadfile' is not defined"},
    {"package.loadlib(\"libc.so.6\", \"system\")", "'package' is not defined"},
    {"coroutine.wrap(print)", "'coroutine' is not defined"},
    {"collectgarbage()", "'collectgarbage' is not defined"},
    {"getmetatable(\"\").__index.upper = nil", "'getmetatable' is not defined"},
    {"setmetatable(spec, {})", "'setmetatable' is not defined"},
    {"rawset(string, \"format\", 1)", "'rawset' is not defined"},
    {"pcall(error)", "'pcall' is not defined"},
    {"print(_G)", "'print' is not defined"},
    {"local x = _ENV._G.io", "'_G' is not defined"},
    {"local x = string.dump(error)", "string.dump does not exist"},
    {"local x = (\"\").dump(error)", "attempt to call a nil value"},
    {"local x = math.random()", "math.random does not exist"},
    {"local x = format(\"%p\", spec)", "%p is not available"},
    {"math.pi = 3", "math cannot be changed"},
    {"while true do end", "runs too long"},
    {"local function f() return f() end f()", "runs too long"},
    {"local function f() return 1 + f() end f()", "uses too much memory"},
    {"local x = (\"x\"):rep(1 << 40)", "use too much memory"},
    {"local x = (\"\"):rep(1 << 40)", "use too much memory"},
    {"local x = (\"xx\"):rep(1 << 62)", "use too much memory"},
    {"table.move({}, 1, 1 << 40, 2)", "use too much memory"},
    {"table.move({}, -1 << 40, 1 << 62, 2)", "too much memory"},
    {"local t = {} for i = 1, 1e9 do t[i] = {} end", "uses too much memory"},
    {"local s = \"xxxxxxxxxxxxxxxx\" for i = 1, 40 do s = s .. s end", "uses too much memory"},
};

Test(sandbox, escapes_are_refused, .timeout = 60)
{
    overlay o = {NULL, NULL};
    enum { COUNT = sizeof escapes / sizeof *escapes };
    char names[COUNT][24];
    for (int i = 0; i < COUNT; i++) {
        char text[256];
        snprintf(names[i], sizeof names[i], "escape_%d", i);
        snprintf(text, sizeof text, "int a;\n%% %s\n", escapes[i].code);
        add_family(&o, names[i], text, NULL);
    }
    open_overlay(&o);
    for (int i = 0; i < COUNT; i++) {
        gen_kernel kernel = {NULL, NULL};
        error err = ERROR_INIT;
        cr_assert_eq(gen_render(o.g, SPEC, names[i], &kernel, &err), XQ_ERROR_TEMPLATE, "%s",
                     escapes[i].code);
        cr_assert(strstr(err.message, escapes[i].message), "%s: %s", escapes[i].code, err.message);
        cr_assert(strstr(err.message, names[i]), "%s: %s", escapes[i].code, err.message);
        cr_assert_null(kernel.source);
        error_clear(&err);
        /* The generator still works. */
        cr_assert_eq(gen_render(o.g, SPEC, "append", &kernel, &err), XQ_OK, "%s", err.message);
        gen_kernel_free(&kernel);
    }
    gen_destroy(o.g);
}

Test(sandbox, bytecode_is_no_template_module)
{
    const char *directory = files_directory();
    static const char bytecode[] = "\x1bLua\x54\x00\x19\x93\r\n\x1a\n";
    files_write(files_path(directory, "layout.lua"), bytecode, sizeof bytecode);
    error err = ERROR_INIT;
    gen *g = NULL;
    char *completed = NULL;
    if (gen_create(directory, &g, &err) == XQ_OK)
        gen_complete(g, SPEC, &completed, &err);
    cr_assert_eq(err.status, XQ_ERROR_INTERNAL);
    cr_assert(strstr(err.message, "binary chunk"), "%s", err.message);
    gen_destroy(g);
}

Test(sandbox, no_order_depends_on_addresses)
{
    gen_kernel kernel = {NULL, NULL};
    error err = ERROR_INIT;
    render_text("% local t = {z = 1, a = 2, [3] = 3, [1] = 1, m = {}}\n"
                "% for key, value in pairs(t) do\n${key} ${tostring(value)}\n% end\n${tostring(pairs)}\n",
                NULL, &kernel, &err);
    cr_assert_eq(err.status, XQ_OK, "%s", err.message);
    static const char *const lines[] = {"\n1 1\n",     "\n3 3\n", "\na 2\n",
                                        "\nm table\n", "\nz 1\n", "\nfunction\n"};
    const char *at = kernel.source;
    for (int i = 0; i < 6; i++) {
        at = strstr(at, lines[i]);
        cr_assert_not_null(at, "%s in\n%s", lines[i], kernel.source);
    }
    gen_kernel_free(&kernel);
}

Test(sandbox, a_missing_directory_is_a_clear_error)
{
    error err = ERROR_INIT;
    gen *g = NULL;
    cr_assert_eq(gen_create("/nonexistent/templates", &g, &err), XQ_ERROR_IO);
    cr_assert_str_eq(err.message, "template_dir: /nonexistent/templates: No such file or directory");
    cr_assert_null(g);
}

static void folder_refused(const char *directory, const char *message)
{
    error err = ERROR_INIT;
    gen *g = NULL;
    cr_assert_eq(gen_create(directory, &g, &err), XQ_ERROR_IO, "%s: %s", directory, message);
    cr_assert_str_eq(err.field, "template_dir");
    cr_assert(strstr(err.message, message) && strstr(err.message, directory), "%s", err.message);
    cr_assert_null(g);
}

Test(sandbox, a_folder_that_gives_nothing_is_refused)
{
    const char *directory = files_directory();
    folder_refused(directory, "holds no template; valid: ");
    files_write(files_path(directory, "README"), "x", 1);
    files_write(files_path(directory, "attend.cu.lt.orig"), "x", 1);
    cr_assert_eq(mkdir(files_path(directory, "lib"), 0700), 0);
    folder_refused(directory, "holds no template; valid: ");
    cr_assert_eq(symlink("missing", files_path(directory, "attend.cu.lt")), 0);
    folder_refused(directory, "attend.cu.lt: No such file");
    cr_assert_eq(unlink(files_path(directory, "attend.cu.lt")), 0);
    files_write(files_path(directory, "lib/one.cuh"), "", 0);
    error err = ERROR_INIT;
    gen *g = NULL;
    cr_assert_eq(gen_create(directory, &g, &err), XQ_OK, "a header is enough: %s", err.message);
    gen_destroy(g);
}

/* Otherwise, the built-in templates would be used without any message. */
Test(sandbox, a_template_that_cannot_be_read_is_refused)
{
    const char *directory = files_directory();
    cr_assert_eq(mkdir(files_path(directory, "attend.cu.lt"), 0700), 0);
    folder_refused(directory, "attend.cu.lt: is no regular file");
    cr_assert_eq(rmdir(files_path(directory, "attend.cu.lt")), 0);
    cr_assert_eq(mkfifo(files_path(directory, "attend.spec.lua"), 0600), 0);
    folder_refused(directory, "attend.spec.lua: is no regular file");
    cr_assert_eq(unlink(files_path(directory, "attend.spec.lua")), 0);
    files_write(files_path(directory, "attend.cu.lt"), "a\0b", 3);
    folder_refused(directory, "attend.cu.lt: holds a NUL character");
    cr_assert_eq(unlink(files_path(directory, "attend.cu.lt")), 0);
    files_write(files_path(directory, "atend.cu.lt"), "text", 4);
    folder_refused(directory, "atend.cu.lt: is a template without a family");
}

/* The test steps a memory limit through every size that this call may need. Each call must fail cleanly,
 * and the sandbox must still work. */
static int complete_in_sandbox(lua_State *L)
{
    lua_settop(L, 0);
    sandbox_require(L, "spec");
    lua_getfield(L, -1, "complete");
    lua_newtable(L);
    lua_pushliteral(L, "llama-3.2-1b");
    lua_setfield(L, -2, "model");
    lua_call(L, 1, 1);
    return 0;
}

Test(sandbox, running_out_of_memory_anywhere_is_an_error, .timeout = 60)
{
    source files;
    table_list none = {0};
    sandbox box;
    error err = ERROR_INIT;
    cr_assert_eq(source_open(&files, NULL, &err), XQ_OK);
    int failures = 0;
    for (size_t extra = 0;; extra += 1499) {
        cr_assert_eq(sandbox_open(&box, &files, &none, &err), XQ_OK, "%s", err.message);
        box.memory_limit = box.memory_used + extra;
        xq_status status = sandbox_run(&box, complete_in_sandbox, NULL, 0, &err);
        if (status != XQ_OK) {
            cr_assert_eq(status, XQ_ERROR_TEMPLATE, "%s", err.message);
            cr_assert(strstr(err.message, "uses too much memory"), "%s", err.message);
            failures++;
            error_clear(&err);
            box.memory_limit = SANDBOX_MEMORY;
            cr_assert_eq(sandbox_run(&box, complete_in_sandbox, NULL, 0, &err), XQ_OK, "%s", err.message);
        }
        sandbox_close(&box);
        if (status == XQ_OK)
            break;
    }
    cr_assert_gt(failures, 50);
    tables_close(&none);
    source_close(&files);
}

/* ---------------------------------------------------------------- mutations */

static uint64_t random_state;

static unsigned next_random(unsigned below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % below;
}

static void mutate(char *text)
{
    static const char *const pieces[] = {
        "%", "${", "}", "\n", "\"", "end", "[[", "\\", "(", ")", "\n% for i = 1, 3 do\n", "nil"};
    for (unsigned n = 1 + next_random(5); n > 0; n--) {
        size_t length = strlen(text), at = next_random((unsigned)length);
        const char *piece = pieces[next_random(sizeof pieces / sizeof *pieces)];
        size_t size = strlen(piece);
        if (next_random(2) == 0 && at + size < length) {
            memcpy(text + at, piece, size);
        } else {
            memmove(text + at + size, text + at, length - at + 1);
            memcpy(text + at, piece, size);
        }
    }
}

Test(template, mutated_templates_render_or_fail_with_their_line, .timeout = 60)
{
    enum { COUNT = 200 };
    size_t size;
    char *seed = files_read("tests/golden/control.cu.lt", &size), *text = malloc(size + 256);
    overlay o = {NULL, NULL};
    for (int i = 0; i < COUNT; i++) {
        char name[24];
        random_state = (uint64_t)i;
        strcpy(text, seed);
        mutate(text);
        snprintf(name, sizeof name, "m%d", i);
        add_family(&o, name, text, NULL);
    }
    open_overlay(&o);
    int failed = 0;
    for (int i = 0; i < COUNT; i++) {
        char name[24], place[64];
        gen_kernel kernel = {NULL, NULL};
        error err = ERROR_INIT;
        snprintf(name, sizeof name, "m%d", i);
        snprintf(place, sizeof place, "templates/%s.cu.lt:", name);
        if (gen_render(o.g, SPEC, name, &kernel, &err) != XQ_OK) {
            cr_assert_eq(err.status, XQ_ERROR_TEMPLATE, "%s", err.message);
            cr_assert_eq(strncmp(err.message, place, strlen(place)), 0, "%s", err.message);
            cr_assert(err.line > 0 && !kernel.source, "%s", err.message);
            failed++;
        }
        gen_kernel_free(&kernel);
        error_clear(&err);
    }
    cr_assert(failed > COUNT / 4 && failed < COUNT, "%d of %d failed", failed, COUNT);
    gen_destroy(o.g);
    free(text);
    free(seed);
}

/* ---------------------------------------------------------------- all families */

static const char *const families[] = {"append",  "attend",    "dequantize", "gemm",
                                       "gemm_kv", "kv_append", "kv_attend",  "rope"};
static const char *const specs[] = {
    "{\"model\": \"llama-3.1-8b\"}",
    "{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 8, \"group\": \"row\"}, \"arch\": \"sm_90a\"}",
    "{\"model\": \"llama-2-7b\"}",
    "{\"model\": \"smollm2-135m\", \"cache\": {\"page\": 16}}",
};
enum { FAMILIES = sizeof families / sizeof *families, SPECS = sizeof specs / sizeof *specs };

Test(rendering, the_same_spec_renders_the_same_bytes)
{
    gen *fresh = NULL;
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &fresh, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(gen_ignore_tables(fresh, &err), XQ_OK, "%s", err.message); /* as generator() does */
    for (int s = SPECS - 1; s >= 0; s--)
        for (int f = 0; f < FAMILIES; f++) {
            gen_kernel first = {NULL, NULL}, second = {NULL, NULL}, other = {NULL, NULL};
            gen_render(generator(), specs[s], families[f], &first, &err);
            cr_assert_eq(err.status, XQ_OK, "%s: %s", families[f], err.message);
            cr_assert_eq(gen_render(generator(), specs[s], families[f], &second, &err), XQ_OK);
            cr_assert_eq(gen_render(fresh, specs[s], families[f], &other, &err), XQ_OK);
            cr_assert_str_eq(first.source, second.source);
            cr_assert_str_eq(first.source, other.source);
            cr_assert_str_eq(first.info, other.info);
            gen_kernel_free(&first);
            gen_kernel_free(&second);
            gen_kernel_free(&other);
        }
    gen_destroy(fresh);
}

/* Returns the processor time of this thread, because the machine may be busy with other work. */
static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* The time is that of completing the spec and rendering one kernel, the best of several. */
Test(rendering, takes_less_than_5_ms)
{
    for (int f = 0; f < FAMILIES; f++) {
        double best = 1e9;
        for (int i = 0; i < 9; i++) {
            gen_kernel kernel = {NULL, NULL};
            error err = ERROR_INIT;
            double start = milliseconds();
            cr_assert_eq(gen_render(generator(), specs[0], families[f], &kernel, &err), XQ_OK, "%s",
                         err.message);
            double time = milliseconds() - start;
            best = time < best ? time : best;
            gen_kernel_free(&kernel);
        }
        printf("rendering %s: %.2f ms\n", families[f], best);
#ifndef __SANITIZE_ADDRESS__
        cr_assert_lt(best, 5.0, "%s takes %.2f ms", families[f], best);
#endif
    }
}

Test(rendering, headers_name_their_files)
{
    int count = 0;
    const char *const *names, *const *texts;
    gen_headers(generator(), &count, &names, &texts);
    int params = 0;
    for (int i = 0; i < count; i++) {
        char first[256];
        snprintf(first, sizeof first, "#line 1 \"templates/lib/%s\"\n", names[i]);
        cr_assert_eq(strncmp(texts[i], first, strlen(first)), 0);
        params += strcmp(names[i], "params.h") == 0;
    }
    cr_assert_eq(params, 1);
}

/* A kernel may include any header first, so no header may depend on what another one includes. */
Test(rendering, headers_compile_alone, .timeout = 120)
{
    int count = 0;
    const char *const *names, *const *texts;
    gen_headers(generator(), &count, &names, &texts);
    error err = ERROR_INIT;
    nvrtc *library;
    if (nvrtc_open(&library, &err) != XQ_OK)
        cr_skip_test("no NVRTC: %s", err.message);
    static const char *const options[] = {"-std=c++17", "--gpu-architecture=compute_80", "-default-device"};
    for (int i = 0; i < count; i++) {
        char include[128];
        snprintf(include, sizeof include, "#include \"%s\"\n", names[i]);
        nvrtc_input input = {.name = "alone.cu",
                             .source = include,
                             .header_count = count,
                             .header_names = names,
                             .header_texts = texts,
                             .option_count = 3,
                             .options = options};
        nvrtc_output out;
        cr_assert_eq(nvrtc_compile(library, &input, &out, &err), XQ_OK, "%s: %s", names[i], err.message);
        cr_expect_null(strstr(out.log, "warning"), "%s: %s", names[i], out.log);
        nvrtc_output_free(&out);
    }
    nvrtc_close(library);
}
