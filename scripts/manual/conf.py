"""Settings of Sphinx for `make html`. The source folder is the repository itself, so that links between its files are
links between pages. pages.py and sources.py extend Sphinx."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

header = pathlib.Path(__file__).parents[2] / "include/xq/xq.h"

project = "xq"
version = release = ".".join(re.findall(r"define XQ_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text(encoding="utf-8")))
extensions = ["myst_parser", "pages", "sources"]
root_doc = "docs/README"
include_patterns = ["*.md", "**/*.md"]
exclude_patterns = ["build", "dist", ".*", "**/.*", "**/build", "**/node_modules"]
nitpicky = True
nitpick_ignore = [("c:identifier", name) for name in ("int32_t", "int64_t", "size_t", "uint8_t", "uint64_t")]

myst_heading_anchors = 6
smartquotes = False
highlight_language = "text"

html_theme = "furo"
html_title = f"xq {version}"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_show_copyright = False
html_show_search_summary = False  # it would load pages by script, which browsers refuse for local files
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
