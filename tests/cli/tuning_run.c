#include "tuning_run.h"
#include "../../gen/embed.h"
#include "../support/command.h"
#include "../support/command_json.h"
#include "../support/files.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *tuning_spec(void)
{
    static const char text[] =
        "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64}, \"cache\": {\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16}}";
    static char path[4096];
    if (!*path) {
        snprintf(path, sizeof path, "%s", files_path(files_directory(), "spec.json"));
        files_write(path, text, strlen(text));
    }
    return path;
}

xq_status tuning_count_row(void *user, const store_row *row, error *err)
{
    ++*(int *)user;
    (void)row;
    return err->status;
}

void tuning_wait_for_a_row(const char *path)
{
    int rows = 0;
    for (int i = 0; rows == 0 && i < 2000; i++) {
        store *s = NULL;
        error err = ERROR_INIT;
        usleep(100000);
        if (store_open(path, STORE_READ, &s, &err) == XQ_OK)
            store_list(s, NULL, tuning_count_row, &rows, &err);
        store_close(s);
        error_clear(&err);
    }
    cr_assert_gt(rows, 0);
}

cJSON *tuning_run(const char *arguments)
{
    cJSON *root = command_json("tune --spec %s --device sim --json - %s", tuning_spec(), arguments);
    return root;
}

const cJSON *tuning_job(const cJSON *root, int index)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItem(root, "jobs"), index);
}

double tuning_number(const cJSON *object, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItem(object, name));
}

const char *tuning_text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(object, name));
}

double tuning_parameter(const cJSON *trial, const char *name)
{
    return tuning_number(cJSON_GetObjectItem(trial, "parameters"), name);
}

const char *tuning_templates(const char *name, const char *from, const char *to)
{
    const struct embed_file *file = embed_files;
    const char *folder = files_directory();
    while (file->name && strcmp(file->name, name) != 0)
        file++;
    const char *place = file->name ? strstr(file->text, from) : NULL;
    cr_assert_not_null(place, "%s has no '%s' any more", name, from);
    char *text = malloc(strlen(file->text) + strlen(to) + 1);
    sprintf(text, "%.*s%s%s", (int)(place - file->text), file->text, to, place + strlen(from));
    files_write(files_path(folder, strrchr(name, '/') + 1), text, strlen(text));
    free(text);
    return folder;
}
