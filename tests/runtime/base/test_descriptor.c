/* Tests descriptors whose callers were built with an older or a newer header. */
#include "../../../runtime/base/descriptor.h"

#include <criterion/criterion.h>
#include <string.h>

static error err = ERROR_INIT;

struct today {
    size_t struct_size;
    int64_t old_field, new_field;
};

enum { FIRST = DESCRIPTOR_UP_TO(struct today, new_field) };

Test(descriptor, older_caller_gets_the_defaults_of_newer_fields)
{
    struct today full = {sizeof full, 1, 2};
    struct {
        size_t struct_size;
        int64_t old_field;
    } given = {offsetof(struct today, new_field), 7};
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_OK);
    cr_assert_eq(full.old_field, 7);
    cr_assert_eq(full.new_field, 2);
    cr_assert_eq(full.struct_size, sizeof full);
}

Test(descriptor, newer_caller_is_served_unless_it_sets_an_unknown_field)
{
    struct today full = {sizeof full, 1, 2};
    struct {
        struct today known;
        int64_t future[2];
    } given = {{sizeof given, 5, 6}, {0, 0}};
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_OK);
    cr_assert_eq(full.new_field, 6);
    given.future[1] = 1;
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.field, "struct_size");
}

Test(descriptor, writing_stays_within_what_the_caller_knows)
{
    struct today full = {sizeof full, 1, 2};
    struct today given = {offsetof(struct today, new_field), 0, 99};
    cr_assert_eq(descriptor_write(&given, &full, sizeof full, FIRST, "info", &err), XQ_OK);
    cr_assert_eq(given.old_field, 1);
    cr_assert_eq(given.new_field, 99);
    cr_assert_eq(given.struct_size, offsetof(struct today, new_field));
}

Test(descriptor, uninitialized_size_and_null_are_refused)
{
    struct today full = {sizeof full, 1, 2}, given = {0, 3, 4};
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_ERROR_ARGUMENT);
    error_clear(&err);
    given.struct_size = FIRST - 1; /* no version has this size: it lacks a field that was always there */
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "struct_size is 15") && strstr(err.message, "the first had 16"), "%s",
              err.message);
    cr_assert_eq(descriptor_write(&given, &full, sizeof full, FIRST, "info", &err), XQ_ERROR_ARGUMENT);
    cr_assert_eq(given.old_field, 3);
    error_clear(&err);
    given.struct_size = sizeof given - 3; /* the size ends within a field */
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_ERROR_ARGUMENT);
    error_clear(&err);
    given.struct_size = 1u << 20;
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, &given, "args", &err), XQ_ERROR_ARGUMENT);
    error_clear(&err);
    cr_assert_eq(descriptor_read(&full, sizeof full, FIRST, NULL, "args", &err), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(err.field, "args");
    cr_assert_eq(full.old_field, 1);
}
