/* Tests the numbers of docs/method-*.md against completed specs and against the formulas that the pages
 * state. */
#include "../support/files.h"
#include "../support/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 12 };

static double at(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* Memory of a layer in bytes, by the formulas of the pages: of a whole tail, and of everything else per
 * token. */
struct memory {
    double codes, parameters, total, fp16, tail, accumulator;
};

/* Bytes of the scale and the zero point of one group with codes of `bits`. */
static double parameter_bytes(const cJSON *cache, double bits)
{
    bool integer = strcmp(generator_string(cache, "zero_point"), "integer") == 0;
    return integer ? 2 + bits / 8 : 4;
}

static struct memory memory_of(const cJSON *spec)
{
    struct memory m = {0};
    const cJSON *cache = generator_member(spec, "cache"), *layout = generator_member(spec, "layout"),
                *stream;
    double bits = at(cache, "bits"), group = at(cache, "group"),
           hidden = generator_number(spec, "model.hidden_size");
    cJSON_ArrayForEach(stream, generator_member(layout, "streams"))
    {
        double columns = at(stream, "latents") * at(stream, "rank"), width = at(stream, "width");
        m.codes += columns * bits / 8;
        if (strcmp(generator_string(stream, "axis"), "channel") == 0) {
            bool delta = strcmp(generator_string(stream, "name"), "delta") == 0;
            m.parameters += columns * parameter_bytes(cache, bits) / group;
            m.tail += group * (delta ? hidden : width) * 2;
        } else {
            double latent = at(stream, "latent_width"); /* each latent begins a new group */
            m.parameters += at(stream, "latents") * ceil(latent / group) * parameter_bytes(cache, bits);
        }
    }
    m.total = at(layout, "bytes_per_token");
    m.fp16 = 2 * generator_number(spec, "model.num_key_value_heads") *
             generator_number(spec, "model.head_dim") * 2;
    const cJSON *accumulator = cJSON_GetObjectItem(spec, "accumulator");
    if (accumulator) {
        double wide = at(cache, "accumulator_bits");
        double groups = wide == 16 ? 0 : ceil(hidden / group);
        m.accumulator = hidden * wide / 8 + groups * parameter_bytes(cache, wide);
        cr_assert_eq(m.accumulator, at(accumulator, "bytes_per_token"));
    }
    cr_assert_eq(m.tail, at(layout, "tail_bytes"));
    cr_assert_eq(m.fp16, at(layout, "kv_page_bytes") / at(cache, "page"));
    return m;
}

/* ---------------------------------------------------------------- tables in Markdown */

/* Cuts `line` into the trimmed cells of a table row. Returns the number of cells. */
static int cut_row(char *line, char **cells)
{
    int count = 0;
    for (char *rest = line + 1, *cell; (cell = strsep(&rest, "|")) && rest;) {
        while (*cell == ' ')
            cell++;
        for (char *end = cell + strlen(cell); end > cell && end[-1] == ' ';)
            *--end = 0;
        cr_assert_lt(count, MOST_COLUMNS);
        cells[count++] = cell;
    }
    return count;
}

/* Reads a number such as "16,384", "0.25" or "7.53×". */
static double number_of(const char *text)
{
    char digits[64];
    size_t n = 0;
    for (; *text && n + 1 < sizeof digits; text++)
        if (*text != ',')
            digits[n++] = *text;
    digits[n] = 0;
    return strtod(digits, NULL);
}

static void check_cell(const char *row, const char *column, const char *cell, const struct memory *m)
{
    const struct {
        const char *name;
        double value, tolerance;
    } known[] = {{"codes", m->codes, 0},
                 {"parameters", m->parameters, 0},
                 {"padding", m->total - m->codes - m->parameters, 0},
                 {"bytes a token", m->total, 0},
                 {"fp16 KV", m->fp16, 0},
                 {"smaller", m->fp16 / m->total, 0.005000001},
                 {"tail", m->tail, 0},
                 {"accumulator", m->accumulator, 0}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, column) == 0) {
            cr_assert_leq(fabs(number_of(cell) - known[i].value), known[i].tolerance,
                          "%s: %s is %g, not %s", row, column, known[i].value, cell);
            return;
        }
    cr_assert(false, "unknown column '%s'", column);
}

