"""Tests which lines and comments scripts/check-prose.py reports."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from checker import CheckerTest

LONG = "word " * 24 + "x"  # 121 characters


class CheckProse(CheckerTest):
    script = "check-prose.py"

    def lines(self, name, text):
        """Returns the numbers of the lines that are reported of a file."""
        self.write(name, text)
        found = self.reported()
        for line in found:
            self.assertTrue(line.startswith(name + ":"), line)
        return [int(line.split(":")[1]) for line in found]


class Documents(CheckProse):
    def test_a_long_line_is_named_with_its_length(self):
        self.write("docs/page.md", f"# Page\n\nshort\n{LONG}\n")
        self.assertEqual(self.reported(), ["docs/page.md:4: a line of 121 characters, of at most 120"])

    def test_the_limit_counts_characters_and_not_bytes(self):
        self.assertEqual(self.lines("page.md", "é" * 120 + "\n"), [])

    def test_table_rows_and_code_blocks_may_be_long(self):
        self.assertEqual(self.lines("page.md", f"| {LONG} |\n\n    {LONG}\n\n```\n{LONG}\n```\n\n1. item\n\n       {LONG}\n"), [])

    def test_lines_that_are_one_link_or_address_may_be_long(self):
        address = "https://nowhere.invalid/" + "x" * 120
        self.assertEqual(self.lines("page.md", f"{address}\n- <{address}>\n  [a b]({address}).\n\n[a]: {address}\n"), [])
        self.assertEqual(self.lines("page.md", f"see {address}\n"), [1])

    def test_items_and_quotations_have_the_same_limit(self):
        self.assertEqual(self.lines("page.md", f"- {LONG}\n\n> {LONG}\n"), [1, 3])


class Comments(CheckProse):
    def test_the_message_names_the_first_word(self):
        self.write("a.c", "/* Of a page. */\nint a;\n/* What a block reads. */\nint b;\n")
        self.assertEqual(self.reported(), ['a.c:1: a comment opens with "Of"',
                                           'a.c:3: a comment opens with a relative clause, "What ..."'])

    def test_every_language_is_read(self):
        for name, text in {
                "a.c": "int a;\n/* What it is. */\n", "a.h": "int a;\n/*\n * What it is.\n */\n", "a.cpp": "\n// What it is.\n",
                "a.cuh": "\n// What it is.\n", "a.lua": "\n-- What it is.\n", "b.lua": "\n--[[ What it is.\n]]\n",
                "a.py": "\n# What it is.\n", "b.py": '\n"""What it is.\n"""\n', "a.sh": "\n# What it is.\n",
                "Makefile": "\n# What it is.\n", "a.mk": "\n# What it is.\n", "a.cu.lt": "int a;\n// What it is.\n",
                "b.cu.lt": "int a;\n% -- What it is.\n"}.items():
            self.assertEqual(self.lines(name, text), [2], name)
            (self.root / name).unlink()

    def test_texts_that_are_no_comments_are_not_read(self):
        self.assertEqual(self.lines("a.c", 'char *a = "/* Of a page */", b = \'"\';\nchar *c = "// What";\n'), [])
        self.assertEqual(self.lines("a.py", 'a = """Of a page"""\nb = "# What"\n'), [])
        self.assertEqual(self.lines("a.lua", 'a = "-- Of a page" .. [[\n-- What\n]]\n'), [])
        self.assertEqual(self.lines("a.sh", "echo ${a#What}\n"), [])
        self.assertEqual(self.lines("a.txt", "# Of a page\n"), [])

    def test_a_comment_of_several_lines_has_one_opening(self):
        self.assertEqual(self.lines("a.cuh", "// A block reads pages, and knows\n// what each holds.\n"), [])
        self.assertEqual(self.lines("b.cuh", "int a; // the first\n       // of all\n// Of a page.\nint b;\n"), [3])

    def test_questions_are_allowed(self):
        self.assertEqual(self.lines("a.c", "/* What does a block read? Pages. */\n"), [])

    def test_a_main_clause_may_follow_where_and_whatever(self):
        self.assertEqual(self.lines("a.c", "/* Where no GPU is found,\n * the software device is taken. */\n"), [])
        self.assertEqual(self.lines("a.lua", "-- Whatever the size, blocks are as large.\n"), [])
        self.assertEqual(self.lines("b.c", "/* Where the pages are. */\n/* Where things lie, in bytes. */\n"), [1, 2])

    def test_of_completes_a_name_after_code(self):
        self.assertEqual(self.lines("a.c", "int tokens; /* of a page */\n/* of a page */\nint a; /* what it is */\n"), [2, 3])

    def test_titles_of_sections_are_comments(self):
        self.assertEqual(self.lines("a.lua", "-- ------------ pages\n\n-- ------------ what there is\n"), [3])

    def test_other_words_are_allowed(self):
        self.assertEqual(self.lines("a.c", "/* Whether a page is full. */\n/* Offsets of pages. */\n/* How it works. */\n"), [])


class Folders(CheckProse):
    def test_built_and_hidden_files_are_not_read(self):
        for name in ("build/a.c", "dist/a.c", ".venv/a.c"):
            self.write(name, "/* Of a page. */\n")
        self.assertEqual(self.lines("a.c", ""), [])

    def test_an_empty_folder_is_an_error(self):
        done = self.run_script()
        self.assertEqual((done.returncode, done.stderr), (2, f"check-prose: {self.root} holds nothing to check\n"))


if __name__ == "__main__":
    unittest.main()
