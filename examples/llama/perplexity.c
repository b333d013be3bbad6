/* Teacher-forced perplexity. A text is cut into windows, each a sequence of its own. The loss is the mean
 * of -log p(token | tokens before it in its window) over all tokens except the first of each window.
 *
 * A run with an fp16 cache can record its predictions (reference.h). Runs with other caches then report how
 * far their predictions are from the recorded ones (divergence.h).
 */
#include "commands.h"
#include "divergence.h"
#include "fail.h"
#include "loss.h"
#include "progress.h"
#include "reference.h"
#include "result.h"
#include "session.h"
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    session *session;
    const model *model;
    token_windows text;
    int chunk;
    float *hidden, *logits;

    int recorded; /* number of windows to record, from the first on */
    tensor_writer *record;

    int compared; /* number of windows to compare, from the first on */
    reference *reference;
    float *reference_hidden, *reference_logits;
    divergence divergence;
} run;

/* ---------------------------------------------------------------- the text */

static int count_windows(const options *o, const token_list *text, int per_window)
{
    int have = (int)(text->count / (size_t)per_window);
    if (have == 0 || o->windows > have)
        fail(EXIT_INPUT,
             "%s: the text has %zu tokens, which make %d windows of %d; give fewer --windows or a longer "
             "text",
             o->text, text->count, have, per_window);
    return o->windows > 0 ? o->windows : have;
}

/* Cuts the text into windows. Each window begins with the BOS, if there is one, and goes on with text. */
static token_windows cut(const options *o, const token_list *text)
{
    const int bos = o->bos == BOS_AUTO ? text->bos : o->bos, own = bos >= 0 ? 1 : 0;
    token_windows w = {.size = o->window, .bos = bos};
    w.count = count_windows(o, text, w.size - own);
    w.ids = room((size_t)w.count * (size_t)w.size, sizeof *w.ids);
    for (int i = 0; i < w.count; i++) {
        int32_t *ids = w.ids + (size_t)i * (size_t)w.size;
        if (own)
            ids[0] = bos;
        memcpy(ids + own, text->ids + (size_t)i * (size_t)(w.size - own),
               sizeof *ids * (size_t)(w.size - own));
    }
    return w;
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

/* ----------------------------------------------------------- the reference */

/* The number of windows that --reference-windows asks for, or `most` if it is not given. */
static int reference_count(const options *o, int most)
{
    if (o->reference_windows > most)
        fail(EXIT_INPUT, "--reference-windows: %d is not valid; valid: 1 to %d", o->reference_windows,
             most);
    return o->reference_windows > 0 ? o->reference_windows : most;
}

static void open_reference(run *r, const options *o)
{
    const size_t rows = (size_t)logits_rows(r->model);
    const token_windows *text = &r->text;
    if (o->record) {
        r->recorded = reference_count(o, text->count);
        r->record = reference_create(o->record, o->model, r->model, text, r->recorded);
    }
    if (!o->reference)
        return;
    r->reference = reference_open(o->reference, o->model, r->model, text);
    const int have = reference_windows(r->reference);
    r->compared = reference_count(o, have < text->count ? have : text->count);
    r->reference_hidden = room(rows * (size_t)r->model->config.hidden, sizeof(float));
    r->reference_logits = room(rows * (size_t)r->model->config.vocabulary, sizeof(float));
    r->divergence = divergence_make((int64_t)r->compared * (text->size - 1));
}

/* Compares r->logits with the logits of the reference's rows from `row` on, counted over all windows. */
static void compare(run *r, int64_t row, int rows)
{
    reference_read(r->reference, row, rows, r->reference_hidden);
    model_logits(r->model, r->reference_hidden, rows, r->reference_logits);
    divergence_add(&r->divergence, r->reference_logits, r->logits, rows, r->model->config.vocabulary);
}

/* ------------------------------------------------------------- the windows */

/* The sum of losses of window `w`. Its tokens are appended in pieces of r->chunk. */
static double window_loss(run *r, int w)
{
    const config *c = &r->model->config;
    const int window = r->text.size, most = logits_rows(r->model);
    const int32_t *ids = r->text.ids + (size_t)w * (size_t)window;
    cache *memory = r->session->cache;
    double sum = 0;
    memory->reset(memory);
    for (int done = 0; done < window; done += r->chunk) {
        int count = window - done < r->chunk ? window - done : r->chunk;
        model_forward(r->model, memory, ids + done, count, r->hidden);
        int predicting = done + count < window ? count : count - 1; /* the last token predicts nothing */
        if (w < r->recorded)
            tensor_writer_add(r->record, r->hidden, (int64_t)predicting * c->hidden);
        for (int row = 0; row < predicting; row += most) {
            int rows = predicting - row < most ? predicting - row : most;
            model_logits(r->model, r->hidden + (size_t)row * (size_t)c->hidden, rows, r->logits);
            sum += loss_of(r->logits, ids + done + row + 1, rows, c->vocabulary);
            if (w < r->compared)
                compare(r, (int64_t)w * (window - 1) + done + row, rows);
        }
    }
    return sum;
}

static void say_window(int done, int all, double perplexity, double passed)
{
    const int left = (int)(passed / done * (all - done));
    progress_say("window %d of %d done, perplexity %.4f so far, %d:%02d left", done, all, perplexity,
                 left / 60, left % 60);
}

/* Measures the mean loss, the divergence from the reference, and the time. */
static void measure(run *r, result *found)
{
    const int windows = r->text.count;
    const double begun = progress_seconds();
    double sum = 0;
    progress_say("window 1 of %d", windows);
    for (int w = 0; w < windows; w++) {
        double loss = window_loss(r, w);
        if (!isfinite(loss))
            fail(EXIT_INPUT, "the loss of window %d is %g: something in it is not a number", w, loss);
        sum += loss;
        found->nll = sum / ((double)(w + 1) * (r->text.size - 1));
        say_window(w + 1, windows, exp(found->nll), progress_seconds() - begun);
    }
    found->seconds = progress_seconds() - begun;
    found->divergence = divergence_summarize(&r->divergence);
    if (!isfinite(found->divergence.mean))
        fail(EXIT_INPUT, "the KL divergence is %g: something in the reference is not a number",
             found->divergence.mean);
}

static void close_run(run *r)
{
    if (r->reference)
        reference_close(r->reference);
    void *const all[] = {r->text.ids,         r->hidden,           r->logits,
                         r->reference_hidden, r->reference_logits, r->divergence.each};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    session_close(r->session);
}

void command_perplexity(const options *o)
{
    progress_begin(o->quiet);
    progress_say("reading the text");
    token_list list = text_encode(o->python, o->model, o->text, true);
    run r = {.text = cut(o, &list), .chunk = o->chunk > 0 && o->chunk < o->window ? o->chunk : o->window};
    r.session = session_open(o, o->window, r.chunk);
    r.model = r.session->model;
    const config *c = &r.model->config;
    check_ids(&list, r.text.bos, c, o->text);
    open_reference(&r, o);
    r.hidden = room((size_t)r.chunk * (size_t)c->hidden, sizeof *r.hidden);
    r.logits = room((size_t)logits_rows(r.model) * (size_t)c->vocabulary, sizeof *r.logits);
    result found = {.windows = r.text.count, .bos = r.text.bos, .chunk = r.chunk};
    measure(&r, &found);
    if (r.record)
        tensor_writer_close(r.record);
    progress_end();
    result_print(o, r.session, &found);
    free(list.ids);
    close_run(&r);
}
