/* Tests that damaged PTX never crashes the software device. The damaged texts are mutations of the modules
 * of the instruction tests. */
#include "fuzz_ptx.h"
#include "ptx_harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 12000, ROOM = 1 << 16 };

struct text {
    char data[ROOM];
    size_t length;
};

/* Replaces `cut` bytes at `at` by the `bytes` bytes of `with`. Changes nothing if the result would not
 * fit. */
static void splice(struct text *text, size_t at, size_t cut, const char *with, size_t bytes)
{
    if (at > text->length || text->length - cut + bytes > ROOM)
        return;
    if (cut > text->length - at)
        cut = text->length - at;
    memmove(text->data + at + bytes, text->data + at + cut, text->length - at - cut);
    memcpy(text->data + at, with, bytes);
    text->length = text->length - cut + bytes;
}

static size_t line_start(const struct text *text, size_t at)
{
    while (at > 0 && text->data[at - 1] != '\n')
        at--;
    return at;
}

static size_t line_length(const struct text *text, size_t at)
{
    const char *end = memchr(text->data + at, '\n', text->length - at);
    return end ? (size_t)(end - text->data) - at + 1 : text->length - at;
}

/* Returns a place in the text. Every line is equally likely. */
static size_t somewhere(const struct text *text, uint64_t *state)
{
    size_t lines = 1, start = 0;
    for (size_t i = 0; i < text->length; i++)
        lines += text->data[i] == '\n';
    for (size_t skip = ptx_random(state) % lines; skip; skip--)
        start += line_length(text, start);
    return start + ptx_random(state) % (line_length(text, start) + 1);
}

static const char *const words[] = {"0",
                                    "-1",
                                    "4294967295",
                                    "18446744073709551616",
                                    "0x",
                                    "99999999999999999999999",
                                    "%a0",
                                    "%p0",
                                    "%tid.x",
                                    "%r",
                                    ";",
                                    ",",
                                    "{",
                                    "}",
                                    "[",
                                    "]",
                                    "<",
                                    "1000000000",
                                    ">",
                                    "(",
                                    ")",
                                    ".b32",
                                    ".b8",
                                    ".v4",
                                    ".pred",
                                    ".shared",
                                    ".param",
                                    ".global",
                                    ".align",
                                    "3",
                                    "@",
                                    "!",
                                    ":",
                                    "|",
                                    "\"",
                                    "//",
                                    "/*",
                                    "*/",
                                    "bra",
                                    "LOOP",
                                    "ret;",
                                    "call",
                                    ".func",
                                    ".entry",
                                    ".loc 1 2 3",
                                    ".file",
                                    "0f",
                                    "0d7FF0000000000000",
                                    "+",
                                    "-",
                                    "\xff",
                                    "_",
                                    "mma.sync",
                                    "ldmatrix.sync",
                                    "cp.async.wait_all;",
                                    "bar.sync",
                                    "memory",
                                    "table",
                                    "params",
                                    ".reg",
                                    ".sync",
                                    ".x4",
                                    "generic(",
                                    "="};

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '%' || c == '.';
}

/* Returns the beginning of the word at or before `at`, or of the single character there. A modifier
 * (".u32") counts as one word. */
static size_t word_at(const struct text *text, size_t at, size_t *length)
{
    *length = 0;
    if (at >= text->length)
        return at;
    *length = 1;
    if (!is_word(text->data[at]))
        return at;
    while (text->data[at] != '.' && at > 0 && is_word(text->data[at - 1]))
        at--;
    while (at + *length < text->length && is_word(text->data[at + *length]) &&
           text->data[at + *length] != '.')
        (*length)++;
    return at;
}

/* The result is mostly well-formed, so that it passes the parser and reaches the decoder and the kernel. */
static void mutate_word(struct text *text, uint64_t *state)
{
    char word[128];
    size_t length, cut;
    size_t from = word_at(text, somewhere(text, state), &length);
    length = length < sizeof word ? length : sizeof word;
    memcpy(word, text->data + from, length);
    size_t to = word_at(text, somewhere(text, state), &cut);
    splice(text, to, cut, word, length);
}

static void mutate(struct text *text, uint64_t *state)
{
    if (ptx_random(state) % 2) {
        mutate_word(text, state);
        return;
    }
    char line[512];
    size_t at = somewhere(text, state), other = somewhere(text, state);
    const char *word = words[ptx_random(state) % (sizeof words / sizeof *words)];
    size_t start = line_start(text, other), length = line_length(text, start);
    length = length < sizeof line ? length : sizeof line;
    memcpy(line, text->data + start, length);
    switch (ptx_random(state) % 9) {
    case 0: /* changes one byte */
        line[0] = (char)ptx_random(state);
        splice(text, at, 1, line, 1);
        break;
    case 1: /* removes a few bytes */
        splice(text, at, ptx_random(state) % 12, "", 0);
        break;
    case 2: /* inserts a word */
        splice(text, at, 0, word, strlen(word));
        break;
    case 3: /* overwrites with a word */
        splice(text, at, strlen(word), word, strlen(word));
        break;
    case 4: /* removes a line */
        splice(text, start, length, "", 0);
        break;
    case 5: /* copies a line elsewhere */
        splice(text, line_start(text, at), 0, line, length);
        break;
    case 6: /* copies a part of another line */
        splice(text, at, ptx_random(state) % 8, line, length / 2);
        break;
    case 7: /* sometimes cuts off the end */
        if (ptx_random(state) % 8 == 0)
            text->length = at;
        break;
    case 8: { /* changes a digit */
        char *digit = memchr(text->data + at, '1', text->length - at);
        if (digit)
            *digit = (char)('0' + ptx_random(state) % 10);
        break;
    }
    }
}

static void mutate_and_run(uint64_t seed)
{
    static struct text text;
    uint64_t state = seed;
    char *module = ptx_case_module(__start_ptx_cases[ptx_random(&state) % ptx_case_count()]);
    text.length = strlen(module) < ROOM ? strlen(module) : ROOM;
    memcpy(text.data, module, text.length);
    free(module);
    for (uint64_t n = ptx_random(&state) % 4 + 1; n; n--)
        mutate(&text, &state);
    LLVMFuzzerTestOneInput((const uint8_t *)text.data, text.length);
}

/* PTX_SEED=N runs only the seed N. */
static void fuzz(uint64_t from)
{
    const char *only = getenv("PTX_SEED");
    if (only) {
        mutate_and_run(strtoull(only, NULL, 0));
        return;
    }
    for (uint64_t i = 0; i < ROUNDS; i++)
        mutate_and_run(from + i);
}

Test(sim_fuzz, mutated_modules_are_refused_or_run_1)
{
    fuzz(1000000);
}

Test(sim_fuzz, mutated_modules_are_refused_or_run_2)
{
    fuzz(2000000);
}

Test(sim_fuzz, any_bytes_are_refused)
{
    uint64_t state = 9;
    uint8_t bytes[300];
    for (int round = 0; round < 2000; round++) {
        size_t length = ptx_random(&state) % sizeof bytes;
        for (size_t i = 0; i < length; i++)
            bytes[i] = (uint8_t)(round % 2 ? ptx_random(&state) : ptx_random(&state) % 96 + 32);
        LLVMFuzzerTestOneInput(bytes, length);
    }
}
