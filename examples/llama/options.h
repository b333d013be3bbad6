/* The command line. */
#ifndef LLAMA_OPTIONS_H
#define LLAMA_OPTIONS_H

#include "choice.h"

#include <stdbool.h>

enum { BOS_AUTO = -2, BOS_NONE = -1 };

typedef struct options {
    const char *command;
    const char *model;
    const char *text;      /* perplexity: path of the text */
    const char *prompt;    /* generate */
    const char *ids, *out; /* logits: paths */
    const char *json, *python, *device;
    const char *record, *reference; /* perplexity: paths */
    int reference_windows;          /* 0: all windows */
    int window, windows, chunk;     /* windows 0: all windows of the text; chunk 0: a whole window */
    int tokens;                     /* generate */
    int bos;                        /* an id, BOS_NONE, or BOS_AUTO: the tokenizer decides */
    bool quiet;
    choice choice;
} options;

/* Ends the program if the command line is not valid or asks for help. */
void options_read(options *o, int count, char **arguments);

#endif
