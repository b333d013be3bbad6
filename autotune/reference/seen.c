#include "seen.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static int integer(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valueint : 0;
}

/* Marks the columns of K that the fused kernel absorbs, and returns their number. */
static size_t absorbed_columns(const cJSON *spec, size_t cols, bool *absorbed)
{
    const cJSON *keys = cJSON_GetObjectItemCaseSensitive(spec, "keys"), *dimension;
    int head_dim = integer(cJSON_GetObjectItemCaseSensitive(spec, "model"), "head_dim");
    size_t count = 0;
    cJSON_ArrayForEach(dimension, cJSON_GetObjectItemCaseSensitive(
                                      keys, "absorbed")) for (size_t c = 0; c < cols && head_dim > 0 &&
                                                                            dimension->valueint >= 0;
                                                              c += (size_t)head_dim)
    {
        absorbed[c + (size_t)dimension->valueint] = true;
        count++;
    }
    return count;
}

/* Rounds the marked columns again, with scales by row. */
static xq_status round_rows(rounding_type type, const float *w, size_t rows, size_t cols,
                            const bool *absorbed, size_t count, double *out, error *err)
{
    float *part = malloc(sizeof *part * rows * count);
    double *rounded = malloc(sizeof *rounded * rows * count);
    if (!part || !rounded)
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for rounded weights");
    for (size_t r = 0, i = 0; err->status == XQ_OK && r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            if (absorbed[c])
                part[i++] = w[r * cols + c];
    if (err->status == XQ_OK)
        rounding_matrix(type, part, rows, count, 1, rounded);
    for (size_t r = 0, i = 0; err->status == XQ_OK && r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            if (absorbed[c])
                out[r * cols + c] = rounded[i++];
    free(part);
    free(rounded);
    return err->status;
}

static xq_status see(const cJSON *spec, bool by_row, const float *w, size_t rows, size_t cols, double *out,
                     rounding_type *type, error *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(spec, "weights"));
    bool *absorbed = calloc(cols, sizeof *absorbed);
    if (!absorbed)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for rounded weights");
    if (rounding_type_named(name ? name : "", type, err) == XQ_OK) {
        size_t count = by_row ? absorbed_columns(spec, cols, absorbed) : 0;
        rounding_matrix(*type, w, rows, cols, 0, out);
        if (count > 0)
            round_rows(*type, w, rows, cols, absorbed, count, out, err);
    }
    free(absorbed);
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
