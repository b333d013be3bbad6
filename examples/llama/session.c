#include "session.h"
#include "cache_device.h"
#include "cache_host.h"
#include "fail.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>

/* Shows on the progress line which kernel is being compiled, because compiling takes seconds. */
static void on_message(void *unused, xq_log_level level, const char *message)
{
    (void)unused;
    if (level == XQ_LOG_DEBUG)
        progress_step(strstr(message, ": compiling for ") ? message : NULL);
}

static xq_context *open_context(const char *device)
{
    xq_context_options settings = XQ_CONTEXT_OPTIONS_INIT;
    xq_context *context = NULL;
    settings.device = device;
    settings.log = on_message;
    check(context, xq_context_create(&settings, &context), device);
    return context;
}

/* The number of first layers. If --first-layers is not given, it follows from the base layer of a prepared
 * cross-layer file, and is 3 otherwise. */
static int first_layers(const choice *wanted, const config *c, const xq_prepared *prepared)
{
    const bool cross = wanted->method == CACHE_X_CL || wanted->method == CACHE_LATENT_CL;
    xq_prepared_info info = XQ_PREPARED_INFO_INIT;
    if (wanted->first_layers != FIRST_LAYERS_AUTO)
        return wanted->first_layers;
    if (prepared && cross && xq_prepared_query(prepared, &info) == XQ_OK)
        return info.base_layer + 1;
    return c->layers < 3 ? c->layers : 3;
}

session *session_open(const options *o, int tokens, int chunk)
{
    session *s = room(1, sizeof *s);
    progress_say("loading the model");
    s->model = model_open(o->model);
    s->choice = o->choice;
    const config *c = &s->model->config;
    const bool host = strcmp(o->device, "host") == 0;
    if (tokens > c->longest)
        fail(EXIT_INPUT, "the sequence has %d tokens; the model takes at most %d", tokens, c->longest);
    s->context = open_context(host ? "sim" : o->device); /* the host's cache needs it for specs alone */
    progress_say("making the caches");
    xq_prepared *prepared = prepared_open(&s->choice, c, s->context);
    s->choice.first_layers = first_layers(&s->choice, c, prepared);
    s->formats = formats_make(c, &s->choice, s->context, prepared, tokens);
    s->sources = sources_make(s->model, s->formats, &s->choice, s->context, prepared);
    s->cache = host ? cache_host_open(c, s->formats, s->sources, tokens)
                    : cache_device_open(s->context, c, s->formats, s->sources, tokens, chunk);
    return s;
}

void session_close(session *s)
{
    s->cache->close(s->cache);
    sources_free(s->sources);
    formats_free(s->formats);
    xq_context_destroy(s->context);
    model_close(s->model);
    free(s);
}
