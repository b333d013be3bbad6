/* The files that a generator works from: the built-in files, of which a directory may replace some. All are
 * read once, when the generator is created, so that a generator never sees a file change. */
#ifndef GEN_SOURCE_H
#define GEN_SOURCE_H

#include "../runtime/base/error.h"
#include "embed.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct source {
    struct embed_file *files; /* sorted by name */
    size_t count;
    char **owned; /* names and texts read from the directory */
    size_t owned_count;
} source;

/* `directory` may be NULL. It is either laid out as templates/ (NAME.cu.lt, NAME.spec.lua, lib/, and
 * Lua modules NAME.lua, which stand in for gen/NAME.lua), or a folder that holds templates/ and gen/. */
xq_status source_open(source *s, const char *directory, error *err);
void source_close(source *s);

const struct embed_file *source_find(const source *s, const char *name);

/* Writes the name of the template that a family's kernels are rendered from: its own, or, for a variant,
 * which has none, that of the family named without _VARIANT. The file need not exist. */
void source_template(const source *s, const char *family, char *name, size_t size);

/* A hash of the sources of a family's kernels (gen_family_source). Comments, blank lines, and blanks around
 * lines do not count. Returns false where there is no such family, or no memory. */
bool source_hash_family(const source *s, const char *family, uint64_t *out);

/* Line `number` (from 1) of a text, without surrounding blanks; "" beyond its end. */
void source_line(const char *text, int number, char *line, size_t size);

#endif
