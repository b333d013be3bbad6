/* A hash of the sources of kernels that comments and white space do not change. */
#include "source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* A text without comments, without blanks at the ends of lines, and without lines that are empty after
 * that. */
struct code {
    char *text;          /* has room for one byte more than the original text */
    size_t length, line; /* bytes so far; where the current line begins */
};

static void put_char(struct code *c, char ch)
{
    c->text[c->length++] = ch;
}

static void end_line(struct code *c)
{
    while (c->length > c->line && strchr(" \t\r", c->text[c->length - 1]))
        c->length--;
    if (c->length == c->line + 1 && c->text[c->line] == '%') /* only a Lua comment stood behind the % */
        c->length = c->line;
    if (c->length > c->line)
        put_char(c, '\n');
    c->line = c->length;
}

/* Copies the quoted text that begins at `at`; returns its end. */
static const char *copy_quoted(struct code *c, const char *at, const char *end)
{
    const char quote = *at;
    put_char(c, *at++);
    while (at < end && *at != quote && *at != '\n') {
        if (*at == '\\' && at + 1 < end)
            put_char(c, *at++);
        put_char(c, *at++);
    }
    if (at < end && *at == quote)
        put_char(c, *at++);
    return at;
}

/* Returns the end of the comment that begins at `at`, or `at` itself where none begins. A Lua comment in
 * long brackets counts as code. */
static const char *skip_comment(const char *at, const char *end, bool is_lua)
{
    const size_t left = (size_t)(end - at);
    const char *close;
    if (left >= 2 && memcmp(at, is_lua ? "--" : "//", 2) == 0 && !(is_lua && left >= 4 && at[2] == '[')) {
        close = memchr(at, '\n', left);
        return close ? close : end;
    }
    if (!is_lua && left >= 2 && memcmp(at, "/*", 2) == 0) {
        close = memmem(at + 2, left - 2, "*/", 2);
        return close ? close + 2 : end;
    }
    return at;
}

/* `is_lua`: the whole text is Lua. Otherwise only lines whose first non-blank character is % are Lua. */
static void strip(struct code *c, const char *text, size_t size, bool is_lua)
{
    const char *at = text, *end = text + size;
    bool lua_line = is_lua;
    while (at < end) {
        if (c->length == c->line) { /* at the beginning of a line, or in its indentation */
            lua_line = is_lua || *at == '%';
            if (*at == ' ' || *at == '\t') {
                at++;
                continue;
            }
        }
        const char *after = skip_comment(at, end, lua_line);
        if (after > at) {
            at = after;
        } else if (*at == '\n') {
            end_line(c);
            at++;
        } else if (*at == '"' || *at == '\'') {
            at = copy_quoted(c, at, end);
        } else {
            put_char(c, *at++);
        }
    }
    end_line(c);
}

/* Combines `*hash` with this file's name and code. Returns false when out of memory. */
static bool add_file(uint64_t *hash, const struct embed_file *file)
{
    const size_t name = strlen(file->name);
    struct code code = {.text = malloc(file->size + 1)};
    if (!code.text)
        return false;
    strip(&code, file->text, file->size, name > 4 && strcmp(file->name + name - 4, ".lua") == 0);
    *hash = XXH3_64bits_withSeed(file->name, name, *hash);
    *hash = XXH3_64bits_withSeed(code.text, code.length, *hash);
    free(code.text);
    return true;
}

bool source_hash_family(const source *s, const char *family, uint64_t *out)
{
    char template[160], own_spec[160], template_spec[160];
    bool has_template = false, has_spec = false;
    uint64_t hash = 0;
    source_template(s, family, template, sizeof template);
    snprintf(own_spec, sizeof own_spec, "templates/%.100s.spec.lua", family);
    snprintf(template_spec, sizeof template_spec, "%.*s.spec.lua",
             (int)(strlen(template) - strlen(".cu.lt")), template);
    for (size_t i = 0; i < s->count; i++) {
        const struct embed_file *file = &s->files[i];
        const bool is_template = strcmp(file->name, template) == 0,
                   is_spec = strcmp(file->name, own_spec) == 0;
        has_template |= is_template;
        has_spec |= is_spec;
        if ((is_template || is_spec || strcmp(file->name, template_spec) == 0 ||
             strncmp(file->name, "templates/lib/", 14) == 0) &&
            !add_file(&hash, file))
            return false;
    }
    *out = hash;
    return has_template && has_spec;
}
