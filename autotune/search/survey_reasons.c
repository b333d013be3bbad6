/* Groups the reasons why answers have no time. Reasons that differ only in numbers belong together. */
#include "survey.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void survey_reasons_free(survey_reasons *r)
{
    for (int i = 0; i < r->count; i++) {
        free(r->items[i].text);
        free(r->items[i].key);
    }
    free(r->items);
    *r = (survey_reasons){0};
}

/* Bytes of the number at the beginning of a text, such as 12, 0.5, 1.2e-05, 0x7f00; 0 if there is none. */
static size_t number_bytes(const char *text)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return 0;
    strtod(text, &end);
    return (size_t)(end - text);
}

/* The text with # in place of every number; caller frees. */
static char *key_of(const char *text, error *err)
{
    char *key = survey_copy(text, err), *out = key;
    while (key && *text) {
        size_t number = number_bytes(text);
        *out++ = *text;
        if (number)
            out[-1] = '#';
        text += number ? number : 1;
    }
    if (key)
        *out = 0;
    return key;
}

/* Replaces the numbers of `shown` that differ from those of `text` by #. Both texts have the same key. */
static void blend(char *shown, const char *text)
{
    char *out = shown;
    for (const char *from = shown; *from && *text;) {
        size_t own = number_bytes(from), other = number_bytes(text);
        bool stays = own == other && memcmp(from, text, own) == 0;
        size_t kept = own && stays ? own : 1;
        memmove(out, own && !stays ? "#" : from, kept);
        out += kept;
        from += own ? own : 1;
        text += other ? other : 1;
    }
    *out = 0;
}

static xq_status add_reason(survey_reasons *r, const survey_answer *a, error *err)
{
    char *key = key_of(a->reason, err);
    for (int i = 0; i < r->count && key; i++)
        if (r->items[i].outcome == a->outcome && strcmp(r->items[i].key, key) == 0) {
            r->items[i].count++;
            blend(r->items[i].text, a->reason);
            free(key);
            return XQ_OK;
        }
    survey_reason *more = key ? survey_grow(r->items, r->count, sizeof *more, err) : NULL;
    char *text = more ? survey_copy(a->reason, err) : NULL;
    if (more)
        r->items = more;
    if (text)
        more[r->count++] = (survey_reason){a->outcome, text, 1, key};
    else
        free(key);
    return err->status;
}

static int by_count(const void *a, const void *b)
{
    const survey_reason *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->outcome != y->outcome ? (int)x->outcome - (int)y->outcome : strcmp(x->text, y->text);
}

xq_status survey_reasons_make(const survey_contest *contests, int count, survey_reasons *out, error *err)
{
    *out = (survey_reasons){0};
    for (int i = 0; i < count; i++)
        for (int k = 0; k < contests[i].count && err->status == XQ_OK; k++)
            if (contests[i].answers[k].outcome != STORE_MEASURED)
                add_reason(out, &contests[i].answers[k], err);
    if (out->count)
        qsort(out->items, (size_t)out->count, sizeof *out->items, by_count);
    return err->status;
}
