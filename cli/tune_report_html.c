#include "tune_report_html.h"
#include "html.h"
#include "tune_report_plots.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A page that is being written. */
struct page {
    FILE *f;
    const struct tune_report *report;
    const struct tune_report_plots *plots;
    const gnuplot_version *gnuplot;
};

/* ---------------------------------------------------------------- elements */

/* Writes formatted text, escaped. */
static void text(const struct page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void text(const struct page *p, const char *format, ...)
{
    char *line = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&line, format, args) >= 0)
        html_text(p->f, line);
    va_end(args);
    free(line);
}

/* Writes HTML unchanged; `text` escapes. */
static void raw(const struct page *p, const char *html)
{
    fputs(html, p->f);
}

static void cell(const struct page *p, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void cell(const struct page *p, const char *kind, const char *format, ...)
{
    char *line = NULL;
    va_list args;
    fprintf(p->f, "<td%s%s%s>", *kind ? " class=\"" : "", kind, *kind ? "\"" : "");
    va_start(args, format);
    if (vasprintf(&line, format, args) >= 0)
        html_text(p->f, line);
    va_end(args);
    free(line);
    raw(p, "</td>");
}

#define NUMBER "n"

static void time_cell(const struct page *p, const survey_answer *a)
{
    if (a && a->outcome == STORE_MEASURED)
        cell(p, NUMBER, "%.4g", 1e6 * a->seconds);
    else
        cell(p, NUMBER, "-");
}

static void number_cell(const struct page *p, bool known, int decimals, double value)
{
    if (known)
        cell(p, NUMBER, "%.*f", decimals, value);
    else
        cell(p, NUMBER, "-");
}

static void begin_table(const struct page *p, const char *caption, const char *const *columns)
{
    raw(p, "<div class=\"wide\"><table><caption>");
    text(p, "%s", caption);
    raw(p, "</caption><thead><tr>");
    for (; *columns; columns++) {
        raw(p, "<th scope=\"col\">");
        text(p, "%s", *columns);
        raw(p, "</th>");
    }
    raw(p, "</tr></thead><tbody>\n");
}

static void end_table(const struct page *p)
{
    raw(p, "</tbody></table></div>\n");
}

/* Writes a plot with its description, or nothing where there is no plot. */
static void figure(const struct page *p, const char *svg, const char *caption)
{
    if (!svg)
        return;
    raw(p, "<figure>");
    fputs("<svg role=\"img\" aria-label=\"", p->f);
    text(p, "%s", caption);
    fputs("\"", p->f);
    raw(p, svg + strlen("<svg"));
    raw(p, "<figcaption>");
    text(p, "%s", caption);
    raw(p, "</figcaption></figure>\n");
}

/* Writes a plot of bars; `count` may be larger than the number of bars that it shows. */
static void bars(const struct page *p, const char *svg, int count, const char *caption)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s", caption);
    if (count > TUNE_REPORT_MOST_BARS)
        snprintf(whole, sizeof whole, "%s The first %d are drawn; the table has all.", caption,
                 TUNE_REPORT_MOST_BARS);
    figure(p, svg, whole);
}

static void heading(const struct page *p, const char *id, const char *title)
{
    fprintf(p->f, "<h2 id=\"%s\">", id);
    text(p, "%s", title);
    raw(p, "</h2>\n");
}

static void paragraph(const struct page *p, const char *sentences)
{
    raw(p, "<p>");
    text(p, "%s", sentences);
    raw(p, "</p>\n");
}

/* -------------------------------------------------------------------- head */

static const char style[] =
    "body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:64rem;margin:2rem "
    "auto;padding:0 1rem}"
    "h1{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #ccc}"
    "table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}"
    "caption{text-align:left;font-weight:600;padding-bottom:.3rem}"
    "th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}"
    "th{border-bottom:2px solid #888}.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".wide{overflow-x:auto}code{font-size:.9em;overflow-wrap:anywhere}"
    "figure{margin:1rem 0}figure svg{max-width:100%;height:auto}figcaption{color:#444;font-size:.9rem}"
    "dt{font-weight:600}dd{margin:0 0 .4rem 1.5rem}"
    "@media print{body{max-width:none}.wide{overflow:visible}}";

