#!/usr/bin/env python3
"""Reports links that lead nowhere.

usage: scripts/check-links.py [ROOT]         the Markdown files under ROOT (default: this repository)
       scripts/check-links.py --html ROOT    the pages under ROOT, as `make html` builds them

A link within ROOT must lead to a file or folder that exists, and its anchor to a heading (as GitHub names it), an id, or
a line (#L12) of that file. With --html, pages must not load anything from the network; links that readers follow may
lead there. Addresses on the network are not checked. The script prints file:line for each fault, and exits with 1 if
there is one.
"""

import functools
import html.parser
import pathlib
import re
import sys
import urllib.parse

SKIPPED = {"build", "dist", "node_modules"}  # hidden folders are skipped as well
FENCE = re.compile(r"\s*(`{3,}|~{3,})")
LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+")
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
INLINE_LINK = re.compile(r"\]\(\s*(<[^<>\n]*>|[^\s()<>]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]\n]+\]:[ \t]*(<[^<>\n]*>|\S+)", re.MULTILINE)
TAG_LINK = re.compile(r"<(?:a|img|source)\b[^<>]*?\b(?:href|src|srcset)=[\"']([^\"']*)", re.DOTALL)
TAG_ID = re.compile(r"<\w+\b[^<>]*?\b(?:id|name)=[\"']([^\"']*)")
LINE_ANCHOR = re.compile(r"L(\d+)(?:-L(\d+))?$")
CSS_ADDRESS = re.compile(r"(?:url\(|@import)\s*[\"']?([^\"')\s;]+)")


def blank(match):
    """Replaces all characters of a match but line ends by spaces, so that line numbers stay right."""
    return re.sub(r"[^\n]", " ", match.group(0))


def without_code_blocks(text):
    """Returns the text with the lines of fenced and indented code blocks made empty."""
    kept, fence, margins, code, after_blank = [], "", [0], False, True
    for line in text.split("\n"):
        stripped = line.lstrip(" ")
        indent = len(line) - len(stripped)
        opening = FENCE.match(line)
        if fence:
            if opening and opening.group(1).startswith(fence) and not stripped.strip("`~ "):
                fence = ""
            line = ""
        elif not stripped:
            after_blank = True
        elif (code or after_blank) and indent >= margins[-1] + 4:
            code, line = True, ""
        else:
            code = False
            while after_blank and indent < margins[-1]:
                margins.pop()
            item = LIST_ITEM.match(line)
            if opening:
                fence, line = opening.group(1), ""
            elif item:
                while indent < margins[-1]:
                    margins.pop()
                margins.append(item.end())
            elif HEADING.match(line):
                margins = [0]
            after_blank = False
        kept.append(line)
    return "\n".join(kept)


def slug(heading):
    """Returns the anchor that GitHub gives to a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"<[^>]*>", "", text)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def headings(text):
    previous = ""
    for line in text.split("\n"):
        heading = HEADING.match(line)
        if heading:
            yield heading.group(1)
        elif UNDERLINE.match(line) and previous.strip() and not LIST_ITEM.match(previous) and "|" not in previous:
            yield previous.strip()
        previous = "" if heading else line


class Markdown:
    """The links of a Markdown file, as (line, destination), and its anchors."""

    def __init__(self, path):
        text = without_code_blocks(COMMENT.sub(blank, path.read_text(encoding="utf-8")))
        self.anchors = set(TAG_ID.findall(text))
        counts = {}
        for heading in headings(text):
            name = slug(heading)
            self.anchors.add(f"{name}-{counts[name]}" if name in counts else name)
            counts[name] = counts.get(name, 0) + 1
        prose = CODE_SPAN.sub(blank, text)
        found = [m for pattern in (INLINE_LINK, DEFINITION, TAG_LINK) for m in pattern.finditer(prose)]
        self.links = sorted((prose.count("\n", 0, m.start(1)) + 1, m.group(1).strip("<>")) for m in found)
        self.loads = []


class Page(html.parser.HTMLParser):
    """The links of an HTML or SVG file and the files that it loads, as (line, destination), and its anchors."""

    LOADED = {"src", "srcset", "data", "poster"}

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = {"", "top"}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name in ("href", "xlink:href"):
                (self.links if tag == "a" else self.loads).append((self.getpos()[0], value))
            elif name in self.LOADED:
                self.loads += [(self.getpos()[0], part.split()[0]) for part in value.split(", ")]
            elif name == "style":
                self.loads += [(self.getpos()[0], address) for address in CSS_ADDRESS.findall(value)]


class Stylesheet:
    def __init__(self, path):
        text = path.read_text(encoding="utf-8")
        self.anchors, self.links = set(), []
        self.loads = [(text.count("\n", 0, m.start()) + 1, m.group(1)) for m in CSS_ADDRESS.finditer(text)]


READERS = {".md": Markdown, ".html": Page, ".svg": Page, ".css": Stylesheet}


@functools.lru_cache(maxsize=None)
def read(path):
    return READERS[path.suffix](path)


def anchor_fault(path, anchor):
    """Returns the fault of an anchor of a file or folder, or None."""
    if path.is_dir():
        path = path / "README.md"
    lines = LINE_ANCHOR.match(anchor)
    if path.suffix in (".md", ".html", ".svg"):
        known = path.exists() and anchor in read(path).anchors
    else:
        known = lines and int(lines[2] or lines[1]) <= len(path.read_bytes().splitlines())
    return None if known else f"no anchor #{anchor} in it"


def link_fault(root, source, destination):
    """Returns the fault of a link in this file, or None."""
    try:
        parts = urllib.parse.urlsplit(destination)
    except ValueError:
        return "not an address"
    if parts.scheme or parts.netloc:
        return None
    if parts.path.startswith("/"):
        return "not a relative link"
    target = (source.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else source
    if not target.is_relative_to(root):
        return "leads out of the folder"
    if not target.exists():
        return "no such file"
    return anchor_fault(target, urllib.parse.unquote(parts.fragment)) if parts.fragment else None


def load_fault(root, source, destination):
    """Returns the fault of an address that is loaded together with this file, or None."""
    if destination.startswith("data:"):
        return None
    parts = urllib.parse.urlsplit(destination)
    if parts.scheme or parts.netloc:
        return "loaded from the network"
    return link_fault(root, source, destination)


def faults_of(root, source):
    found = read(source)
    for check, links in ((link_fault, found.links), (load_fault, found.loads)):
        for line, destination in links:
            fault = check(root, source, destination)
            if fault:
                yield f"{source.relative_to(root)}:{line}: {destination}: {fault}"


def files(root, suffixes):
    for path in sorted(root.iterdir()):
        if path.is_dir():
            if path.name not in SKIPPED and not path.name.startswith("."):
                yield from files(path, suffixes)
        elif path.suffix in suffixes:
            yield path


def report(checker, root, sources, faults_of):
    """Prints the faults of all sources, and returns the exit status: 0 without faults, 1 with some, 2 without sources."""
    if not sources:
        print(f"{checker}: {root} holds nothing to check", file=sys.stderr)
        return 2
    faults = [fault for source in sources for fault in faults_of(root, source)]
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


def main():
    arguments = sys.argv[1:]
    suffixes = {".md"}
    if arguments[:1] == ["--html"]:
        suffixes = {".html", ".svg", ".css"}
        arguments = arguments[1:]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent).resolve()
    return report("check-links", root, list(files(root, suffixes)), faults_of)


if __name__ == "__main__":
    sys.exit(main())
