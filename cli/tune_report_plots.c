#include "tune_report_plots.h"
#include "gnuplot.h"
#include "html.h"
#include "plot_axis.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ script */

/* The script of all plots, one after the other, and the texts that its marks [0], [1], ... stand for. */
struct drawing {
    FILE *script;
    char **labels;
    int label_count;
    char ***places; /* each finished plot is stored here */
    int plot_count;
    error *err;
};

enum { MOST_LABEL = 56, WIDTH = 860, BAR = 22 };

#define BLUE   "#0072b2"
#define ORANGE "#d55e00"
#define GREY   "#8c8c8c"

/* Adds a text, shortened where it is long, and returns the number of its mark. */
static int mark(struct drawing *d, const char *text)
{
    const struct cli_shown shown = cli_show(text);
    char **more = survey_grow(d->labels, d->label_count, sizeof *more, d->err);
    char *label = more ? malloc(sizeof shown.text + 4) : NULL, *out = label;
    d->labels = more ? more : d->labels;
    if (!label) {
        error_set(d->err, XQ_ERROR_MEMORY, "file", "out of memory");
        return 0;
    }
    int characters = 0;
    for (const char *c = shown.text; *c && characters <= MOST_LABEL; c++) {
        characters += ((unsigned char)*c & 0xc0) != 0x80;
        if (characters <= MOST_LABEL)
            *out++ = *c;
    }
    strcpy(out, characters > MOST_LABEL ? "\xe2\x80\xa6" : "");
    more[d->label_count] = label;
    return d->label_count++;
}

static void begin_plot(struct drawing *d, char **place, int height)
{
    char ***more = survey_grow(d->places, d->plot_count, sizeof *more, d->err);
    if (!more)
        return;
    d->places = more;
    more[d->plot_count++] = place;
    fprintf(d->script,
            "set output\nreset\nset terminal svg size %d,%d font 'sans-serif,13' noenhanced\n"
            "set border lc rgb '#444444'\nset grid lc rgb '#dddddd' lt 1\nset style fill solid noborder\n",
            WIDTH, height);
}

/* A bar. Bars begin at `origin`, one below the other, each with a label at the left and its figure behind
 * it. */
struct bar {
    int label; /* a mark */
    double length;
    const char *color;
    int decimals; /* decimals of the figure */
};

struct bars {
    struct bar *items;
    int count;
    double origin;    /* all bars begin here */
    double reference; /* draws a line at this value; 0: none */
    const char *axis;
};

static void draw_bars(struct drawing *d, char **place, const struct bars *b)
{
    const struct bar *bars = b->items;
    const int count = b->count;
    const double origin = b->origin;
    double most = origin > 0 ? origin * 1.05 : 1;
    size_t widest = 4;
    for (int i = 0; i < count; i++) {
        size_t width = strlen(d->labels[bars[i].label]);
        most = fmax(most, bars[i].length);
        widest = width > widest ? width : widest;
    }
    begin_plot(d, place, 100 + BAR * count);
    fprintf(d->script, "set lmargin %zu\nset tmargin 1\nset bmargin 3.7\nset xlabel '%s'\n",
            (widest < MOST_LABEL ? widest : MOST_LABEL) * 7 / 8 + 3, b->axis);
    fprintf(d->script, "set xrange [%.9g:%.9g]\nset yrange [%d.6:0.4]\n", origin,
            origin + 1.12 * (most - origin), count);
    fprintf(d->script, "unset grid\nset grid x lc rgb '#dddddd' lt 1\n");
    if (b->reference > 0)
        fprintf(d->script, "set arrow from %.9g, graph 0 to %.9g, graph 1 nohead front lc rgb '#444444'\n",
                b->reference, b->reference);
    for (int i = 0; i < count; i++)
        fprintf(d->script, "set ytics %s ('[%d]' %d)\n", i ? "add" : "nomirror scale 0", bars[i].label,
                i + 1);
    fputs("$bars << EOD\n", d->script);
    for (int i = 0; i < count; i++) {
        fprintf(d->script, "%.9g %d 0x%s %.*f\n", fmax(bars[i].length, origin), i + 1, bars[i].color + 1,
                bars[i].decimals, bars[i].length);
    }
    fprintf(d->script,
            "EOD\nplot $bars using 1:2:(%.9g):1:($2-0.34):($2+0.34):3 with boxxyerror lc rgb variable "
            "notitle, '' using 1:2:4 with labels left offset 0.5,0 notitle\n",
            origin);
}

