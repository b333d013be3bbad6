"""Tests scripts/manual: the manual of a small repository, as `make html` builds it, and the faults that stop the
build."""

import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = """/* The interface. */

#define XQ_VERSION_MAJOR 1 /* as below */

/* ---------------------------------------------------------------- calls */

/* Does it; see docs/use.md. */
XQ_API int xq_do(int count);
"""
FILES = {
    "README.md": "# A library\n\nSee [docs](docs).\n",
    "include/xq/xq.h": HEADER.replace("#define XQ_VERSION_MAJOR 1 /* as below */\n", "/* The version. */\n#define XQ_VERSION_MAJOR 1\n"),
    "src/README.md": "The sources.\n",
    "src/main.c": "int main(void) { return 0; }\n",
    "data/list.txt": "<one>\n",
    "docs/README.md": "# Index\n\n## By task\n\n| | |\n|---|---|\n| [use.md](use.md) | use it |\n| [reference.md](reference.md) | all of it |\n",
    "docs/reference.md": "# The C interface\n\n```text\ninclude/xq/xq.h\n```\n",
    "docs/use.md": "# How to use it\n\nCall `xq_do`, as in [main.c](../src/main.c) of [src](../src), with [data](../data), of [xq.h](../include/xq/xq.h)."
                   " [Above](#how-to-use-it).\n\n    make all  # builds\n\nand\n\n    {\"a\": 1}\n",
}


@unittest.skipUnless(importlib.util.find_spec("furo"), "no Sphinx in this environment (`make html` installs it)")
class Manual(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copytree(ROOT / "scripts" / "manual", self.root / "scripts" / "manual", ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def build(self):
        """Returns the exit status, and the messages without line ends and folders."""
        done = subprocess.run([sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html",
                               "--conf-dir", "scripts/manual", "--doctree-dir", "build/trees", ".", "build/html"],
                              cwd=self.root, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr.replace(str(self.root), "").replace("\n", " ")

    def page(self, name):
        return (self.root / "build/html" / name).read_text(encoding="utf-8")

    def test_pages_lead_to_each_other_and_to_sources(self):
        self.assertEqual(self.build(), (0, ""))
        for name, texts in {
                "docs/use.html": ['href="reference.html#c.xq_do"', 'href="../src/main.c.html"', 'href="../src/README.html"',
                                  'href="../data.html"', 'href="reference.html"', 'href="#how-to-use-it"', "highlight-bash", "highlight-json"],
                "docs/README.html": [">How to use it</a></p></td>"],
                "docs/reference.html": ['href="use.html"', 'id="c.xq_do"'],
                "data.html": ['href="data/list.txt.html"'],
                "data/list.txt.html": ["&lt;one&gt;"],
                "src/README.html": ["<h1>src<"],
                "index.html": ["url=docs/README.html"]}.items():
            page = re.sub(r"</?span[^>]*>", "", self.page(name))
            self.assertEqual([text for text in texts if text not in page], [], name)
        checked = subprocess.run([sys.executable, ROOT / "scripts/check-links.py", "--html", self.root / "build/html"],
                                 capture_output=True, text=True, check=False)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""))

    def test_a_page_that_the_index_does_not_name(self):
        self.write("docs/lonely.md", "# Lonely\n")
        status, said = self.build()
        self.assertEqual(status, 1)
        self.assertRegex(said, r"docs/lonely.md: WARNING: document isn't included in any toctree")

    def test_a_call_without_a_description(self):
        self.write("include/xq/xq.h", HEADER)
        status, said = self.build()
        self.assertNotEqual(status, 0)
        self.assertIn("include/xq/xq.h:3: not described: XQ_VERSION_MAJOR", said)

    def test_a_broken_link(self):
        self.write("docs/use.md", "# U\n\n[a](gone.md)\n")
        status, said = self.build()
        self.assertEqual(status, 1)
        self.assertRegex(said, r"docs/use.md:3: WARNING: .*gone.md")


if __name__ == "__main__":
    unittest.main()
