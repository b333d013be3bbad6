/* A small attention layer for tests of `xq run` and `xq compare`, whose spec and tensors are in files. */
#ifndef TESTS_LAYER_FILES_H
#define TESTS_LAYER_FILES_H

#include "command.h"

#include <stddef.h>
#include <stdint.h>

/* hidden size 128, 4 query heads, 2 KV heads of 64 */
enum { LAYER_D = 128, LAYER_HEADS = 4, LAYER_KV = 2, LAYER_DH = 64, LAYER_DKV = LAYER_KV * LAYER_DH };

/* Random tensors of one layer. A test may change them before layer_files_write. The process releases them
 * when it ends. */
struct layer {
    int64_t tokens, queries;
    float *x, *wk, *wv, *q;
    float *bk, *bv, *k_norm, *sinks; /* NULL: none */
    const char *suffix;              /* suffix of each tensor's name, e.g. ".3"; "" for none */
    const char *drop;                /* name of a tensor to leave out, or NULL */
    const char *extra;               /* name of an additional tensor of shape [1], or NULL */
    int64_t wk_cols;                 /* columns of wk as written; normally LAYER_DKV */
};
struct layer layer_random(int64_t tokens, int64_t queries);

/* Random numbers around 0 with magnitudes up to 3 * size. The process releases them when it ends. */
float *layer_floats(size_t count, double size);

/* Writes several layers, whose suffixes differ, into one file. `model` follows the other members of the
 * model object (", \"...\": ..."). `cache` holds the members of the cache object other than page and group.
 * Returns the folder. */
const char *layer_files_write_all(const struct layer *layers, int layer_count, const char *model,
                                  const char *cache);

/* Writes FOLDER/in.safetensors and FOLDER/spec.json with this method and number of bits; returns FOLDER. */
const char *layer_files_write(const struct layer *layer, const char *method, int bits);

/* Runs `xq run` on these files on the software device. It writes FOLDER/out.safetensors. */
struct command_result layer_files_run(const char *directory, const char *options);

/* Draws layers whose activations drift from one layer to the next. */
void layer_files_draw(struct layer *layers, char (*suffixes)[8], int count, int first);

#endif
