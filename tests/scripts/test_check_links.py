"""Tests which links scripts/check-links.py reports, in Markdown and in built pages."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from checker import CheckerTest


class CheckLinks(CheckerTest):
    script = "check-links.py"


class Markdown(CheckLinks):
    def setUp(self):
        super().setUp()
        self.write("docs/page.md", "# Page\n\n## Two words, `code`\n\n## Twice\n\n## Twice\n\n<a id=\"here\"></a>\n\nOld\n---\n")
        self.write("src/main.c", "int main(void)\n{\n}\n")

    def reported_of(self, text):
        self.write("README.md", text)
        return self.reported()

    def test_links_that_lead_somewhere(self):
        self.assertEqual(self.reported_of(
            "# Title\n\n[a](docs/page.md), [b](docs), [c](src/main.c), ![d](src/main.c), [e](#title), [f](https://nowhere.invalid/x.md),\n"
            "[g](docs/page.md#two-words-code), [h](docs/page.md#twice-1), [i](docs/page.md#here),\n[j](src/main.c#L3), [k](<docs/page.md>),\n"
            "[l](docs/page.md \"title\"), [m][ref], [n](docs/page.md#old), [o](src/../docs/page.md)\n\n[ref]: docs/page.md#twice\n"), [])

    def test_a_missing_file_is_named_with_its_line(self):
        self.assertEqual(self.reported_of("# T\n\nsee\n[a\nb](docs/gone.md)\n"), ["README.md:5: docs/gone.md: no such file"])

    def test_every_form_of_a_link_is_looked_at(self):
        for form in ("![picture](gone)", "[a][b]\n\n[b]: gone", "<img src=\"gone\">", "[![a](src/main.c)](gone)", "| [a](gone) |",
                     "- item\n\n  [a](gone)", "1. item\n\n    [a](gone)", "[a](<gone>)", "text\n    [a](gone)"):
            self.assertEqual(len(self.reported_of(form)), 1, form)

    def test_a_missing_anchor(self):
        self.assertEqual(self.reported_of("[a](docs/page.md#gone)\n[b](#gone)\n[c](docs/page.md#twice-2)\n[d](src/main.c#L4)\n"), [
            "README.md:1: docs/page.md#gone: no anchor #gone in it", "README.md:2: #gone: no anchor #gone in it",
            "README.md:3: docs/page.md#twice-2: no anchor #twice-2 in it", "README.md:4: src/main.c#L4: no anchor #L4 in it"])

    def test_the_anchor_of_a_folder_is_one_of_its_readme(self):
        self.write("docs/README.md", "# Index\n")
        self.assertEqual(self.reported_of("[a](docs#index)\n"), [])
        self.assertEqual(len(self.reported_of("[a](docs#gone)\n[b](src#gone)\n")), 2)

    def test_links_out_of_the_repository(self):
        self.assertEqual(self.reported_of("[a](../x)\n[b](/docs)\n"), ["README.md:1: ../x: leads out of the folder",
                                                                       "README.md:2: /docs: not a relative link"])

    def test_code_and_comments_hold_no_links(self):
        self.assertEqual(self.reported_of("`[a](gone)` and ``x ` [a](gone)``\n\n    [a](gone)\n\n```\n[a](gone)\n```\n\n"
                                          "- item\n\n      [a](gone)\n\n~~~\n# gone\n~~~\n<!-- [a](gone) -->\n"), [])

    def test_a_heading_within_code_is_no_anchor(self):
        self.assertEqual(len(self.reported_of("```\n# a comment\n```\n[a](#a-comment)\n")), 1)

    def test_built_and_hidden_folders_are_left_out(self):
        for folder in ("build", "dist", ".venv", "docs/.hidden"):
            self.write(f"{folder}/README.md", "[a](gone)\n")
        self.assertEqual(self.reported_of("# T\n"), [])


class Pages(CheckLinks):
    def reported_of(self, text):
        self.write("docs/page.html", text)
        return self.reported("--html")

    def setUp(self):
        super().setUp()
        self.write("index.html", "<h1 id=\"top-of-all\">x</h1>")
        self.write("style.css", "body { background: url(data:image/png;base64,AA) }\n")

    def test_a_page_that_is_whole(self):
        self.write("picture.svg", '<svg xmlns="http://www.w3.org/2000/svg"><path id="p"/><use xlink:href="#p"/></svg>')
        self.assertEqual(self.reported_of(
            '<link rel="stylesheet" href="../style.css?v=1"><img src="../picture.svg"><a href="../index.html#top-of-all">a</a>'
            '<a href="#">b</a><a href="https://nowhere.invalid/">followed by the reader</a>'), [])

    def test_dead_links(self):
        self.assertEqual(self.reported_of('<a href="gone.html">a</a>\n<a href="../index.html#gone">b</a>\n<img src="gone.png">\n'), [
            "docs/page.html:1: gone.html: no such file", "docs/page.html:2: ../index.html#gone: no anchor #gone in it",
            "docs/page.html:3: gone.png: no such file"])

    def test_nothing_is_loaded_from_the_network(self):
        for load in ('<script src="https://x.invalid/a.js"></script>', '<link rel="stylesheet" href="//x.invalid/a.css">',
                     '<img srcset="../style.css 1x, http://x.invalid/a.png 2x">', '<p style="background: url(http://x.invalid/a)">'):
            self.assertEqual(len(self.reported_of(load)), 1, load)
        self.write("docs/page.html", "")
        self.write("style.css", "body {}\n@import \"https://x.invalid/a.css\";\n")
        self.assertEqual(self.reported("--html"), ["style.css:2: https://x.invalid/a.css: loaded from the network"])

    def test_an_empty_folder_is_not_a_manual(self):
        empty = self.root / "empty"
        empty.mkdir()
        done = self.run_script("--html", root=empty)
        self.assertEqual((done.returncode, "nothing to check" in done.stderr), (2, True))


if __name__ == "__main__":
    unittest.main()
