#include "choices.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* The text of a member, or "" where there is none. */
static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return value ? value : "";
}

static bool lacks_table(const cJSON *model)
{
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(model, "rope_scaling");
    const char *type = text(scaling, cJSON_HasObjectItem(scaling, "rope_type") ? "rope_type" : "type");
    return strcmp(type, "longrope") == 0 && !cJSON_HasObjectItem(scaling, "table");
}

void cli_choices_read(const char *spec_json, struct cli_choices *out)
{
    cJSON *spec = cJSON_Parse(spec_json);
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(spec, "model"),
                *cache = cJSON_GetObjectItemCaseSensitive(spec, "cache");
    const char *method = text(cache, "method");
    const bool x_cl = strcmp(method, layer_method_name(LAYER_X_CL)) == 0,
               latent_cl = strcmp(method, layer_method_name(LAYER_LATENT_CL)) == 0;
    *out = (struct cli_choices){
        .cross_layer = x_cl || latent_cl,
        .of_x = x_cl || strcmp(method, layer_method_name(LAYER_X)) == 0,
        .joint_latent = latent_cl,
        .has_bits = cJSON_HasObjectItem(cache, "bits"),
        .has_rotation = cJSON_HasObjectItem(cache, "rotation"),
        .has_weights = cJSON_HasObjectItem(spec, "weights"),
        .is_tuned = cJSON_HasObjectItem(spec, "tuning"),
        .lacks_table = lacks_table(model),
    };
    snprintf(out->layer_kind, sizeof out->layer_kind, "%s", text(model, "layer_kind"));
    cJSON_Delete(spec);
}
