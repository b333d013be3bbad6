#!/usr/bin/env python3
"""Perplexity of xq's caches, and of others, on real models: docs/accuracy.md, measured anew.

`make accuracy TEXT=FILE` builds what this needs and calls it. Rows that were measured before, with the same programs,
models and text, are kept. Errors are one line on stderr, exit status 1.
"""

import argparse
import os
import sys

try:
    from perplexity import report, rows, runs, table
    from realmodel import InputError, files
except ImportError as error:
    sys.exit(f"accuracy: {error}; `make venv`, then run this with .venv/bin/python")


def say(text):
    print(f"accuracy: {text}", file=sys.stderr, flush=True)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="accuracy", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=DIR",
                        help="a model's name in the table, and its directory (may be repeated)")
    parser.add_argument("--brief", action="append", default=[], metavar="NAME=DIR",
                        help="a model that gets a few rows only, over a quarter of the windows (may be repeated)")
    parser.add_argument("--calibration", action="append", default=[], metavar="NAME=TEXT=FILE",
                        help="activations of the model NAME on the text `rest` or `gpl-3`, as tools/models.py writes them "
                             "(may be repeated)")
    parser.add_argument("--sections", metavar="NAME,NAME", help="sections of the table to measure (all)")
    parser.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text to predict")
    parser.add_argument("--window", type=int, default=1024, metavar="N", help="tokens of a window (1024)")
    parser.add_argument("--windows", type=int, default=40, metavar="N", help="windows of the text to predict (40)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="rows measured at the same time (one for each core)")
    parser.add_argument("--xq", default="build/xq", metavar="FILE", help="the program xq (build/xq)")
    parser.add_argument("--llama", default="build/llama/llama", metavar="FILE", help="the program of examples/llama (build/llama/llama)")
    parser.add_argument("--work", default="build/accuracy", metavar="DIR", help="folder that keeps measured rows (build/accuracy)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for results.json, the plots and, without --page, tables.md")
    parser.add_argument("--page", metavar="FILE", help="page whose tables are replaced, such as docs/accuracy.md")
    options = parser.parse_args(arguments)
    for name in ("window", "windows", "jobs"):
        least = 2 if name == "window" else 1
        if getattr(options, name) < least:
            parser.error(f"--{name} {getattr(options, name)}: expected {least} or more")
    return options


def named(option, texts, *parts):
    """Splits each value of an option such as NAME=DIR or NAME=TEXT=FILE into its parts."""
    split = [text.split("=", len(parts) - 1) for text in texts]
    for text, found in zip(texts, split):
        if len(found) != len(parts) or not all(found):
            raise InputError(f"{option} {text}: expected {'='.join(parts)}")
    return split


def calibrations(texts):
    found = {}
    for model, text, path in named("--calibration", texts, "NAME", "TEXT", "FILE"):
        found.setdefault(model, {})[text] = path
    return found


def chosen(rows, sections):
    """Returns the rows of the sections, and the fp16 rows of their models."""
    if not sections:
        return rows
    names = sections.split(",")
    unknown = set(names) - {row.section for row in rows}
    if unknown:
        raise InputError(f"--sections {sections}: {min(unknown)} is not known; valid: "
                         + ", ".join(dict.fromkeys(row.section for row in rows)))
    kinds = {(row.model, row.short) for row in rows if row.section in names}
    return [row for row in rows if row.section in names or row.method == "fp16" and (row.model, row.short) in kinds]


def main(arguments=None):
    options = parse(arguments)
    try:
        whole = dict(named("--model", options.model, "NAME", "DIR"))
        short = dict(named("--brief", options.brief, "NAME", "DIR"))
        folders = {**whole, **short}
        wanted = chosen(table.rows_of(whole, short), options.sections)
        windows = {name: options.windows for name in whole} | {name: runs.quarter(options.windows) for name in short}
        say(f"{len(wanted)} rows, {options.windows} windows of {options.window} tokens of {options.text}")
        runner = runs.Runner(options.xq, options.llama, options.work, folders, calibrations(options.calibration),
                             options.text, options.window, windows, options.jobs)
        listed = report.results(wanted, runner.run(wanted), options.text)
        files.write_json(os.path.join(options.out, "results.json"), listed)
        for name in folders:
            if not report.plots(listed, name, options.out):
                say("gnuplot was not found, so no plots are drawn")
                break
        if options.page:
            with open(options.page, encoding="utf-8") as file:
                text = report.fill(file.read(), listed)
            with files.published(options.page) as file:
                file.write(text.encode())
        else:
            with files.published(os.path.join(options.out, "tables.md")) as file:
                file.write(report.tables(listed).encode())
        print(report.summary(listed))
    except (InputError, OSError) as error:
        say(" ".join(str(error).split()))
        return 1
    except KeyboardInterrupt:
        say("stopped; measured rows are kept, and the same command continues")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
