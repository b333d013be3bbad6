"""Tests scripts/manual/header.py: the parts of a header that the manual's C reference has, and the headers that are
refused."""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "manual"))
import header  # noqa: E402

SAMPLE = """/* A sample.
 *   - an item
 *     goes on
 */
#ifndef SAMPLE_H
#define SAMPLE_H
#include <stdint.h>

/* For C++ alone. */
#ifdef __cplusplus
template <class T> struct hidden {};
#endif

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#define XQ_API __attribute__((visibility("default")))
#else
#define XQ_API
#endif

/* ------------------------------------------------------------- first part
 * What is in it. */

/* Values. */
typedef enum xq_kind {
    XQ_ONE = 1, /* the first, which
                   needs two lines */
    XQ_TWO =
        2 /* the second, e.g. "x, y" */
} xq_kind;

/* Descriptor. */
typedef struct xq_args {
    size_t struct_size;
    int32_t a, *b; /* both */
    /* Above its
     * field. */
    char name[16];
} xq_args;
#ifdef __cplusplus
#define XQ_ARGS_INIT xq_sized<xq_args>()
#else
#define XQ_ARGS_INIT {                                                     \\
        .struct_size = sizeof(xq_args) }
#endif
XQ_API int xq_call(const xq_args *args,
                   void (*done)(int));

/* Text of the section. */

/* Opaque. */
typedef struct xq_thing xq_thing;

/* Called back; see xq_call, `xq_args`, `*raw*` and docs/spec.md. xq_ca... is no name, nor is a_b_. */
typedef void (*xq_done)(int status);

#endif
"""


class Header(unittest.TestCase):
    def sections(self, text=SAMPLE):
        return header.parse(text)[1]

    def refused(self, text):
        with self.assertRaises(header.HeaderError) as caught:
            header.read(text)
        return str(caught.exception)

    def test_sections_declarations_and_members(self):
        (section,) = self.sections()
        self.assertEqual((section.title, section.comment), ("first part", ["", "What is in it."]))
        found = [(d.kind, d.name, d.signature) for e in section.entries for d in e.declarations]
        self.assertEqual(found, [
            ("enum", "xq_kind", "xq_kind"), ("struct", "xq_args", "xq_args"), ("macro", "XQ_ARGS_INIT", "XQ_ARGS_INIT"),
            ("function", "xq_call", "int xq_call(const xq_args *args, void (*done)(int))"),
            ("struct", "xq_thing", "xq_thing"), ("type", "xq_done", "void (*xq_done)(int status)")])
        kind, args = (section.entries[i].declarations[0].members for i in (0, 1))
        self.assertEqual([(m.signatures, m.comment) for m in kind], [
            (["XQ_ONE = 1"], ["the first, which needs two lines"]), (["XQ_TWO = 2"], ['the second, e.g. "x, y"'])])
        self.assertEqual([(m.signatures, m.comment) for m in args], [
            (["size_t struct_size"], [header.SIZE_FIELD]), (["int32_t a", "int32_t *b"], ["both"]),
            (["char name[16]"], ["Above its", "field."])])

    def test_what_follows_without_an_empty_line_shares_a_comment(self):
        _, page = header.read(SAMPLE)
        self.assertIn(".. c:macro:: XQ_ARGS_INIT\n\n   The initializer of \\ :c:struct:`xq_args`", page)
        self.assertRegex(page, r"c:function:: int xq_call\(.*\n\n   Described with \\ :c:struct:`xq_args`")

    def test_names_and_pages_become_links_and_marks_are_escaped(self):
        _, page = header.read(SAMPLE)
        self.assertIn(r"see \ :c:func:`xq_call`\ , \ :c:struct:`xq_args`\ , \ ``*raw*``\  and "
                      r"\ :doc:`docs/spec.md </docs/spec>`\ . xq\_ca... is no name, nor is a\_b\_.", page)

    def test_comments_keep_lists_code_and_text_of_sections(self):
        _, page = header.read(SAMPLE)
        self.assertIn("\n- an item goes on\n", page)
        self.assertIn("\nText of the section.\n", page)
        self.assertNotIn("C++", page)
        self.assertEqual(header.blocks_of(["words", "  code", "    more", "words again"])[1:],
                         [["text", ["words"]], ["code", ["code", "  more"]], ["text", ["words again"]]])

    def test_what_has_no_description_is_refused_with_its_line(self):
        self.assertEqual(self.refused("/* H */\n\nXQ_API int xq_f(void);\n"), "3: not described: xq_f")
        self.assertEqual(self.refused("/* H */\n\n/* T */\ntypedef struct xq_s {\n    int a; /* yes */\n    int b;\n} xq_s;\n"),
                         "6: not described: xq_s: int b")
        self.assertEqual(self.refused("/* H */\n\n/* E */\ntypedef enum xq_e { XQ_A = 0, /* yes */\n XQ_B = 1 } xq_e;\n"),
                         "5: not described: xq_e: XQ_B = 1")

    def test_what_is_not_understood_is_refused_with_its_line(self):
        for text, line in (("/* H */\n\nint xq_f(void);\n", 3), ("/* H */\n\n/* S */\nunion x { int a; };\n", 4),
                           ("/* H */\n\n/* S */\ntypedef enum xq_e {\n    XQ_A = 0, /* a */ +\n} xq_e;\n", 5),
                           ("/* H */\n\n/* S */\ntypedef struct xq_s {\n    int a; /* a */\n    int b : 3; /* b */\n} xq_s;\n", 6)):
            self.assertRegex(self.refused(text), f"^{line}: not understood")

    def test_every_exported_function_and_no_other_is_in_the_reference(self):
        roles, page = header.read((ROOT / "include/xq/xq.h").read_text(encoding="utf-8"))
        exported = (ROOT / "tests/include/abi.txt").read_text(encoding="utf-8").split()
        self.assertEqual(sorted(name for name, role in roles.items() if role == "c:func"), sorted(exported))
        self.assertEqual(len(re.findall(r"^.. c:function::", page, re.MULTILINE)), len(exported))


if __name__ == "__main__":
    unittest.main()
