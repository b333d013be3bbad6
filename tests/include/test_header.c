/* include/xq/xq.h in programs of users: every initializer compiles as C99 and as C++ without a warning. */
#include "../support/files.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A program in both languages. Only xq_plan_options has defaults that are not 0. */
static const char source[] =
    "#include <xq/xq.h>\n"
    "#define CHECK(TYPE, INIT) do { TYPE d = INIT; bad |= d.struct_size != sizeof(TYPE); } while (0)\n"
    "int main(void)\n"
    "{\n"
    "    int bad = 0;\n"
    "    xq_plan_options o = XQ_PLAN_OPTIONS_INIT;\n"
    "    xq_weights w = XQ_WEIGHTS_INIT;\n"
    "    CHECK(xq_error_detail, XQ_ERROR_DETAIL_INIT);\n"
    "    CHECK(xq_context_options, XQ_CONTEXT_OPTIONS_INIT);\n"
    "    CHECK(xq_device_info, XQ_DEVICE_INFO_INIT);\n"
    "    CHECK(xq_plan_info, XQ_PLAN_INFO_INIT);\n"
    "    CHECK(xq_prepared_info, XQ_PREPARED_INFO_INIT);\n"
    "    CHECK(xq_append_args, XQ_APPEND_ARGS_INIT);\n"
    "    CHECK(xq_accumulate_args, XQ_ACCUMULATE_ARGS_INIT);\n"
    "    CHECK(xq_attend_args, XQ_ATTEND_ARGS_INIT);\n"
    "    CHECK(xq_merge_args, XQ_MERGE_ARGS_INIT);\n"
    "    CHECK(xq_dequantize_args, XQ_DEQUANTIZE_ARGS_INIT);\n"
    "    CHECK(xq_quantizer, XQ_QUANTIZER_INIT);\n"
    "    bad |= o.struct_size != sizeof o || o.spec_json || o.implementation != XQ_FUSED;\n"
    "    bad |= o.max_batch != 1 || o.max_tokens != 4096 || o.max_pages != 0 || o.max_append != 1;\n"
    "    bad |= o.max_queries != 1 || o.max_total_queries != 0 || w.struct_size != sizeof w || w.k_cost;\n"
    "    return bad;\n"
    "}\n";

static bool is_installed(const char *compiler)
{
    char line[64];
    snprintf(line, sizeof line, "command -v %s > /dev/null", compiler);
    return system(line) == 0;
}

static void compile_and_run(const char *compiler, const char *standard, const char *language,
                            const char *warnings)
{
    const char *folder = files_directory();
    char line[1024], program[512];
    snprintf(line, sizeof line, "%s", files_path(folder, "program.c"));
    files_write(line, source, strlen(source));
    snprintf(program, sizeof program, "%s/program", folder);
    snprintf(line, sizeof line,
             "%s -x %s -std=%s %s -Wall -Wextra -Wpedantic -Werror -Iinclude -o %s %s/program.c", compiler,
             language, standard, warnings, program, folder);
    cr_expect_eq(system(line), 0, "%s", line);
    cr_expect_eq(system(program), 0, "%s, %s: an initializer is wrong", compiler, standard);
}

Test(header, initializers_compile_as_cpp_without_a_warning, .timeout = 120)
{
    static const char *const compilers[] = {"g++", "clang++"};
    static const char *const standards[] = {"c++98", "c++11", "c++17", "c++20"};
    for (int i = 0; i < 2; i++)
        for (int s = 0; s < 4 && is_installed(compilers[i]); s++)
            compile_and_run(compilers[i], standards[s], "c++",
                            "-Wmissing-field-initializers -Wold-style-cast -Wconversion -Wshadow");
}

Test(header, initializers_compile_as_c99_without_a_warning, .timeout = 120)
{
    static const char *const compilers[] = {"gcc", "clang"};
    static const char *const standards[] = {"c99", "c11", "c17"};
    for (int i = 0; i < 2; i++)
        for (int s = 0; s < 3 && is_installed(compilers[i]); s++)
            compile_and_run(compilers[i], standards[s], "c",
                            "-Wmissing-field-initializers -Wconversion -Wshadow -Wstrict-prototypes");
}
