/* A strict parser of JSON (RFC 8259) that builds cJSON's trees. cJSON's own parser takes control characters
 * for white space, drops everything after a NUL character, and keeps names that are given twice. */
#include "json.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 32, LONGEST_NUMBER = 60 };

typedef struct parser {
    const char *start, *at, *end;
    const char *source;
    enum json_syntax syntax;
    xq_status status;
    error *err;
    int depth;
} parser;

/* ---------------------------------------------------------------- errors */

/* Lines and columns count from 1. A column is one character, as in editors. */
static void locate(const char *text, const char *at, int *line, int *column)
{
    *line = *column = 1;
    for (; text < at; text++)
        if (*text == '\n') {
            ++*line;
            *column = 1;
        } else {
            *column += ((unsigned char)*text & 0xC0) != 0x80;
        }
}

static bool fail_at(parser *p, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail_at(parser *p, const char *at, const char *format, ...)
{
    char what[256];
    int line, column;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    locate(p->start, at, &line, &column);
    error_set(p->err, p->status, p->status == XQ_ERROR_FORMAT ? "file" : "spec", "%s:%d:%d: %s", p->source,
              line, column, what);
    error_at(p->err, p->source, line);
    return false;
}

static bool no_memory(parser *p)
{
    error_set(p->err, XQ_ERROR_MEMORY, "spec", "out of memory");
    return false;
}

/* Reports that `expected` should stand here, and shows a few printable characters of the text that does. */
static bool unexpected(parser *p, const char *expected)
{
    char found[24];
    size_t n = 0;
    if (p->at == p->end)
        return fail_at(p, p->at, "malformed JSON: it ends too early, where %s is expected", expected);
    while (n < 20 && p->at + n < p->end && p->at[n] >= ' ' && p->at[n] < 127)
        n++;
    if (n == 0 && (unsigned char)*p->at < ' ')
        return fail_at(p, p->at, "malformed JSON: %s is expected, not a control character (%d)", expected,
                       *p->at);
    snprintf(found, sizeof found, "%.*s", (int)n, p->at);
    return fail_at(p, p->at, "malformed JSON: %s is expected%s%s%s", expected, n ? ", not '" : "", found,
                   n ? "'" : "");
}

/* ---------------------------------------------------------------- pieces */

static void skip_white(parser *p)
{
    while (p->at < p->end && memchr(" \t\r\n", *p->at, 4))
        p->at++;
}

static bool take(parser *p, char c)
{
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static bool take_word(parser *p, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
        return false;
    p->at += n;
    return true;
}

static bool take_digits(parser *p)
{
    const char *first = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > first || unexpected(p, "a digit");
}

/* Whether a digit before the exponent is not zero. */
static bool is_nonzero(const char *number, const char *end)
{
    for (; number < end && *number != 'e' && *number != 'E'; number++)
        if (*number >= '1' && *number <= '9')
            return true;
    return false;
}

static bool parse_number(parser *p, cJSON **out)
{
    const char *first = p->at;
    take(p, '-');
    if (p->syntax == JSON_PYTHON && take_word(p, "Infinity")) {
        *out = cJSON_CreateNumber(*first == '-' ? -HUGE_VAL : HUGE_VAL);
        return *out || no_memory(p);
    }
    if (!take(p, '0') && !take_digits(p))
        return false;
    if (take(p, '.') && !take_digits(p))
        return false;
    if (take(p, 'e') || take(p, 'E')) {
        if (!take(p, '+'))
            take(p, '-');
        if (!take_digits(p))
            return false;
    }
    int length = (int)(p->at - first);
    if (p->at - first > LONGEST_NUMBER)
        return fail_at(p, first, "the number has more than %d characters", LONGEST_NUMBER);
    *out = cJSON_ParseWithLength(first, (size_t)length); /* cJSON accepts a decimal point in every locale */
    if (!*out)
        return no_memory(p);
    if ((*out)->valuedouble == 0 && is_nonzero(first, p->at))
        return fail_at(p, first, "%.*s is too small to be told from zero", length, first);
    return true;
}

/* ---------------------------------------------------------------- strings */

static bool parse_hex(parser *p, unsigned *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        const char *digits = "0123456789abcdefABCDEF";
        const char *digit = p->at < p->end && *p->at ? strchr(digits, *p->at) : NULL;
        if (!digit)
            return unexpected(p, "a hexadecimal digit (of \\uXXXX)");
        int value = (int)(digit - digits);
        *code = *code << 4 | (unsigned)(value < 16 ? value : value - 6);
    }
    return true;
}

static char *put_utf8(char *to, unsigned code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3F));
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xE0 | code >> 12);
        } else {
            *to++ = (char)(0xF0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3F));
        *to++ = (char)(0x80 | (code & 0x3F));
    }
    return to;
}

