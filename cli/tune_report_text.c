/* Prints xq tune report on standard output. */
#include "../autotune/verify/verify.h"
#include "tune_report.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

/* -------------------------------------------------------------- sentences */

/* Appends to a sentence. */
static void add(struct tune_report_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct tune_report_text *t, const char *format, ...)
{
    size_t length = strlen(t->text);
    va_list args;
    va_start(args, format);
    vsnprintf(t->text + length, sizeof t->text - length, format, args);
    va_end(args);
}

/* Appends a time such as "2026-03-01 09:30", in UTC. */
static void add_time(struct tune_report_text *t, int64_t seconds)
{
    char text[64] = "?";
    time_t at = (time_t)seconds;
    struct tm parts;
    if (gmtime_r(&at, &parts))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
    add(t, "%s", text);
}

struct tune_report_text tune_report_answers(const struct tune_report *r)
{
    const survey *s = &r->survey;
    struct tune_report_text t = {""};
    add(&t, "%lld answer%s, taken ", (long long)s->answers, s->answers == 1 ? "" : "s");
    add_time(&t, s->first);
    if (s->last / 60 != s->first / 60) {
        add(&t, " to ");
        add_time(&t, s->last);
    }
    add(&t, " UTC");
    return t;
}

struct tune_report_text tune_report_others(const struct tune_report *r)
{
    const survey *s = &r->survey;
    struct tune_report_text t = {""};
    if (s->other)
        add(&t,
            "%lld of them belong%s to other sources of the kernels than this xq has (%d other state%s), "
            "and %s left out below.",
            (long long)s->other, s->other == 1 ? "s" : "", s->other_count, s->other_count == 1 ? "" : "s",
            s->other == 1 ? "is" : "are");
    return t;
}

struct tune_report_text tune_report_bucket(const survey_contest *c)
{
    struct tune_report_text t = {""};
    add(&t, "%.255s: %lld token%s, batch %d, %d quer%s", c->family, (long long)c->bucket.tokens,
        c->bucket.tokens == 1 ? "" : "s", c->bucket.batch, c->bucket.queries,
        c->bucket.queries == 1 ? "y" : "ies");
    return t;
}

struct tune_report_text tune_report_mode(const survey_contest *c)
{
    struct tune_report_text t = {""};
    add(&t, "%s, %s, L2 %s", verify_implementation_names[c->implementation],
        c->mode.in_graph ? "in a captured graph" : "launched one after another",
        c->mode.cold_l2 ? "cold" : "warm");
    return t;
}

static void add_version(struct tune_report_text *t, const char *what, int version)
{
    if (version)
        add(t, "%s %d.%d, ", what, version / 1000, version % 1000 / 10);
}

struct tune_report_text tune_report_device(const store_device *d)
{
    struct tune_report_text t = {""};
    add(&t, "%.255s, %d multiprocessors, %.1f GiB, ", d->arch, d->multiprocessors,
        (double)d->memory_bytes / (1 << 30));
    add_version(&t, "driver", d->driver);
    add_version(&t, "NVRTC", d->nvrtc);
    add(&t, "xq %.100s", d->xq);
    return t;
}

/* -------------------------------------------------------------------- head */

static void print_head(const struct tune_report *r)
{
    const survey *s = &r->survey;
    printf("%s: %s.\n", cli_show(r->path).text, tune_report_answers(r).text);
    if (s->other)
        printf("%s\n", tune_report_others(r).text);
    for (int i = 0; i < s->device_count; i++) {
        const store_device *d = &s->devices[i];
        printf("%s %2d  %s: %s; times are %s\n", i ? "      " : "\ndevice", i + 1, cli_show(d->name).text,
               cli_show(tune_report_device(d).text).text, d->is_sim ? "MODELLED" : "measured");
    }
    for (int i = 0; i < s->spec_count; i++)
        printf("%s   %2d  %s\n", i ? "    " : "spec", i + 1, cli_show(s->specs[i]).text);
}

