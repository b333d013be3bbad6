/* What config.json says of a model: Llama (model_type "llama") and Gemma 3 ("gemma3_text"). */
#ifndef LLAMA_CONFIG_H
#define LLAMA_CONFIG_H

#include <cjson/cJSON.h>

#include <stdbool.h>

/* How positions turn queries and keys. */
typedef struct rope_config {
    double theta;
    double factor; /* positions are divided by it; 1 */
    /* "llama3": only slow frequencies are, fast ones stay, between them it is interpolated */
    bool by_frequency;
    double low_factor, high_factor, original_length;
} rope_config;

typedef struct config {
    char *type; /* model_type */
    bool gemma; /* norms multiply by 1 + w, four of them a layer; QK-norm; scaled embedding; tanh GELU */
    int hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, longest;
    double epsilon;         /* of the norms */
    double attention_scale; /* scores are multiplied by it */
    bool tied;              /* the embedding is the output layer, too */
    rope_config rope[2];    /* of layers that see everything; of sliding ones */
    int window;             /* tokens that sliding layers see */
    bool *sliding;          /* of each layer */
    cJSON *json;            /* the file as it is */
} config;

/* Ends the program with a line where the file is none of these models'. */
void config_read(const char *directory, config *c);
void config_free(config *c);

#endif