/* Decodes \uXXXX. Two of them make one character beyond the first 65536. */
static bool parse_code(parser *p, const char *first, char **to)
{
    unsigned code, low;
    if (!parse_hex(p, &code))
        return false;
    if (code == 0)
        return fail_at(p, first, "a string has a NUL character (\\u0000), which is not supported");
    if (code >= 0xD800 && code < 0xDC00) {
        if (!take_word(p, "\\u"))
            return fail_at(p, first, "\\u%04x is one half of a surrogate pair, without the other half",
                           code);
        if (!parse_hex(p, &low))
            return false;
        if (low < 0xDC00 || low >= 0xE000)
            return fail_at(p, first, "\\u%04x is one half of a surrogate pair, without the other half",
                           code);
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code < 0xE000) {
        return fail_at(p, first, "\\u%04x is one half of a surrogate pair, without the other half", code);
    }
    *to = put_utf8(*to, code);
    return true;
}

static bool parse_escape(parser *p, char **to)
{
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *first = p->at++; /* the backslash */
    if (take(p, 'u'))
        return parse_code(p, first, to);
    const char *name = p->at < p->end && *p->at ? strchr(names, *p->at) : NULL;
    if (!name)
        return unexpected(p, "one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX");
    *(*to)++ = meanings[name - names];
    p->at++;
    return true;
}

/* The number of bytes of the well-formed UTF-8 character at `at` (The Unicode Standard, table 3-7); 0 where
 * there is none. */
static int utf8_length(const char *at, const char *end)
{
    const unsigned char *c = (const unsigned char *)at;
    unsigned char least = 0x80, most = 0xBF;
    int length = c[0] < 0x80                    ? 1
                 : c[0] >= 0xC2 && c[0] <= 0xDF ? 2
                 : c[0] >= 0xE0 && c[0] <= 0xEF ? 3
                 : c[0] >= 0xF0 && c[0] <= 0xF4 ? 4
                                                : 0;
    if (length > end - at)
        return 0;
    if (c[0] == 0xE0)
        least = 0xA0;
    else if (c[0] == 0xED)
        most = 0x9F;
    else if (c[0] == 0xF0)
        least = 0x90;
    else if (c[0] == 0xF4)
        most = 0x8F;
    for (int i = 1; i < length; i++, least = 0x80, most = 0xBF)
        if (c[i] < least || c[i] > most)
            return 0;
    return length;
}

size_t json_utf8_bytes(const char *text)
{
    const char *at = text, *end = text + strlen(text);
    for (int length; at < end && (length = utf8_length(at, end)) > 0;)
        at += length;
    return (size_t)(at - text);
}

/* Decodes into `to`, which has room for all bytes up to the end of the text. */
static bool decode_string(parser *p, char *to)
{
    while (!take(p, '"')) {
        if (p->at == p->end)
            return unexpected(p, "the end of a string");
        if ((unsigned char)*p->at < ' ')
            return fail_at(p, p->at,
                           "malformed JSON: a string has a control character (%d); write it as \\n"
                           ", \\t or \\uXXXX",
                           *p->at);
        if (*p->at == '\\') {
            if (!parse_escape(p, &to))
                return false;
            continue;
        }
        int length = utf8_length(p->at, p->end);
        if (!length)
            return fail_at(p, p->at, "byte %02x is not UTF-8", (unsigned)(unsigned char)*p->at);
        memcpy(to, p->at, (size_t)length);
        to += length;
        p->at += length;
    }
    *to = 0;
    return true;
}

/* Parses the string whose opening quote stands here. Caller frees. */
static bool parse_text(parser *p, char **out)
{
    const char *close = ++p->at;
    while (close < p->end && *close != '"')
        close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    char *text = malloc((size_t)(close - p->at) + 1);
    if (!text)
        return no_memory(p);
    if (!decode_string(p, text)) {
        free(text);
        return false;
    }
    *out = text;
    return true;
}

static bool parse_string(parser *p, cJSON **out)
{
    char *text;
    if (!parse_text(p, &text))
        return false;
    *out = cJSON_CreateString(text);
    free(text);
    return *out || no_memory(p);
}

/* ---------------------------------------------------------------- objects */

/* The name of a member, and its position in the text. */
struct name {
    const char *text, *at;
};

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* Refuses the first name that is given a second time. */
static bool refuse_twins(parser *p, struct name *names, int count)
{
    const struct name *twin = NULL;
    if (count > 1)
        qsort(names, (size_t)count, sizeof *names, compare_names);
    for (int i = 1; i < count; i++)
        if (strcmp(names[i].text, names[i - 1].text) == 0 && (!twin || names[i].at < twin->at))
            twin = &names[i];
    if (!twin)
        return true;
    fail_at(p, twin->at, "%.80s: given twice in one JSON object", twin->text);
    error_field(p->err, twin->text);
    return false;
}

