/* The results that perplexity reports. */
#ifndef LLAMA_RESULT_H
#define LLAMA_RESULT_H

#include "divergence.h"
#include "options.h"
#include "session.h"

typedef struct result {
    int windows, chunk, bos;
    double nll, seconds;
    divergence_summary divergence; /* from the reference; 0 tokens: nothing was compared */
} result;

/* Prints a line for people and, if the options ask for it, the result as JSON. The line goes to standard
 * output, or to standard error if the JSON goes to standard output. */
void result_print(const options *o, const session *s, const result *r);

#endif
