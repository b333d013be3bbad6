/* xq prepare --show: prints the contents of a file of prepared weights. */
#include "../prepare/prepared_file.h"
#include "prepare.h"

#include <stdio.h>
#include <string.h>

struct showing {
    const char *path;
    prepared_file *file;
    cJSON *report; /* written by --json, and printed */
};

/* ------------------------------------------------------------------ report */

static void add_metadata(struct showing *s, const char *key, bool is_json)
{
    const char *text = prepared_file_metadata(s->file, key);
    cJSON *value = text && is_json ? cJSON_Parse(text) : NULL;
    if (value)
        cJSON_AddItemToObject(s->report, key, value);
    else if (text)
        cJSON_AddStringToObject(s->report, key, text);
}

static void report_head(struct showing *s)
{
    static const char *const texts[] = {"xq", "source", "store"};
    static const char *const values[] = {"spec", "packing", "plain_spec", "plain_packing", "base_layer"};
    cJSON_AddStringToObject(s->report, "file", s->path);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        add_metadata(s, texts[i], false);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        add_metadata(s, values[i], true);
    cJSON_AddNumberToObject(s->report, "model_layers", prepared_file_head(s->file)->model_layers);
}

static cJSON *report_tensor(const struct showing *s, const prepared_tensor *form, uint64_t offset)
{
    cJSON *entry = cJSON_CreateObject(), *shape;
    cJSON_AddStringToObject(entry, "name", form->name);
    cJSON_AddStringToObject(entry, "type", form->form.type_name);
    shape = cJSON_AddArrayToObject(entry, "shape");
    for (int i = 0; i < form->form.rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)form->form.shape[i]));
    cJSON_AddNumberToObject(entry, "offset", (double)offset);
    cJSON_AddNumberToObject(entry, "bytes", (double)form->form.bytes);
    cJSON_AddStringToObject(entry, "xxh3", prepared_file_metadata(s->file, form->key));
    return entry;
}

static xq_status report_layer(struct showing *s, int place, cJSON *list, error *err)
{
    const prepared_head *head = prepared_file_head(s->file);
    prepared_tensor forms[PREPARED_MOST_TENSORS];
    int layer = head->layers[place], count = prepared_tensors(head, layer, forms);
    double lost[2] = {0};
    cJSON *entry = cJSON_CreateObject(), *tensors = cJSON_CreateArray();
    for (int i = 0; i < count; i++) {
        const tensor *t;
        uint64_t offset;
        if (prepared_file_tensor(s->file, place, forms[i].which, &t, &offset, err) != XQ_OK)
            break;
        if (forms[i].which == PREPARED_LOST)
            memcpy(lost, t->data, sizeof lost);
        cJSON_AddItemToArray(tensors, report_tensor(s, &forms[i], offset));
    }
    cJSON_AddNumberToObject(entry, "layer", layer);
    cJSON_AddStringToObject(entry, "method",
                            layer_method_name(prepared_method_of(head, layer)->shape.method));
    cJSON_AddNumberToObject(entry, "lost_k", lost[0]);
    cJSON_AddNumberToObject(entry, "lost_v", lost[1]);
    cJSON_AddItemToObject(entry, "tensors", tensors);
    cJSON_AddItemToArray(list, entry);
    return err->status;
}

static xq_status report_layers(struct showing *s, struct cli_progress *progress, error *err)
{
    cJSON *list = cJSON_AddArrayToObject(s->report, "layers");
    int count = prepared_file_head(s->file)->layer_count;
    for (int i = 0; i < count && err->status == XQ_OK; i++) {
        cli_progress_update(progress, (double)i / count, "verifying checksums");
        report_layer(s, i, list, err);
    }
    return err->status;
}

/* -------------------------------------------------------------------- text */

static void say_head(const struct showing *s)
{
    const prepared_head *head = prepared_file_head(s->file);
    const layer_shape *shape = &head->methods[0].shape;
    const char *version = prepared_file_metadata(s->file, "xq");
    printf("%s: %d of %d layers, ", cli_show(s->path).text, head->layer_count, head->model_layers);
    prepare_say_method(shape, false);
    if (head->method_count == 2)
        printf(" (before layer %d: %s)", head->base_layer,
               layer_method_name(head->methods[1].shape.method));
    printf("\nhidden_size %d, %d heads, %d KV heads, head_dim %d; ", shape->hidden_size, shape->heads,
           shape->kv_heads, shape->head_dim);
    if (head->store)
        printf("matrices of type %s", head->store);
    printf("%s", head->store && head->weights ? ", " : "");
    if (head->weights)
        printf("packed weights of type %s", head->weights);
    printf("; made by xq %s\n", version ? cli_show(version).text : "of an unknown version");
}

static double number(const cJSON *object, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* " uk [576, 192]," */
static void say_tensor(const cJSON *t)
{
    const cJSON *size, *shape = cJSON_GetObjectItemCaseSensitive(t, "shape");
    printf(" %s [", strrchr(text_of(t, "name"), '.') + 1);
    cJSON_ArrayForEach(size, shape)
    {
        printf("%s%.0f", size == shape->child ? "" : ", ", size->valuedouble);
    }
    printf("],");
}

static void say_layer(const cJSON *layer)
{
    const cJSON *t;
    printf("layer %.0f: %s,", number(layer, "layer"), text_of(layer, "method"));
    cJSON_ArrayForEach(t, cJSON_GetObjectItemCaseSensitive(layer, "tensors"))
    {
        if (t->next) /* the last tensor holds what truncation lost */
            say_tensor(t);
    }
    printf(" truncated %.2g of Wk and %.2g of Wv\n", number(layer, "lost_k"), number(layer, "lost_v"));
}

static void say(const struct showing *s)
{
    const cJSON *layer;
    say_head(s);
    cJSON_ArrayForEach(layer, cJSON_GetObjectItemCaseSensitive(s->report, "layers"))
    {
        say_layer(layer);
    }
    printf("all checksums are right\n");
}

/* -------------------------------------------------------------------- show */

static xq_status read_all(struct showing *s, const struct cli_common *common, error *err)
{
    struct cli_progress progress;
    cli_progress_begin(&progress, common, "reading");
    cli_reads("--show", s->path);
    if (cli_begin_json(common, err) == XQ_OK && prepared_file_open(s->path, &s->file, err) == XQ_OK) {
        report_head(s);
        report_layers(s, &progress, err);
    }
    cli_progress_end(&progress);
    return err->status;
}

int prepare_show(const struct cli_common *common, const char *path)
{
    struct showing s = {.path = path, .report = cJSON_CreateObject()};
    error err = ERROR_INIT;
    if (read_all(&s, common, &err) == XQ_OK && cli_write_json(common, s.report, &err) == XQ_OK &&
        !cli_json_to_stdout(common))
        say(&s);
    int status = err.status == XQ_OK ? CLI_OK : cli_fail("prepare", common, &err);
    error_clear(&err);
    cJSON_Delete(s.report);
    prepared_file_close(s.file);
    return status;
}