/* ------------------------------------------------------------------- plots */

static struct bar *new_bars(int count, error *err)
{
    struct bar *bars = calloc((size_t)count + 1, sizeof *bars);
    if (!bars)
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    return bars;
}

static void draw_gains(struct drawing *d, const struct tune_report *r, char **place)
{
    struct bar *bars = new_bars(r->survey.contest_count, d->err);
    int count = 0;
    for (int i = 0; bars && i < r->survey.contest_count && count < TUNE_REPORT_MOST_BARS; i++) {
        char label[700];
        const struct tune_report_row *row = &r->rows[i];
        if (!(row->gain > 0))
            continue;
        snprintf(label, sizeof label, "%d. %s", i + 1, tune_report_bucket(row->contest).text);
        bars[count++] = (struct bar){mark(d, label), row->gain, row->is_certain ? BLUE : GREY, 3};
    }
    if (count && d->err->status == XQ_OK)
        draw_bars(d, place,
                  &(struct bars){bars, count, 0, 1, "time with the default parameters over the best time"});
    free(bars);
}

static void draw_reasons(struct drawing *d, const struct tune_report *r, char **place)
{
    struct bar *bars = new_bars(r->reasons.count, d->err);
    const int count = r->reasons.count < TUNE_REPORT_MOST_BARS ? r->reasons.count : TUNE_REPORT_MOST_BARS;
    for (int i = 0; bars && i < count; i++) {
        const survey_reason *reason = &r->reasons.items[i];
        char label[1200];
        snprintf(label, sizeof label, "%s: %s", store_outcome_names[reason->outcome], reason->text);
        bars[i] =
            (struct bar){mark(d, label), reason->count, reason->outcome == STORE_WRONG ? ORANGE : GREY, 0};
    }
    if (count && d->err->status == XQ_OK)
        draw_bars(d, place, &(struct bars){bars, count, 0, 0, "answers"});
    free(bars);
}

static void draw_sensitivity(struct drawing *d, const struct tune_report_row *row, char **place)
{
    const survey_parameters *p = &row->parameters;
    struct bar *bars = new_bars(p->count, d->err);
    int count = 0;
    for (int i = 0; bars && i < p->count; i++)
        if (p->items[i].ratio > 0)
            bars[count++] = (struct bar){mark(d, p->items[i].name), p->items[i].ratio, BLUE, 3};
    if (count && d->err->status == XQ_OK)
        draw_bars(d, place,
                  &(struct bars){bars, count, 1, 0,
                                 "best time with the worst value over that with the best value"});
    free(bars);
}

/* Writes a point of the roofline: FLOPs for each byte that the step must move, and FLOPs that it computes
 * in each second. */
static void write_place(FILE *f, const struct tune_report_row *row, int number, const survey_answer *a)
{
    fprintf(f, "%.9g %.9g %d\n", row->limit.flops / row->limit.bytes, 1e-12 * row->limit.flops / a->seconds,
            number);
}

static bool is_on_roofline(const struct tune_report_row *row, int device)
{
    return row->contest->device == device && row->best && row->limit.bytes > 0;
}

