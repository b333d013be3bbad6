#include "seen.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valueint : 0;
}

/* Columns of K that the fused kernel absorbs, as they are packed: for each head, those in the spec's order.
 */
typedef struct absorbed_columns {
    size_t count;
    int *from; /* the column of the caller's matrix; -1 for a column of zeros */
} absorbed_columns;

static xq_status find_absorbed(const cJSON *spec, size_t cols, absorbed_columns *out, error *err)
{
    const cJSON *keys = cJSON_GetObjectItemCaseSensitive(spec, "keys");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(keys, "absorbed");
    const int head_dim = integer(cJSON_GetObjectItemCaseSensitive(spec, "model"), "head_dim");
    const size_t each = (size_t)cJSON_GetArraySize(list),
                 heads = head_dim > 0 ? cols / (size_t)head_dim : 0;
    out->count = heads * each;
    out->from = malloc(sizeof *out->from * (out->count + 1));
    if (!out->from)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for rounded weights");
    for (size_t i = 0; i < out->count; i++) {
        const int dimension = cJSON_GetArrayItem(list, (int)(i % each))->valueint;
        out->from[i] = dimension < 0 ? -1 : (int)(i / each) * head_dim + dimension;
    }
    return XQ_OK;
}

/* Rounds the absorbed columns again, with scales by row. */
static xq_status round_rows(rounding_type type, const float *w, size_t rows, size_t cols,
                            const absorbed_columns *absorbed, double *out, error *err)
{
    const size_t count = absorbed->count;
    float *part = malloc(sizeof *part * rows * count);
    double *rounded = malloc(sizeof *rounded * rows * count);
    if (!part || !rounded)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for rounded weights");
    for (size_t i = 0; err->status == XQ_OK && i < rows * count; i++) {
        const int from = absorbed->from[i % count];
        part[i] = from < 0 ? 0 : w[i / count * cols + (size_t)from];
    }
    if (err->status == XQ_OK)
        rounding_matrix(type, part, rows, count, 1, rounded);
    for (size_t i = 0; err->status == XQ_OK && i < rows * count; i++)
        if (absorbed->from[i % count] >= 0)
            out[i / count * cols + (size_t)absorbed->from[i % count]] = rounded[i];
    free(part);
    free(rounded);
    return err->status;
}

static xq_status see(const cJSON *spec, bool by_row, const float *w, size_t rows, size_t cols, double *out,
                     rounding_type *type, error *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "weights"));
    if (rounding_type_named(name ? name : "", type, err) != XQ_OK)
        return err->status;
    rounding_matrix(*type, w, rows, cols, 0, out);
    if (by_row) {
        absorbed_columns absorbed;
        if (find_absorbed(spec, cols, &absorbed, err) == XQ_OK && absorbed.count > 0)
            round_rows(*type, w, rows, cols, &absorbed, out, err);
        free(absorbed.from);
    }
    return err->status;
}

xq_status seen_matrix(const char *completed_json, xq_implementation implementation, const char *source,
                      const float *w, size_t rows, size_t cols, double *out, rounding_type *type,
                      error *err)
{
    cJSON *spec = cJSON_Parse(completed_json);
    rounding_type unused;
    bool of_keys = strcmp(source, "wk") == 0 || strcmp(source, "ak") == 0;
    see(spec, of_keys && implementation == XQ_FUSED, w, rows, cols, out, type ? type : &unused, err);
    cJSON_Delete(spec);
    return err->status;
}

bool seen_alike(const char *completed_json)
{
    cJSON *spec = cJSON_Parse(completed_json);
    const cJSON *keys = cJSON_GetObjectItemCaseSensitive(spec, "keys");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "weights"));
    bool scaled = !name || (strcmp(name, "f16") != 0 && strcmp(name, "bf16") != 0);
    bool alike =
        spec && (!scaled || cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(keys, "absorbed")) == 0);
    cJSON_Delete(spec);
    return alike;
}
