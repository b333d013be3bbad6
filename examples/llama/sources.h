/* Where the matrices of each layer's cache come from: the model's own, or a file that `xq prepare` wrote.
 */
#ifndef LLAMA_SOURCES_H
#define LLAMA_SOURCES_H

#include "choice.h"
#include "format.h"
#include "model.h"

#include <xq/xq.h>

typedef struct sources sources;

/* The file that `wanted` names, opened; NULL where it names none. */
xq_prepared *prepared_open(const choice *wanted, const config *c, xq_context *context);

/* `prepared` may be NULL; else it belongs to the sources. */
sources *sources_make(const model *m, const formats *f, const choice *wanted, xq_context *context,
                      xq_prepared *prepared);
void sources_free(sources *s);

/* Of packed weights, as the command line has it. */
const char *sources_type(const sources *s);

/* A layer's matrices, unrounded; they stay until the sources are freed. */
const xq_weights *sources_layer(sources *s, int layer);

/* Its packed weights for a plan, where the file has them in the type that is asked for; else NULL. */
const void *sources_packed(sources *s, xq_plan *plan, int layer);

#endif
