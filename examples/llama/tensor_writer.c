#include "tensor_writer.h"
#include "fail.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PREFIX = 8, ELEMENT = 4 }; /* bytes of the field with the header's size, and of an element */

struct tensor_writer {
    FILE *file;
    char *path, *temporary;
    int64_t elements, written;
};

/* The file that is removed when the program exits. */
static const char *unfinished;

static void remove_unfinished(void)
{
    if (unfinished)
        unlink(unfinished);
}

static cJSON *header_of(const cJSON *notes, const tensor_shape *shapes, int count)
{
    cJSON *header = cJSON_CreateObject();
    int64_t begin = 0;
    if (notes)
        cJSON_AddItemToObject(header, "__metadata__", cJSON_Duplicate(notes, 1));
    for (int i = 0; i < count; i++) {
        const tensor_shape *s = &shapes[i];
        const int64_t end = begin + ELEMENT * s->rows * s->cols;
        cJSON *entry = cJSON_AddObjectToObject(header, s->name);
        cJSON_AddStringToObject(entry, "dtype", s->type);
        cJSON_AddItemToObject(entry, "shape",
                              cJSON_CreateDoubleArray((double[]){(double)s->rows, (double)s->cols}, 2));
        cJSON_AddItemToObject(entry, "data_offsets",
                              cJSON_CreateDoubleArray((double[]){(double)begin, (double)end}, 2));
        begin = end;
    }
    return header;
}

/* Writes the header's size and the header, which is padded with spaces to a multiple of 8 bytes. */
static bool write_header(FILE *file, const cJSON *header)
{
    char *text = cJSON_PrintUnformatted(header);
    const size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    uint8_t size[PREFIX];
    for (int i = 0; i < PREFIX; i++)
        size[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    bool written =
        fwrite(size, 1, PREFIX, file) == PREFIX && fprintf(file, "%-*s", (int)padded, text) == (int)padded;
    free(text);
    return written;
}

static void give_up(const tensor_writer *w)
{
    fail(EXIT_INPUT, "%s: %s", w->path, strerror(errno));
}

tensor_writer *tensor_writer_open(const char *path, const cJSON *notes, const tensor_shape *shapes,
                                  int count)
{
    tensor_writer *w = room(1, sizeof *w);
    cJSON *header = header_of(notes, shapes, count);
    w->path = strdup(path);
    w->temporary = room(strlen(path) + 32, 1);
    sprintf(w->temporary, "%s.%ld.tmp", path, (long)getpid());
    for (int i = 0; i < count; i++)
        w->elements += shapes[i].rows * shapes[i].cols;
    w->file = fopen(w->temporary, "wb");
    if (!w->file)
        give_up(w);
    unfinished = w->temporary;
    atexit(remove_unfinished);
    if (!write_header(w->file, header))
        give_up(w);
    cJSON_Delete(header);
    return w;
}

void tensor_writer_add(tensor_writer *w, const void *values, int64_t count)
{
    if (fwrite(values, ELEMENT, (size_t)count, w->file) != (size_t)count)
        give_up(w);
    w->written += count;
}

void tensor_writer_close(tensor_writer *w)
{
    bool whole = w->written == w->elements && fflush(w->file) == 0 && fsync(fileno(w->file)) == 0;
    whole = fclose(w->file) == 0 && whole;
    if (!whole || rename(w->temporary, w->path) != 0)
        give_up(w);
    unfinished = NULL;
    free(w->path);
    free(w->temporary);
    free(w);
}
