/* Tests the store of measurements: the answers that it holds, the rows that it refuses, and merging. */
#include "../../../autotune/search/canonical.h"
#include "../../../autotune/search/store.h"
#include "../../support/files.h"
#include "../../support/store_fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens an empty store. A test may open any number of them. */
static store *new_store(void)
{
    static const char *folder;
    static int number;
    char name[16];
    if (!folder)
        folder = files_directory();
    snprintf(name, sizeof name, "%d", number++);
    return store_fixture_open(files_path(folder, name), STORE_CREATE);
}

/* -------------------------------------------------------------- one answer */

Test(store, what_was_added_is_found_and_listed_with_every_field)
{
    store *s = new_store();
    store_row row = store_fixture_row(3);
    store_answer answer;
    cr_assert(store_fixture_add(s, &row));
    cr_assert(store_fixture_find(s, 3, &answer));
    cr_assert(answer.outcome == STORE_MEASURED && answer.seconds == row.answer.seconds &&
              answer.spread == row.answer.spread && answer.repeats == 9 && answer.taken == 1700000000);
    cr_assert_str_empty(answer.reason);
    char *text = store_fixture_text(s, NULL);
    cr_assert_str_eq(text, "NVIDIA H100 sm_90 90 132 85899345920 0 12080 12080 0.1.0|"
                           "{\"cache\":{\"bits\":4,\"method\":\"latent\"},\"model\":\"llama-3.1-8b\"}|"
                           "fused attend 4096 4 1 0123456789abcdef 1 0 {\"warps\":3}|"
                           "measured 4.0000000000000003e-05 9.9999999999999995e-08 9 1700000000 \n");
    free(text);
    store_close(s);
}

Test(store, a_question_without_an_answer_is_not_found_and_changes_nothing)
{
    store *s = new_store();
    store_row row = store_fixture_row(3);
    store_answer answer = {.seconds = 42};
    store_fixture_add(s, &row);
    cr_assert_not(store_fixture_find(s, 4, &answer));
    cr_assert_eq(answer.seconds, 42);
    store_close(s);
}

