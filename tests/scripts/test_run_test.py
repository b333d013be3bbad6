"""Tests what scripts/run-test.sh says about a file of Python tests, and about a Criterion program."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "scripts", "run-test.sh")
BEGIN = "import unittest\nclass T(unittest.TestCase):\n"


class RunTest(unittest.TestCase):
    def run_file(self, body):
        """Returns the lines of the output (without seconds), and the numbers that it leaves: passed and failed."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "test_it.py"), "w", encoding="utf-8") as file:
                file.write(BEGIN + body)
            done = subprocess.run(["sh", SCRIPT, folder, "test_it.py"], cwd=folder, env={**os.environ, "PYTHON": sys.executable},
                                  stdout=subprocess.PIPE, text=True, check=False)
            # RESULTS/NAME is the file of tests here. The script replaces it, as it would replace any result.
            with open(os.path.join(folder, "test_it.py"), encoding="utf-8") as file:
                return re.sub(r", \d+ s\)", ")", done.stdout), file.read().split()

    def test_skipped_tests_are_named_and_not_counted(self):
        lines, counts = self.run_file(
            "  def test_a(self): pass\n"
            "  @unittest.skip('no torch; `make torch`')\n  def test_b(self): pass\n"
            "  @unittest.skip('no torch; `make torch`')\n  def test_c(self):\n    '''Documented.'''\n"
            "  @unittest.skip(\"it isn't there\")\n  def test_d(self): pass\n")
        self.assertEqual(lines, "  skipped test_it.py: 1 (it isn't there)\n  skipped test_it.py: 2 (no torch; `make torch`)\n"
                                "  ok      test_it.py (1 of 1)\n")
        self.assertEqual(counts, ["1", "0"])

    def test_failures_are_counted_beside_skips(self):
        lines, counts = self.run_file("  def test_a(self): self.fail('it fails')\n  def test_b(self): 1 / 0\n"
                                      "  def test_c(self): pass\n  @unittest.skip('why')\n  def test_d(self): pass\n")
        self.assertIn("AssertionError: it fails", lines)
        self.assertTrue(lines.endswith("  skipped test_it.py: 1 (why)\n  FAILED  test_it.py (1 of 3)\n"), lines)
        self.assertEqual(counts, ["1", "2"])

    def test_a_file_whose_tests_are_all_skipped_has_not_failed(self):
        lines, counts = self.run_file("  @unittest.skip('why')\n  def test_a(self): pass\n")
        self.assertEqual((lines, counts), ("  skipped test_it.py: 1 (why)\n  ok      test_it.py (0 of 0)\n", ["0", "0"]))

    def test_a_file_without_tests_has_failed(self):
        lines, counts = self.run_file("  pass\n")
        self.assertRegex(lines, "(?i)no tests? (was run|ran)")  # newer versions of Python say this themselves
        self.assertEqual(counts, ["0", "1"])

    def test_a_program_without_tests_has_failed(self):
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "test_program")
            for tests, left in ((0, ["0", "1"]), (2, ["2", "0"])):
                with open(program, "w", encoding="utf-8") as file:
                    file.write(f"#!/bin/sh\necho '[====] Synthesis: Tested: {tests} | Passing: {tests} | Failing: 0 | Crashing: 0'\n")
                os.chmod(program, 0o755)
                results = os.path.join(folder, f"results-{tests}")
                os.mkdir(results)
                subprocess.run(["sh", SCRIPT, results, program], stdout=subprocess.DEVNULL, check=True)
                with open(os.path.join(results, "test_program"), encoding="utf-8") as file:
                    self.assertEqual(file.read().split(), left)


if __name__ == "__main__":
    unittest.main()