static void write_head(const struct page *p)
{
    const struct tune_report *r = p->report;
    raw(p, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\"><head><meta "
           "charset=\"utf-8\"/>\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>xq tune "
           "report: ");
    text(p, "%s", r->path);
    fprintf(p->f, "</title>\n<style>%s</style></head>\n<body><header><h1>What a store of measurements says",
            style);
    raw(p, "</h1>\n<p>");
    text(p, "%s: %s. %s", r->path, tune_report_answers(r).text, tune_report_others(r).text);
    raw(p, "</p></header>\n<main>\n");
}

static void write_contents(const struct page *p)
{
    raw(p, "<nav aria-label=\"Contents\"><ul><li><a href=\"#made-with\">Made with</a></li>"
           "<li><a href=\"#gains\">Gains</a></li><li><a href=\"#roofline\">Roofline</a></li>"
           "<li><a href=\"#parameters\">Parameters</a></li><li><a href=\"#failures\">What failed</a></li>"
           "<li><a href=\"#modelled\">Modelled against measured</a></li></ul></nav>\n");
}

static void version_cell(const struct page *p, int version)
{
    if (version)
        cell(p, NUMBER, "%d.%d", version / 1000, version % 1000 / 10);
    else
        cell(p, NUMBER, "-");
}

static void write_devices(const struct page *p)
{
    const survey *s = &p->report->survey;
    begin_table(p, "Devices",
                (const char *const[]){"device", "name", "architecture", "multiprocessors", "memory, GiB",
                                      "driver", "NVRTC", "xq", "times are", "bandwidth, TB/s",
                                      "f16 matrix rate, TFLOP/s", "rates are", NULL});
    for (int i = 0; i < s->device_count; i++) {
        const store_device *d = &s->devices[i];
        const ceilings *c = &p->report->ceilings[i];
        raw(p, "<tr>");
        cell(p, NUMBER, "%d", i + 1);
        cell(p, "", "%s", d->name);
        cell(p, "", "%s", d->arch);
        cell(p, NUMBER, "%d", d->multiprocessors);
        cell(p, NUMBER, "%.1f", (double)d->memory_bytes / (1 << 30));
        version_cell(p, d->driver);
        version_cell(p, d->nvrtc);
        cell(p, "", "%s", d->xq);
        cell(p, "", "%s", d->is_sim ? "modelled" : "measured");
        number_cell(p, c->source, 2, 1e-12 * c->copy_bytes_per_second);
        number_cell(p, c->source, 0, 1e-12 * c->f16_flops_per_second);
        cell(p, "", "%s", c->source ? c->source : "not known");
        raw(p, "</tr>\n");
    }
    end_table(p);
}

static void write_specs(const struct page *p)
{
    const survey *s = &p->report->survey;
    begin_table(p, "Specs", (const char *const[]){"spec", "choices", NULL});
    for (int i = 0; i < s->spec_count; i++) {
        raw(p, "<tr>");
        cell(p, NUMBER, "%d", i + 1);
        raw(p, "<td><code>");
        text(p, "%s", s->specs[i]);
        raw(p, "</code></td></tr>\n");
    }
    end_table(p);
}

/* ------------------------------------------------------------------- gains */

