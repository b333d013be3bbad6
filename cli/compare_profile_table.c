/* Profiles of rows, for people: the hottest lines of each kernel. */
#include "compare_profile.h"
#include "compare_table.h"

#include <stdio.h>
#include <string.h>

enum { HOTTEST = 12 };

/* The columns of instructions. Each adds up to three of the classes of device.h, and every class is in one.
 */
static const struct column {
    const char *name;
    int count;
    enum instruction_class classes[3];
} columns[] = {
    {"matrix", 1, {INSTRUCTION_MATRIX}},
    {"memory", 3, {INSTRUCTION_GLOBAL, INSTRUCTION_SHARED, INSTRUCTION_OTHER_MEMORY}},
    {"float", 2, {INSTRUCTION_FLOAT, INSTRUCTION_SPECIAL}},
    {"half", 1, {INSTRUCTION_HALF}},
    {"convert", 1, {INSTRUCTION_CONVERT}},
    {"integer", 1, {INSTRUCTION_INTEGER}},
    {"control", 3, {INSTRUCTION_CONTROL, INSTRUCTION_SYNC, INSTRUCTION_EXCHANGE}},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* Prints a count for each cached token. Zero is a dash, so that the other counts stand out. */
static void print_count(int width, double count, double tokens)
{
    char text[32];
    if (count > 0)
        printf(" %*s", width, compare_figure(text, sizeof text, count / tokens));
    else
        printf(" %*s", width, "-");
}

static void print_header(void)
{
    printf("    share  a token");
    for (int c = 0; c < COLUMNS; c++)
        printf(" %7s", columns[c].name);
    printf(" %7s %9s  line\n", "sectors", "conflicts");
}

/* Prints all figures of a line, or of a sum of lines. */
static void print_figures(const struct compare_profile_line *line, double kernel, double tokens)
{
    printf("  %5.1f %%", 100 * (double)line->issued / kernel);
    print_count(8, (double)line->issued, tokens);
    for (int c = 0; c < COLUMNS; c++) {
        double sum = 0;
        for (int i = 0; i < columns[c].count; i++)
            sum += (double)line->by_class[columns[c].classes[i]];
        print_count(7, sum, tokens);
    }
    print_count(7, (double)(line->read_sectors + line->write_sectors), tokens);
    print_count(9, (double)line->shared_conflicts, tokens);
}

/* The file without the folder templates/, which all of them are in. */
static const char *short_name(const char *file)
{
    static const char folder[] = "templates/";
    return strncmp(file, folder, sizeof folder - 1) == 0 ? file + sizeof folder - 1 : file;
}

/* Writes "lib/dequant.cuh:30 from lib/operand.cuh:258", or "lib/operand.cuh:50 from line 57" within a file.
 */
static void describe_place(const struct compare_profile_line *line, char *text, size_t size)
{
    const struct compare_place *place = &line->place, *caller = &line->caller;
    if (!*place->file)
        snprintf(text, size, "no line");
    else if (!*caller->file)
        snprintf(text, size, "%s:%d", short_name(place->file), place->line);
    else if (strcmp(place->file, caller->file) == 0)
        snprintf(text, size, "%s:%d from line %d", short_name(place->file), place->line, caller->line);
    else
        snprintf(text, size, "%s:%d from %s:%d", short_name(place->file), place->line,
                 short_name(caller->file), caller->line);
}

static void print_line(const struct compare_profile_line *line, double kernel, double tokens,
                       const gen *generator)
{
    char source[48], place[160];
    describe_place(line, place, sizeof place);
    gen_source_line(generator, line->place.file, line->place.line, source, sizeof source);
    print_figures(line, kernel, tokens);
    printf("  %-50s %s\n", cli_show(place).text, cli_show(source).text);
}

static void add_line(struct compare_profile_line *sum, const struct compare_profile_line *line)
{
    sum->issued += line->issued;
    for (int i = 0; i < INSTRUCTION_CLASSES; i++)
        sum->by_class[i] += line->by_class[i];
    sum->read_sectors += line->read_sectors;
    sum->write_sectors += line->write_sectors;
    sum->shared_conflicts += line->shared_conflicts;
}

static void print_kernel(const struct compare_profile *p, const struct compare_profile_kernel *kernel,
                         const gen *generator)
{
    const double issued = (double)kernel->issued;
    const struct compare_profile_line *lines = &p->lines[kernel->first];
    struct compare_profile_line all = {0};
    for (int i = 0; i < kernel->count; i++)
        add_line(&all, &lines[i]);
    printf("\n  %s\n", kernel->name);
    print_header();
    print_figures(&all, issued, p->tokens);
    printf("  all %d lines\n", kernel->count);
    for (int i = 0; i < kernel->count && i < HOTTEST; i++)
        print_line(&lines[i], issued, p->tokens, generator);
}

static void print_profile(const struct compare_row *row, const gen *generator)
{
    const struct compare_profile *p = row->profile;
    double all = 0;
    char text[32];
    for (int k = 0; k < p->kernel_count; k++)
        all += (double)p->kernels[k].issued;
    printf("\nProfile of %s, layer %d", compare_name(row->implementation), row->layer);
    if (row->implementation == XQ_UNFUSED || row->implementation == XQ_FUSED)
        printf(", %d bits", row->bits);
    printf(", %d x %lld tokens: %s instructions for each cached token\n", row->batch,
           (long long)row->tokens, compare_figure(text, sizeof text, all / p->tokens));
    for (int k = 0; k < p->kernel_count; k++)
        print_kernel(p, &p->kernels[k], generator);
}

static void print_legend(void)
{
    printf(
        "\nProfile  the %d lines of each kernel with the most instructions; all counts are for one cached "
        "token\n"
        "         share    part of the kernel's instructions\n"
        "         a token, matrix to control   warp instructions of the PTX, in all and by kind. memory: "
        "device,\n"
        "                  shared and other memory; float includes ex2, sin and the like; control "
        "includes\n"
        "                  barriers and shuffles\n"
        "         sectors, conflicts   32-byte sectors that the line reads and writes; extra passes\n"
        "                  through shared memory that bank conflicts cause\n"
        "         line     place in templates/, and where the compiler inlined it; line 0 has what the\n"
        "                  compiler added itself. --json has every line\n",
        HOTTEST);
}

/* A row that does not depend on the bit width is there once for each width, with the same profile. */
static bool is_repeated(const struct compare_result *r, int i)
{
    return i >= COMPARE_IMPLEMENTATIONS &&
           r->rows[i].profile == r->rows[i - COMPARE_IMPLEMENTATIONS].profile;
}

void compare_profile_print(const struct compare_result *r)
{
    if (!r->rows->profile)
        return;
    for (int i = 0; i < r->count; i++)
        if (!is_repeated(r, i))
            print_profile(&r->rows[i], r->generator);
    print_legend();
}
