/* Writes the logits of a sequence of token ids to a file, to be compared with other implementations. */
#include "commands.h"
#include "fail.h"
#include "loss.h"
#include "progress.h"
#include "session.h"
#include "tensor_writer.h"
#include "text.h"

#include <stdlib.h>

void command_logits(const options *o)
{
    progress_begin(o->quiet);
    progress_say("reading the tokens");
    token_list list = text_read_ids(o->ids);
    const int count = (int)list.count, chunk = o->chunk > 0 && o->chunk < count ? o->chunk : count;
    if (list.count == 0 || list.count > 1 << 20)
        fail(EXIT_INPUT, "%s: %zu token ids are given; valid: 1 to %d", o->ids, list.count, 1 << 20);
    session *s = session_open(o, count, chunk);
    const config *c = &s->model->config;
    for (int i = 0; i < count; i++)
        if (list.ids[i] >= c->vocabulary)
            fail(EXIT_INPUT, "%s: token id %d is beyond the model's vocabulary of %d", o->ids,
                 (int)list.ids[i], c->vocabulary);
    const int most = logits_rows(s->model);
    float *hidden = room((size_t)chunk * (size_t)c->hidden, sizeof *hidden);
    float *logits = room((size_t)most * (size_t)c->vocabulary, sizeof *logits);
    tensor_writer *out =
        tensor_writer_open(o->out, NULL, &(tensor_shape){"logits", "F32", count, c->vocabulary}, 1);
    for (int done = 0; done < count; done += chunk) {
        int piece = count - done < chunk ? count - done : chunk;
        progress_say("token %d of %d", done + 1, count);
        model_forward(s->model, s->cache, list.ids + done, piece, hidden);
        for (int row = 0; row < piece; row += most) {
            int rows = piece - row < most ? piece - row : most;
            model_logits(s->model, hidden + (size_t)row * (size_t)c->hidden, rows, logits);
            tensor_writer_add(out, logits, (int64_t)rows * c->vocabulary);
        }
    }
    tensor_writer_close(out);
    progress_end();
    free(hidden);
    free(logits);
    free(list.ids);
    session_close(s);
}
