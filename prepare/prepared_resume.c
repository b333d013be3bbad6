/* Reads the unfinished file that a killed writer has left. */
#include "prepared_write.h"
#include "safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ------------------------------------------------------------------ header */

/* Says in words what differs first in the metadata. */
static const char *difference(const cJSON *found, const cJSON *needed)
{
    static const struct {
        const char *key, *what;
    } parts[] = {
        {"source", "other weights of the model"},
        {"layers", "other layers"},
        {"spec", "another model or method, or other options of it"},
        {"packing", "another packing"},
        {"plain_spec", "another base layer"},
        {"base_layer", "another base layer"},
        {"store", "another type of matrices"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const char *a = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(found, parts[i].key)),
                   *b = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(needed, parts[i].key));
        if (a && b ? strcmp(a, b) != 0 : a != b)
            return parts[i].what;
    }
    return "another version of xq";
}

static void copy_digits(char *to, const prepared_header *h, const char *digits)
{
    if (digits)
        memcpy(to + (digits - h->text), digits, PREPARED_DIGITS);
}

/* Whether the file begins with this header, whatever its checksums are. */
static bool is_ours(const mapping *file, const prepared_header *h)
{
    char *text = file->size >= h->bytes ? malloc(h->bytes) : NULL;
    if (!text)
        return false;
    memcpy(text, file->data, h->bytes);
    copy_digits(text, h, h->checksum);
    for (int i = 0; i < h->count; i++)
        copy_digits(text, h, h->tensors[i].checksum);
    bool same = memcmp(text, h->text, h->bytes) == 0;
    free(text);
    return same;
}

/* Whether the file is a prepared file of any model that was begun and not finished. After the length of the
 * header, all such files begin alike: with the version, and zeros for the header's checksum. Any other file
 * belongs to somebody else. */
static bool is_begun(const mapping *file, const prepared_header *h)
{
    size_t length = sizeof(uint64_t), alike = (size_t)(h->checksum - h->text) + PREPARED_DIGITS;
    size_t bytes = file->size < alike ? file->size : alike;
    return bytes > length && memcmp(file->data + length, h->text + length, bytes - length) == 0;
}

static xq_status check_header(const char *path, const mapping *file, const prepared_header *h, error *err)
{
    cJSON *header = NULL;
    uint64_t data_at;
    error unreadable = ERROR_INIT;
    if (is_ours(file, h))
        return XQ_OK;
    if (!is_begun(file, h))
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "%s: this file is in the way of the output, and is no unfinished file of this "
                         "version of `xq prepare`; move it, or remove it",
                         path);
    if (safetensors_read_header(path, file, &header, &data_at, &unreadable) != XQ_OK)
        return prepared_bad(path, NULL, err, "its header is not complete");
    prepared_bad(path, NULL, err, "another command wrote it (%s)",
                 difference(cJSON_GetObjectItemCaseSensitive(header, "__metadata__"), h->metadata));
    cJSON_Delete(header);
    return err->status;
}

/* ----------------------------------------------------------------- tensors */

/* Whether a tensor is complete and its checksum right, or padding complete and zero. Computes the checksum
 * into the header. */
static bool is_whole(const mapping *file, const prepared_header *h, const struct prepared_placed *p)
{
    size_t bytes = p->tensor.form.bytes;
    const uint8_t *data = file->data + p->at;
    if (p->at > file->size || bytes > file->size - p->at)
        return false;
    if (p->checksum) {
        prepared_put_digits(p->checksum, XXH3_64bits(data, bytes));
        return memcmp(p->checksum, file->data + (p->checksum - h->text), PREPARED_DIGITS) == 0;
    }
    while (bytes > 0 && data[bytes - 1] == 0)
        bytes--;
    return bytes == 0;
}

/* Counts the tensors of all layers before the first incomplete one. The checksums of that layer become
 * zeros again. */
static int count_whole(const mapping *file, const prepared_header *h, double (*lost)[2])
{
    int end = 0, first = 0; /* first: the first tensor of the layer that tensor `end` belongs to */
    for (; end < h->count && is_whole(file, h, &h->tensors[end]); end++) {
        const struct prepared_placed *p = &h->tensors[end];
        if (p->checksum && p->tensor.which == PREPARED_LOST) { /* the last tensor of a layer */
            memcpy(lost[p->index], file->data + p->at, sizeof lost[0]);
            first = end + 1;
        }
    }
    for (int i = first; i < h->count && i <= end; i++)
        if (h->tensors[i].checksum)
            memset(h->tensors[i].checksum, '0', PREPARED_DIGITS);
    return first;
}

int prepared_resume(const char *partial, prepared_header *h, double (*lost)[2], error *err)
{
    mapping file = {0};
    int kept = -1;
    if (mapping_open(partial, &file, err) == XQ_OK && check_header(partial, &file, h, err) == XQ_OK)
        kept = count_whole(&file, h, lost);
    mapping_close(&file);
    return kept;
}
