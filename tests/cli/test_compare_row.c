/* A row of xq compare as xq tune uses it: sequences of different lengths, and several copies of a cache
 * that take turns. */
#include "../../cli/compare.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char latent[] =
    "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}}";
static const char cross[] =
    "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64}, \"cache\": {\"method\": \"x-cl\", \"bits\": 4, \"group\": 64, \"page\": 16}}";

static struct compare_options options = {
    .tokens = 70, .batch = 2, .queries = 1, .base_layer = CLI_BASE_LAYER, .synthetic = true};
static struct compare_layer layer;
static struct compare_expected expected;
static struct compare_task task = {.layer = &layer, .expected = &expected};
static error err = ERROR_INIT;

/* Opens one layer of a spec on the software device. */
static void open_task(const char *spec)
{
    struct cli_traits traits;
    xq_context_options o = XQ_CONTEXT_OPTIONS_INIT;
    int *layers = NULL, count = 0;
    int64_t tokens;
    char *any = NULL, *completed = NULL;
    o.device = "sim";
    cr_assert_eq(xq_context_create(&o, &task.context), XQ_OK);
    cr_assert_eq(gen_create(NULL, &task.generator, &err), XQ_OK);
    cr_assert_eq(cli_any_layer_choices(task.generator, spec, &any, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(cli_traits_read(task.generator, any, &traits, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(
        compare_input_open(&options, task.generator, &traits, &task.input, &layers, &count, &tokens, &err),
        XQ_OK, "%s", err.message);
    task.spec = spec;
    task.base_layer = CLI_BASE_LAYER;
    cr_assert_eq(
        cli_layer_spec(task.generator, spec, layers[0], CLI_BASE_LAYER, false, &task.layer_spec, &err),
        XQ_OK);
    cr_assert_eq(cli_traits_read(task.generator, task.layer_spec, &task.traits, &err), XQ_OK);
    cr_assert_eq(cli_complete_sizes(task.generator, task.layer_spec, &completed, &err), XQ_OK);
    cr_assert_eq(reference_model_read(completed, &task.reference, &err), XQ_OK);
    cr_assert_eq(compare_input_layer(task.input, layers[0], &task.traits, &layer, &err), XQ_OK, "%s",
                 err.message);
    free(layers);
    free(any);
    free(completed);
}

static void close_task(driver *d)
{
    driver_close(d);
    compare_expected_free(&expected);
    compare_layer_free(&layer);
    compare_input_close(task.input);
    gen_destroy(task.generator);
    xq_context_destroy(task.context);
    free(task.layer_spec);
}

static void expect_right(const struct compare_row *row)
{
    cr_expect_lt(row->kernel_error, 2e-3);
    cr_expect_lt(row->lse_error, 4e-3);
}

/* ------------------------------------------------------------------ lengths */

static void attend_over_different_lengths(const char *spec)
{
    static const int64_t lengths[] = {33, 1, 70};
    driver d = {0};
    struct compare_row row;
    open_task(spec);
    struct compare_layer all = layer;
    layer.batch = layer.distinct = 3; /* the sequences repeat two texts */
    layer.lengths = lengths;
    cr_assert_eq(compare_attend(&task, XQ_FUSED, &d, false, 1, &row, &err), XQ_OK, "%s", err.message);
    expect_right(&row);
    cr_expect_eq(d.tables[0].longest, 70);
    cr_expect_eq(d.tables[0].entries, 3 + 1 + 5, "pages of 16 tokens");
    cr_expect_eq(row.seconds, 0, "nothing was timed");
    layer = all;
    close_task(&d);
}

Test(compare_row, sequences_may_have_different_lengths)
{
    attend_over_different_lengths(latent);
}

Test(compare_row, so_may_those_of_a_cross_layer_method)
{
    attend_over_different_lengths(cross);
}

/* ------------------------------------------------------------------- copies */

static void attend_over_copies(driver *d, struct compare_row *row)
{
    cr_assert_eq(compare_attend(&task, XQ_FUSED, d, false, 3, row, &err), XQ_OK, "%s", err.message);
    expect_right(row);
    cr_assert_eq(d->size.tables, 3);
}

/* Breaks the first page of a copy. */
static void break_copy(const driver *d, int copy)
{
    const driver_layer *l = &d->layers[d->layer_count - 1];
    const int64_t page = copy * (int64_t)layer.batch * ((layer.tokens + 15) / 16);
    cr_assert_eq(xq_device_fill(task.context, l->pages + (uint64_t)d->order[page] * l->info.page_bytes,
                                0x11, l->info.page_bytes),
                 XQ_OK);
}

Test(compare_row, every_copy_is_attended_over_again, .timeout = 120)
{
    driver d = {0};
    struct compare_row row;
    open_task(latent);
    attend_over_copies(&d, &row);
    cr_assert_eq(compare_repeat(&task, &d, &row, &err), XQ_OK, "%s", err.message);
    expect_right(&row);
    break_copy(&d, 2);
    cr_assert_eq(compare_repeat(&task, &d, &row, &err), XQ_OK, "%s", err.message);
    cr_expect_not(row.kernel_error < 2e-3, "%g", row.kernel_error);
    close_task(&d);
}

/* Each step adds to the accumulator, so the caches are filled again before another step. */
Test(compare_row, a_cross_layer_method_attends_again_over_caches_filled_anew, .timeout = 120)
{
    driver d = {0};
    struct compare_row row;
    open_task(cross);
    attend_over_copies(&d, &row);
    cr_assert_eq(compare_repeat(&task, &d, &row, &err), XQ_OK, "%s", err.message);
    expect_right(&row);
    close_task(&d);
}
