/* Tests the names of statuses, and the version as text. */
#include "xq/xq.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(version, every_status_has_a_name_of_its_own)
{
    for (int i = XQ_OK; i <= XQ_ERROR_INTERNAL; i++)
        for (int j = XQ_OK; j < i; j++)
            cr_assert_str_neq(xq_status_name((xq_status)i), xq_status_name((xq_status)j));
    cr_assert_str_eq(xq_status_name(XQ_ERROR_FORMAT), "XQ_ERROR_FORMAT");
    cr_assert_str_eq(xq_status_name((xq_status)999), "unknown status");
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", XQ_VERSION_MAJOR, XQ_VERSION_MINOR, XQ_VERSION_PATCH);
    cr_assert_str_eq(xq_version(), expected);
}
