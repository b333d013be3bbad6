#!/usr/bin/env python3
"""Reports long lines of documents, and comments that open without a subject.

usage: scripts/check-prose.py [ROOT]     the files under ROOT (default: this repository)

A line of a Markdown file has at most 120 characters. Table rows, code blocks, and lines that are one link or address
may be longer.

A comment must not open with "Of", nor with a relative clause ("What a block reads"). Docstrings and titles of sections
count as comments. These openings are allowed:
- a question;
- "Where", "Whatever" or "Whichever", if a main clause follows ("Where no GPU is found, the software device is taken.");
- "of" in a comment that stands after code on its line, because it completes the name there ("int tokens; // of a page").

The script prints file:line for each fault, and exits with 1 if there is one.
"""

import importlib
import pathlib
import re
import sys

sys.dont_write_bytecode = True
links = importlib.import_module("check-links")

LONGEST = 120
TABLE_ROW = re.compile(r"\s*\|")
LIST_MARK = re.compile(r"[\s>]*(?:(?:[-*+]|\d+[.)])\s+)?")
LINK_OR_ADDRESS = re.compile(r"(?:!?\[[^\]]*\]\([^)]*\)|\[[^\]]*\]:\s*\S+|<?https?://\S+)[.,;:]?")

# Strings are matched too, so that a comment mark in a string opens no comment.
STRINGS = r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
C = re.compile(r"//[^\n]*|/\*.*?\*/|" + STRINGS, re.DOTALL)
LUA = re.compile(r"--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|" + STRINGS, re.DOTALL)
PYTHON = re.compile(r"#[^\n]*|\"\"\".*?\"\"\"|'''.*?'''|" + STRINGS, re.DOTALL)
SHELL = re.compile(r"(?<!\S)#[^\n]*")
LUA_LINE = re.compile(r"^[ \t]*%[^\n]*", re.MULTILINE)  # in a template
LANGUAGES = {".c": C, ".h": C, ".cc": C, ".cpp": C, ".hpp": C, ".cu": C, ".cuh": C,
             ".lua": LUA, ".py": PYTHON, ".sh": SHELL, ".mk": SHELL}

MARK = re.compile(r"/[/*]+[!<]*|--(?:\[=*\[|-*)|#+!?|\"\"\"|'''")
OPENING = re.compile(r"[\s*=-]*(\w+)(?=[\s,:])(.*)", re.DOTALL)
SENTENCE = re.compile(r"(.*?)(?:([.?!:;])(?=\s|$)|$)", re.DOTALL)
RELATIVE = {"what", "which", "who", "whoever", "whom", "whose"}
RELATIVE_OR_ADVERBIAL = {"where", "whatever", "whichever"}
MAIN_CLAUSE = re.compile(r",\s+(?!(?:and|as|at|by|for|from|if|in|of|or|to|when|which|with)\b)")


def comments(text, language):
    """Yields the comments of a text as (line, whether code stands before it, words).

    Line comments that follow each other are one comment.
    """
    continued = None  # the line and column where a line comment would continue the last one
    for match in language.finditer(text):
        mark = MARK.match(match.group())
        begin = text.rfind("\n", 0, match.start()) + 1
        after_code = bool(text[begin:match.start()].strip())
        if not mark or (after_code and mark.group() in ('"""', "'''")):
            continue
        column = match.start() - begin
        if after_code or (begin, column) != continued:
            yield text.count("\n", 0, match.start()) + 1, after_code, joined(text, match, mark)
        continued = (match.end() + 1, column) if is_line_comment(mark) else None


def is_line_comment(mark):
    return mark.group()[:2] != "/*" and mark.group()[-1] not in "\"'["


def joined(text, match, mark):
    """Returns the words of a comment; of line comments, those of the lines that follow as well."""
    words = match.group()[mark.end():]
    if is_line_comment(mark):
        more = re.compile(r"(?:\n[ \t]*" + re.escape(mark.group()) + r"[^\n]*)+").match(text, match.end())
        if more:
            words += re.sub(r"\n[ \t]*" + re.escape(mark.group()), "\n", more.group())
    return re.sub(r"\n[ \t]*\*", "\n", words).removesuffix("*/").removesuffix('"""').removesuffix("'''")


def comment_fault(after_code, words):
    """Returns the fault of the words that a comment opens with, or None."""
    opening = OPENING.match(words)
    if not opening:
        return None
    word, rest = opening.groups()
    sentence, end = SENTENCE.match(rest).groups()
    if end == "?":
        return None
    if word == "Of" or (word == "of" and not after_code):
        return f'a comment opens with "{word}"'
    is_relative = word.lower() in RELATIVE_OR_ADVERBIAL and not MAIN_CLAUSE.search(sentence)
    if is_relative or word.lower() in RELATIVE:
        return f'a comment opens with a relative clause, "{word} ..."'
    return None


def comments_of(path, text):
    """Returns the comments of a file, in the order of its lines; none for a file in another language."""
    if path.name.endswith(".cu.lt"):
        lua = "\n".join(line if LUA_LINE.match(line) else "" for line in text.split("\n"))
        return sorted([*comments(LUA_LINE.sub("", text), C), *comments(lua, LUA)])
    language = SHELL if path.name == "Makefile" else LANGUAGES.get(path.suffix)
    return comments(text, language) if language else ()


def long_lines(text):
    """Yields the number and the fault of each line of a document that is too long."""
    for number, line in enumerate(links.without_code_blocks(text).split("\n"), 1):
        if len(line) > LONGEST and not TABLE_ROW.match(line):
            if not LINK_OR_ADDRESS.fullmatch(line[LIST_MARK.match(line).end():].rstrip()):
                yield number, f"a line of {len(line)} characters, of at most {LONGEST}"


def faults_of(root, path):
    text = path.read_text(encoding="utf-8")
    found = long_lines(text) if path.suffix == ".md" else (
        (line, comment_fault(after_code, words)) for line, after_code, words in comments_of(path, text))
    return [f"{path.relative_to(root)}:{line}: {fault}" for line, fault in found if fault]


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    suffixes = {".md", ".lt", "", *LANGUAGES}
    sources = [p for p in links.files(root, suffixes) if p.suffix or p.name == "Makefile"]
    return links.report("check-prose", root, sources, faults_of)


if __name__ == "__main__":
    sys.exit(main())
