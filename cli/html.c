#include "html.h"
#include "../runtime/base/printable.h"

#include <string.h>

/* The characters U+FFFE and U+FFFF, which XML forbids. */
static int is_forbidden(const char *text, size_t bytes)
{
    return bytes == 3 && (memcmp(text, "\xef\xbf\xbe", 3) == 0 || memcmp(text, "\xef\xbf\xbf", 3) == 0);
}

void html_text(FILE *out, const char *text)
{
    while (*text) {
        size_t bytes = printable_bytes(text);
        if (bytes && strchr("<>&\"'", *text))
            fprintf(out, "&#%d;", *text);
        else if (bytes && !is_forbidden(text, bytes))
            fwrite(text, 1, bytes, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)*text);
        text += bytes && !is_forbidden(text, bytes) ? bytes : 1;
    }
}
