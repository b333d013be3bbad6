/* The command line. */
#ifndef LLAMA_OPTIONS_H
#define LLAMA_OPTIONS_H

#include "choice.h"

#include <stdbool.h>

enum { BOS_AUTO = -2, BOS_NONE = -1 };

typedef struct options {
    const char *command;
    const char *model;
    const char *text;      /* perplexity: a file */
    const char *prompt;    /* generate */
    const char *ids, *out; /* logits: files */
    const char *json, *python, *device;
    const char *record, *reference; /* perplexity: files */
    int reference_windows;          /* 0: all there are */
    int window, windows, chunk;     /* windows, chunk: 0 is all there are, a whole window */
    int tokens;                     /* generate */
    int bos;                        /* BOS_AUTO: the tokenizer decides; BOS_NONE; an id */
    bool quiet;
    choice choice;
} options;

/* Ends the program where the command line cannot be followed, or asks for help. */
void options_read(options *o, int count, char **arguments);

#endif
