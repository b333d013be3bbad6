/* Writes and reads the values of a plan image. One function describes a part of an image for both
 * directions: writing stores the given values, and reading returns those of the image. Both check the same
 * limits.
 *
 * Every value takes 8 bytes, least significant byte first, in the order of the calls. A text takes its
 * length and then whole units of 8 bytes. Blocks are aligned from the image's start, as the call says. */
#ifndef RUNTIME_LAUNCH_IMAGE_CODEC_H
#define RUNTIME_LAUNCH_IMAGE_CODEC_H

#include "../base/error.h"

#include <stdbool.h>

struct image_codec {
    bool reading;
    unsigned char *bytes; /* the image; NULL while writing only measures */
    size_t size, at;      /* size of the image; offset of the next value */
    const char *part;     /* names in errors start with it: "part[index].name"; NULL: just the name */
    int index;            /* -1: "part.name" */
    error *err;           /* after a failure, calls read zeros and write nothing */
};

/* Each returns the value that is written or was read. A value outside its limits is XQ_ERROR_FORMAT in an
 * image that is read, and XQ_ERROR_INTERNAL in one that is written. */
int64_t image_integer(struct image_codec *c, const char *name, int64_t value, int64_t least, int64_t most);
double image_real(struct image_codec *c, const char *name, double value, double least, double most);
bool image_flag(struct image_codec *c, const char *name, bool value);

/* A text of fewer than `capacity` bytes, in place. */
void image_text(struct image_codec *c, const char *name, char *text, size_t capacity);

/* A block of bytes. Reading sets *data to the block's address in the image; for an empty block *bytes is 0
 * and *data NULL. `alignment` is a power of two. */
void image_block(struct image_codec *c, const char *name, const void **data, size_t *bytes,
                 size_t alignment);

/* Fails with `text` about the part and name, for faults that the limits of single values do not show. */
void image_refuse(struct image_codec *c, const char *name, const char *text);

#endif
