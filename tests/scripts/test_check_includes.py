"""Tests which includes scripts/check-includes.py reports."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "check-includes.py"


class CheckIncludes(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        for name in ("include/xq/xq.h", "templates/lib/params.h", "gen/gen.h", "runtime/base/error.h", "runtime/launch/plan.h",
                     "sim/sim.h", "autotune/verify/verify.h", "cli/cli.h"):
            self.write(name, "")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def reported(self, name, *includes):
        """Returns the lines that are printed for a file with these includes, the first of which is on line 2."""
        self.write(name, "/* A file. */\n" + "".join(f'#include "{include}"\n' for include in includes))
        done = subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1 if done.stdout else 0, done.stderr)
        os.remove(self.root / name)
        return done.stdout.splitlines()

    def test_folders_before_ones_own_may_be_included(self):
        self.assertEqual(self.reported("cli/run.c", "cli.h", "../autotune/verify/verify.h", "../runtime/launch/plan.h",
                                       "../gen/gen.h", "xq/xq.h", "params.h", "../runtime/base/error.h", "stdio.h"), [])

    def test_base_is_for_all(self):
        self.assertEqual(self.reported("gen/host.c", "../runtime/base/error.h"), [])

    def test_later_folders_may_not(self):
        self.assertEqual(self.reported("gen/host.c", "gen.h", "../runtime/launch/plan.h"),
                         ["gen/host.c:3: gen must not include runtime/launch/plan.h, which is of a later folder"])
        self.assertEqual(len(self.reported("runtime/launch/plan.c", "../sim/sim.h", "../cli/cli.h")), 2)

    def test_base_takes_the_public_header_alone(self):
        self.assertEqual(self.reported("runtime/base/files.c", "xq/xq.h", "error.h"), [])
        self.assertEqual(len(self.reported("runtime/base/files.c", "../launch/plan.h", "../../gen/gen.h")), 2)


if __name__ == "__main__":
    unittest.main()
