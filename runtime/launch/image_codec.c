#include "image_codec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { UNIT = 8 };

/* The name in errors: "part[index].name". */
static const char *full_name(const struct image_codec *c, const char *name, char out[96])
{
    if (!c->part)
        snprintf(out, 96, "%s", name);
    else if (c->index < 0)
        snprintf(out, 96, "%s.%s", c->part, name);
    else
        snprintf(out, 96, "%s[%d].%s", c->part, c->index, name);
    return out;
}

static xq_status fault_of(const struct image_codec *c)
{
    return c->reading ? XQ_ERROR_FORMAT : XQ_ERROR_INTERNAL;
}

void image_refuse(struct image_codec *c, const char *name, const char *text)
{
    char full[96];
    if (c->err->status != XQ_OK)
        return;
    error_set(c->err, fault_of(c), "file", "plan image: %s %s", full_name(c, name, full), text);
    error_field(c->err, full);
}

/* Returns the address of the next `bytes` bytes; NULL while an image is measured, and after a failure. */
static unsigned char *take(struct image_codec *c, size_t bytes)
{
    size_t at = c->at;
    if (c->err->status != XQ_OK)
        return NULL;
    if (c->bytes && (bytes > c->size || at > c->size - bytes)) {
        error_set(c->err, fault_of(c), "file", "plan image: it ends too early, at byte %zu of %zu", at,
                  c->size);
        error_field(c->err, "image");
        return NULL;
    }
    c->at = at + bytes;
    return c->bytes ? c->bytes + at : NULL;
}

static uint64_t unit(struct image_codec *c, uint64_t value)
{
    unsigned char *place = take(c, UNIT);
    if (!place)
        return c->reading ? 0 : value;
    if (c->reading)
        memcpy(&value, place, UNIT);
    else
        memcpy(place, &value, UNIT);
    return value;
}

int64_t image_integer(struct image_codec *c, const char *name, int64_t value, int64_t least, int64_t most)
{
    char text[96];
    value = (int64_t)unit(c, (uint64_t)value);
    if (c->err->status != XQ_OK)
        return 0;
    if (value < least || value > most) {
        snprintf(text, sizeof text, "is %lld; valid: %lld to %lld", (long long)value, (long long)least,
                 (long long)most);
        image_refuse(c, name, text);
        return 0;
    }
    return value;
}

double image_real(struct image_codec *c, const char *name, double value, double least, double most)
{
    uint64_t bits;
    char text[96];
    memcpy(&bits, &value, sizeof bits);
    bits = unit(c, bits);
    memcpy(&value, &bits, sizeof value);
    if (c->err->status != XQ_OK)
        return 0;
    if (!(value >= least && value <= most)) {
        snprintf(text, sizeof text, "is %g; valid: %g to %g", value, least, most);
        image_refuse(c, name, text);
        return 0;
    }
    return value;
}

bool image_flag(struct image_codec *c, const char *name, bool value)
{
    return image_integer(c, name, value, 0, 1) != 0;
}

static size_t whole_units(size_t bytes)
{
    return (bytes + UNIT - 1) / UNIT * UNIT;
}

void image_text(struct image_codec *c, const char *name, char *text, size_t capacity)
{
    size_t length = c->reading ? 0 : strlen(text);
    length = (size_t)image_integer(c, name, (int64_t)length, 0, (int64_t)capacity - 1);
    unsigned char *place = take(c, whole_units(length));
    if (c->reading)
        memset(text, 0, capacity);
    if (!place)
        return;
    if (!c->reading) {
        memset(place, 0, whole_units(length));
        memcpy(place, text, length);
    } else {
        memcpy(text, place, length);
        if (strlen(text) != length)
            image_refuse(c, name, "holds a NUL");
    }
}

void image_block(struct image_codec *c, const char *name, const void **data, size_t *bytes,
                 size_t alignment)
{
    size_t count = (size_t)image_integer(c, name, (int64_t)*bytes, 0, INT64_MAX / 4);
    size_t padding = -c->at & (alignment - 1);
    unsigned char *gap = take(c, padding), *place = take(c, count);
    take(c, -c->at & (UNIT - 1));
    if (c->reading) {
        *data = count ? place : NULL;
        *bytes = c->err->status == XQ_OK ? count : 0;
    } else if (place) {
        memset(gap, 0, padding);
        if (count)
            memcpy(place, *data, count);
        memset(place + count, 0, c->at - (size_t)(place + count - c->bytes));
    }
}
