/* xq compare --profile: the lines of the templates that a row's instructions come from. */
#include "../../gen/embed.h"
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/fake_cuda.h"
#include "../support/files.h"
#include "../support/generator.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ONE_LAYER "compare --device sim --synthetic --model smollm2-135m "

static cJSON *compare(const char *options)
{
    return command_json(ONE_LAYER "--json - %s", options);
}

static const cJSON *row_of(const cJSON *json, const char *name)
{
    const cJSON *row, *found = NULL;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "rows"))
    {
        if (strcmp(generator_string(row, "name"), name) == 0)
            found = row;
    }
    cr_assert_not_null(found, "no row %s", name);
    return found;
}

static const cJSON *profile_of(const cJSON *row)
{
    const cJSON *profile = cJSON_GetObjectItem(row, "profile");
    cr_assert_not_null(profile, "no profile of %s", generator_string(row, "name"));
    return profile;
}

/* The sum of a member of all lines; a member of by_class that is missing is zero. */
static double sum_of(const cJSON *profile, const char *group, const char *member)
{
    double sum = 0;
    const cJSON *line;
    cJSON_ArrayForEach(line, cJSON_GetObjectItem(profile, "lines"))
    {
        const cJSON *number = cJSON_GetObjectItem(group ? cJSON_GetObjectItem(line, group) : line, member);
        sum += number ? number->valuedouble : 0;
    }
    return sum;
}

/* --------------------------------------------------------------------- sums */

Test(compare_profile, sums_of_the_lines_are_the_counters_of_the_row)
{
    static const char *const members[] = {"instructions", "read_sectors", "write_sectors", "shared_passes",
                                          "bank_conflicts"};
    cJSON *json = compare("--tokens 48 --batch 2 --bits 4 --profile");
    const cJSON *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "rows"))
    {
        const cJSON *profile = profile_of(row), *class;
        double all = 0;
        for (size_t k = 0; k < sizeof members / sizeof *members; k++)
            cr_expect_eq(sum_of(profile, NULL, members[k]), generator_number(profile, members[k]), "%s",
                         members[k]);
        cJSON_ArrayForEach(class, cJSON_GetObjectItem(profile, "by_class"))
        {
            cr_expect_eq(sum_of(profile, "by_class", class->string), class->valuedouble, "%s",
                         class->string);
            all += class->valuedouble;
        }
        cr_expect_eq(all, generator_number(profile, "instructions"));
        cr_expect_eq(32 * sum_of(profile, NULL, "read_sectors"), generator_number(row, "l2_read_bytes"));
        cr_expect_eq(32 * sum_of(profile, NULL, "write_sectors"), generator_number(row, "l2_write_bytes"));
        cr_expect_gt(sum_of(profile, "by_class", "matrix"), 0);
        cr_expect_eq(generator_number(profile, "cached_tokens"), 96);
    }
    cJSON_Delete(json);
}

Test(compare_profile, only_launches_of_the_step_are_counted)
{
    cJSON *with = compare("--tokens 48 --bits 4 --profile"), *without = compare("--tokens 48 --bits 4");
    const cJSON *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(with, "rows"))
    {
        static const char *const figures[] = {"time_us", "l2_read_bytes", "matrix_flops", "launches"};
        const cJSON *other = row_of(without, generator_string(row, "name")), *line;
        for (size_t k = 0; k < sizeof figures / sizeof *figures; k++)
            cr_expect_eq(generator_number(row, figures[k]), generator_number(other, figures[k]), "%s",
                         figures[k]);
        cr_expect_null(cJSON_GetObjectItem(other, "profile"));
        cJSON_ArrayForEach(line, cJSON_GetObjectItem(profile_of(row), "lines"))
        {
            cr_expect_neq(strcmp(generator_string(line, "kernel"), "xq_append"), 0);
        }
    }
    cJSON_Delete(with);
    cJSON_Delete(without);
}

/* -------------------------------------------------------------------- lines */

Test(compare_profile, lines_are_of_the_templates_and_the_hottest_comes_first)
{
    cJSON *json = compare("--tokens 48 --bits 4 --profile");
    const cJSON *line, *before = NULL;
    bool has_product = false;
    cJSON_ArrayForEach(line, cJSON_GetObjectItem(profile_of(row_of(json, "fused")), "lines"))
    {
        const char *file = generator_string(line, "file");
        cr_expect_eq(strncmp(file, "templates/", 10), 0, "%s", file);
        cr_expect_eq(*generator_string(line, "source") != 0, generator_number(line, "line") > 0, "%s:%g",
                     file, generator_number(line, "line"));
        if (before && strcmp(generator_string(before, "kernel"), generator_string(line, "kernel")) == 0)
            cr_expect_leq(generator_number(line, "instructions"), generator_number(before, "instructions"));
        has_product |= strcmp(file, "templates/lib/ptx_matrix.cuh") == 0 &&
                       cJSON_GetObjectItem(cJSON_GetObjectItem(line, "by_class"), "matrix") &&
                       strcmp(generator_string(line, "caller_file"), file) != 0;
        before = line;
    }
    cr_expect(has_product, "the line of mma.sync, and its callers");
    cJSON_Delete(json);
}

