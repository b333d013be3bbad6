/* A small attention layer for tests of `xq run` and `xq compare`: its spec and its tensors in files. */
#ifndef TESTS_LAYER_FILES_H
#define TESTS_LAYER_FILES_H

#include "command.h"

#include <stddef.h>
#include <stdint.h>

/* hidden size 128, 4 query heads, 2 KV heads of 64 */
enum { LAYER_D = 128, LAYER_HEADS = 4, LAYER_KV = 2, LAYER_DH = 64, LAYER_DKV = LAYER_KV * LAYER_DH };

/* Random tensors; change them before layer_files_write. Released with the process. */
struct layer {
    int64_t tokens, queries;
    float *x, *wk, *wv, *q;
    float *bk, *bv, *k_norm, *sinks; /* NULL: none */
    const char *suffix;              /* behind each name, e.g. ".3"; "" */
    const char *drop;                /* a tensor left out, or NULL */
    const char *extra;               /* one of shape [1] more, or NULL */
    int64_t wk_cols;                 /* written shape of wk; LAYER_DKV */
};
struct layer layer_random(int64_t tokens, int64_t queries);

/* Random numbers around 0, up to `size` or so; released with the process. */
float *layer_floats(size_t count, double size);

/* Several layers (their suffixes differ) in one file; `model` goes behind the model's keys (", \"...\":
 * ..."), `cache` is the inside of its object but for page and group. */
const char *layer_files_write_all(const struct layer *layers, int layer_count, const char *model,
                                  const char *cache);

/* Writes FOLDER/in.safetensors and FOLDER/spec.json (method and bits as given); returns FOLDER. */
const char *layer_files_write(const struct layer *layer, const char *method, int bits);

/* `xq run` on these files, on the software device, into FOLDER/out.safetensors. */
struct command_result layer_files_run(const char *directory, const char *options);

#endif