static bool parse_value(parser *p, cJSON **out);

static bool parse_member(parser *p, cJSON *object, struct name *name)
{
    char *text;
    cJSON *value = NULL;
    skip_white(p);
    name->at = p->at;
    if (p->at == p->end || *p->at != '"')
        return unexpected(p,
                          object->child ? "a name in double quotes" : "a name in double quotes, or '}',");
    if (!parse_text(p, &text))
        return false;
    skip_white(p);
    if ((take(p, ':') || unexpected(p, "':'")) && parse_value(p, &value) &&
        !cJSON_AddItemToObject(object, text, value))
        no_memory(p);
    if (p->err->status != XQ_OK)
        cJSON_Delete(value);
    else
        name->text = value->string;
    free(text);
    return p->err->status == XQ_OK;
}

static bool parse_members(parser *p, cJSON *object)
{
    struct name *names = NULL;
    int count = 0, room = 0;
    do {
        if (count == room) {
            room = room ? 2 * room : 16;
            struct name *more = realloc(names, sizeof *names * (size_t)room);
            if (!more) {
                no_memory(p);
                break;
            }
            names = more;
        }
        if (!parse_member(p, object, &names[count++]))
            break;
        skip_white(p);
    } while (take(p, ','));
    if (p->err->status == XQ_OK && (take(p, '}') || unexpected(p, "',' or '}'")))
        refuse_twins(p, names, count);
    free(names);
    return p->err->status == XQ_OK;
}

static bool parse_object(parser *p, cJSON **out)
{
    p->at++;
    *out = cJSON_CreateObject();
    if (!*out)
        return no_memory(p);
    skip_white(p);
    return take(p, '}') || parse_members(p, *out);
}

static bool parse_array(parser *p, cJSON **out)
{
    p->at++;
    *out = cJSON_CreateArray();
    if (!*out)
        return no_memory(p);
    skip_white(p);
    if (take(p, ']'))
        return true;
    do {
        cJSON *value = NULL;
        if (!parse_value(p, &value)) {
            cJSON_Delete(value);
            return false;
        }
        cJSON_AddItemToArray(*out, value);
        skip_white(p);
    } while (take(p, ','));
    return take(p, ']') || unexpected(p, "',' or ']'");
}

/* ---------------------------------------------------------------- values */

static bool parse_word(parser *p, cJSON **out)
{
    if (take_word(p, "true"))
        *out = cJSON_CreateTrue();
    else if (take_word(p, "false"))
        *out = cJSON_CreateFalse();
    else if (take_word(p, "null"))
        *out = cJSON_CreateNull();
    else if (p->syntax == JSON_PYTHON && take_word(p, "Infinity"))
        *out = cJSON_CreateNumber(HUGE_VAL);
    else if (p->syntax == JSON_PYTHON && take_word(p, "NaN") && (*out = cJSON_CreateNumber(0)))
        (*out)->valuedouble = nan(""); /* cJSON_CreateNumber would convert NaN to an int */
    else
        return unexpected(p, "a value");
    return *out || no_memory(p);
}

/* On failure *out may hold a part of the value, for the caller to delete. */
static bool parse_value(parser *p, cJSON **out)
{
    skip_white(p);
    char c = p->at < p->end ? *p->at : 0;
    if (c == '"')
        return parse_string(p, out);
    if (c == '-' || (c >= '0' && c <= '9'))
        return parse_number(p, out);
    if (c != '{' && c != '[')
        return parse_word(p, out);
    if (p->depth == DEEPEST)
        return fail_at(p, p->at, "the JSON is nested more than %d levels deep", DEEPEST);
    p->depth++;
    bool ok = c == '{' ? parse_object(p, out) : parse_array(p, out);
    p->depth--;
    return ok;
}

cJSON *json_parse(const char *text, size_t size, const char *source, enum json_syntax syntax,
                  xq_status status, error *err)
{
    parser p = {.start = text,
                .at = text,
                .end = text + size,
                .source = source,
                .syntax = syntax,
                .status = status,
                .err = err};
    cJSON *value = NULL;
    if (take_word(&p, "\xEF\xBB\xBF")) /* the byte order mark, which some editors put before UTF-8 */
        p.start = p.at;
    if (parse_value(&p, &value)) {
        skip_white(&p);
        if (p.at == p.end)
            return value;
        unexpected(&p, "nothing more");
    }
    cJSON_Delete(value);
    return NULL;
}

xq_status json_refuse_nul(const char *text, size_t size, const char *source, xq_status status, error *err)
{
    const char *nul = memchr(text, 0, size);
    parser p = {.start = text, .source = source, .status = status, .err = err};
    if (nul)
        fail_at(&p, nul, "malformed JSON: a NUL byte");
    return err->status;
}
