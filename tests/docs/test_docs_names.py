"""Tests that each name of xq's interface in docs/ is in include/xq/xq.h, and that each field belongs to its structure.

Fields are written after a variable that stands for the structure: `append.x`, `info.page_bytes`; `args.q` if any call
may be meant."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

VARIABLES = {
    "append": ["xq_append_args"],
    "attend": ["xq_attend_args"],
    "accumulate": ["xq_accumulate_args"],
    "merge": ["xq_merge_args"],
    "table": ["xq_page_table"],
    "tails": ["xq_tail_pool"],
    "options": ["xq_plan_options", "xq_context_options"],
    "info": ["xq_plan_info", "xq_device_info", "xq_prepared_info"],
    "args": ["xq_append_args", "xq_attend_args", "xq_accumulate_args", "xq_merge_args", "xq_dequantize_args"],
}
CODE = re.compile(r"`[^`\n]+`|^(?: {4}|\t).*$|^```.*?^```", re.M | re.S)
# An ellipsis or an asterisk stands for the rest of a name: xq_plan_…
NAME = re.compile(r"(?<![\w/.-])(xq_[a-z]+_[a-z0-9_]*[a-z0-9]|XQ_ERROR_[A-Z_]*[A-Z]|XQ_[A-Z_]*_INIT)(?![\w…*.]|_…)")
# A field is neither part of a file's name (append.cu.lt, options.txt) nor a member of something else (runtime/append.c,
# p.table.indptr).
FIELD = re.compile(r"(?<![\w./>-])(%s)\.(?!txt\b)([a-z_][a-z0-9_]*)(?![\w(]|\.\w)" % "|".join(VARIABLES))


def structures(header):
    """Returns the fields of each structure: {name: set of names}."""
    found = {}
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", text, re.S):
        declarators = [part for line in body.split(";") if line.strip() for part in line.split(",")]
        found[name] = {re.sub(r"\[.*|\W", "", part.split()[-1]) for part in declarators}
    return found


def code_of(text):
    """Returns the code of a page: spans and blocks."""
    return "\n".join(CODE.findall(text))


class DocsNames(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        header = (ROOT / "include/xq/xq.h").read_text(encoding="utf-8")
        cls.fields = structures(header)
        cls.words = set(re.findall(r"\w+", header))
        # The nouns are plan, context, ...: other names that begin with xq_ do not belong to this interface (kernels,
        # files, tables).
        cls.nouns = {word.split("_")[1] for word in cls.words if word.startswith("xq_")}
        cls.pages = sorted((ROOT / "docs").glob("**/*.md"))

    def wrong_names(self, text):
        names = NAME.findall(code_of(text))
        return [n for n in names if n not in self.words and (n.startswith("XQ_") or n.split("_")[1] in self.nouns)]

    def wrong_fields(self, text):
        return [f"{variable}.{field}" for variable, field in FIELD.findall(code_of(text))
                if not any(field in self.fields[s] for s in VARIABLES[variable])]

    def test_header_is_understood(self):
        self.assertEqual(self.fields["xq_page_table"], {"batch", "indptr", "indices", "last_page_len"})
        self.assertEqual(self.fields["xq_merge_args"],
                         {"struct_size", "queries", "out_a", "out_b", "lse_a", "lse_b", "out", "lse"})
        self.assertTrue({s for of in VARIABLES.values() for s in of} <= set(self.fields))
        self.assertGreater(len(self.pages), 20)

    def test_mistakes_are_found(self):
        self.assertEqual(self.wrong_names("`xq_plan_attent(plan, &args)`, XQ_ERROR_NOT_CODE, `XQ_ERROR_OTHER`, `xq_plan_attend`"),
                         ["xq_plan_attent", "XQ_ERROR_OTHER"])
        self.assertEqual(self.wrong_fields("`attend.query`, attend.words, `attend.cu.lt`\n\n    args.page_table = t; append.x = 0"),
                         ["attend.query", "args.page_table"])

    def test_names_are_in_the_header(self):
        for page in self.pages:
            with self.subTest(page=str(page.relative_to(ROOT))):
                self.assertEqual(self.wrong_names(page.read_text(encoding="utf-8")), [])

    def test_fields_are_of_their_structures(self):
        for page in self.pages:
            with self.subTest(page=str(page.relative_to(ROOT))):
                self.assertEqual(self.wrong_fields(page.read_text(encoding="utf-8")), [])


if __name__ == "__main__":
    unittest.main()
