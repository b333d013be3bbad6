#include "compare_plot.h"
#include "gnuplot.h"
#include "html.h"
#include "plot_axis.h"

#include <stdlib.h>
#include <string.h>

/* The script has this mark in place of the title, because the title's texts come from outside and gnuplot
 * must not see them. */
#define TITLE_MARK "[title]"

enum { WIDTH = 1100, PANEL = 430, KEY_COLUMNS = 4, KEY_LINE = 22, COLORS = 4 };

/* Colors of the bit widths, repeated where there are more widths. */
static const char *const colors[COMPARE_IMPLEMENTATIONS][COLORS] = {
    [COMPARE_FP16] = {"#444444"},
    [COMPARE_FP8] = {"#009e73"},
    [COMPARE_UNFUSED] = {"#d55e00", "#e69f00", "#8c3b00", "#f0c070"},
    [COMPARE_FUSED] = {"#0072b2", "#56b4e9", "#003f63", "#9ad0ee"},
};

/* Marks of the batches, repeated where there are more: circle, square, triangle, ... They are filled for
 * fused, and hollow for the others. */
static const int hollow_marks[] = {6, 4, 8, 10, 12};
enum { MARKS = sizeof hollow_marks / sizeof hollow_marks[0] };

/* A curve has the rows of one implementation, bit width and batch. */
struct curve {
    int implementation, width, batch;
};

/* Whether a bit width makes a difference to an implementation (COMPARE_FP16, ...). */
static bool has_widths(int implementation)
{
    return implementation >= COMPARE_UNFUSED;
}

/* The row of a curve at the i-th number of tokens. The sizes of a result list all numbers of tokens of the
 * first batch, then of the next. */
static const struct compare_row *row_of(const struct compare_result *r, const struct curve *c, int lengths,
                                        int i)
{
    const int size = c->batch * lengths + i;
    return &r->rows[(size * r->widths + c->width) * COMPARE_IMPLEMENTATIONS + c->implementation];
}

/* The number of different numbers of tokens. */
static int count_lengths(const struct compare_result *r)
{
    const int stride = r->widths * COMPARE_IMPLEMENTATIONS;
    int lengths = 1;
    while (lengths < r->sizes && r->rows[lengths * stride].batch == r->rows[0].batch)
        lengths++;
    return lengths;
}

/* Writes all curves as gnuplot's data blocks $curve0, ...: tokens, microseconds, megabytes. A KV
 * cache is one curve, because it is the same at any bit width. Returns the number of curves; the caller
 * frees *curves. */
static int write_curves(FILE *f, const struct compare_result *r, struct curve **curves)
{
    const int lengths = count_lengths(r), batches = r->sizes / lengths;
    struct curve *all = calloc((size_t)r->count, sizeof *all);
    int count = 0;
    for (int i = 0; all && i < COMPARE_IMPLEMENTATIONS; i++)
        for (int width = 0; width < (has_widths(i) ? r->widths : 1); width++)
            for (int batch = 0; batch < batches; batch++) {
                const struct curve *c = &all[count];
                all[count] = (struct curve){i, width, batch};
                fprintf(f, "$curve%d << EOD\n", count++);
                for (int k = 0; k < lengths; k++) {
                    const struct compare_row *row = row_of(r, c, lengths, k);
                    fprintf(f, "%lld %.9g %.9g\n", (long long)row->tokens, row->seconds * 1e6,
                            compare_cache_bytes(row) * 1e-6);
                }
                fputs("EOD\n", f);
            }
    *curves = all;
    return count;
}

static void write_name(FILE *f, const struct compare_result *r, const struct curve *c, int lengths)
{
    const struct compare_row *row = row_of(r, c, lengths, 0);
    fputs(compare_name(row->implementation), f);
    if (r->widths > 1 && has_widths(c->implementation))
        fprintf(f, ", %d bits", row->bits);
    if (r->sizes > lengths)
        fprintf(f, ", batch %d", row->batch);
}

static void write_style(FILE *f, const struct curve *c)
{
    const bool fused = c->implementation == COMPARE_FUSED, unfused = c->implementation == COMPARE_UNFUSED;
    fprintf(f, " with linespoints lw 1.6 dt %d lc rgb '%s' pt %d ps %s", unfused ? 2 : 1,
            colors[c->implementation][has_widths(c->implementation) ? c->width % COLORS : 0],
            hollow_marks[c->batch % MARKS] + fused, fused ? "0.7" : "1.1");
}

/* Puts tics at the numbers of tokens that were compared, where there is room for them. */
static void write_tokens_axis(FILE *f, const struct compare_result *r)
{
    const int lengths = count_lengths(r), stride = r->widths * COMPARE_IMPLEMENTATIONS;
    struct plot_range tokens = {0};
    for (int i = 0; i < lengths; i++)
        plot_widen(&tokens, (double)r->rows[i * stride].tokens);
    plot_write_axis(f, 'x', &tokens);
    if (lengths > 8)
        return;
    for (int i = 0; i < lengths; i++) {
        long long value = (long long)r->rows[i * stride].tokens;
        fprintf(f, "%s'%lld' %lld", i ? ", " : "set xtics nomirror (", value, value);
    }
    fputs(")\n", f);
}