static void draw_roofline(struct drawing *d, const struct tune_report *r, int device, char **place)
{
    const ceilings *c = &r->ceilings[device];
    struct plot_range x = {0}, y = {0};
    int count = 0, defaults = 0;
    for (int i = 0; i < r->survey.contest_count; i++) {
        const struct tune_report_row *row = &r->rows[i];
        if (!is_on_roofline(row, device))
            continue;
        count++;
        defaults += row->gain > 0;
        plot_widen(&x, row->limit.flops / row->limit.bytes);
        plot_widen(&y, 1e-12 * row->limit.flops / row->best->seconds);
        if (row->gain > 0)
            plot_widen(&y, 1e-12 * row->limit.flops / row->standard->seconds);
    }
    if (!count)
        return;
    if (c->source) { /* so that the plot shows the ridge, and both ceilings beside it */
        const double ridge = c->f16_flops_per_second / c->copy_bytes_per_second;
        plot_widen(&x, ridge / 2);
        plot_widen(&x, ridge * 2);
        plot_widen(&y, 1e-12 * c->f16_flops_per_second);
    }
    begin_plot(d, place, 440);
    plot_write_axis(d->script, 'x', &x);
    plot_write_axis(d->script, 'y', &y);
    fputs("set xlabel 'FLOP for each byte that must move'\nset ylabel 'TFLOP/s'\nset samples 1000\n"
          "set key bottom right\n$best << EOD\n",
          d->script);
    for (int i = 0; i < r->survey.contest_count; i++)
        if (is_on_roofline(&r->rows[i], device))
            write_place(d->script, &r->rows[i], i + 1, r->rows[i].best);
    fputs("EOD\n$default << EOD\n", d->script);
    for (int i = 0; i < r->survey.contest_count; i++)
        if (is_on_roofline(&r->rows[i], device) && r->rows[i].gain > 0)
            write_place(d->script, &r->rows[i], i + 1, r->rows[i].standard);
    fputs("EOD\nplot ", d->script);
    if (c->source)
        fprintf(d->script,
                "(x * %.9g < %.9g ? x * %.9g : %.9g) with lines lw 2 lc rgb '" GREY "' title 'ceilings', ",
                1e-12 * c->copy_bytes_per_second, 1e-12 * c->f16_flops_per_second,
                1e-12 * c->copy_bytes_per_second, 1e-12 * c->f16_flops_per_second);
    if (defaults)
        fputs("$default using 1:2 with points pt 6 ps 1.2 lc rgb '" ORANGE "' title 'default', ",
              d->script);
    fputs("$best using 1:2 with points pt 7 ps 1 lc rgb '" BLUE "' title 'best'", d->script);
    if (count <= 40)
        fputs(", $best using 1:2:3 with labels left offset 0.8,0.3 notitle", d->script);
    fputc('\n', d->script);
}

static void draw_matches(struct drawing *d, const struct tune_report *r, char **place)
{
    static const char *const colors[] = {BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
    const survey_matches *m = &r->matches;
    if (!m->count)
        return;
    struct plot_range both = {0};
    for (int i = 0; i < m->count; i++)
        for (int k = 0; k < m->items[i].count; k++) {
            plot_widen(&both, 1e6 * m->items[i].pairs[k].modelled);
            plot_widen(&both, 1e6 * m->items[i].pairs[k].measured);
        }
    begin_plot(d, place, 560);
    plot_write_axis(d->script, 'x', &both);
    plot_write_axis(d->script, 'y', &both);
    fputs("set xlabel 'modelled, us'\nset ylabel 'measured, us'\nset key top left\n", d->script);
    for (int i = 0; i < m->count; i++) {
        fprintf(d->script, "$match%d << EOD\n", i);
        for (int k = 0; k < m->items[i].count; k++)
            fprintf(d->script, "%.9g %.9g\n", 1e6 * m->items[i].pairs[k].modelled,
                    1e6 * m->items[i].pairs[k].measured);
        fputs("EOD\n", d->script);
    }
    fputs("plot x with lines lc rgb '" GREY "' title 'equal'", d->script);
    for (int i = 0; i < m->count; i++)
        fprintf(d->script, ", $match%d with points pt %d ps 0.8 lc rgb '%s' title '%d against %d'", i,
                i % 2 ? 5 : 7, colors[i % 6], m->items[i].measured + 1, m->items[i].modelled + 1);
    fputc('\n', d->script);
}

/* --------------------------------------------------------------------- SVG */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* The number of the mark that a text begins with, and the text after it; -1 where the text begins with no
 * mark. */
static int read_mark(const char *text, const struct drawing *d, const char **rest)
{
    char *end = NULL;
    long number = text[0] == '[' && isdigit((unsigned char)text[1]) ? strtol(text + 1, &end, 10) : -1;
    if (number < 0 || number >= d->label_count || *end != ']')
        return -1;
    *rest = end + 1;
    return (int)number;
}

/* The length of the text before the name of an element. These names must differ between the plots of a
 * page. */
static size_t name_before(const char *text)
{
    static const char *const before[] = {" id='", " id=\"", "href='#", "href=\"#", "url(#"};
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++)
        if (begins(text, before[i]))
            return strlen(before[i]);
    return 0;
}

