/* nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause */

/* What all unit tests share: includes, and a main function in a line. */

#ifndef UNIT_H
#define UNIT_H

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <check.h>

/* A program with one suite: UNIT_MAIN ("name", test1, test2, ...); */
#define UNIT_MAIN(name, ...)                                            \
  int                                                                   \
  main (void)                                                           \
  {                                                                     \
    const TTest *const tests[] = { __VA_ARGS__ };                       \
    Suite *suite = suite_create (name);                                 \
    TCase *tcase = tcase_create (name);                                 \
    SRunner *runner;                                                    \
    size_t i;                                                           \
    int failed;                                                         \
                                                                        \
    for (i = 0; i < sizeof tests / sizeof tests[0]; i++)                \
      tcase_add_test (tcase, tests[i]);                                 \
    tcase_set_timeout (tcase, 600);                                     \
    suite_add_tcase (suite, tcase);                                     \
    runner = srunner_create (suite);                                    \
    srunner_run_all (runner, CK_ENV);                                   \
    failed = srunner_ntests_failed (runner);                            \
    srunner_free (runner);                                              \
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;                        \
  }

/* A function that must fail with this errno. */
#define ck_assert_errno(expr, err)                                      \
  do {                                                                  \
    errno = 0;                                                          \
    ck_assert (expr);                                                   \
    ck_assert_int_eq (errno, err);                                      \
  } while (0)

#endif /* UNIT_H */