/* Numbers of tokens may be given in any order; `smooth unique` sorts the points. */
static void write_panel(FILE *f, const struct compare_result *r, const struct curve *curves, int count,
                        bool is_memory)
{
    struct plot_range y = {0};
    for (int i = 0; i < r->count; i++)
        plot_widen(&y, is_memory ? compare_cache_bytes(&r->rows[i]) * 1e-6 : r->rows[i].seconds * 1e6);
    fprintf(f, "set lmargin at screen %g\nset rmargin at screen %g\n", is_memory ? 0.57 : 0.07,
            is_memory ? 0.98 : 0.48);
    plot_write_axis(f, 'y', &y);
    fprintf(f, "set ylabel '%s'\n",
            is_memory             ? "cache of one layer, MB"
            : r->rows[0].measured ? "time of a step, measured, us"
                                  : "time of a step, modelled, us");
    for (int i = 0; i < count; i++) {
        fprintf(f, "%s$curve%d using 1:%d smooth unique", i ? ", " : "plot ", i, is_memory ? 3 : 2);
        write_style(f, &curves[i]);
    }
    fputc('\n', f);
}

/* Writes a panel that has only the key, which is as wide as the panel. */
static void write_key(FILE *f, const struct compare_result *r, const struct curve *curves, int count)
{
    fprintf(f, "unset logscale\nunset border\nunset tics\nunset xlabel\nunset ylabel\nunset grid\n"
               "set lmargin at screen 0.02\nset rmargin at screen 0.98\nset bmargin at screen 0.01\n"
               "set tmargin at screen key\nset key inside center center horizontal samplen 3\n");
    for (int i = 0; i < count; i++) {
        fputs(i ? ", NaN" : "plot [0:1] [0:1] NaN", f);
        write_style(f, &curves[i]);
        fputs(" title '", f);
        write_name(f, r, &curves[i], count_lengths(r));
        fputc('\'', f);
    }
    fputc('\n', f);
}

/* Writes the script for two panels, with the names of the curves below both. */
static void write_script(FILE *f, const struct compare_result *r, struct curve **curves)
{
    const int count = write_curves(f, r, curves);
    const int key = KEY_LINE * ((count + KEY_COLUMNS - 1) / KEY_COLUMNS) + 20;
    const double height = PANEL + key;
    fprintf(f,
            "set terminal svg size %d,%g font 'sans-serif,13' noenhanced background '#ffffff'\n"
            "set border 3 lc rgb '#444444'\nset grid lc rgb '#dddddd' lt 1\nset multiplot\nkey = %g\n"
            "set tmargin at screen %g\nset bmargin at screen key + %g\nset xlabel 'cached tokens'\n"
            "set label 1 '" TITLE_MARK "' at screen 0.5, screen %g center\nunset key\n",
            WIDTH, height, key / height, 1 - 40 / height, 70 / height, 1 - 18 / height);
    write_tokens_axis(f, r);
    if (*curves) {
        write_panel(f, r, *curves, count, false);
        fputs("unset label\n", f);
        write_panel(f, r, *curves, count, true);
        write_key(f, r, *curves, count);
    }
    fputs("unset multiplot\n", f);
}

static void write_title(FILE *f, const struct compare_result *r)
{
    fprintf(f, "%s: ", layer_method_name(r->traits->shape.method));
    html_text(f, cli_show(r->model_name).text);
    fprintf(f, ", layer %d", r->rows[0].layer);
    if (r->widths == 1)
        fprintf(f, ", %d bits", r->rows[0].bits);
    if (r->sizes == count_lengths(r))
        fprintf(f, ", batch %d", r->rows[0].batch);
    if (r->rows[0].queries > 1)
        fprintf(f, ", %d queries each", r->rows[0].queries);
    fputs(", ", f);
    html_text(f, r->device->name);
}

/* gnuplot's SVG with the title in place of its mark; caller frees. NULL when out of memory. */
static char *with_title(const struct compare_result *r, const char *svg, size_t *bytes)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, bytes);
    if (!f)
        return NULL;
    for (const char *at; (at = strstr(svg, TITLE_MARK)); svg = at + strlen(TITLE_MARK)) {
        fwrite(svg, 1, (size_t)(at - svg), f);
        write_title(f, r);
    }
    fputs(svg, f);
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

xq_status compare_plot_begin(struct compare_plot *plot, error *err)
{
    gnuplot_version version;
    if (cli_begin_output("--plot", plot->path, &plot->file, err) == XQ_OK)
        gnuplot_find(&version, err);
    return err->status;
}

/* Draws the whole file; caller frees. */
static xq_status draw(const struct compare_result *r, char **svg, size_t *bytes, error *err)
{
    char *script = NULL, *drawn = NULL;
    size_t script_bytes = 0;
    struct curve *curves = NULL;
    FILE *f = open_memstream(&script, &script_bytes);
    if (f)
        write_script(f, r, &curves);
    if (!f || fclose(f) != 0 || !curves)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory drawing the plot");
    else if (gnuplot_run(script, script_bytes, &drawn, err) == XQ_OK &&
             !(*svg = with_title(r, drawn, bytes)))
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory drawing the plot");
    else if (err->status == XQ_OK && !strstr(drawn, "</svg>"))
        error_set(err, XQ_ERROR_INTERNAL, "argument", "gnuplot made no plot and gave no reason");
    free(script);
    free(curves);
    free(drawn);
    return err->status;
}

xq_status compare_plot_write(const struct compare_plot *plot, const struct compare_result *r, error *err)
{
    char *svg = NULL;
    size_t bytes = 0;
    if (draw(r, &svg, &bytes, err) == XQ_OK && publish_write(plot->file, svg, bytes, err) == XQ_OK)
        cli_commit_output(plot->file, err);
    free(svg);
    return err->status;
}
