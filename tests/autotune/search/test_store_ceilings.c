/* Tests the ceilings of devices in a store. Stores that were made before there were ceilings have no table
 * for them. */
#include "../../support/files.h"
#include "../../support/store_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *in_folder(const char *name)
{
    static const char *folder;
    if (!folder)
        folder = files_directory();
    return files_path(folder, name);
}

static store_ceilings rates(double copy, int64_t taken)
{
    return (store_ceilings){copy, 9e14, "both measured", taken};
}

static void add(store *s, const store_device *device, double copy, int64_t taken)
{
    const store_ceilings c = rates(copy, taken);
    error err = ERROR_INIT;
    cr_assert_eq(store_add_ceilings(s, device, &c, &err), XQ_OK, "%s", err.message);
}

/* Returns the copy rate that the store has for a device; 0 if it has none. */
static double copy_of(store *s, const store_device *device)
{
    store_ceilings c = {0};
    bool found = true;
    error err = ERROR_INIT;
    cr_assert_eq(store_find_ceilings(s, device, &c, &found, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(found, c.taken > 0);
    return c.copy_bytes_per_second;
}

Test(store_ceilings, those_taken_last_stay_for_each_device)
{
    store *s = store_fixture_open(in_folder("a"), STORE_CREATE);
    store_device one = store_fixture_row(1).question.device, other = one;
    other.driver++;
    cr_expect_eq(copy_of(s, &one), 0);
    add(s, &one, 3e12, 1000);
    add(s, &one, 4e12, 999);
    cr_expect_eq(copy_of(s, &one), 3e12);
    add(s, &one, 5e12, 1001);
    cr_expect_eq(copy_of(s, &one), 5e12);
    cr_expect_eq(copy_of(s, &other), 0);
    add(s, &other, 6e12, 1);
    cr_expect_eq(copy_of(s, &other), 6e12);
    cr_expect_eq(copy_of(s, &one), 5e12);
    cr_expect_eq(store_fixture_count(s), 0, "a device with ceilings is no answer");
    store_close(s);
}

Test(store_ceilings, all_of_them_is_kept)
{
    store *s = store_fixture_open(in_folder("a"), STORE_CREATE);
    const store_device device = store_fixture_row(1).question.device;
    store_ceilings c;
    bool found = false;
    error err = ERROR_INIT;
    add(s, &device, 3.35e12, 1700000000);
    cr_assert_eq(store_find_ceilings(s, &device, &c, &found, &err), XQ_OK);
    cr_assert(found);
    cr_expect(c.copy_bytes_per_second == 3.35e12 && c.f16_flops_per_second == 9e14 &&
              c.taken == 1700000000);
    cr_expect_str_eq(c.origin, "both measured");
    store_close(s);
}

/* A new store has no table of ceilings, like all stores that were made before there were ceilings. */
Test(store_ceilings, a_store_without_their_table_is_read_and_gets_it_with_the_first)
{
    const char *path = in_folder("old");
    store_row row = store_fixture_row(1);
    store *s = store_fixture_open(path, STORE_CREATE);
    store_fixture_add(s, &row);
    store_close(s);
    store_fixture_execute(path,
                          "CREATE TABLE ceilings (height REAL); DROP TABLE ceilings"); /* none exists */
    s = store_fixture_open(path, STORE_READ);
    cr_expect_eq(copy_of(s, &row.question.device), 0);
    store_close(s);
    s = store_fixture_open(path, STORE_WRITE);
    add(s, &row.question.device, 3e12, 1);
    store_close(s);
    s = store_fixture_open(path, STORE_READ);
    cr_expect_eq(copy_of(s, &row.question.device), 3e12);
    cr_expect_eq(store_fixture_count(s), 1);
    store_close(s);
}

Test(store_ceilings, another_table_of_that_name_is_refused)
{
    const char *path = in_folder("other");
    store_close(store_fixture_open(path, STORE_CREATE));
    store_fixture_execute(path, "CREATE TABLE ceilings (height REAL)");
    store_fixture_refused(path, STORE_READ, XQ_ERROR_FORMAT,
                          "%s is damaged: its table ceilings is not that of this version");
}

Test(store_ceilings, merging_takes_the_newest_in_any_order)
{
    const store_device device = store_fixture_row(1).question.device;
    for (int i = 0; i < 2; i++) {
        store *s = store_fixture_open(in_folder(i ? "b" : "a"), STORE_CREATE);
        store_row row = store_fixture_row(i);
        store_fixture_add(s, &row);
        add(s, &device, i ? 4e12 : 3e12, i ? 2000 : 1000);
        store_close(s);
    }
    store_close(store_fixture_open(in_folder("none"), STORE_CREATE));
    static const char *const orders[][3] = {{"a", "b", "none"}, {"none", "b", "a"}};
    for (int i = 0; i < 2; i++) {
        char *paths[3];
        error err = ERROR_INIT;
        for (int k = 0; k < 3; k++)
            paths[k] = strdup(in_folder(orders[i][k]));
        const char *out = in_folder(i ? "out1" : "out0");
        cr_assert_eq(store_merge((const char *const *)paths, 3, out, NULL, &err), XQ_OK, "%s", err.message);
        store *s = store_fixture_open(out, STORE_READ);
        cr_expect_eq(copy_of(s, &device), 4e12);
        cr_expect_eq(store_fixture_count(s), 2);
        store_close(s);
        for (int k = 0; k < 3; k++)
            free(paths[k]);
    }
}

Test(store_ceilings, bad_ones_are_refused_by_field)
{
    store *s = store_fixture_open(in_folder("a"), STORE_CREATE);
    const store_device good = store_fixture_row(1).question.device;
    store_device nameless = good;
    nameless.name = "";
    store_ceilings unnamed = rates(1, 1), long_origin = rates(1, 1), line = rates(1, 1), slow = rates(0, 1);
    *unnamed.origin = 0;
    memset(long_origin.origin, 'x', sizeof long_origin.origin);
    strcpy(line.origin, "two\nlines");
    slow.f16_flops_per_second = 1;
    store_ceilings endless = rates(1, 1), undated = rates(1, 0);
    endless.f16_flops_per_second = 1e301;
    const struct {
        const store_device *device;
        const store_ceilings *ceilings;
        const char *field;
    } cases[] = {{&nameless, &line, "device.name"},
                 {NULL, &line, "device"},
                 {&good, NULL, "ceilings"},
                 {&good, &unnamed, "origin"},
                 {&good, &long_origin, "origin"},
                 {&good, &line, "origin"},
                 {&good, &slow, "copy_bytes_per_second"},
                 {&good, &endless, "f16_flops_per_second"},
                 {&good, &undated, "taken"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error err = ERROR_INIT;
        cr_expect_eq(store_add_ceilings(s, cases[i].device, cases[i].ceilings, &err), XQ_ERROR_ARGUMENT);
        cr_expect_str_eq(err.field, cases[i].field, "%s", err.message);
    }
    cr_expect_eq(copy_of(s, &good), 0);
    store_close(s);
}
