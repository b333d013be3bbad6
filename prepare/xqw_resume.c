/* What a writer that was killed has left. */
#include "xqw_write.h"

#include <stdio.h>
#include <string.h>

/* The first field of the heads that differs, in words. */
static const char *difference(const cJSON *found, const cJSON *needed)
{
    static const struct {
        const char *field, *what;
    } fields[] = {
        {"model", "another model"},           {"source", "other weights of the model"},
        {"layers", "other layers"},           {"methods", "another method, or other options of it"},
        {"base_layer", "another base layer"}, {"store", "another type of matrices"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const cJSON *a = cJSON_GetObjectItemCaseSensitive(found, fields[i].field);
        const cJSON *b = cJSON_GetObjectItemCaseSensitive(needed, fields[i].field);
        if ((a || b) && !cJSON_Compare(a, b, 1))
            return fields[i].what;
    }
    return "another version of xq";
}

/* Whether the file holds zeros there, as it does between what it places. */
static bool is_padding(const xqw_source *s, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to && i < s->file.size; i++)
        if (s->file.data[i])
            return false;
    return true;
}

/* The head of the unfinished file, which must be ours, into `head`; *end is behind it. */
static xq_status read_head(const xqw_source *s, const char *text, xqw_head *head, uint64_t *end, error *err)
{
    uint64_t bytes;
    xqw_record record;
    if (xqw_read_prefix(s, &bytes, err) != XQ_OK ||
        xqw_read_record(s, xqw_align(XQW_PREFIX_BYTES), "the head", &record, err) != XQ_OK)
        return err->status;
    if (record.size != strlen(text) || memcmp(record.text, text, record.size) != 0) {
        cJSON *needed = cJSON_Parse(text);
        xqw_bad(s, err, "it is of another command (%s)", difference(record.json, needed));
        cJSON_Delete(needed);
        cJSON_Delete(record.json);
        return err->status;
    }
    *end = (uint64_t)(record.text - (const char *)s->file.data) + record.size;
    if (!is_padding(s, XQW_PREFIX_BYTES, XQW_ALIGN)) {
        cJSON_Delete(record.json);
        return xqw_bad(s, err, "damaged: its beginning");
    }
    return xqw_head_read(s, record.json, head, err);
}

/* One blob behind the last; *end moves behind this one. */
static bool blob_is_whole(const xqw_source *s, const xqw_place *place, uint64_t *end)
{
    error err = ERROR_INIT;
    uint64_t from = *end;
    *end = place->offset + place->bytes;
    return place->offset == xqw_align(from) && is_padding(s, from, place->offset) &&
           xqw_verify(s, place, 0, "", &err) == XQ_OK;
}

/* Whether the layer behind *end is whole, every byte as it was written; then *end moves behind it. */
static bool layer_is_whole(const xqw_source *s, const xqw_head *head, int layer, double lost[2],
                           uint64_t *end)
{
    error err = ERROR_INIT;
    xqw_entry e;
    layer_part parts[LAYER_MOST_PARTS];
    uint64_t at = xqw_align(*end);
    const xqw_method *m = xqw_method_of(head, layer);
    if (!is_padding(s, *end, at) || xqw_entry_read(s, head, layer, at, &e, &err) != XQ_OK)
        return false;
    uint64_t reached = e.text_end;
    bool whole = true;
    for (int i = 0, count = head->matrices ? layer_parts(&m->shape, parts) : 0; i < count && whole; i++)
        whole = blob_is_whole(s, &e.parts[i], &reached);
    if (m->packed_bytes && whole)
        whole = blob_is_whole(s, &e.packed, &reached);
    whole = whole && reached == e.end;
    memcpy(lost, e.lost, sizeof e.lost);
    if (whole)
        *end = e.end;
    xqw_entry_free(&e);
    return whole;
}

int xqw_resume(const char *partial, const char *head_text, double (*lost)[2], uint64_t *end, char *why,
               size_t why_size)
{
    xqw_source s = {.path = partial};
    xqw_head head = {0};
    error err = ERROR_INIT;
    int done = -1;
    if (mapping_open(partial, &s.file, &err) == XQ_OK &&
        read_head(&s, head_text, &head, end, &err) == XQ_OK) {
        done = 0;
        while (done < head.layer_count && layer_is_whole(&s, &head, head.layers[done], lost[done], end))
            done++;
    }
    if (done < 0)
        snprintf(why, why_size, "%s", err.message);
    mapping_close(&s.file);
    xqw_head_free(&head);
    error_clear(&err);
    return done;
}