static void write_gain_row(const struct page *p, int index)
{
    const struct tune_report_row *row = &p->report->rows[index];
    const survey_contest *c = row->contest;
    bool limited = row->best && row->limit.seconds > 0;
    fprintf(p->f, "<tr><td class=\"n\"><a href=\"#c%d\">%d</a></td>", index + 1, index + 1);
    cell(p, NUMBER, "%d", c->device + 1);
    cell(p, NUMBER, "%d", c->spec + 1);
    cell(p, "", "%s", c->family);
    cell(p, NUMBER, "%lld", (long long)c->bucket.tokens);
    cell(p, NUMBER, "%d", c->bucket.batch);
    cell(p, NUMBER, "%d", c->bucket.queries);
    time_cell(p, row->standard);
    time_cell(p, row->best);
    if (row->gain > 0 && !row->is_certain && row->best != row->standard)
        cell(p, NUMBER, "%.3f (tie)", row->gain);
    else
        number_cell(p, row->gain > 0, 3, row->gain);
    number_cell(p, limited, 1, limited ? row->best->seconds / row->limit.seconds : 0);
    cell(p, NUMBER, "%d", c->outcomes[STORE_MEASURED]);
    cell(p, NUMBER, "%d", c->outcomes[STORE_WRONG]);
    cell(p, NUMBER, "%d", tune_report_failed(c));
    number_cell(p, row->candidates > 0, 0, row->candidates);
    raw(p, "</tr>\n");
}

static void write_gains(const struct page *p)
{
    int gains = 0;
    for (int i = 0; i < p->report->survey.contest_count; i++)
        gains += p->report->rows[i].gain > 0;
    heading(p, "gains", "Gains");
    paragraph(
        p, "Times are for one step of attention, in microseconds; times of software devices are modelled. "
           "The gain is the time with the default parameters over the best time. A tie lies within the "
           "spread of the measurements. The last "
           "column says how many parameter choices are valid.");
    bars(p, p->plots->gains, gains,
         "Gain over the default parameters, for each row of the table. Grey: the default stays, because "
         "nothing is faster beyond the spread.");
    begin_table(p, "Default and best",
                (const char *const[]){"#", "device", "spec", "family", "tokens", "batch", "queries",
                                      "default, us", "best, us", "gain", "best / limit", "measured",
                                      "wrong", "failed", "valid", NULL});
    for (int i = 0; i < p->report->survey.contest_count; i++)
        write_gain_row(p, i);
    end_table(p);
}

/* ---------------------------------------------------------------- roofline */

static void write_limits(const struct page *p)
{
    begin_table(p, "Where each step stands",
                (const char *const[]){"#", "device", "kB that must move", "MFLOP", "FLOP / byte",
                                      "limit, us", "limited by", "best, us", "best, TFLOP/s", NULL});
    for (int i = 0; i < p->report->survey.contest_count; i++) {
        const struct tune_report_row *row = &p->report->rows[i];
        const roofline_limit *l = &row->limit;
        raw(p, "<tr>");
        cell(p, NUMBER, "%d", i + 1);
        cell(p, NUMBER, "%d", row->contest->device + 1);
        bool known = l->bytes > 0;
        number_cell(p, known, 1, 1e-3 * l->bytes);
        number_cell(p, known, 2, 1e-6 * l->flops);
        number_cell(p, known, 1, known ? l->flops / l->bytes : 0);
        number_cell(p, l->seconds > 0, 3, 1e6 * l->seconds);
        cell(p, "", "%s", !(l->seconds > 0) ? "-" : l->by_memory ? "bytes" : "arithmetic");
        time_cell(p, row->best);
        number_cell(p, known && row->best, 3,
                    known && row->best ? 1e-12 * l->flops / row->best->seconds : 0);
        raw(p, "</tr>\n");
    }
    end_table(p);
}

static void write_rooflines(const struct page *p)
{
    const survey *s = &p->report->survey;
    heading(p, "roofline", "Roofline");
    paragraph(p, "Bytes and FLOP are the least that any kernel needs for a step: every byte moved once, "
                 "and the cheapest exact arithmetic. A kernel that does more has a lower point.");
    for (int i = 0; i < s->device_count; i++) {
        char caption[1024];
        snprintf(
            caption, sizeof caption,
            "Device %d, %.255s: attained rate against arithmetic intensity, both axes logarithmic. %s",
            i + 1, s->devices[i].name,
            p->report->ceilings[i].source
                ? "The line is what the device's bandwidth and f16 matrix rate allow. Numbers are those of "
                  "the table."
                : "The device's ceilings are not known: the store has none, and xq has no datasheet of "
                  "it.");
        figure(p, p->plots->rooflines[i], caption);
    }
    write_limits(p);
}

