/* A model's config.json. Valid models are Llama (model_type "llama") and Gemma 3 ("gemma3_text"). */
#ifndef LLAMA_CONFIG_H
#define LLAMA_CONFIG_H

#include <cjson/cJSON.h>

#include <stdbool.h>

/* Parameters of the rotary position embedding (RoPE). */
typedef struct rope_config {
    double theta;
    double factor; /* frequencies are divided by it; 1: no scaling */
    /* Scaling of type "llama3": only low frequencies are divided by `factor`, high ones stay, and those in
     * between are interpolated. */
    bool by_frequency;
    double low_factor, high_factor, original_length;
} rope_config;

typedef struct config {
    char *type; /* model_type */
    bool gemma; /* norms multiply by 1 + w, four norms per layer, QK-norm, scaled embedding, tanh GELU */
    int hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, longest;
    double epsilon;         /* epsilon of the norms */
    double attention_scale; /* scores are multiplied by it */
    bool tied;              /* the embedding is also the output layer */
    rope_config rope[2];    /* [0]: layers with full attention; [1]: sliding-window layers */
    int window;             /* tokens that sliding-window layers see */
    bool *sliding;          /* for each layer, whether it has a sliding window */
    cJSON *json;            /* the whole file */
} config;

/* Ends the program with a message if the file does not describe a valid model. */
void config_read(const char *directory, config *c);
void config_free(config *c);

#endif
