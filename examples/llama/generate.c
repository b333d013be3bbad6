/* Greedy generation. The prompt is appended in one piece, then tokens are generated one at a time and
 * printed as they come. */
#include "commands.h"
#include "fail.h"
#include "loss.h"
#include "progress.h"
#include "session.h"
#include "text.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether an id ends a text. config.json has one such id, or a list. */
static bool ends(const config *c, int32_t id)
{
    const cJSON *end = cJSON_GetObjectItemCaseSensitive(c->json, "eos_token_id"), *item;
    if (cJSON_IsNumber(end))
        return id == (int32_t)end->valuedouble;
    cJSON_ArrayForEach(item, end) if (cJSON_IsNumber(item) && id == (int32_t)item->valuedouble) return true;
    return false;
}

/* The prompt's ids, after the BOS if there is one. */
static token_list read_prompt(const options *o)
{
    token_list text = text_encode(o->python, o->model, o->prompt, false);
    const int bos = o->bos == BOS_AUTO ? text.bos : o->bos;
    if (bos < 0)
        return text;
    token_list whole = {.ids = room(text.count + 1, sizeof(int32_t)), .count = text.count + 1, .bos = bos};
    whole.ids[0] = bos;
    if (text.count > 0)
        memcpy(whole.ids + 1, text.ids, sizeof *text.ids * text.count);
    free(text.ids);
    return whole;
}

static void send(FILE *decoder, int32_t id)
{
    fprintf(decoder, "%d\n", (int)id);
    fflush(decoder);
}

void command_generate(const options *o)
{
    progress_begin(o->quiet);
    progress_say("reading the prompt");
    token_list prompt = read_prompt(o);
    if (prompt.count == 0)
        fail(EXIT_INPUT, "--prompt: it has no tokens");
    const int count = (int)prompt.count;
    session *s = session_open(o, count + o->tokens, count);
    const config *c = &s->model->config;
    float *hidden = room((size_t)count * (size_t)c->hidden, sizeof *hidden);
    float *logits = room((size_t)c->vocabulary, sizeof *logits);
    progress_say("processing a prompt of %d tokens", count);
    model_forward(s->model, s->cache, prompt.ids, count, hidden);
    progress_end();           /* the generated text shows progress, perhaps on the same terminal */
    signal(SIGPIPE, SIG_IGN); /* a decoder that ends early prints the reason itself */
    FILE *decoder = text_decoder_open(o->python, o->model);
    for (int i = 0; i < count; i++)
        send(decoder, prompt.ids[i]);
    const float *last = hidden + (size_t)(count - 1) * (size_t)c->hidden;
    for (int i = 0; i < o->tokens; i++) {
        model_logits(s->model, last, 1, logits);
        int32_t id = greatest_of(logits, c->vocabulary);
        if (!isfinite(logits[id]))
            fail(EXIT_INPUT, "the logits of token %d are not numbers", count + i);
        if (ends(c, id))
            break;
        send(decoder, id);
        if (i + 1 < o->tokens)
            model_forward(s->model, s->cache, &id, 1, hidden);
        last = hidden;
    }
    text_decoder_close(decoder);
    free(prompt.ids);
    free(hidden);
    free(logits);
    session_close(s);
}
