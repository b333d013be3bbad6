/* A stand-in for Criterion under the thread sanitizer, which does not support the memory that Criterion
 * shares between its processes. It has the macros that our tests use. Tests run one after another, each in
 * a process of its own. `make check-tsan` puts this folder first on the include path. */
#ifndef TESTS_TSAN_CRITERION_H
#define TESTS_TSAN_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct criterion_test_params {
    size_t size;
    void *params;
    size_t length;
    void (*cleanup)(struct criterion_test_params *);
};

typedef struct stand_in_test {
    const char *suite, *name;
    void (*run)(void);
    void (*run_with)(void *param);
    struct criterion_test_params (*params)(void);
    void (*init)(void);
    void (*fini)(void);
    double timeout;
    struct stand_in_test *next;
} stand_in_test;

void stand_in_add(stand_in_test *test);
void stand_in_fail(const char *file, int line, const char *what, bool fatal);

#define STAND_IN_REGISTER(SUITE, NAME, ...)                                                                \
    static __attribute__((constructor)) void SUITE##_##NAME##_add(void)                                    \
    {                                                                                                      \
        static stand_in_test test = {.suite = #SUITE, .name = #NAME, __VA_ARGS__};                         \
        stand_in_add(&test);                                                                               \
    }
#define Test(SUITE, NAME, ...)                                                                             \
    static void SUITE##_##NAME(void);                                                                      \
    STAND_IN_REGISTER(SUITE, NAME, .run = SUITE##_##NAME, ##__VA_ARGS__)                                   \
    static void SUITE##_##NAME(void)
#define ParameterizedTestParameters(SUITE, NAME)                                                           \
    static struct criterion_test_params SUITE##_##NAME##_params(void)
#define ParameterizedTest(PARAM, SUITE, NAME, ...)                                                         \
    static void SUITE##_##NAME(PARAM);                                                                     \
    static void SUITE##_##NAME##_with(void *param)                                                         \
    {                                                                                                      \
        SUITE##_##NAME(param);                                                                             \
    }                                                                                                      \
    STAND_IN_REGISTER(SUITE, NAME, .run_with = SUITE##_##NAME##_with, .params = SUITE##_##NAME##_params,   \
                      ##__VA_ARGS__)                                                                       \
    static void SUITE##_##NAME(PARAM)
#define cr_make_param_array(TYPE, ARRAY, ...)                                                              \
    (struct criterion_test_params)                                                                         \
    {                                                                                                      \
        sizeof(TYPE), (void *)(ARRAY), __VA_ARGS__                                                         \
    }

/* Failures are reported with their place. The message that a test may add is dropped. */
#define STAND_IN(FATAL, CONDITION, TEXT, ...)                                                              \
    do {                                                                                                   \
        if (!(CONDITION))                                                                                  \
            stand_in_fail(__FILE__, __LINE__, TEXT, FATAL);                                                \
    } while (0)
#define STAND_IN_IS(FATAL, OP, A, B, ...) STAND_IN(FATAL, (A)OP(B), #A " " #OP " " #B)

#define cr_assert(C, ...)                STAND_IN(true, C, #C)
#define cr_assert_not(C, ...)            STAND_IN(true, !(C), "not " #C)
#define cr_assert_null(P, ...)           STAND_IN(true, (P) == NULL, #P " is null")
#define cr_assert_not_null(P, ...)       STAND_IN(true, (P) != NULL, #P " is not null")
#define cr_assert_eq(...)                STAND_IN_IS(true, ==, __VA_ARGS__)
#define cr_assert_neq(...)               STAND_IN_IS(true, !=, __VA_ARGS__)
#define cr_assert_lt(...)                STAND_IN_IS(true, <, __VA_ARGS__)
#define cr_assert_leq(...)               STAND_IN_IS(true, <=, __VA_ARGS__)
#define cr_assert_gt(...)                STAND_IN_IS(true, >, __VA_ARGS__)
#define cr_assert_geq(...)               STAND_IN_IS(true, >=, __VA_ARGS__)
#define cr_assert_str_empty(S, ...)      STAND_IN(true, !*(S), #S " is empty")
#define cr_assert_str_eq(A, B, ...)      STAND_IN(true, strcmp(A, B) == 0, #A " is " #B)
#define cr_assert_str_neq(A, B, ...)     STAND_IN(true, strcmp(A, B) != 0, #A " is not " #B)
#define cr_assert_float_eq(A, B, E, ...) STAND_IN(true, fabs((double)((A) - (B))) <= (E), #A " is near " #B)
#define cr_assert_arr_eq(A, B, N, ...)   STAND_IN(true, memcmp(A, B, N) == 0, #A " holds " #B)
#define cr_expect(C, ...)                STAND_IN(false, C, #C)
#define cr_expect_not(C, ...)            STAND_IN(false, !(C), "not " #C)
#define cr_expect_null(P, ...)           STAND_IN(false, (P) == NULL, #P " is null")
#define cr_expect_not_null(P, ...)       STAND_IN(false, (P) != NULL, #P " is not null")
#define cr_expect_eq(...)                STAND_IN_IS(false, ==, __VA_ARGS__)
#define cr_expect_neq(...)               STAND_IN_IS(false, !=, __VA_ARGS__)
#define cr_expect_lt(...)                STAND_IN_IS(false, <, __VA_ARGS__)
#define cr_expect_leq(...)               STAND_IN_IS(false, <=, __VA_ARGS__)
#define cr_expect_gt(...)                STAND_IN_IS(false, >, __VA_ARGS__)
#define cr_expect_geq(...)               STAND_IN_IS(false, >=, __VA_ARGS__)
#define cr_expect_str_empty(S, ...)      STAND_IN(false, !*(S), #S " is empty")
#define cr_expect_str_eq(A, B, ...)      STAND_IN(false, strcmp(A, B) == 0, #A " is " #B)
#define cr_expect_str_neq(A, B, ...)     STAND_IN(false, strcmp(A, B) != 0, #A " is not " #B)
#define cr_expect_float_eq(A, B, E, ...)                                                                   \
    STAND_IN(false, fabs((double)((A) - (B))) <= (E), #A " is near " #B)
#define cr_expect_arr_eq(A, B, N, ...) STAND_IN(false, memcmp(A, B, N) == 0, #A " holds " #B)
#define cr_log_info(...)               ((void)0)
#define cr_skip_test(...)              exit(0)

#endif
