"""Shared parts of the tests of scripts/check-*.py: a folder with a few files, and the lines that a script prints about
them."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


class CheckerTest(unittest.TestCase):
    script = None  # the name of the script, which a subclass sets

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run_script(self, *options, root=None):
        return subprocess.run([sys.executable, SCRIPTS / self.script, *options, root or self.root], capture_output=True,
                              text=True, check=False)

    def reported(self, *options):
        """Returns the lines that the script prints. It must exit with 1 if there are any, and else with 0."""
        done = self.run_script(*options)
        self.assertEqual(done.returncode, 1 if done.stdout else 0, done.stderr)
        return done.stdout.splitlines()
