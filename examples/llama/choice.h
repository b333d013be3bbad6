/* The part of the command line that chooses the cache. */
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
        first_bits;     /* bits of the first layers; in cross-layer methods the last of them is the base */
    const char *widths; /* the last option given of --bits, --first-* and --layer-bits, or NULL */
    const char *layer_bits; /* "4,4,3,...": bits of each layer, replacing the fields above; or NULL */
    const char *weights;    /* type of the projections; NULL: the default of each layer's spec */
    const char *prepared;   /* path of a file that `xq prepare` wrote, or NULL */
    cJSON *cache;           /* keys of a spec's cache as given: group, axis_k, ... */
} choice;

/* Names as --cache takes them ("fp16", ...). method_names lists them all; method_find returns 0 for an
 * unknown name. */
const char *method_name(method m);
extern const char method_names[];
int method_find(const char *name, method *m);

/* Bits of a layer. */
int choice_bits(const choice *c, int layers, int layer);

#endif
