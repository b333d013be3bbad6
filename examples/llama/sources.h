/* The matrices of each layer's cache. They come from the model itself or from a file that `xq prepare`
 * wrote. */
#ifndef LLAMA_SOURCES_H
#define LLAMA_SOURCES_H

#include "choice.h"
#include "format.h"
#include "model.h"

#include <xq/xq.h>

typedef struct sources sources;

/* Opens the prepared file that `wanted` names. Returns NULL if it names none. */
xq_prepared *prepared_open(const choice *wanted, const config *c, xq_context *context);

/* `prepared` may be NULL; otherwise the sources own it from now on. */
sources *sources_make(const model *m, const formats *f, const choice *wanted, xq_context *context,
                      xq_prepared *prepared);
void sources_free(sources *s);

/* A layer's matrices, not rounded to the type of packed weights. They are valid until the sources are
 * freed. */
const xq_weights *sources_layer(sources *s, int layer);

/* A layer's packed weights for a plan, if the prepared file has them in the type of the layer's
 * format; else NULL. */
const void *sources_packed(sources *s, xq_plan *plan, int layer);

#endif
