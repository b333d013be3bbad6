/* What perplexity reports. */
#ifndef LLAMA_RESULT_H
#define LLAMA_RESULT_H

#include "divergence.h"
#include "options.h"
#include "session.h"

typedef struct result {
    int windows, chunk, bos;
    double nll, seconds;
    divergence_summary divergence; /* from the reference; no tokens: nothing was compared */
} result;

/* A line for people on standard output, and the JSON that the options ask for. */
void result_print(const options *o, const session *s, const result *r);

#endif