/* A copy of a header with a comment before it, in a folder of templates. */
static const char *templates_with_comment(const char *name, const char *comment)
{
    static char text[1 << 16];
    const char *folder = files_directory();
    const struct embed_file *file = embed_files;
    while (file->name && strcmp(file->name, name) != 0)
        file++;
    cr_assert(file->name, "%s", name);
    snprintf(text, sizeof text, "%s%s", comment, file->text);
    cr_assert_eq(mkdir(files_path(folder, "lib"), 0700), 0);
    files_write(files_path(folder, name + strlen("templates/")), text, strlen(text));
    return folder;
}

Test(compare_profile, source_is_that_of_the_templates_in_use)
{
    static const char name[] = "templates/lib/ptx_matrix.cuh";
    char options[4096];
    snprintf(options, sizeof options, "--tokens 16 --bits 4 --profile --templates %s",
             templates_with_comment(name, "//\n//\n//\n"));
    cJSON *json = compare("--tokens 16 --bits 4 --profile"), *moved = compare(options);
    const cJSON *line, *other = cJSON_GetObjectItem(profile_of(row_of(moved, "fused")), "lines")->child;
    cJSON_ArrayForEach(line, cJSON_GetObjectItem(profile_of(row_of(json, "fused")), "lines"))
    {
        const double by = strcmp(generator_string(line, "file"), name) == 0 ? 3 : 0;
        cr_assert_not_null(other);
        cr_expect_str_eq(generator_string(other, "source"), generator_string(line, "source"));
        cr_expect(generator_number(line, "line") == 0 ||
                      generator_number(other, "line") == generator_number(line, "line") + by,
                  "%s", generator_string(line, "source"));
        other = other->next;
    }
    cJSON_Delete(json);
    cJSON_Delete(moved);
}

/* ------------------------------------------------------------------- tables */

static int count_of(const char *text, const char *part)
{
    int count = 0;
    while ((text = strstr(text, part))) {
        text += strlen(part);
        count++;
    }
    return count;
}

Test(compare_profile, the_table_has_the_hottest_lines_of_each_kernel)
{
    struct command_result r = command_run(ONE_LAYER "--tokens 48 --bits 4 --profile");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(count_of(r.out, "\nProfile of fp16-kv, layer 0, 1 x 48 tokens: "), 1);
    cr_expect_eq(count_of(r.out, "\nProfile of unfused, layer 0, 4 bits, 1 x 48 tokens: "), 1);
    cr_expect_eq(count_of(r.out, "\nProfile of fused, layer 0, 4 bits, 1 x 48 tokens: "), 1);
    const char *fused = strstr(r.out, "\n  xq_attend\n");
    cr_assert_not_null(fused, "%s", r.out);
    cr_expect_eq(count_of(fused, " %  "), 1 + 12, "the sum, and the lines: %s", fused);
    cr_expect_not_null(strstr(fused, "  100.0 %"));
    cr_expect_not_null(strstr(fused, " from lib/"));
}

Test(compare_profile, widths_and_sizes_have_profiles_of_their_own)
{
    struct command_result r = command_run(ONE_LAYER "--tokens 16,32 --bits 4,8 --profile");
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(count_of(r.out, "\nProfile of fp16-kv, "), 2, "once for each size");
    cr_expect_eq(count_of(r.out, "\nProfile of unfused, "), 4);
    cr_expect_eq(count_of(r.out, "\nProfile of fused, layer 0, 8 bits, 1 x 32 tokens"), 1);
}

Test(compare_profile, a_gpu_has_none)
{
    fake_cuda_use();
    setenv("XQ_LOCK_DIR", files_directory(), 1);
    struct command_result r =
        command_run("compare --device cuda --synthetic --model smollm2-135m --tokens 16 --profile");
    cr_expect_eq(r.status, 2);
    cr_expect_str_eq(r.out, "");
    cr_expect_eq(count_of(r.err, "\n"), 1, "%s", r.err);
    cr_expect(strstr(r.err, "xq compare: --profile: ") && strstr(r.err, "--device sim"), "%s", r.err);
}
