#!/usr/bin/env python3
"""Reports #includes of headers from folders that come later in FOLDERS than the file's own folder.

usage: scripts/check-includes.py [ROOT]

A file may include headers of its own folder, of runtime/base, and of folders that come before its own in FOLDERS. The
folders of tests/ share code in tests/support, and include nothing of each other. The script prints file:line for each
other include, and exits with 1 if there is one.
"""

import pathlib
import re
import sys

FOLDERS = [
    "include",
    "templates",
    "gen",
    "runtime/device",
    "runtime/launch",
    "runtime/host",
    "runtime/compile",
    "runtime/plan",
    "sim",
    "prepare",
    "autotune/reference",
    "autotune/engine",
    "autotune/verify",
    "autotune/measure",
    "autotune/search",
    "cli",
    "examples",
    "tests/support",
    "tests",
]
FOR_ALL = "runtime/base"
SEARCHED = ["include", "templates/lib"]  # the same folders as in the compiler's -I
INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')


def folder_of(path):
    """Returns the longest folder of the list that holds the file, or None."""
    parents = [p.as_posix() for p in path.parents]
    return next((p for p in parents if p in FOLDERS or p == FOR_ALL), None)


def included_file(root, source, name):
    """Returns the included file of the repository, relative to root, or None for a header of the system."""
    for folder in [source.parent.as_posix(), *SEARCHED]:
        found = (root / folder / name).resolve()
        if found.is_file() and found.is_relative_to(root):
            return found.relative_to(root)
    return None


def is_allowed(source, target):
    if source == target or target == FOR_ALL:
        return True
    if source == FOR_ALL:
        return target == "include"
    return FOLDERS.index(target) < FOLDERS.index(source)


def faults_of(root, source):
    here = folder_of(source)
    text = (root / source).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        target = match and included_file(root, source, match.group(1))
        there = target and folder_of(target)
        if there and not is_allowed(here, there):
            yield f"{source}:{number}: {here} must not include {target}, which is of a later folder"
        elif there == "tests" and not target.is_relative_to(source.parent):
            yield f"{source}:{number}: {source.parent} must not include {target}; tests share code in tests/support"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    tops = {folder.split("/")[0] for folder in FOLDERS}
    faults = []
    for top in sorted(tops):
        for path in sorted((root / top).rglob("*")):
            source = path.relative_to(root)
            if path.suffix in (".c", ".h", ".cuh") and folder_of(source):
                faults += faults_of(root, source)
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