/* ------------------------------------------------------------------- gains */

struct cell {
    char text[32];
};

static struct cell microseconds(const survey_answer *a)
{
    struct cell c = {"-"};
    if (a && a->outcome == STORE_MEASURED)
        snprintf(c.text, sizeof c.text, "%.4g", 1e6 * a->seconds);
    return c;
}

/* "1.440", or "1.002 ~" where the gain is within the spread. */
static struct cell gain(const struct tune_report_row *row)
{
    struct cell c = {"-  "};
    if (row->gain > 0)
        snprintf(c.text, sizeof c.text, "%.3f %s", row->gain,
                 row->is_certain || row->best == row->standard ? " " : "~");
    return c;
}

static struct cell over_limit(const struct tune_report_row *row)
{
    struct cell c = {"-"};
    if (row->best && row->limit.seconds > 0)
        snprintf(c.text, sizeof c.text, "%.1f", row->best->seconds / row->limit.seconds);
    return c;
}

static struct cell candidates(const struct tune_report_row *row)
{
    struct cell c = {"?"};
    if (row->candidates)
        snprintf(c.text, sizeof c.text, "%d", row->candidates);
    return c;
}

static void print_gains(const struct tune_report *r)
{
    printf("\n  #  device  spec  %-11s %8s %6s %8s %11s %11s %8s %7s  %s\n", "family", "tokens", "batch",
           "queries", "default us", "best us", "gain  ", "/ limit", "measured, wrong, failed of");
    for (int i = 0; i < r->survey.contest_count; i++) {
        const struct tune_report_row *row = &r->rows[i];
        const survey_contest *c = row->contest;
        printf("%3d  %6d  %4d  %-11s %8lld %6d %8d %11s %11s %8s %7s  %d, %d, %d of %s\n", i + 1,
               c->device + 1, c->spec + 1, cli_show(c->family).text, (long long)c->bucket.tokens,
               c->bucket.batch, c->bucket.queries, microseconds(row->standard).text,
               microseconds(row->best).text, gain(row).text, over_limit(row).text,
               c->outcomes[STORE_MEASURED], c->outcomes[STORE_WRONG], tune_report_failed(c),
               candidates(row).text);
    }
    printf(
        "\nTimes are for one step of attention. \"gain\" is the time with the default parameters over the "
        "best time; \"~\"\n"
        "marks a tie, a gain within the spread of the measurements. \"/ limit\" is the best time over "
        "the least time that\n"
        "the device allows. \"of\" is the number of valid parameter choices.\n");
}

/* ----------------------------------------------------------------- contests */

static void print_answer(const char *label, const survey_answer *a, const char *parameters)
{
    if (a->outcome == STORE_MEASURED)
        printf("  %-8s %.4g us, spread %.2g us: %s\n", label, 1e6 * a->seconds, 1e6 * a->spread,
               cli_show(parameters).text);
    else
        printf("  %-8s %s: %s\n", label, store_outcome_names[a->outcome], cli_show(a->reason).text);
}

/* The suggested option must be one word in a shell, so it is left out where it has a quote. */
static void print_choice(const struct tune_report_row *row)
{
    const char *family = row->contest->family;
    if (row->best == row->standard && row->best)
        printf("  choose   the default, which is the best\n");
    else if (row->gain > 0 && !row->is_certain)
        printf("  choose   the default: nothing is faster beyond the spread\n");
    else if (row->is_certain && row->changed && !strchr(row->changed, '\'') && !strchr(family, '\''))
        printf("  choose   --set 'tuning.%s=%s'\n", cli_show(family).text, cli_show(row->changed).text);
}

