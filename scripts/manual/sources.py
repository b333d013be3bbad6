"""A Sphinx extension that leads links from the manual to files and folders of the repository to pages that show them.

A folder's page is its README, or a list of its files if it has no README. Files that are not text are copied by
Sphinx."""

import html
import os
import pathlib
import posixpath

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes

HEADER = "include/xq/xq.h"
REFERENCE = "docs/reference"
LANGUAGES = {".cuh": "cuda", ".lt": "cuda", ".h": "c"}
LARGEST = 1 << 16  # size in bytes from which files are not highlighted, because browsers are slow with them
INDEX = '<!doctype html><meta charset="utf-8"><title>xq</title><meta http-equiv="refresh" content="0; url={0}"><a href="{0}">xq</a>\n'


def path_of(app, target):
    """Returns the path, relative to the repository, to which a link of the current page leads; None if it leads
    outside."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(app.env.docname), target))
    return path if not path.startswith("..") and pathlib.Path(app.srcdir, path).exists() else None


def text_of(path):
    """Returns the text of a file, or None if the file is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def files_of(app, folder):
    paths = sorted(pathlib.Path(app.srcdir, folder).iterdir())
    return [p.name for p in paths if p.is_file() and not p.name.startswith(".") and text_of(p) is not None]


def link_to_page(app, link, path):
    """Returns the node that links to the page of a file or folder."""
    folder = pathlib.Path(app.srcdir, path).is_dir()
    page = REFERENCE if path == HEADER else posixpath.join(path, "README") if folder else None
    if page in app.env.found_docs:
        return addnodes.pending_xref("", *link.children, refdomain="std", reftype="doc", reftarget="/" + page,
                                     refdoc=app.env.docname, refexplicit=True)
    app.env.xq_sources.add(path)
    if folder:
        app.env.xq_sources.update(posixpath.join(path, name) for name in files_of(app, path))
    here = posixpath.dirname(app.env.docname)
    return nodes.reference("", "", *link.children, internal=True, refuri=posixpath.relpath(path, here or ".") + ".html")


def replace_links(app, tree):
    links = [*tree.findall(addnodes.download_reference), *tree.findall(addnodes.pending_xref)]
    for link in links:
        path = link.get("reftype") == "myst" and link.get("refdomain") != "doc" and path_of(app, link["reftarget"])
        if path and (pathlib.Path(app.srcdir, path).is_dir() or text_of(pathlib.Path(app.srcdir, path)) is not None):
            link.replace_self(link_to_page(app, link, path))


def language_of(path):
    if path.suffix in LANGUAGES:
        return LANGUAGES[path.suffix]
    try:
        return get_lexer_for_filename(path.name).aliases[0]
    except (ClassNotFound, IndexError):
        return "text"


def body_of(app, path):
    full = pathlib.Path(app.srcdir, path)
    if full.is_dir():
        items = "".join(f'<li><a href="{os.path.basename(path)}/{name}.html">{name}</a></li>' for name in files_of(app, path))
        return f"<ul>{items}</ul>"
    text = text_of(full)
    language = language_of(full) if len(text) < LARGEST else "text"
    return app.builder.highlighter.highlight_block(text, language, force=True, opts={"stripnl": False})


def pages(app):
    for path in sorted(app.env.xq_sources):
        yield path, {"title": path, "body": f'<h1 class="source">{html.escape(path)}</h1>{body_of(app, path)}'}, "page.html"


def write_index(app, error):
    if not error:
        page = app.builder.get_target_uri(app.config.root_doc)
        pathlib.Path(app.outdir, "index.html").write_text(INDEX.format(page), encoding="utf-8")


def begin(app, env, *_):
    env.xq_sources = set()


def setup(app):
    app.connect("env-before-read-docs", begin)
    app.connect("doctree-read", replace_links, priority=100)  # before Sphinx copies the files that links name
    app.connect("html-collect-pages", pages)
    app.connect("build-finished", write_index)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
