/* Where the matrices of each layer's cache come from: the model's own, or a file that `xq prepare` wrote.
 */
#ifndef LLAMA_SOURCES_H
#define LLAMA_SOURCES_H

#include "choice.h"
#include "format.h"
#include "model.h"

#include <xq/xq.h>

typedef struct sources {
    xq_weights *layer;
    const char *type; /* of packed weights */
    xq_prepared *prepared;
} sources;

/* The file that `choice` names, opened; NULL where it names none. */
xq_prepared *prepared_open(const choice *wanted, const config *c, xq_context *context);

/* `prepared` may be NULL and then belongs to the sources. */
sources *sources_make(const model *m, const formats *f, const choice *wanted, xq_context *context,
                      xq_prepared *prepared);
void sources_free(sources *s);

#endif
