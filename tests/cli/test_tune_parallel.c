/* Tests the commands of docs/tuning.md that spread a run over several processes, as they stand on that
 * page. */
#include "../../autotune/search/store.h"
#include "../support/command.h"
#include "../support/files.h"
#include "../support/shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns the line of the page that begins with this text, without its indentation; the caller frees it. */
static char *line_of(const char *begin)
{
    size_t size;
    char *page = files_read("docs/tuning.md", &size), *at = strstr(page, begin), *line;
    cr_assert_not_null(at, "docs/tuning.md has no line that begins with %s", begin);
    line = strndup(at, strcspn(at, "\n"));
    free(page);
    return line;
}

/* Returns `text` with `to` in place of `from`, which must be there, and frees `text`. The caller frees the
 * result. */
static char *with(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from), *result;
    cr_assert_not_null(at, "'%s' is not in: %s", from, text);
    cr_assert_geq(asprintf(&result, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)), 0);
    free(text);
    return result;
}

static xq_status count_row(void *user, const store_row *row, error *err)
{
    (void)row, (void)err;
    ++*(int *)user;
    return XQ_OK;
}

static int rows_of(const char *path)
{
    error err = ERROR_INIT;
    store *s = NULL;
    int rows = 0;
    cr_assert_eq(store_open(path, STORE_READ, &s, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(store_list(s, NULL, count_row, &rows, &err), XQ_OK);
    store_close(s);
    return rows;
}

/* The run has a small layer, the software device, and three candidates in each part: the default and two
 * more. */
Test(tune_parallel, gnu_parallel_spreads_a_run_over_gpus, .timeout = 600)
{
    static const char spec[] =
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}}";
    cr_assert_eq(system("command -v parallel >/dev/null"), 0, "`make deps` installs GNU parallel");
    const char *folder = files_directory();
    char all[4096];
    files_write(files_path(folder, "spec.json"), spec, strlen(spec));
    char *run = with(line_of("parallel '"), "--model llama-3.1-8b --bits 4",
                     "--spec spec.json --device sim --contexts 40 --most 3 --quiet");
    char *join = line_of("xq tune merge 1.db"), *script;
    cr_assert_geq(asprintf(&script, "cd %s && xq() { %s \"$@\"; } && export -f xq && %s && %s", folder,
                           command_program(), run, join),
                  0);
    files_write(files_path(folder, "script"), script, strlen(script));
    char *said = NULL, command[4200];
    snprintf(command, sizeof command, "bash %s/script", folder);
    int status = shell_run(command, &said);
    cr_assert_eq(status, 0, "%s", said);
    snprintf(all, sizeof all, "%s", files_path(folder, "all.db"));
    cr_expect_eq(rows_of(all), 1 + 4 * 2, "%s", said);
    free(said);
    free(script);
    free(join);
    free(run);
}