/* Questions that differ in any part are different questions. */
Test(store, questions_that_differ_anywhere_have_answers_of_their_own)
{
    store *s = new_store();
    store_row row = store_fixture_row(1);
    int count = 0;
#define OTHER(field, value)                                                                                \
    do {                                                                                                   \
        row = store_fixture_row(1);                                                                        \
        row.question.field = (value);                                                                      \
        cr_assert(store_fixture_add(s, &row), #field);                                                     \
        cr_assert_eq(store_fixture_count(s), ++count, #field);                                             \
    } while (0)
    OTHER(family, "attend");
    OTHER(family, "merge");
    OTHER(device.name, "NVIDIA H200");
    OTHER(device.arch, "sm_90a");
    OTHER(device.capability, 100);
    OTHER(device.multiprocessors, 114);
    OTHER(device.memory_bytes, 1);
    OTHER(device.is_sim, true);
    OTHER(device.driver, 0);
    OTHER(device.nvrtc, 12090);
    OTHER(device.xq, "0.2.0");
    OTHER(spec, "{\"cache\":{\"bits\":2}}");
    OTHER(implementation, XQ_UNFUSED);
    OTHER(bucket.tokens, INT64_C(1) << 40);
    OTHER(bucket.batch, 8);
    OTHER(bucket.queries, 2);
    OTHER(source, "fedcba9876543210");
    OTHER(mode.cold_l2, false);
    OTHER(mode.in_graph, true);
    OTHER(parameters, "{}");
    store_close(s);
}

Test(store, json_that_says_the_same_is_the_same_question)
{
    store *s = new_store();
    store_row row = store_fixture_row(1);
    row.question.parameters = "{\"warps\": 4, \"stages\": 2, \"a\": {\"y\": 0.1, \"x\": []}}";
    store_fixture_add(s, &row);
    row.question.parameters = " {\"a\":{\"x\":[],\"y\":1e-1},\"stages\":2.0,\"warps\":4}\n";
    row.question.spec = "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\", \"bits\": 4}}";
    cr_assert(store_fixture_add(s, &row));
    cr_assert_eq(store_fixture_count(s), 1);
    row.question.parameters = "{\"warps\": 4, \"stages\": 2, \"a\": {\"y\": 0.1, \"x\": [0]}}";
    store_fixture_add(s, &row);
    cr_assert_eq(store_fixture_count(s), 2);
    store_close(s);
}

Test(store, canonical_json_is_sorted_and_keeps_doubles)
{
    static const char *const pairs[][2] = {
        {"{}", "{}"},
        {"{\"b\":1,\"a\":2,\"B\":3}", "{\"B\":3,\"a\":2,\"b\":1}"},
        {"{\"x\":[{\"d\":1,\"c\":null},true]}", "{\"x\":[{\"c\":null,\"d\":1},true]}"},
        {"{\"n\":[1.0,-0.0,500000.0,0.30000000000000004,1e300,4294967296,1e-1]}",
         "{\"n\":[1,0,500000,0.30000000000000004,1e+300,4294967296,0.1]}"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *out = NULL, *again = NULL;
        error err = ERROR_INIT;
        cr_assert_eq(canonical_object(pairs[i][0], "x", &out, &err), XQ_OK, "%s", err.message);
        cr_assert_str_eq(out, pairs[i][1]);
        cr_assert_eq(canonical_object(out, "x", &again, &err), XQ_OK, "%s", err.message);
        cr_assert_str_eq(again, out);
        free(out);
        free(again);
    }
}

/* -------------------------------------------------------------- answers kept */

/* Adds two answers to one question. Returns whether the second was kept, and checks that the one that was
 * kept is found. */
static bool replaces(store_outcome first, store_outcome second, int64_t later)
{
    store *s = new_store();
    store_row a = store_fixture_row(1), b = a;
    if (first != STORE_MEASURED)
        a = store_fixture_failure(1, first, "first");
    if (second != STORE_MEASURED)
        b = store_fixture_failure(1, second, "second");
    b.answer.taken += later;
    b.answer.seconds *= 2;
    store_answer answer;
    store_fixture_add(s, &a);
    bool kept = store_fixture_add(s, &b);
    cr_assert(store_fixture_find(s, 1, &answer));
    const store_answer *held = kept ? &b.answer : &a.answer;
    cr_assert(answer.outcome == held->outcome && answer.seconds == held->seconds &&
              answer.taken == held->taken);
    cr_assert_str_eq(answer.reason, held->reason);
    cr_assert_eq(store_fixture_count(s), 1);
    store_close(s);
    return kept;
}

Test(store, a_newer_answer_replaces_an_older_one_unless_it_is_incomplete)
{
    static const store_outcome complete[] = {STORE_MEASURED, STORE_WRONG},
                               incomplete[] = {STORE_NOT_COMPILED, STORE_HUNG, STORE_CRASHED,
                                               STORE_REFUSED};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            cr_assert(replaces(complete[i], complete[j], 1), "%d %d", i, j);
            cr_assert(replaces(complete[i], complete[j], 0), "%d %d", i, j);
            cr_assert_not(replaces(complete[i], complete[j], -1), "%d %d", i, j);
        }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int later = -1; later <= 1; later++) {
                cr_assert_not(replaces(complete[i], incomplete[j], later), "%d %d", i, j);
                cr_assert(replaces(incomplete[j], complete[i], later), "%d %d", i, j);
            }
    cr_assert(replaces(STORE_HUNG, STORE_CRASHED, 1));
    cr_assert_not(replaces(STORE_HUNG, STORE_CRASHED, -1));
}

Test(store, a_reason_is_kept_as_one_printable_line)
{
    store *s = new_store();
    store_answer answer;
    store_row row =
        store_fixture_failure(1, STORE_NOT_COMPILED, "line 1\nline\t2 \x1b[31m caf\xc3\xa9 \xff");
    store_fixture_add(s, &row);
    cr_assert(store_fixture_find(s, 1, &answer));
    cr_assert_str_eq(answer.reason, "line 1\\x0aline\\x092 \\x1b[31m caf\xc3\xa9 \\xff");
    memset(row.answer.reason, '\n', sizeof row.answer.reason - 1);
    store_fixture_add(s, &row);
    cr_assert(store_fixture_find(s, 1, &answer));
    cr_assert(strstr(answer.reason, "…") && strlen(answer.reason) < sizeof answer.reason, "%s",
              answer.reason);
    store_close(s);
}

/* ----------------------------------------------------------------- refusals */

static void refused(store *s, const store_row *row, const char *field, const char *message)
{
    bool kept = true;
    error err = ERROR_INIT;
    cr_assert_eq(store_add(s, row, &kept, &err), XQ_ERROR_ARGUMENT, "%s: %s", field, err.message);
    cr_assert_str_eq(err.field, field);
    cr_assert(strstr(err.message, message), "%s", err.message);
    cr_assert(kept);
    cr_assert_eq(store_fixture_count(s), 0, "%s: it is there all the same", field);
}

Test(store, bad_questions_are_refused_by_field)
{
    static char long_text[STORE_TEXT + 2];
    memset(long_text, 'a', sizeof long_text - 1);
    store *s = new_store();
    store_row row;
#define REFUSED(member, value, field, message)                                                             \
    do {                                                                                                   \
        row = store_fixture_row(1);                                                                        \
        row.question.member = (value);                                                                     \
        refused(s, &row, field, message);                                                                  \
    } while (0)
    REFUSED(device.name, NULL, "device.name", "device.name must not be NULL");
    REFUSED(device.name, "", "device.name", "device.name must not be empty");
    REFUSED(device.name, "a\nb", "device.name", "device.name is not printable: a\\x0ab");
    REFUSED(device.name, "\xff", "device.name", "device.name is not printable: \\xff");
    REFUSED(device.arch, "", "device.arch", "must not be empty");
    REFUSED(device.xq, long_text, "device.xq", "device.xq has 256 bytes; valid: 1 to 255");
    REFUSED(device.capability, 0, "device.capability", "device.capability is 0; valid: 1 to 9999");
    REFUSED(device.multiprocessors, -1, "device.multiprocessors", "is -1");
    REFUSED(device.memory_bytes, 0, "device.memory_bytes", "is 0");
    REFUSED(device.driver, -1, "device.driver", "is -1");
    REFUSED(device.nvrtc, 0, "device.nvrtc", "is 0");
    REFUSED(family, "", "family", "must not be empty");
    REFUSED(source, "\x7f", "source", "is not printable");
    REFUSED(implementation, (xq_implementation)4, "implementation", "implementation is 4; valid: 0 to 3");
    REFUSED(bucket.tokens, 0, "bucket.tokens", "is 0");
    REFUSED(bucket.batch, 0, "bucket.batch", "is 0");
    REFUSED(bucket.queries, -5, "bucket.queries", "is -5");
    REFUSED(spec, NULL, "spec", "spec must not be NULL");
    REFUSED(spec, "", "spec", "spec:1:1: malformed JSON");
    REFUSED(spec, "{\"tuning\":{}}", "spec", "spec has a member tuning");
    REFUSED(parameters, "[1]", "parameters", "parameters must be a JSON object");
    REFUSED(parameters, "{\"a\":1,\"a\":2}", "parameters", "given twice");
    REFUSED(parameters, "{\"a\":1e999}", "parameters", "beyond a double's range");
    REFUSED(parameters, "{\"a\":\"\xff\"}", "parameters", "not UTF-8");
    REFUSED(parameters, "{\"a\":NaN}", "parameters", "malformed JSON");
    store_close(s);
}

Test(store, bad_answers_are_refused_by_field)
{
    store *s = new_store();
    store_row row;
#define REFUSED_ANSWER(member, value, field, message)                                                      \
    do {                                                                                                   \
        row.answer.member = (value);                                                                       \
        refused(s, &row, field, message);                                                                  \
    } while (0)
#define REFUSED_MEASURED(member, value, message)                                                           \
    do {                                                                                                   \
        row = store_fixture_row(1);                                                                        \
        REFUSED_ANSWER(member, value, #member, message);                                                   \
    } while (0)
#define REFUSED_FAILURE(member, value, message)                                                            \
    do {                                                                                                   \
        row = store_fixture_failure(1, STORE_HUNG, "why");                                                 \
        REFUSED_ANSWER(member, value, #member, message);                                                   \
    } while (0)
    REFUSED_MEASURED(seconds, NAN, "seconds is nan; valid: more than 0, and finite");
    REFUSED_MEASURED(seconds, INFINITY, "seconds is inf");
    REFUSED_MEASURED(seconds, -1e-5, "seconds is -1e-05");
    REFUSED_MEASURED(seconds, 0, "seconds is 0");
    REFUSED_MEASURED(spread, NAN, "spread is nan; valid: 0 or more, and finite");
    REFUSED_MEASURED(spread, -1e-9, "spread is -1e-09");
    REFUSED_MEASURED(repeats, 0, "repeats is 0");
    REFUSED_MEASURED(taken, 0, "taken is 0");
    REFUSED_MEASURED(taken, INT64_MAX, "taken is 9223372036854775807");
    REFUSED_MEASURED(outcome, STORE_OUTCOMES, "outcome is 6; valid: 0 to 5");
    row = store_fixture_row(1);
    REFUSED_ANSWER(reason[0], 'x', "reason", "reason would have no effect: the outcome is measured");
    REFUSED_FAILURE(seconds, 1, "seconds would have no effect: the outcome is hung; valid: 0");
    REFUSED_FAILURE(seconds, NAN, "seconds would have no effect");
    REFUSED_FAILURE(spread, 1, "spread would have no effect");
    REFUSED_FAILURE(repeats, 1, "repeats would have no effect");
    REFUSED_FAILURE(taken, -1, "taken is -1");
    row = store_fixture_failure(1, STORE_HUNG, "");
    refused(s, &row, "reason", "reason must not be empty: the outcome is hung");
    memset(row.answer.reason, 'x', sizeof row.answer.reason);
    refused(s, &row, "reason", "reason has no end; valid: up to 1023 bytes");
    store_close(s);
}

/* ----------------------------------------------------------------- listing */

/* Adds rows of two specs, two families and two buckets, in no order. */
static void fill(store *s, int from, int step)
{
    for (int i = from; i < from + 16 * step; i += step) {
        store_row row = store_fixture_row(i % 16 / 8 + 1);
        row.question.spec = i & 1 ? "{\"model\":\"a\"}" : "{\"model\":\"b\"}";
        row.question.family = i & 2 ? "attend" : "merge";
        row.question.bucket.tokens = i & 4 ? 1024 : 4096;
        store_fixture_add(s, &row);
    }
}

Test(store, equal_contents_are_listed_alike_whatever_the_order_they_came_in)
{
    store *a = new_store(), *b = new_store();
    fill(a, 0, 1);
    fill(b, 5, 7);
    char *x = store_fixture_text(a, NULL), *y = store_fixture_text(b, NULL);
    cr_assert_eq(store_fixture_count(a), 16);
    cr_assert_str_eq(x, y);
    free(x);
    free(y);
    store_close(a);
    store_close(b);
}

static int lines(store *s, const store_filter *filter, const char *each_has)
{
    char *text = store_fixture_text(s, filter), *rest = text;
    int count = 0;
    for (char *line; (line = strsep(&rest, "\n")) && *line; count++)
        cr_assert(strstr(line, each_has), "%s", line);
    free(text);
    return count;
}

Test(store, a_filter_takes_the_rows_that_equal_it)
{
    store *s = new_store();
    store_row wrong = store_fixture_failure(9, STORE_WRONG, "off by 1");
    wrong.question.implementation = XQ_UNFUSED;
    wrong.question.mode.in_graph = true;
    store_device other = wrong.question.device;
    other.driver = 13000;
    fill(s, 0, 1);
    store_fixture_add(s, &wrong);
    const store_bucket bucket = {1024, 4, 1};
    const store_outcome outcome = STORE_WRONG;
    const xq_implementation fused = XQ_FUSED;
    cr_assert_eq(lines(s, &(store_filter){.spec = "{\"model\": \"a\"}"}, "\"a\""), 8);
    cr_assert_eq(lines(s, &(store_filter){.family = "merge"}, " merge "), 8);
    cr_assert_eq(lines(s, &(store_filter){.bucket = &bucket}, " 1024 "), 8);
    cr_assert_eq(lines(s, &(store_filter){.outcome = &outcome}, "wrong"), 1);
    cr_assert_eq(lines(s, &(store_filter){.implementation = &fused}, "|fused"), 16);
    cr_assert_eq(lines(s, &(store_filter){.mode = &wrong.question.mode}, "wrong"), 1);
    cr_assert_eq(lines(s, &(store_filter){.parameters = "{\"warps\": 2}"}, "\"warps\":2"), 8);
    cr_assert_eq(lines(s, &(store_filter){.source = "0123456789abcdef"}, ""), 17);
    cr_assert_eq(lines(s, &(store_filter){.source = "0123456789abcde"}, ""), 0);
    cr_assert_eq(lines(s, &(store_filter){.device = &wrong.question.device}, ""), 17);
    cr_assert_eq(lines(s, &(store_filter){.device = &other}, ""), 0);
    cr_assert_eq(lines(s, &(store_filter){.family = "merge", .bucket = &bucket}, " merge 1024 "), 4);
    error err = ERROR_INIT;
    cr_assert_eq(store_list(s, &(store_filter){.family = ""}, NULL, NULL, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.field, "family");
    store_close(s);
}

struct best {
    int rows;
    double seconds[8];
    char parameters[8][64];
};

static xq_status keep_best(void *user, const store_row *row, error *err)
{
    struct best *b = user;
    cr_assert_lt(b->rows, 8);
    b->seconds[b->rows] = row->answer.seconds;
    snprintf(b->parameters[b->rows++], sizeof b->parameters[0], "%s", row->question.parameters);
    return err->status;
}

static struct best best_of(store *s, const store_filter *filter)
{
    struct best b = {0};
    error err = ERROR_INIT;
    cr_assert_eq(store_best(s, filter, keep_best, &b, &err), XQ_OK, "%s", err.message);
    return b;
}

static void add_time(store *s, int number, double seconds, double spread)
{
    store_row row = store_fixture_row(number);
    row.answer.seconds = seconds;
    row.answer.spread = spread;
    store_fixture_add(s, &row);
}

Test(store, the_best_is_the_fastest_that_was_measured_then_the_steadiest_then_the_first)
{
    store *s = new_store();
    store_row wrong = store_fixture_failure(0, STORE_WRONG, "off by 1");
    cr_assert_eq(best_of(s, NULL).rows, 0);
    store_fixture_add(s, &wrong);
    add_time(s, 5, 3e-5, 1e-7);
    add_time(s, 4, 2e-5, 2e-7);
    cr_assert_str_eq(best_of(s, NULL).parameters[0], "{\"warps\":4}");
    add_time(s, 7, 2e-5, 1e-7);
    cr_assert_str_eq(best_of(s, NULL).parameters[0], "{\"warps\":7}");
    add_time(s, 6, 2e-5, 1e-7);
    struct best b = best_of(s, NULL);
    cr_assert_str_eq(b.parameters[0], "{\"warps\":6}");
    cr_assert(b.rows == 1 && b.seconds[0] == 2e-5);
    store_close(s);
}

Test(store, rows_that_differ_in_more_than_parameters_do_not_compete)
{
    store *s = new_store();
    fill(s, 0, 1); /* two specs, two families, two buckets; warps 1 is faster than warps 2 */
    struct best b = best_of(s, NULL);
    cr_assert_eq(b.rows, 8);
    for (int i = 0; i < 8; i++)
        cr_assert_str_eq(b.parameters[i], "{\"warps\":1}");
    cr_assert_eq(best_of(s, &(store_filter){.family = "merge"}).rows, 4);
    store_row warm = store_fixture_row(0);
    warm.question.mode.cold_l2 = false;
    store_fixture_add(s, &warm);
    cr_assert_eq(best_of(s, &(store_filter){.mode = &warm.question.mode}).rows, 1);
    const store_outcome hung = STORE_HUNG;
    error err = ERROR_INIT;
    cr_assert_eq(store_best(s, &(store_filter){.outcome = &hung}, keep_best, &b, &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.message, "outcome: only measured rows have a best one; valid: measured");
    store_close(s);
}

struct nested {
    store *store;
    int rows;
};

static xq_status use_store(void *user, const store_row *row, error *err)
{
    struct nested *n = user;
    error inner = ERROR_INIT;
    n->rows++;
    cr_assert_eq(store_add(n->store, row, NULL, &inner), XQ_ERROR_ARGUMENT);
    cr_assert(strstr(inner.message, "a listing of it is on its way"), "%s", inner.message);
    return error_set(err, XQ_ERROR_DEVICE, "device", "enough");
}

Test(store, a_visit_that_fails_ends_the_listing_and_the_store_works_on)
{
    store *s = new_store();
    struct nested n = {.store = s};
    error err = ERROR_INIT;
    fill(s, 0, 1);
    cr_assert_eq(store_list(s, NULL, use_store, &n, &err), XQ_ERROR_DEVICE);
    cr_assert_str_eq(err.message, "enough");
    cr_assert_eq(n.rows, 1);
    store_row row = store_fixture_row(99);
    store_fixture_add(s, &row);
    cr_assert_eq(store_fixture_count(s), 17);
    store_close(s);
}

/* ----------------------------------------------------------------- merging */

static char directory[256];

static const char *in_folder(const char *name)
{
    return files_path(directory, name);
}

/* Makes a store with rows `from` to `to` - 1, which were taken at the time `taken`. */
static void make_store(const char *name, int from, int to, int64_t taken)
{
    if (!*directory)
        snprintf(directory, sizeof directory, "%s", files_directory());
    store *s = store_fixture_open(in_folder(name), STORE_CREATE);
    for (int i = from; i < to; i++) {
        store_row row = store_fixture_row(i);
        row.answer.taken = taken;
        row.answer.seconds = 1e-6 * (double)taken;
        store_fixture_add(s, &row);
    }
    store_close(s);
}

static xq_status merge(const char *a, const char *b, const char *output, store_merged *out, error *err)
{
    const char *inputs[] = {in_folder(a), in_folder(b)};
    return store_merge(inputs, 2, in_folder(output), out, err);
}

static char *merged_text(const char *a, const char *b, const char *output, store_merged *out)
{
    error err = ERROR_INIT;
    cr_assert_eq(merge(a, b, output, out, &err), XQ_OK, "%s", err.message);
    store *s = store_fixture_open(in_folder(output), STORE_WRITE);
    char *text = store_fixture_text(s, NULL);
    store_close(s);
    return text;
}

Test(store, merging_takes_the_newest_answers_in_any_order_of_inputs)
{
    store_merged ab, ba;
    make_store("a", 0, 6, 100);
    make_store("b", 4, 10, 200);
    char *x = merged_text("a", "b", "ab", &ab), *y = merged_text("b", "a", "ba", &ba);
    cr_assert_str_eq(x, y);
    cr_assert(ab.read == 12 && ab.kept == 12 && ba.read == 12 && ba.kept == 10);
    store *s = store_fixture_open(in_folder("ab"), STORE_READ);
    store_answer answer;
    cr_assert_eq(store_fixture_count(s), 10);
    cr_assert(store_fixture_find(s, 5, &answer) && answer.taken == 200);
    cr_assert(store_fixture_find(s, 3, &answer) && answer.taken == 100);
    store_close(s);
    cr_assert_eq(files_count(directory), 4, "something is left");
    free(x);
    free(y);
}

Test(store, merging_into_a_store_keeps_its_rows_and_again_changes_nothing)
{
    store_merged first, again;
    make_store("a", 0, 2, 100);
    make_store("b", 1, 4, 300);
    make_store("out", 3, 6, 200);
    char *x = merged_text("a", "b", "out", &first), *y = merged_text("a", "b", "out", &again);
    cr_assert_str_eq(x, y);
    store *s = store_fixture_open(in_folder("out"), STORE_READ);
    store_answer answer;
    cr_assert_eq(store_fixture_count(s), 6);
    cr_assert(store_fixture_find(s, 3, &answer) && answer.taken == 300);
    cr_assert(store_fixture_find(s, 5, &answer) && answer.taken == 200);
    store_close(s);
    free(x);
    free(y);
}

/* The second input is refused after the first was copied. */
Test(store, a_merge_that_fails_leaves_no_new_output_and_an_old_one_as_it_was)
{
    make_store("a", 0, 6, 100);
    make_store("old", 3, 4, 50);
    files_write(in_folder("text"), "some text", 9);
    store_merged out = {.read = 42};
    error err = ERROR_INIT, other = ERROR_INIT;
    cr_assert_eq(merge("a", "text", "new", &out, &err), XQ_ERROR_FORMAT);
    cr_assert(strstr(err.message, "text is no store of measurements: it is no SQLite file"), "%s",
              err.message);
    cr_assert_eq(out.read, 42);
    cr_assert_eq(merge("a", "text", "old", &out, &other), XQ_ERROR_FORMAT);
    cr_assert_eq(files_count(directory), 3, "something is left");
    store *s = store_fixture_open(in_folder("old"), STORE_WRITE);
    store_answer answer;
    cr_assert_eq(store_fixture_count(s), 1);
    cr_assert(store_fixture_find(s, 3, &answer) && answer.taken == 50);
    store_close(s);
}

Test(store, outputs_that_are_something_else_or_an_input_are_refused)
{
    make_store("a", 0, 2, 100);
    make_store("b", 0, 2, 100);
    files_write(in_folder("text"), "some text", 9);
    cr_assert_eq(mkdir(in_folder("folder"), 0777), 0);
    cr_assert_eq(symlink("b", in_folder("link")), 0);
    static const struct {
        const char *a, *b, *output, *message;
        xq_status status;
    } cases[] = {
        {"a", "b", "text", "text is no store of measurements: it is no SQLite file", XQ_ERROR_FORMAT},
        {"a", "b", "folder", "folder: Is a directory", XQ_ERROR_IO},
        {"a", "b", "missing/out", "missing/out: No such file or directory", XQ_ERROR_IO},
        {"a", "b", "link", "link is an input too", XQ_ERROR_ARGUMENT},
        {"a", "b", "a", "a is an input too", XQ_ERROR_ARGUMENT},
        {"b", "link", "new", "link is given twice", XQ_ERROR_ARGUMENT},
        {"a", "missing", "new", "missing: No such file or directory", XQ_ERROR_IO},
    };
    int count = files_count(directory);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error err = ERROR_INIT;
        cr_assert_eq(merge(cases[i].a, cases[i].b, cases[i].output, NULL, &err), cases[i].status, "%s",
                     err.message);
        cr_assert(strstr(err.message, cases[i].message), "%s", err.message);
        cr_assert_eq(files_count(directory), count, "%s", err.message);
    }
    error err = ERROR_INIT;
    cr_assert_eq(store_merge(NULL, 0, in_folder("new"), NULL, &err), XQ_ERROR_ARGUMENT);
}
