/* Tests the HTML page of xq tune report, and the gnuplot that draws its plots. */
#include "../support/command.h"
#include "../support/files.h"
#include "report_store.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* -------------------------------------------------------------------- page */

/* Returns the HTML page of a store; the caller frees it. */
static char *page(const char *store_path)
{
    const char *path = files_path(files_directory(), "page.html");
    struct command_result r = command_run("tune report --store %s --html %s", store_path, path);
    size_t size;
    cr_assert_eq(r.status, 0, "%s", r.err);
    cr_assert_str_empty(r.err);
    return files_read(path, &size);
}

static int occurrences(const char *whole, const char *part)
{
    int count = 0;
    while ((whole = strstr(whole, part))) {
        whole += strlen(part);
        count++;
    }
    return count;
}

/* The page must be XML without scripts. Ids must be unique, and references must name them. */
static void expect_valid(const char *html)
{
    static const char program[] =
        "import sys, xml.dom.minidom as m\n"
        "e = m.parse(sys.argv[1]).getElementsByTagName('*')\n"
        "ids = [x.getAttribute('id') for x in e if x.hasAttribute('id')]\n"
        "refs = [x.getAttribute(a)[1:] for x in e for a in ('href', 'xlink:href') if x.hasAttribute(a)]\n"
        "sys.exit(len(ids) != len(set(ids)) or not set(refs) <= set(ids) or\n"
        "         any(x.tagName == 'script' for x in e))\n";
    const char *folder = files_directory();
    char command[9000];
    files_write(files_path(folder, "it.html"), html, strlen(html));
    files_write(files_path(folder, "check.py"), program, strlen(program));
    snprintf(command, sizeof command, "python3 %s/check.py %s/it.html", folder, folder);
    cr_expect_eq(system(command), 0, "%s", html);
}

Test(tune_report_page, page_says_the_same_as_the_data)
{
    char *html = page(report_store()), counts[128];
    expect_valid(html);
    report_has(html, "<td>attend</td><td class=\"n\">512</td><td class=\"n\">2</td><td class=\"n\">1</td>"
                     "<td class=\"n\">10</td><td class=\"n\">8</td><td class=\"n\">1.250</td>");
    snprintf(
        counts, sizeof counts,
        "<td class=\"n\">3</td><td class=\"n\">2</td><td class=\"n\">1</td><td class=\"n\">%d</td></tr>",
        report_candidates());
    report_has(html, counts);
    report_has(html, "<td>warps</td><td class=\"n\">1.250</td><td>4: 8 (2), 8: 10 (1), 16: no time (0 of "
                     "2)</td>");
    report_has(html,
               "<td class=\"n\">2</td><td>wrong</td><td>outputs differ by #, at most 0.001 is right</td>");
    report_has(html, "6 answers, taken 2023-11-14 22:13 to 2023-11-14 22:15 UTC");
    report_has(html, "<p>The store has no question that both a software device and a GPU");
    cr_expect_eq(occurrences(html, "<svg "), 4, "gains, roofline, parameters, reasons");
    cr_expect_eq(occurrences(html, "<svg role=\"img\" aria-label="), 4);
    report_has(html, "<text>1. attend: 512 tokens, batch 2, 1 query</text>");
    free(html);
}

Test(tune_report_page, page_of_many_contests_says_which_it_draws)
{
    const char *path;
    store *s = report_new_store(&path);
    for (int i = 0; i < 101; i++) {
        store_row row = report_row(&report_software, "{}");
        row.question.bucket.tokens += i;
        row.answer = (store_answer){.seconds = 1e-5, .repeats = 1, .taken = 1700000000};
        store_fixture_add(s, &row);
    }
    store_close(s);
    char *html = page(path);
    report_has(html, "The first 100 are drawn; the table has all.");
    report_has(html, "<text>100. attend: 611 tokens, batch 2, 1 query</text>");
    cr_expect_not(strstr(html, "<text>101. "));
    report_has(html, ">101. attend: 612 tokens, batch 2, 1 query</h3>");
    free(html);
}

Test(tune_report_page, page_goes_to_standard_output_alone)
{
    const char *path = report_store();
    struct command_result r = command_run("tune report --store %s --html -", path);
    cr_expect_eq(r.status, 0, "%s", r.err);
    cr_expect_eq(strncmp(r.out, "<!DOCTYPE html>\n", 16), 0);
    cr_expect_str_eq(r.out + strlen(r.out) - 8, "</html>\n");
    r = command_run("tune report --store %s --html - --json -", path);
    cr_expect_eq(r.status, 1);
    report_has(r.err, "is the same file as --json; give another path\n");
}

Test(tune_report_page, page_plots_modelled_against_measured_times)
{
    const char *path;
    store *s = report_new_store(&path);
    report_fill(s);
    report_add_time(s, &report_gpu, "{}", 20);
    report_add_time(s, &report_gpu, "{\"warps\":4}", 18);
    store_close(s);
    char *html = page(path);
    expect_valid(html);
    report_has(html, "<text>1 against 2</text>"); /* the GPU's name comes first */
    report_has(html, "<td class=\"n\">1</td><td class=\"n\">2</td><td class=\"n\">2</td><td "
                     "class=\"n\">2.12</td><td class=\"n\">-</td>");
    free(html);
}

