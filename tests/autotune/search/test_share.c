/* Tests how few kernels are chosen to serve calls of several sizes. */
#include "../../../autotune/search/share.h"

#include <criterion/criterion.h>

static error err = ERROR_INIT;

static void shares(const struct share_time *times, int sizes, int kernels, const char *expected)
{
    int chosen[8];
    char text[9] = "";
    cr_assert_eq(share_kernels(times, sizes, kernels, chosen, &err), XQ_OK);
    for (int i = 0; i < sizes; i++)
        text[i] = (char)('0' + chosen[i]);
    cr_expect_str_eq(text, expected);
}

Test(share, as_few_kernels_as_possible_serve_several_sizes)
{
    const struct share_time within_one_percent[] = {{1.005, 0}, {1, 0}, {1.2, 0}, {1, 0}};
    shares(within_one_percent, 2, 2, "01");
    const struct share_time within_spread[] = {{1.05, 0.06}, {1, 0.06}, {1.05, 0.02}, {1, 0.02}};
    shares(within_spread, 2, 2, "01");
    /* Kernel 1 is best for two sizes, and about as good as the best for the third. If it has no time for
     * the third, it is not taken there. */
    const struct share_time third[] = {{2, 0},   {1, 0}, {1.5, 0},   {2, 0}, {1, 0},
                                       {1.5, 0}, {2, 0}, {1.004, 0}, {1, 0}};
    shares(third, 3, 3, "111");
    const struct share_time missing[] = {{2, 0},   {1, 0}, {1.5, 0}, {2, 0}, {1, 0},
                                         {1.5, 0}, {2, 0}, {0, 0},   {1, 0}};
    shares(missing, 3, 3, "112");
}
