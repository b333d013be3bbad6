#include "config_text.h"

#include <stdlib.h>
#include <string.h>

/* The length of the token at `at` that Python writes for a number that JSON cannot hold; 0: none. */
static size_t token_at(const char *at)
{
    static const char *const tokens[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        if (strncmp(at, tokens[i], strlen(tokens[i])) == 0)
            return strlen(tokens[i]);
    return 0;
}

char *config_text_strict(const char *text)
{
    char *copy = malloc(2 * strlen(text) + 1), *out = copy; /* the shortest token grows from 3 to 5 */
    int quoted = 0;
    if (!copy)
        return NULL;
    while (*text) {
        size_t length = quoted ? 0 : token_at(text);
        if (length) {
            *out++ = '"';
            memcpy(out, text, length);
            out += length;
            text += length;
            *out++ = '"';
            continue;
        }
        if (*text == '"')
            quoted = !quoted;
        if (quoted && *text == '\\' && text[1])
            *out++ = *text++;
        *out++ = *text++;
    }
    *out = 0;
    return copy;
}

xq_status config_text_refuse_pointer(const char *path, const void *data, size_t size, error *err)
{
    static const char head[] = "version https://git-lfs.github.com/spec/";
    if (size < sizeof head - 1 || memcmp(data, head, sizeof head - 1) != 0)
        return XQ_OK;
    error_set(err, XQ_ERROR_FORMAT, "file",
              "%s: a Git LFS pointer, not the file itself; `git lfs pull` in its folder fetches that",
              path);
    return error_at(err, path, 0);
}