/* -------------------------------------------------------------- parameters */

static void define(const struct page *p, const char *term, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void define(const struct page *p, const char *term, const char *format, ...)
{
    char *line = NULL;
    va_list args;
    fprintf(p->f, "<dt>%s</dt><dd>", term);
    va_start(args, format);
    if (vasprintf(&line, format, args) >= 0)
        html_text(p->f, line);
    va_end(args);
    free(line);
    raw(p, "</dd>\n");
}

static void define_answer(const struct page *p, const char *term, const survey_answer *a)
{
    if (a->outcome == STORE_MEASURED)
        define(p, term, "%.4g us, spread %.2g us: %s", 1e6 * a->seconds, 1e6 * a->spread, a->parameters);
    else
        define(p, term, "%s: %s. %s", store_outcome_names[a->outcome], a->reason, a->parameters);
}

static void write_answers(const struct page *p, const struct tune_report_row *row)
{
    const survey_contest *c = row->contest;
    raw(p, "<dl>");
    define(p, "measured as", "%s; spec %d on device %d", tune_report_mode(c).text, c->spec + 1,
           c->device + 1);
    if (row->standard)
        define_answer(p, "default", row->standard);
    else if (row->chosen)
        define(p, "default", "was not tried: %s", row->chosen);
    else
        define(p, "default", "not known: %s", row->why ? row->why : "");
    if (row->best)
        define_answer(p, "best", row->best);
    if (row->is_certain && row->changed)
        define(p, "choose", "--set 'tuning.%s=%s'", c->family, row->changed);
    raw(p, "</dl>\n");
}

static void write_values(const struct page *p, const survey_parameters *parameters)
{
    begin_table(p, "Best time with each value, in microseconds (in parentheses: how many were measured)",
                (const char *const[]){"parameter", "worst / best", "values", NULL});
    for (int i = 0; i < parameters->count; i++) {
        const survey_parameter *parameter = &parameters->items[i];
        raw(p, "<tr>");
        cell(p, "", "%s", parameter->name);
        number_cell(p, parameter->ratio > 0, 3, parameter->ratio);
        raw(p, "<td>");
        for (int k = 0; k < parameter->count; k++) {
            const survey_value *v = &parameter->values[k];
            text(p, "%s%s: ", k ? ", " : "", v->text);
            if (v->measured)
                text(p, "%.4g (%d)", 1e6 * v->best, v->measured);
            else
                text(p, "no time (0 of %d)", v->other);
        }
        raw(p, "</td></tr>\n");
    }
    end_table(p);
}

static void write_reasons(const struct page *p, const survey_reasons *reasons, const char *caption)
{
    begin_table(p, caption, (const char *const[]){"answers", "outcome", "reason", NULL});
    for (int i = 0; i < reasons->count; i++) {
        raw(p, "<tr>");
        cell(p, NUMBER, "%d", reasons->items[i].count);
        cell(p, "", "%s", store_outcome_names[reasons->items[i].outcome]);
        cell(p, "", "%s", reasons->items[i].text);
        raw(p, "</tr>\n");
    }
    end_table(p);
}

static void write_parameters(const struct page *p)
{
    heading(p, "parameters", "Parameters");
    paragraph(
        p, "How much a parameter matters is the best time with its worst value over the best time with its "
           "best value, with all other parameters free. A parameter with 1 does not matter. Where few "
           "candidates were measured, this is a rough figure.");
    for (int i = 0; i < p->report->survey.contest_count; i++) {
        const struct tune_report_row *row = &p->report->rows[i];
        char caption[700];
        fprintf(p->f, "<section aria-labelledby=\"c%d\"><h3 id=\"c%d\">", i + 1, i + 1);
        text(p, "%d. %s", i + 1, tune_report_bucket(row->contest).text);
        raw(p, "</h3>\n");
        write_answers(p, row);
        snprintf(caption, sizeof caption, "How much each parameter matters for %s.",
                 tune_report_bucket(row->contest).text);
        figure(p, p->plots->sensitivity[i], caption);
        if (row->best)
            write_values(p, &row->parameters);
        if (row->reasons.count)
            write_reasons(p, &row->reasons, "Why there is no time; # stands for numbers that differ");
        raw(p, "</section>\n");
    }
}

/* --------------------------------------------------------- failures, matches */

static void write_failures(const struct page *p)
{
    const survey_reasons *reasons = &p->report->reasons;
    heading(p, "failures", "What failed, and why");
    if (!reasons->count) {
        paragraph(p, "Every candidate that was tried has a time.");
        return;
    }
    paragraph(p, "Wrong: the candidate ran, and its results failed verification. Refused and not compiled: "
                 "it never ran. Hung and crashed: it did not end, or it ended its process.");
    bars(p, p->plots->reasons, reasons->count, "Answers without a time, by reason. Orange: wrong results.");
    write_reasons(p, reasons, "All reasons; # stands for numbers that differ");
}

static void write_matches(const struct page *p)
{
    const survey_matches *m = &p->report->matches;
    heading(p, "modelled", "Modelled against measured");
    if (!m->count) {
        paragraph(p, "The store has no question that both a software device and a GPU of its compute "
                     "capability answered with a time.");
        return;
    }
    figure(
        p, p->plots->matches,
        "Each point is a parameter choice that both have timed, in microseconds, both axes logarithmic. On "
        "the line both agree. Numbers are those of the table.");
    begin_table(p, "The same questions on both",
                (const char *const[]){"measured #", "modelled #", "choices",
                                      "median of measured / modelled", "rank correlation", NULL});
    for (int i = 0; i < m->count; i++) {
        raw(p, "<tr>");
        cell(p, NUMBER, "%d", m->items[i].measured + 1);
        cell(p, NUMBER, "%d", m->items[i].modelled + 1);
        cell(p, NUMBER, "%d", m->items[i].count);
        cell(p, NUMBER, "%.3g", m->items[i].ratio);
        number_cell(p, isfinite(m->items[i].rank), 3, m->items[i].rank);
        raw(p, "</tr>\n");
    }
    end_table(p);
    paragraph(
        p, "The rank correlation (Spearman's) says how alike both order the choices: 1 is the same order.");
}

/* -------------------------------------------------------------------- page */

static void write_page(const struct page *p)
{
    write_head(p);
    if (p->report->survey.contest_count) {
        write_contents(p);
        heading(p, "made-with", "Made with");
        write_devices(p);
        write_specs(p);
        write_gains(p);
        write_rooflines(p);
        write_parameters(p);
        write_failures(p);
        write_matches(p);
    } else {
        paragraph(p, "Nothing is left to report.");
    }
    raw(p, "</main>\n<footer><p>");
    text(p, "Written by xq %s; plots by %s.", xq_version(), p->gnuplot->text);
    raw(p, "</p></footer></body></html>\n");
}

xq_status tune_report_page(const struct tune_report *r, const gnuplot_version *gnuplot, publication *out,
                           error *err)
{
    struct tune_report_plots plots;
    char *html = NULL;
    size_t bytes = 0;
    struct page p = {.report = r, .plots = &plots, .gnuplot = gnuplot};
    if (tune_report_plots_make(r, &plots, err) == XQ_OK) {
        p.f = open_memstream(&html, &bytes);
        if (p.f)
            write_page(&p);
        if (!p.f || fclose(p.f) != 0)
            error_set(err, XQ_ERROR_MEMORY, "file", "out of memory");
        else
            publish_write(out, html, bytes, err);
        free(html);
    }
    tune_report_plots_free(&plots);
    return err->status;
}
