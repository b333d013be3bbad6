/* What the command line says of the cache. */
#ifndef LLAMA_CHOICE_H
#define LLAMA_CHOICE_H

#include <cjson/cJSON.h>

typedef enum method {
    CACHE_F32,
    CACHE_FP16,
    CACHE_KIVI,
    CACHE_X,
    CACHE_LATENT,
    CACHE_X_CL,
    CACHE_LATENT_CL
} method;

enum { FIRST_LAYERS_AUTO = -1 };

typedef struct choice {
    method method;
    int bits;
    int first_layers,
        first_bits;     /* the first layers' bits; of cross-layer methods the last of them is the base */
    const char *widths; /* an option that was given of those above and the next; NULL: none */
    const char *layer_bits; /* "4,4,3,...": of each layer, instead; NULL */
    const char *weights;    /* type of the projections */
    const char *prepared;   /* a file of `xq prepare`; NULL */
    cJSON *cache;           /* keys of a spec's cache as given: group, axis_k, ... */
} choice;

/* "fp16", ... as --cache takes them; the list of them all. */
const char *method_name(method m);
extern const char method_names[];
int method_find(const char *name, method *m);

/* Bits of a layer. */
int choice_bits(const choice *c, int layers, int layer);

#endif
