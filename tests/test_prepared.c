/* Prepared weights as an engine reads them. */
#include "command.h"
#include "files.h"
#include "model_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <xq/xq.h>

static xq_context *context;

static void open_context(void)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = "sim";
    options.cache_dir = "";
    cr_assert_eq(xq_context_create(&options, &context), XQ_OK);
}

static void close_context(void)
{
    xq_context_destroy(context);
}

TestSuite(prepared, .init = open_context, .fini = close_context);

static const xq_error_detail *detail(void)
{
    static xq_error_detail d;
    d = (xq_error_detail)XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_last_error(context, &d), XQ_OK);
    return &d;
}

/* The tiny model prepared with these options. */
static const char *prepare(const char *options)
{
    const char *directory = model_files(&(struct model_change){0}), *path = files_path(directory, "w.xqw");
    struct command_result r = command_run("prepare %s -o %s %s", directory, path, options);
    cr_assert_eq(r.status, 0, "%s", r.err);
    return path;
}

static xq_prepared *opened(const char *path)
{
    xq_prepared *p;
    cr_assert_eq(xq_prepared_open(context, path, &p), XQ_OK, "%s", detail()->message);
    return p;
}

Test(prepared, an_engine_reads_what_was_prepared)
{
    xq_prepared *p = opened(prepare("--method latent --store f32"));
    xq_prepared_info info = XQ_PREPARED_INFO_INIT;
    xq_weights w = XQ_WEIGHTS_INIT, again = XQ_WEIGHTS_INIT;
    cr_assert_eq(xq_prepared_query(p, &info), XQ_OK);
    cr_assert(info.layers == MODEL_LAYERS && !info.weights && info.base_layer == 0);
    cr_assert(strstr(info.spec_json, "\"hidden_size\":128") &&
              strstr(info.spec_json, "\"method\":\"latent\""));
    cr_assert_str_eq(xq_prepared_layer_spec(p, 1), info.spec_json);
    cr_assert_null(xq_prepared_layer_spec(p, 2));
    cr_assert_eq(xq_prepared_layer(p, 1, &w), XQ_OK, "%s", detail()->message);
    cr_assert(w.uk && w.ak && w.uv && w.av && !w.wk && !w.wv && !w.ukv && !w.bk && !w.sinks);
    double product = 0;
    for (int k = 0; k < MODEL_DKV; k++)
        product += (double)w.uv[17 * MODEL_DKV + k] * w.av[k * MODEL_DKV + 5];
    cr_assert_float_eq(product, model_value(1, 1, 5, 17), 1e-6);
    cr_assert_eq(xq_prepared_layer(p, 1, &again), XQ_OK);
    cr_assert_eq(again.uk, w.uk, "a layer's matrices moved");
    xq_prepared_close(p);
}

Test(prepared, absent_layers_and_files_are_named)
{
    const char *path = prepare("--method x --layers 1");
    xq_prepared *p = opened(path);
    xq_weights w = XQ_WEIGHTS_INIT;
    char expected[512];
    cr_assert_eq(xq_prepared_layer(p, 0, &w), XQ_ERROR_ARGUMENT);
    snprintf(expected, sizeof expected, "%s: holds no layer 0; it has 1 layers", path);
    cr_assert_str_eq(detail()->message, expected);
    cr_assert_str_eq(detail()->field, "layer");
    xq_prepared_close(p);
    cr_assert_eq(xq_prepared_open(context, "/nonexistent.xqw", &p), XQ_ERROR_IO);
    cr_assert_str_eq(detail()->message, "cannot read /nonexistent.xqw: No such file or directory");
    cr_assert_eq(xq_prepared_open(context, NULL, &p), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(detail()->field, "path");
    files_write(path, "XQWEIGHT and then nothing", 20);
    cr_assert_eq(xq_prepared_open(context, path, &p), XQ_ERROR_FORMAT);
    cr_assert_str_eq(detail()->stage, "file");
}
