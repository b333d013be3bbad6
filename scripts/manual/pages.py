"""A Sphinx extension that adds to the manual's pages what their Markdown does not have.

The index, docs/README.md, orders the pages: the links in a section's table form a part of the table of contents. The C
reference is inserted into docs/reference.md. The language of code blocks is guessed from their text and highlighted.
Code that is a name of the header becomes a link to it, and links that show a page's file name show its title
instead."""

import json
import pathlib
import posixpath
import re

import header
from docutils import nodes
from sphinx import addnodes
from sphinx.errors import ExtensionError

HEADER = "include/xq/xq.h"
REFERENCE = "docs/reference"
PLACE = re.compile(r"^```text\ninclude/xq/xq\.h\n```$", re.MULTILINE)
PAGE = re.compile(r"\]\(([\w./-]+)\.md\)")
COMMANDS = re.compile(r"(?:[A-Z_]+=\S* )*(?:xq|make|cc|sh|cmake|git|pip|python3?|export|docker|parallel|sqlite3"
                      r"|(?:\.venv|tools|build|examples|\.)/\S+) ")
C = re.compile(r"^\s*(?:#include|xq_\w+ [*\w]+|/\*)", re.MULTILINE)


def reference(app):
    path = pathlib.Path(app.srcdir, HEADER)
    try:
        return header.read(path.read_text(encoding="utf-8"))
    except header.HeaderError as error:
        raise ExtensionError("\n".join(f"{HEADER}:{line}" for line in str(error).split("\n"))) from None


def parts_of_index(text):
    """Yields the captions and pages of the index's sections. Each page comes once."""
    seen = set()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        rows = "\n".join(line for line in section.split("\n") if line.startswith("|"))
        found = [page for page in PAGE.findall(rows) if page not in seen]
        seen.update(found)
        if found:
            yield section.split("\n", 1)[0], list(dict.fromkeys(found))


def contents(caption, pages):
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def folders(app, index):
    """Returns the pages of folders other than the index's, except those that the index names."""
    folder = posixpath.dirname(app.config.root_doc)
    named = {posixpath.normpath(f"{folder}/{page}") for _, pages in parts_of_index(index) for page in pages}
    return ["/" + name for name in sorted(app.env.found_docs - named) if posixpath.dirname(name) != folder]


def complete_source(app, docname, source):
    text = source[0]
    if docname == app.config.root_doc:
        parts = [*parts_of_index(text), ("Folders", folders(app, text))]
        text += "".join(contents(caption, pages) for caption, pages in parts)
    elif docname == REFERENCE:
        text, count = PLACE.subn(lambda _: reference(app)[1], text)
        if count != 1:
            raise ExtensionError(f"{docname}.md lacks the block that the reference of {HEADER} takes the place of")
    elif not text.startswith("# "):
        text = f"# {docname.removesuffix('/README')}\n\n{text}"
    source[0] = text


def language_of(text):
    if text.lstrip().startswith(("{", "[")):
        try:
            json.loads(text)
            return "json"
        except ValueError:
            pass
    if C.search(text):
        return "c"
    return "bash" if COMMANDS.match(text) else None


def is_within(node, kinds):
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node is not None


def complete_tree(app, tree):
    for block in tree.findall(nodes.literal_block):
        if block["language"] == "none":  # an indented code block
            block["language"], block["force"] = language_of(block.astext()) or "none", True
    for link in tree.findall(addnodes.pending_xref):
        if link.get("reftype") == "myst" and re.fullmatch(r"[\w./-]+\.md", link.astext()):
            link["refexplicit"] = False
            link.children[0].clear()
    roles = app.env.xq_roles
    for code in list(tree.findall(nodes.literal)):
        name = code.astext().removesuffix("()")
        if name in roles and not is_within(code, (nodes.reference, nodes.title, addnodes.pending_xref)):
            link = addnodes.pending_xref("", code.deepcopy(), refdomain="c", reftype=roles[name][2:], reftarget=name,
                                         refdoc=app.env.docname, refexplicit=True)
            code.replace_self(link)


def begin(app, env, *_):
    env.xq_roles = reference(app)[0]


def setup(app):
    app.connect("env-before-read-docs", begin)
    app.connect("source-read", complete_source)
    app.connect("doctree-read", complete_tree)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