static void print_parameters(const survey_parameters *p)
{
    for (int i = 0; i < p->count; i++) {
        const survey_parameter *parameter = &p->items[i];
        if (!(parameter->ratio > 0))
            continue;
        printf("  %6.3f   %-14s", parameter->ratio, cli_show(parameter->name).text);
        for (int k = 0; k < parameter->count; k++) {
            const survey_value *v = &parameter->values[k];
            printf("%s %s: ", k ? "," : "", cli_show(v->text).text);
            if (v->measured)
                printf("%.4g", 1e6 * v->best);
            else
                printf("-");
        }
        putchar('\n');
    }
}

/* Names the parameters that had the same value in all measurements, which therefore say nothing about
 * them. */
static void print_constant(const survey_parameters *p)
{
    const char *before = "  one value only: ";
    for (int i = 0; i < p->count; i++)
        if (!(p->items[i].ratio > 0)) {
            printf("%s%s", before, cli_show(p->items[i].name).text);
            before = ", ";
        }
    if (*before == ',')
        putchar('\n');
}

static void print_reasons(const survey_reasons *reasons)
{
    for (int i = 0; i < reasons->count; i++)
        printf("  %6d   %s: %s\n", reasons->items[i].count, store_outcome_names[reasons->items[i].outcome],
               cli_show(reasons->items[i].text).text);
}

static void print_limit(const struct tune_report_row *row)
{
    const roofline_limit *l = &row->limit;
    if (!(l->bytes > 0))
        return;
    printf("  %-8s a step must move %.4g kB and compute %.4g MFLOP", "limit", l->bytes * 1e-3,
           l->flops * 1e-6);
    if (l->seconds > 0)
        printf(": %.4g us, for %s", 1e6 * l->seconds, l->by_memory ? "the bytes" : "the arithmetic");
    putchar('\n');
}

static void print_contest(const struct tune_report *r, int index)
{
    const struct tune_report_row *row = &r->rows[index];
    const survey_contest *c = row->contest;
    printf("\n%d. %s; %s; spec %d on device %d\n", index + 1, cli_show(tune_report_bucket(c).text).text,
           tune_report_mode(c).text, c->spec + 1, c->device + 1);
    if (row->standard)
        print_answer("default", row->standard, row->chosen);
    else if (row->chosen)
        printf("  default  was not tried: %s\n", cli_show(row->chosen).text);
    else
        printf("  default  not known: %s\n", cli_show(row->why).text);
    if (row->best)
        print_answer("best", row->best, row->best->parameters);
    print_limit(row);
    print_choice(row);
    if (row->best && row->parameters.count) {
        printf("  worst / best value of each parameter with all others free, and the best us with each "
               "value\n");
        print_parameters(&row->parameters);
        print_constant(&row->parameters);
    }
    if (row->reasons.count) {
        printf("  why there is no time (# stands for numbers that differ)\n");
        print_reasons(&row->reasons);
    }
}

/* ----------------------------------------------------------------- matches */

static void print_matches(const struct tune_report *r)
{
    const survey_matches *m = &r->matches;
    printf("\nModelled against measured: ");
    if (!m->count) {
        printf("the store has no question that both a software device and a GPU of its compute capability\n"
               "answered with a time.\n");
        return;
    }
    printf("the choices that both timed, the median of measured over modelled, and how alike both\n"
           "order the choices (Spearman's rank correlation, at most 1)\n");
    for (int i = 0; i < m->count; i++) {
        const survey_match *match = &m->items[i];
        printf("  %d measured, %d modelled: %d choice%s, %.3g", match->measured + 1, match->modelled + 1,
               match->count, match->count == 1 ? "" : "s", match->ratio);
        if (isfinite(match->rank))
            printf(", %.3f", match->rank);
        putchar('\n');
    }
}

void tune_report_print(const struct tune_report *r)
{
    print_head(r);
    if (!r->survey.contest_count) {
        printf("\nNothing is left to report.\n");
        return;
    }
    print_gains(r);
    for (int i = 0; i < r->survey.contest_count; i++)
        print_contest(r, i);
    print_matches(r);
}