Test(tune_report_page, page_of_a_gpu_without_a_datasheet_says_so)
{
    const char *path;
    store *s = report_new_store(&path);
    store_device unlisted = report_gpu;
    unlisted.name = "NVIDIA Unheard-of";
    report_add_time(s, &unlisted, "{}", 10);
    store_close(s);
    char *html = page(path);
    expect_valid(html);
    report_has(html, "<td>not known</td></tr>");
    report_has(html, "The device&#39;s ceilings are not known");
    free(html);
}

Test(tune_report_page, page_escapes_hostile_texts_and_gnuplot_sees_none)
{
    const char *path = report_store();
    store_fixture_execute(path, REPORT_HOSTILE);
    char *html = page(path);
    expect_valid(html);
    cr_expect_not(strstr(html, "<script") || strstr(html, "<i>") || strstr(html, "<b>"));
    for (const char *c = html; *c; c++)
        cr_assert((unsigned char)*c >= 0x20 || strchr("\n\t", *c), "\\x%02x", (unsigned char)*c);
    report_has(
        html, "&#60;/title&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#38;&#34;&#39;\\x1b\\x0a\\x07[0]");
    cr_expect_neq(access("pwned", F_OK), 0);
    free(html);
}

Test(tune_report_page, page_is_the_same_for_the_same_store)
{
    const char *path = report_store();
    char *first = page(path), *second = page(path);
    cr_expect_str_eq(first, second);
    free(first);
    free(second);
}

/* --------------------------------------------------------------- gnuplot */

/* From now on, commands find only this gnuplot, or none if it is NULL. */
static void only_gnuplot(const char *script)
{
    const char *folder = files_directory();
    if (script) {
        files_write(files_path(folder, "gnuplot"), script, strlen(script));
        cr_assert_eq(chmod(files_path(folder, "gnuplot"), 0755), 0);
    }
    setenv("PATH", folder, 1);
}

#define FAKE "#!/bin/sh\nif [ \"$1\" = --version ]; then echo gnuplot 5.4; exit 0; fi\n"

Test(tune_report_page, text_needs_no_gnuplot_and_the_page_names_its_package)
{
    const char *path = report_store(), *folder = files_directory(), *html = files_path(folder, "it.html");
    char command[9000];
    only_gnuplot(NULL);
    struct command_result r = command_run("tune report --store %s", path);
    cr_expect_eq(r.status, 0, "%s", r.err);
    snprintf(command, sizeof command, "tune report --store %s --html %s", path, html);
    command_refuses(command, 3,
                    "xq tune report: plots need gnuplot, which is not on the PATH; install the package "
                    "gnuplot-nox (Debian, Ubuntu) or gnuplot");
    cr_expect_eq(files_count(folder), 0);
}

Test(tune_report_page, a_failing_gnuplot_is_heard_and_the_old_page_stays)
{
    const char *path = report_store();
    char *html = strdup(files_path(files_directory(), "it.html")), command[9000];
    files_write(html, "old", 3);
    snprintf(command, sizeof command, "tune report --store %s --html %s", path, html);
    only_gnuplot(FAKE "printf '\\nplot y\\n     ^\\nline 7: undefined variable: y\\n' >&2; exit 3\n");
    command_refuses(command, 1,
                    "xq tune report: gnuplot failed with status 3: line 7: undefined variable: y");
    only_gnuplot(FAKE "kill -9 $$\n");
    command_refuses(command, 1, "xq tune report: gnuplot was ended by signal 9, Killed");
    only_gnuplot(FAKE "echo '<svg></svg>'\n");
    command_refuses(command, 1, "xq tune report: gnuplot made 1 of 4 plots and gave no reason");
    size_t size;
    char *text = files_read(html, &size);
    cr_expect_str_eq(text, "old");
    free(text);
    free(html);
}

Test(tune_report_page, gnuplot_does_not_outlive_the_command, .timeout = 60)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGKILL};
    const char *path = report_store(), *folder = files_directory(), *said = files_path(folder, "pid");
    char script[5000];
    snprintf(script, sizeof script, FAKE "echo $$ > %s.new\nmv %s.new %s\nexec sleep 1000\n", said, said,
             said);
    char *old = strdup(getenv("PATH"));
    only_gnuplot(script);
    char both[9000];
    snprintf(both, sizeof both, "%s:%s", getenv("PATH"), old);
    setenv("PATH", both, 1);
    cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* orphans become this test's children */
    for (int i = 0; i < 3; i++) {
        pid_t command = command_start("tune report --store %s --html %s/it.html", path, folder);
        while (access(said, F_OK) != 0)
            usleep(10000);
        size_t size;
        char *text = files_read(said, &size);
        pid_t gnuplot = (pid_t)strtol(text, NULL, 10);
        cr_assert_eq(unlink(said), 0);
        cr_assert_eq(kill(command, signals[i]), 0);
        cr_expect_eq(command_wait(command), -1);
        int status;
        cr_expect_eq(waitpid(gnuplot, &status, 0), gnuplot);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        free(text);
    }
    free(old);
}
