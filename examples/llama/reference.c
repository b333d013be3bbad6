#include "reference.h"
#include "fail.h"
#include "tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format[] = "llama reference 1";

struct reference {
    tensors *file;
    const uint8_t *hidden;
    int windows, width;
};

/* The metadata that a new file gets, and that an existing file must have to be accepted. */
static cJSON *notes_of(const char *directory, const token_windows *text)
{
    cJSON *notes = cJSON_CreateObject();
    char number[32];
    tensors *weights = tensors_open(directory);
    cJSON_AddStringToObject(notes, "format", format);
    snprintf(number, sizeof number, "%016llx", (unsigned long long)tensors_checksum(weights));
    cJSON_AddStringToObject(notes, "model", number);
    snprintf(number, sizeof number, "%d", text->size);
    cJSON_AddStringToObject(notes, "window", number);
    snprintf(number, sizeof number, "%d", text->bos);
    cJSON_AddStringToObject(notes, "bos", text->bos < 0 ? "none" : number);
    tensors_close(weights);
    return notes;
}

/* -------------------------------------------------------------------- writing */

tensor_writer *reference_create(const char *path, const char *directory, const model *m,
                                const token_windows *text, int count)
{
    const tensor_shape shapes[] = {{"tokens", "I32", count, text->size},
                                   {"hidden", "F32", (int64_t)count * (text->size - 1), m->config.hidden}};
    cJSON *notes = notes_of(directory, text);
    char windows[32];
    snprintf(windows, sizeof windows, "%d", count);
    cJSON_AddStringToObject(notes, "windows", windows);
    tensor_writer *w = tensor_writer_open(path, notes, shapes, 2);
    tensor_writer_add(w, text->ids, (int64_t)count * text->size);
    cJSON_Delete(notes);
    return w;
}

/* -------------------------------------------------------------------- reading */

static void check_notes(const char *path, const tensors *file, const cJSON *notes)
{
    const cJSON *note;
    cJSON_ArrayForEach(note, notes)
    {
        const char *found = tensors_note(file, note->string);
        if (strcmp(note->string, "format") == 0 && (!found || strcmp(found, format) != 0))
            fail(EXIT_INPUT,
                 "%s: format: '%s' is not known; valid: '%s', which `llama perplexity --record` writes",
                 path, found ? found : "(none)", format);
        if (!found || strcmp(found, note->valuestring) != 0)
            fail(EXIT_INPUT, "%s: %s: the reference was recorded with %s, and this run has %s", path,
                 note->string, found ? found : "(none)", note->valuestring);
    }
}

static int count_windows(const char *path, const tensors *file)
{
    const char *text = tensors_note(file, "windows");
    char *end = NULL;
    const long windows = text ? strtol(text, &end, 10) : 0;
    if (!text || end == text || *end || windows < 1 || windows > 1 << 24)
        fail(EXIT_INPUT, "%s: windows: '%s' is no whole number from 1 to %d", path, text ? text : "(none)",
             1 << 24);
    return (int)windows;
}

static void check_tokens(const char *path, const uint8_t *tokens, const token_windows *text, int windows)
{
    const size_t count = (size_t)windows * (size_t)text->size;
    int32_t found;
    for (size_t i = 0; i < count; i++) {
        memcpy(&found, tokens + i * sizeof found, sizeof found);
        if (found != text->ids[i])
            fail(EXIT_INPUT,
                 "%s: tokens: token %zu of window %zu is %d in the reference, and %d in this text", path,
                 i % (size_t)text->size + 1, i / (size_t)text->size + 1, (int)found, (int)text->ids[i]);
    }
}

reference *reference_open(const char *path, const char *directory, const model *m,
                          const token_windows *text)
{
    reference *r = room(1, sizeof *r);
    cJSON *notes = notes_of(directory, text);
    r->file = tensors_open_file(path);
    check_notes(path, r->file, notes);
    r->windows = count_windows(path, r->file);
    r->width = m->config.hidden;
    const uint8_t *tokens = tensors_view(r->file, "tokens", "I32", r->windows, text->size);
    check_tokens(path, tokens, text, r->windows < text->count ? r->windows : text->count);
    r->hidden = tensors_view(r->file, "hidden", "F32", (int64_t)r->windows * (text->size - 1), r->width);
    cJSON_Delete(notes);
    return r;
}

void reference_close(reference *r)
{
    tensors_close(r->file);
    free(r);
}

int reference_windows(const reference *r)
{
    return r->windows;
}

void reference_read(const reference *r, int64_t row, int rows, float *hidden)
{
    const size_t bytes = sizeof *hidden * (size_t)r->width;
    memcpy(hidden, r->hidden + (size_t)row * bytes, (size_t)rows * bytes);
}