static void check_row(char *row, char **header, int columns)
{
    char *cells[MOST_COLUMNS];
    cr_assert_eq(cut_row(row, cells), columns, "%s", row);
    char *json = cells[0] + 1;
    json[strlen(json) - 1] = 0; /* removes the closing backtick */
    cJSON *spec = generator_complete_parsed(json);
    struct memory m = memory_of(spec);
    cr_assert_geq(m.total, m.codes + m.parameters);
    for (int i = 1; i < columns; i++)
        check_cell(json, header[i], cells[i], &m);
    cJSON_Delete(spec);
}

/* Checks every table row of a page that begins with a spec. Returns the number of such rows. */
static int check_page(const char *name)
{
    char path[64], *header[MOST_COLUMNS];
    snprintf(path, sizeof path, "docs/%s.md", name);
    size_t size;
    char *page = files_read(path, &size), *rest = page;
    int columns = 0, rows = 0;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "| spec |", 8) == 0)
            columns = cut_row(line, header);
        if (strncmp(line, "| `{", 4) != 0)
            continue;
        cr_assert_gt(columns, 0);
        check_row(line, header, columns);
        rows++;
    }
    free(page);
    return rows;
}

Test(method_pages, worked_numbers_are_those_of_the_completed_specs, .timeout = 60)
{
    static const char *const pages[] = {"method-x", "method-latent", "method-x-cl", "method-latent-cl"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        cr_assert_geq(check_page(pages[i]), 5, "%s", pages[i]);
}

/* ---------------------------------------------------------------- whole models */

/* Completes the spec of a model and a cache. Returns the number of bytes at `path`. */
static double bytes(const char *model, const char *cache, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, "{\"model\": \"%s\", \"cache\": {%s}}", model, cache);
    cJSON *spec = generator_complete_parsed(text);
    double value = generator_number(spec, path);
    cJSON_Delete(spec);
    return value;
}

static void with_commas(char *text, size_t size, double value)
{
    long n = (long)value;
    if (n < 1000)
        snprintf(text, size, "%ld", n);
    else
        snprintf(text, size, "%ld,%03ld", n / 1000, n % 1000);
}

static void check_whole_model(const char *page_name, const char *model, const char *plain,
                              const char *cross)
{
    char cache[128], page_path[64], sum[256], text[4][32];
    snprintf(cache, sizeof cache, "\"method\": \"%s\", \"bits\": 4", plain);
    double first = bytes(model, cache, "layout.bytes_per_token");
    snprintf(cache, sizeof cache, "\"method\": \"%s\", \"bits\": 4, \"base\": true", cross);
    double base = bytes(model, cache, "layout.bytes_per_token");
    snprintf(cache, sizeof cache, "\"method\": \"%s\", \"bits\": 2, \"accumulator_bits\": 4", cross);
    double delta = bytes(model, cache, "layout.bytes_per_token"),
           accumulator = bytes(model, cache, "accumulator.bytes_per_token");
    double values[] = {first, base, delta, accumulator},
           total = 2 * first + base + 29 * delta + accumulator;
    for (int i = 0; i < 4; i++)
        with_commas(text[i], sizeof text[i], values[i]);
    char total_text[32];
    with_commas(total_text, sizeof total_text, total);
    snprintf(sum, sizeof sum, "2 · %s + %s + 29 · %s + %s = %s bytes", text[0], text[1], text[2], text[3],
             total_text);
    snprintf(page_path, sizeof page_path, "docs/%s.md", page_name);
    size_t size;
    char *page = files_read(page_path, &size);
    cr_assert(strstr(page, sum), "%s lacks: %s", page_path, sum);
    free(page);
}

Test(method_pages, a_whole_models_bytes_add_up)
{
    check_whole_model("method-x-cl", "llama-2-7b", "x", "x-cl");
    check_whole_model("method-latent-cl", "llama-3.1-8b", "latent", "latent-cl");
}
