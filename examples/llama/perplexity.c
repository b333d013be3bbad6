/* Teacher-forced perplexity. A text is cut into windows, each a sequence of its own; the loss is the mean
 * of -log p(token | those before it in its window) over all tokens of all windows but each window's first.
 */
#include "commands.h"
#include "fail.h"
#include "loss.h"
#include "progress.h"
#include "result.h"
#include "session.h"
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A window's tokens: the BOS, if any, and those of the text. */
static void fill_window(const token_list *text, int bos, int window, int index, int32_t *ids)
{
    const int own = bos >= 0 ? 1 : 0;
    if (own)
        ids[0] = bos;
    memcpy(ids + own, text->ids + (size_t)index * (size_t)(window - own),
           sizeof *ids * (size_t)(window - own));
}

/* The sum of losses of a window, appended in pieces of `chunk` tokens. */
static double window_loss(session *s, const int32_t *ids, int window, int chunk, float *hidden,
                          float *logits)
{
    const config *c = &s->model->config;
    const int most = logits_rows(s->model);
    double sum = 0;
    s->cache->reset(s->cache);
    for (int done = 0; done < window; done += chunk) {
        int count = window - done < chunk ? window - done : chunk;
        model_forward(s->model, s->cache, ids + done, count, hidden);
        int predicting = done + count < window ? count : count - 1; /* the last token predicts nothing */
        for (int row = 0; row < predicting; row += most) {
            int rows = predicting - row < most ? predicting - row : most;
            model_logits(s->model, hidden + (size_t)row * (size_t)c->hidden, rows, logits);
            sum += loss_of(logits, ids + done + row + 1, rows, c->vocabulary);
        }
    }
    return sum;
}

static int count_windows(const options *o, const token_list *text, int per_window)
{
    int have = (int)(text->count / (size_t)per_window);
    if (have == 0 || o->windows > have)
        fail(EXIT_INPUT, "%s: %zu tokens are %d windows of %d", o->text, text->count, have, per_window);
    return o->windows > 0 ? o->windows : have;
}

static void check_ids(const token_list *text, int bos, const config *c, const char *path)
{
    for (size_t i = 0; i < text->count; i++)
        if (text->ids[i] < 0 || text->ids[i] >= c->vocabulary)
            fail(EXIT_INPUT, "%s: token id %d is beyond the model's vocabulary of %d", path,
                 (int)text->ids[i], c->vocabulary);
    if (bos >= c->vocabulary)
        fail(EXIT_INPUT, "--bos: %d is beyond the model's vocabulary of %d", bos, c->vocabulary);
}

static void say_window(int done, int all, double perplexity, double passed)
{
    const int left = (int)(passed / done * (all - done));
    progress_say("window %d of %d done, perplexity %.4f so far, %d:%02d left", done, all, perplexity,
                 left / 60, left % 60);
}

void command_perplexity(const options *o)
{
    progress_begin(o->quiet);
    progress_say("reading the text");
    token_list text = text_encode(o->python, o->model, o->text, true);
    const int bos = o->bos == BOS_AUTO ? text.bos : o->bos, window = o->window;
    const int chunk = o->chunk > 0 && o->chunk < window ? o->chunk : window;
    result r = {.windows = count_windows(o, &text, window - (bos >= 0))};
    session *s = session_open(o, window, chunk);
    const config *c = &s->model->config;
    check_ids(&text, bos, c, o->text);
    int32_t *ids = room((size_t)window, sizeof *ids);
    float *hidden = room((size_t)chunk * (size_t)c->hidden, sizeof *hidden);
    float *logits = room((size_t)logits_rows(s->model) * (size_t)c->vocabulary, sizeof *logits);
    double sum = 0;
    const double begun = progress_seconds();
    progress_say("window 1 of %d", r.windows);
    for (int w = 0; w < r.windows; w++) {
        fill_window(&text, bos, window, w, ids);
        double loss = window_loss(s, ids, window, chunk, hidden, logits);
        if (!isfinite(loss))
            fail(EXIT_INPUT, "the loss of window %d is %g: something in it is not a number", w, loss);
        sum += loss;
        r.nll = sum / ((double)(w + 1) * (window - 1));
        say_window(w + 1, r.windows, exp(r.nll), progress_seconds() - begun);
    }
    r.seconds = progress_seconds() - begun;
    progress_end();
    r.bos = bos;
    r.chunk = chunk;
    result_print(o, s, &r);
    free(ids);
    free(hidden);
    free(logits);
    free(text.ids);
    session_close(s);
}