/* Skips gnuplot's own titles, which only number the plots. */
static const char *behind_title(const char *text)
{
    static const char *const names[][2] = {{"<title>", "</title>"}, {"<desc>", "</desc>"}};
    for (int i = 0; i < 2; i++) {
        const char *end = begins(text, names[i][0]) ? strstr(text, names[i][1]) : NULL;
        if (end)
            return end + strlen(names[i][1]);
    }
    return NULL;
}

/* Makes one <svg> element, from `from` up to `end`, fit into a page; caller frees. */
static char *fit_into_page(const struct drawing *d, int number, const char *from, const char *end)
{
    char *svg = NULL;
    size_t size;
    FILE *out = open_memstream(&svg, &size);
    if (!out)
        return NULL;
    while (from < end) {
        const char *rest;
        size_t name = name_before(from);
        int label = read_mark(from, d, &rest);
        if (label >= 0) {
            html_text(out, d->labels[label]);
            from = rest;
        } else if ((rest = behind_title(from))) {
            from = rest;
        } else {
            fwrite(from, 1, name ? name : 1, out);
            from += name ? name : 1;
            if (name)
                fprintf(out, "plot%d-", number);
        }
    }
    return fclose(out) == 0 ? svg : NULL;
}

static xq_status split(const struct drawing *d, const char *output, struct tune_report_plots *p, error *err)
{
    static const char last[] = "</svg>";
    const char *at = output;
    for (int i = 0; i < d->plot_count; i++) {
        const char *from = strstr(at, "<svg"), *end = from ? strstr(from, last) : NULL;
        if (!end)
            return error_set(err, XQ_ERROR_INTERNAL, "argument",
                             "gnuplot made %d of %d plots and gave no reason", i, d->plot_count);
        at = end + strlen(last);
        if (!(p->all[i] = fit_into_page(d, i, from, at)))
            return error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
        p->count = i + 1;
        *d->places[i] = p->all[i];
    }
    return XQ_OK;
}

static void draw_all(struct drawing *d, const struct tune_report *r, struct tune_report_plots *p)
{
    draw_gains(d, r, &p->gains);
    for (int i = 0; i < r->survey.device_count; i++)
        draw_roofline(d, r, i, &p->rooflines[i]);
    for (int i = 0; i < r->survey.contest_count; i++)
        draw_sensitivity(d, &r->rows[i], &p->sensitivity[i]);
    draw_reasons(d, r, &p->reasons);
    draw_matches(d, r, &p->matches);
}

static xq_status draw(struct drawing *d, const struct tune_report *r, struct tune_report_plots *p)
{
    char *script = NULL, *output = NULL;
    size_t bytes = 0;
    if (!(d->script = open_memstream(&script, &bytes)))
        return error_set(d->err, XQ_ERROR_MEMORY, "file", "out of memory");
    draw_all(d, r, p);
    if (fclose(d->script) != 0)
        error_set(d->err, XQ_ERROR_MEMORY, "file", "out of memory");
    p->all = calloc((size_t)d->plot_count + 1, sizeof *p->all);
    if (!p->all)
        error_set(d->err, XQ_ERROR_MEMORY, "file", "out of memory");
    if (d->err->status == XQ_OK && d->plot_count && gnuplot_run(script, bytes, &output, d->err) == XQ_OK)
        split(d, output, p, d->err);
    free(script);
    free(output);
    return d->err->status;
}

xq_status tune_report_plots_make(const struct tune_report *r, struct tune_report_plots *p, error *err)
{
    struct drawing d = {.err = err};
    *p = (struct tune_report_plots){
        .rooflines = calloc((size_t)r->survey.device_count + 1, sizeof *p->rooflines),
        .sensitivity = calloc((size_t)r->survey.contest_count + 1, sizeof *p->sensitivity)};
    if (p->rooflines && p->sensitivity)
        draw(&d, r, p);
    else
        error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
    for (int i = 0; i < d.label_count; i++)
        free(d.labels[i]);
    free(d.labels);
    free(d.places);
    return err->status;
}

void tune_report_plots_free(struct tune_report_plots *p)
{
    for (int i = 0; i < p->count; i++)
        free(p->all[i]);
    free(p->all);
    free(p->rooflines);
    free(p->sensitivity);
    *p = (struct tune_report_plots){0};
}
