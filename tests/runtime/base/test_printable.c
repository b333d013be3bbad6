/* Tests texts from outside in messages: they become one line that a terminal does not interpret, and never
 * megabytes. */
#include "../../../runtime/base/error.h"
#include "../../../runtime/base/log.h"
#include "../../../runtime/base/printable.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static char line[1024];

static void expect(const char *text, const char *shown)
{
    printable(line, sizeof line, text);
    cr_expect_str_eq(line, shown);
}

Test(printable, text_that_a_terminal_may_have_stays)
{
    expect("", "");
    expect("cache.bits: 5 is not valid; valid: 2, 3, 4, 8",
           "cache.bits: 5 is not valid; valid: 2, 3, 4, 8");
    expect("modèles/日本/\\x41 … 𝕏", "modèles/日本/\\x41 … 𝕏");
}

Test(printable, control_characters_are_escaped)
{
    expect("a\033[31mred\033[0m\n\r\tb\x7f", "a\\x1b[31mred\\x1b[0m\\x0a\\x0d\\x09b\\x7f");
    expect("\xc2\x9b"
           "31m",
           "\\xc2\\x9b31m"); /* U+009B begins a control sequence, as ESC [ does */
}

Test(printable, bytes_that_are_no_utf8_are_escaped)
{
    expect("\xff\xfe", "\\xff\\xfe");
    expect("caf\xe9", "caf\\xe9");
    expect("\xc0\xaf", "\\xc0\\xaf");                   /* overlong */
    expect("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* a surrogate */
    expect("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
    expect("\xe6\x97", "\\xe6\\x97");                   /* cut off */
}

Test(printable, a_long_word_keeps_its_ends_and_what_follows)
{
    enum { SIZE = 3 << 20 };
    char *text = malloc(SIZE + 64);
    strcpy(text, "method 'begin");
    memset(text + 13, 'A', SIZE);
    strcpy(text + 13 + SIZE, "end' is not valid; valid: x");
    printable(line, sizeof line, text);
    cr_expect_eq(strncmp(line, "method 'beginAAAA", 17), 0, "%s", line);
    cr_expect(strstr(line, "…"));
    cr_expect(strstr(line, "AAend' is not valid; valid: x"), "%s", line);
    cr_expect_lt(strlen(line), 500);
    free(text);
}

Test(printable, a_long_line_loses_its_middle_between_characters)
{
    char text[4096], small[64];
    for (size_t i = 0; i < 400; i++)
        memcpy(text + 4 * i, "日 ", 5);
    strcpy(text + 1600, "valid: x");
    printable(small, sizeof small, text);
    cr_expect_lt(strlen(small), sizeof small);
    cr_expect(strstr(small, "…") && strstr(small, "valid: x") && !strstr(small, "\\x"), "%s", small);
    char again[64];
    printable(again, sizeof again, small);
    cr_expect_str_eq(again, small);
}

static void keep(void *user, xq_log_level level, const char *message)
{
    (void)level;
    strcpy(user, message);
}

Test(printable, errors_and_the_log_callback_have_printable_texts)
{
    error err = ERROR_INIT;
    error_set(&err, XQ_ERROR_IO, "file", "cannot open %s", "a\nb\033[2J");
    cr_expect_str_eq(err.message, "cannot open a\\x0ab\\x1b[2J");
    log_message(&(logger){keep, line}, XQ_LOG_WARNING, "%s: damaged", "a\nb");
    cr_expect_str_eq(line, "a\\x0ab: damaged");
}
