/* A session: a model with the cache that the options ask for. */
#ifndef LLAMA_SESSION_H
#define LLAMA_SESSION_H

#include "cache.h"
#include "format.h"
#include "model.h"
#include "options.h"
#include "sources.h"

typedef struct session {
    xq_context *context;
    choice choice; /* the options' choice, with first_layers decided */
    model *model;
    formats *formats;
    sources *sources;
    cache *cache;
} session;

/* Opens a session for sequences of up to `tokens` tokens that come in pieces of up to `chunk` tokens. */
session *session_open(const options *o, int tokens, int chunk);
void session_close(session *s);

#endif
