/* Numbers of the command line. All options read them as JSON writes them. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_digits(const char *at)
{
    return at + strspn(at, "0123456789");
}

/* The end of the whole number that `text` begins with; `text` itself where it does not begin with one. */
static const char *whole_end(const char *text)
{
    const char *digits = text + (*text == '-'), *end = skip_digits(digits);
    return end == digits || (*digits == '0' && end > digits + 1) ? text : end;
}

/* The end of any number, likewise. */
static const char *number_end(const char *text)
{
    const char *end = whole_end(text);
    if (end > text && *end == '.') {
        const char *fraction = end + 1;
        end = skip_digits(fraction);
        if (end == fraction)
            return text;
    }
    if (end > text && (*end == 'e' || *end == 'E')) {
        const char *exponent = end + 1 + (end[1] == '+' || end[1] == '-');
        end = skip_digits(exponent);
        if (end == exponent)
            return text;
    }
    return end;
}

enum cli_number cli_read_whole(const char *text, int64_t *value)
{
    const char *end = whole_end(text);
    if (end == text || *end)
        return CLI_NO_NUMBER;
    errno = 0;
    *value = strtoll(text, NULL, 10);
    return errno == ERANGE ? CLI_TOO_LARGE : CLI_NUMBER;
}

bool cli_read_number(const char *text, double *value, const char **rest)
{
    *rest = number_end(text);
    *value = *rest > text ? strtod(text, NULL) : 0;
    return *rest > text;
}
