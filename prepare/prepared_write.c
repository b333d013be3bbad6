#include "prepared_write.h"

#include "../runtime/plan/spec_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct prepared_writer {
    publication *file;
    prepared_header header;
    tensor_type store;
    bool packed;
    struct shape packing[PREPARED_MOST_METHODS];
    int done, next;    /* finished layers, and the first tensor after them */
    double (*lost)[2]; /* of the finished layers */
    char note[1200];
};

/* --------------------------------------------------------------- beginning */

/* The offset at which the first `count` tensors end. */
static uint64_t end_of(const prepared_header *h, int count)
{
    const struct prepared_placed *last = &h->tensors[count ? count - 1 : 0];
    return count ? last->at + last->tensor.form.bytes : h->bytes;
}

static xq_status begin_anew(prepared_writer *w, error *err)
{
    if (publish_cut(w->file, 0, err) == XQ_OK)
        publish_write(w->file, w->header.text, w->header.bytes, err);
    return err->status;
}

static xq_status begin(prepared_writer *w, error *err)
{
    const prepared_header *h = &w->header;
    const char *partial = publish_temporary(w->file);
    if (!publish_resumes(w->file))
        snprintf(w->note, sizeof w->note,
                 "%s: another process is preparing this file; this run cannot be resumed",
                 publish_path(w->file));
    if (publish_position(w->file) == 0)
        return begin_anew(w, err);
    error why = ERROR_INIT;
    int kept = prepared_resume(partial, &w->header, w->lost, &why);
    if (kept < 0 && why.status == XQ_ERROR_FORMAT) {
        snprintf(w->note, sizeof w->note, "%s; starting anew", why.message);
        error_clear(&why);
        return begin_anew(w, err);
    }
    if (kept < 0) { /* the file is left as it is */
        *err = why;
        return err->status;
    }
    w->next = kept;
    w->done = kept < h->count ? h->tensors[kept].index : h->head.layer_count;
    snprintf(w->note, sizeof w->note, "%s: %d of %d layers are done", partial, w->done,
             h->head.layer_count);
    if (publish_cut(w->file, end_of(h, kept), err) == XQ_OK)
        publish_patch(w->file, 0, h->text, h->bytes, err);
    return err->status;
}

static xq_status make(prepared_writer *w, const prepared_contents *c, error *err)
{
    const char *path = publish_path(w->file);
    w->store = c->store;
    w->packed = c->packed;
    w->lost = calloc((size_t)c->layer_count + 1, sizeof *w->lost);
    if (!w->lost)
        return error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", path);
    for (int i = 0; i < PREPARED_MOST_METHODS && c->packed && c->specs[i]; i++) {
        struct spec_view view;
        if (spec_view_read(c->specs[i], &view, err) != XQ_OK)
            return err->status;
        w->packing[i] = view.shape;
    }
    return prepared_header_make(path, c, &w->header, err);
}

xq_status prepared_create(publication *file, const prepared_contents *c, prepared_writer **out, error *err)
{
    prepared_writer *w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, XQ_ERROR_MEMORY, "file", "%s: out of memory", publish_path(file));
        publish_keep(file);
        return err->status;
    }
    w->file = file;
    bool begun = make(w, c, err) == XQ_OK; /* until then an earlier writer's file is not judged */
    if (begun)
        begin(w, err);
    if (err->status == XQ_OK)
        *out = w;
    else if (begun && w->done == 0 && err->status != XQ_ERROR_ARGUMENT)
        prepared_abandon(w);
    else
        prepared_keep(w);
    return err->status;
}

int prepared_done(const prepared_writer *w)
{
    return w->done;
}

const char *prepared_note(const prepared_writer *w)
{
    return w->note;
}

void prepared_lost(const prepared_writer *w, int index, double lost[2])
{
    memcpy(lost, w->lost[index], sizeof w->lost[index]);
}

/* ----------------------------------------------------------------- layers */

/* Writes the tensors first, and then their checksums: a layer counts as finished if both agree. */
static xq_status write_layer(prepared_writer *w, void *const data[], error *err)
{
    const prepared_header *h = &w->header;
    const char *first = NULL, *behind = NULL; /* first checksum; end of the last */
    int i = w->next;
    for (; i < h->count && h->tensors[i].index == w->done && err->status == XQ_OK; i++) {
        const struct prepared_placed *p = &h->tensors[i];
        const tensor *form = &p->tensor.form;
        if (!p->checksum) {
            publish_pad(w->file, p->at + form->bytes, err);
            continue;
        }
        publish_write(w->file, data[p->tensor.which], form->bytes, err);
        prepared_put_digits(p->checksum, XXH3_64bits(data[p->tensor.which], form->bytes));
        first = first ? first : p->checksum;
        behind = p->checksum + PREPARED_DIGITS;
    }
    if (err->status == XQ_OK &&
        publish_patch(w->file, (uint64_t)(first - h->text), first, (size_t)(behind - first), err) == XQ_OK)
        publish_flush(w->file, err);
    w->next = i;
    return err->status;
}

xq_status prepared_add_layer(prepared_writer *w, const layer_weights *given, const double lost[2],
                             error *err)
{
    void *data[PREPARED_MOST_TENSORS] = {0};
    const prepared_head *head = &w->header.head;
    int layer = head->layers[w->done];
    const prepared_method *m = prepared_method_of(head, layer);
    if (prepared_encode(publish_path(w->file), layer, &m->shape, w->store,
                        w->packed ? &w->packing[m - head->methods] : NULL, given, lost, data,
                        err) == XQ_OK &&
        write_layer(w, data, err) == XQ_OK)
        memcpy(w->lost[w->done++], lost, sizeof w->lost[0]);
    for (int i = 0; i < PREPARED_MOST_TENSORS; i++)
        free(data[i]);
    return err->status;
}

/* ------------------------------------------------------------------- ends */

static void release(prepared_writer *w)
{
    prepared_header_free(&w->header);
    free(w->lost);
    free(w);
}

xq_status prepared_commit(prepared_writer *w, error *err)
{
    const prepared_header *h = &w->header;
    if (w->done < h->head.layer_count)
        error_set(err, XQ_ERROR_INTERNAL, "file", "%s: only %d of %d layers were written",
                  publish_path(w->file), w->done, h->head.layer_count);
    prepared_put_digits(h->checksum, XXH3_64bits(h->text, h->bytes));
    if (err->status == XQ_OK && publish_patch(w->file, (uint64_t)(h->checksum - h->text), h->checksum,
                                              PREPARED_DIGITS, err) == XQ_OK)
        publish_commit(w->file, err);
    else
        publish_keep(w->file);
    release(w);
    return err->status;
}

void prepared_abandon(prepared_writer *w)
{
    if (!w)
        return;
    publish_abandon(w->file);
    release(w);
}

void prepared_keep(prepared_writer *w)
{
    if (!w)
        return;
    publish_keep(w->file);
    release(w);
}
