"""Tests which includes scripts/check-includes.py reports."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from checker import CheckerTest


class CheckIncludes(CheckerTest):
    script = "check-includes.py"

    def setUp(self):
        super().setUp()
        for name in ("include/xq/xq.h", "templates/lib/params.h", "gen/gen.h", "runtime/base/error.h", "runtime/launch/plan.h",
                     "sim/sim.h", "autotune/verify/verify.h", "cli/cli.h"):
            self.write(name, "")

    def reported_of(self, name, *includes):
        """Returns the lines that are printed for a file with these includes, the first of which is on line 2."""
        self.write(name, "/* A file. */\n" + "".join(f'#include "{include}"\n' for include in includes))
        lines = self.reported()
        os.remove(self.root / name)
        return lines

    def test_folders_before_ones_own_may_be_included(self):
        self.assertEqual(self.reported_of("cli/run.c", "cli.h", "../autotune/verify/verify.h", "../runtime/launch/plan.h",
                                          "../gen/gen.h", "xq/xq.h", "params.h", "../runtime/base/error.h", "stdio.h"), [])

    def test_base_is_for_all(self):
        self.assertEqual(self.reported_of("gen/host.c", "../runtime/base/error.h"), [])

    def test_later_folders_may_not(self):
        self.assertEqual(self.reported_of("gen/host.c", "gen.h", "../runtime/launch/plan.h"),
                         ["gen/host.c:3: gen must not include runtime/launch/plan.h, which is of a later folder"])
        self.assertEqual(len(self.reported_of("runtime/launch/plan.c", "../sim/sim.h", "../cli/cli.h")), 2)

    def test_base_takes_the_public_header_alone(self):
        self.assertEqual(self.reported_of("runtime/base/files.c", "xq/xq.h", "error.h"), [])
        self.assertEqual(len(self.reported_of("runtime/base/files.c", "../launch/plan.h", "../../gen/gen.h")), 2)

    def test_folders_of_tests_share_code_in_a_folder_of_its_own(self):
        self.write("tests/cli/terminal.h", "")
        self.write("tests/support/files.h", "")
        self.assertEqual(self.reported_of("tests/gen/test_spec.c", "../support/files.h", "../cli/terminal.h"),
                         ["tests/gen/test_spec.c:3: tests/gen must not include tests/cli/terminal.h; tests share code in tests/support"])
        self.assertEqual(self.reported_of("tests/cli/test_run.c", "terminal.h", "../../cli/cli.h"), [])
        self.assertEqual(self.reported_of("tests/support/files.c", "../cli/terminal.h"),
                         ["tests/support/files.c:2: tests/support must not include tests/cli/terminal.h, which is of a later folder"])


if __name__ == "__main__":
    unittest.main()
