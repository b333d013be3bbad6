/* xq tune report: reports the contents of a store of measurements. */
#include "tune_report.h"
#include "tune_report_html.h"
#include "tune_store.h"

#include <stdlib.h>

static xq_status read_store(struct tune_report *r, const struct tune_sources *sources, error *err)
{
    store *s = NULL;
    if (store_open(r->path, STORE_READ, &s, err) == XQ_OK)
        survey_make(s, sources->all, &r->survey, err);
    store_close(s);
    if (err->status == XQ_OK && r->survey.answers == 0) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument",
                  "--store: %s holds no measurements yet; `xq tune --store` adds some", r->path);
        error_field(err, "store");
    }
    return err->status;
}

/* The outputs of the command beside the text. */
struct outputs {
    const char *html; /* NULL: none */
    publication *page;
    gnuplot_version gnuplot;
};

/* Begins the outputs and looks for gnuplot, so that failures come before the work and not after it. */
static xq_status begin(const struct tune_report *r, const struct cli_common *common, struct outputs *out,
                       error *err)
{
    cli_reads("--store", r->path);
    cli_reads_common(common, NULL);
    if (cli_begin_json(common, err) == XQ_OK && out->html &&
        cli_begin_output("--html", out->html, &out->page, err) == XQ_OK)
        gnuplot_find(&out->gnuplot, err);
    return err->status;
}

static xq_status read_all(struct tune_report *r, const struct cli_common *common, error *err)
{
    struct tune_sources sources;
    if (tune_sources_read(common->templates, &sources, err) == XQ_OK &&
        read_store(r, &sources, err) == XQ_OK)
        tune_report_rows(r, common->templates, err);
    return err->status;
}

static xq_status write_all(const struct tune_report *r, const struct cli_common *common,
                           struct outputs *out, error *err)
{
    if (out->page && (tune_report_page(r, &out->gnuplot, out->page, err) != XQ_OK ||
                      cli_commit_output(out->page, err) != XQ_OK))
        return err->status;
    if (!cli_json_to_stdout(common))
        tune_report_print(r);
    cJSON *json = common->json ? tune_report_json(r) : NULL;
    cli_write_json(common, json, err);
    cJSON_Delete(json);
    return err->status;
}

int cli_tune_report(int argc, char **argv)
{
    struct cli_common common = {0};
    struct tune_report report = {0};
    struct outputs outputs = {0};
    const cli_option options[] = {
        {"--store", CLI_STRING, &report.path, "FILE", "store to report, which is only read"},
        {"--html", CLI_STRING, &outputs.html, "FILE",
         "page with tables and plots to write; plots need gnuplot; - is stdout"},
        {NULL, CLI_FLAG, NULL, NULL, NULL},
    };
    cli_command command = {
        .name = "tune report",
        .summary = "report what a store of measurements says",
        .description =
            "Prints, for each device, spec, kernel family and size in the store, the time with the\n"
            "default parameters, the best time and its gain, how much each parameter matters, how many\n"
            "candidates were measured, and why others were not. Only answers for the kernels of this\n"
            "xq, or of --templates, count. docs/tuning.md says how to read it.",
        .options = options,
        .common = &common,
        .unused = (const cli_unused[]){{"--device", "nothing is measured"},
                                       {"--cache-dir", "nothing is compiled"},
                                       {"--seed", "nothing is random here"},
                                       {"--quiet", "the report is all that it prints"},
                                       {NULL, NULL}},
    };
    int status;
    error err = ERROR_INIT;
    if (!cli_parse(&command, argc, argv, &status))
        return status;
    if (!report.path)
        return cli_usage("tune report", "there is no store to report; give --store FILE");
    if (begin(&report, &common, &outputs, &err) != XQ_OK || read_all(&report, &common, &err) != XQ_OK ||
        write_all(&report, &common, &outputs, &err) != XQ_OK)
        status = cli_fail("tune report", &common, &err);
    error_clear(&err);
    tune_report_free(&report);
    return status;
}
