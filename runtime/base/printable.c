#include "printable.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ellipsis[] = "…";

enum { LONG_WORD = 400, WORD_HEAD = 240, WORD_TAIL = 120 };

/* Whether a character changes how the text around it is shown: line and paragraph separators, marks and
 * overrides of the direction of writing. */
static bool controls_layout(unsigned code)
{
    return (code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

/* Returns the bytes of the printable UTF-8 character at `text`. Returns 0 for a control character (U+0080
 * to U+009F too), a character that controls the layout, an overlong form, a surrogate, and bytes that are
 * not UTF-8. */
static size_t character(const unsigned char *text)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (text[0] < 0x80)
        return text[0] >= 0x20 && text[0] != 0x7f;
    size_t bytes = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    unsigned code = text[0] & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    bool good = code >= least[bytes] && code <= 0x10ffff && code >= 0xa0 && !surrogate;
    return good && !controls_layout(code) ? bytes : 0;
}

size_t printable_bytes(const char *text)
{
    return character((const unsigned char *)text);
}

/* Moves `at` to the beginning of the next character, because a copy must not end within a character. */
static const char *boundary(const char *at)
{
    while (((unsigned char)*at & 0xc0) == 0x80)
        at++;
    return at;
}

/* Copies text[0 .. bytes) without its middle, so that about `head` and `tail` bytes are left. */
static char *without_middle(char *out, const char *text, size_t bytes, size_t head, size_t tail)
{
    const char *end = text + head, *rest = boundary(text + bytes - tail);
    while (((unsigned char)*end & 0xc0) == 0x80)
        end--;
    out = (char *)mempcpy(out, text, (size_t)(end - text));
    out = (char *)mempcpy(out, ellipsis, sizeof ellipsis - 1);
    return (char *)mempcpy(out, rest, (size_t)(text + bytes - rest));
}

/* Returns the whole text, escaped; NULL when memory runs out. */
static char *escaped(const char *text)
{
    char *copy = (char *)malloc(4 * strlen(text) + 1), *out = copy;
    while (copy && *text) {
        size_t bytes = character((const unsigned char *)text);
        if (bytes > 0) {
            out = (char *)mempcpy(out, text, bytes);
        } else {
            out += sprintf(out, "\\x%02x", (unsigned char)*text);
            bytes = 1;
        }
        text += bytes;
    }
    if (copy)
        *out = 0;
    return copy;
}

/* Works in place, because the result is never longer. */
static void shorten_words(char *text)
{
    char *out = text;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (word > LONG_WORD) {
            char shorter[WORD_HEAD + sizeof ellipsis + WORD_TAIL];
            size_t bytes = (size_t)(without_middle(shorter, text, word, WORD_HEAD, WORD_TAIL) - shorter);
            out = (char *)mempcpy(out, shorter, bytes);
        } else {
            memmove(out, text, word);
            out += word;
        }
        text += word;
        if (*text)
            *out++ = *text++;
    }
    *out = 0;
}

void printable(char *out, size_t size, const char *text)
{
    char *line = escaped(text);
    if (!line) {
        snprintf(out, size, "out of memory");
        return;
    }
    shorten_words(line);
    size_t bytes = strlen(line), room = size - sizeof ellipsis;
    if (bytes < size)
        memcpy(out, line, bytes + 1);
    else
        *without_middle(out, line, bytes, room - room / 3, room / 3) = 0;
    free(line);
}

void printable_format(char *out, size_t size, const char *format, va_list args)
{
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0) {
        snprintf(out, size, "out of memory");
        return;
    }
    printable(out, size, text);
    free(text);
}
