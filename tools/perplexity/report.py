"""Reports of the measured rows: results.json, tables in Markdown, and plots by gnuplot."""

import os
import re
import shutil
import subprocess
import tempfile

from realmodel import InputError, files

from .runs import describe

COLUMNS = ("cache", "bits", "options", "memory", "smaller", "as the paper counts", "perplexity", "lost")
AGAINST_FP16 = ("KL mean", "KL 99 %", "same first choice")  # columns of tables with a row that was compared with fp16
DIVERGENCE = ("kl_mean", "kl_p99", "top1", "kl_tokens")  # fields of all rows but fp16, named as in `llama perplexity`


def results(rows, found, text):
    """Returns the list in docs/accuracy/results.json, with a dictionary for each row."""
    fp16 = {(row.model, row.short): found[row.key()]["ppl"] for row in rows if row.method == "fp16"}
    listed = []
    for row in rows:
        measured = found[row.key()]
        listed.append({
            "section": row.section, "model": row.model, "text": os.path.basename(text),
            "tokens": measured["tokens"], "window": measured["window"],
            "method": row.method, "bits": row.bits, "options": dict(row.options),
            "memory": measured["memory"], "memory_paper": measured["memory_paper"],
            "bytes_per_token": measured["bytes_per_token"],
            "ppl": measured["ppl"], "ppl_fp16": fp16[row.model, row.short],
            **{name: measured[name] for name in DIVERGENCE if name in measured},
        })
    return listed


def show_option(name, value):
    return f"`{name}`" if value is True else f"no `{name}`" if value is False else f"`{name}` {value}"


def table_line(result):
    options = ", ".join(show_option(name, value) for name, value in result["options"].items())
    return (result["method"], str(result["bits"]), options, f"{result['memory']:.3f}",
            f"{1 / result['memory']:.2f}×", f"{result['memory_paper']:.3f}", f"{result['ppl']:.3f}",
            f"{result['ppl'] - result['ppl_fp16']:.3f}" if result["method"] != "fp16" else "")


def against_fp16(result):
    """Returns the cells of the columns that compare with fp16. They are empty for fp16 itself."""
    if "kl_mean" not in result:
        return ("",) * len(AGAINST_FP16)
    return f"{result['kl_mean']:.4f}", f"{result['kl_p99']:.3f}", f"{100 * result['top1']:.1f} %"


def markdown(lines):
    return ["| " + " | ".join(line) + " |" for line in lines]


def model_table(rows):
    """Returns the lines of a table: a heading, a rule, and a line for each row."""
    compared = any("kl_mean" in result for result in rows)
    columns = COLUMNS + (AGAINST_FP16 if compared else ())
    lines = [table_line(result) + (against_fp16(result) if compared else ()) for result in rows]
    return [*markdown([columns]), "|" + "---|" * len(columns), *markdown(lines)]


def table(results, section):
    """Returns a section's rows in Markdown, with a table for each model."""
    lines = []
    for model in dict.fromkeys(result["model"] for result in results if result["section"] == section):
        rows = [result for result in results if (result["section"], result["model"]) == (section, model)]
        lines += [f"**{model}**", "", *model_table(rows), ""]
    return "\n".join(lines)


def sections(results):
    return list(dict.fromkeys(result["section"] for result in results))


def fill(page, results):
    """Returns the page's text with every block `<!-- rows: SECTION -->` … `<!-- end -->` replaced by the new table."""
    def replace(match):
        if match.group(1) not in sections(results):
            raise InputError(f"the page asks for rows '{match.group(1)}'; valid: {', '.join(sections(results))}")
        return f"<!-- rows: {match.group(1)} -->\n{table(results, match.group(1))}<!-- end -->"
    return re.sub(r"<!-- rows: ([a-z-]+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def tables(results):
    return "\n".join(f"## {section}\n\n{table(results, section)}" for section in sections(results))


# ---------------------------------------------------------------- plot

PLOTTED = ("paper", "default", "feedback", "brief")  # sections with caches that people would use
STYLE = """set terminal svg size 860,520 font 'sans,13' background rgb 'white'
set output '{output}'
set title '{title}'
set xlabel 'memory, of an fp16 KV cache (everything counted)'
set ylabel '{measure}'
set logscale y
set format x '%.2f'
set grid
set key outside right top
plot {curves}
"""


def series(results):
    """Returns the curves of caches that people would use: name → points (memory, lost, bits), smallest memory first."""
    curves = {}
    for result in results:
        lost = result["ppl"] - result["ppl_fp16"]
        if result["method"] == "fp16" or result["section"] not in PLOTTED or lost <= 0:
            continue
        options = result["options"]
        if result["section"] == "feedback" and "calibrated" not in options:
            continue
        name = "with feedback" if "feedback" in options else "xq's default" if "calibrated" in options else result["method"]
        curves.setdefault(name, []).append((result["memory"], lost, result["bits"]))
    return {name: sorted(points) for name, points in curves.items()}


FORMS = {"joint": (False, False), "keys by head, values joint": (True, False), "keys joint, values by head": (False, True),
         "both by head": (True, True)}


def forms_of_latents(results):
    """Returns the curves of calibrated latents, joint and by head, in groups of 64 channels and with f16 weights: name →
    points (memory, KL mean, bits)."""
    curves = {}
    shown = [result for result in results if result["section"] == "groups" and result["options"]["group"] == 64
             and result["options"]["weights"] == "f16" and "calibrated" in result["options"] and "kl_mean" in result]
    latents = {id(result): [int(count) for count in result["options"]["groups"].split(",")] for result in shown}
    heads = max((max(counts) for counts in latents.values()), default=1)
    for result in shown:
        options, counts = result["options"], latents[id(result)]
        if any(count not in (1, heads) for count in counts):
            continue
        form = tuple(count > 1 for count in counts)
        name = next(name for name, by_head in FORMS.items() if by_head == form) + (", feedback" if "feedback" in options else "")
        curves.setdefault(name, []).append((result["memory"], result["kl_mean"], result["bits"]))
    return {name: sorted(points) for name, points in curves.items()}


def plots(results, model, folder):
    """Draws one model's rows to MODEL.svg and MODEL-latents.svg, if there are any. Returns False if there is no
    gnuplot."""
    if shutil.which("gnuplot") is None:
        return False
    own = [result for result in results if result["model"] == model]
    draw(series(own), f"{model}: what caches cost", "perplexity lost", os.path.join(folder, f"{model}.svg"))
    draw(forms_of_latents(own), f"{model}: latents joint and by head", "KL divergence from fp16, mean",
         os.path.join(folder, f"{model}-latents.svg"))
    return True


def draw(curves, title, measure, path):
    if not curves:
        return
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for number, (name, points) in enumerate(curves.items()):
            data = os.path.join(folder, f"{number}.txt")
            with open(data, "w", encoding="ascii") as file:
                file.writelines(f"{memory} {value} {bits}\n" for memory, value, bits in points)
            parts.append(f"'{data}' using 1:2 with linespoints pointtype {number + 4} linewidth 2 title \"{name}\"")
            parts.append(f"'{data}' using 1:2:3 with labels offset 1.2,0.6 font ',10' notitle")
        output = os.path.join(folder, "plot.svg")
        script = STYLE.format(output=output, title=title, measure=measure, curves=", \\\n  ".join(parts))
        result = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True)
        if result.returncode != 0:
            raise InputError(f"gnuplot: {(result.stderr.strip().splitlines() or ['failed'])[-1]}")
        with open(output, "rb") as source, files.published(path) as target:
            target.write(source.read())


def summary(results):
    width = max(len(describe_result(result)) for result in results)
    return "\n".join(f"{describe_result(result):{width}}  {summarized(result)}" for result in results)


def summarized(result):
    text = f"memory {result['memory']:.3f}  perplexity {result['ppl']:8.3f}"
    if result["method"] != "fp16":
        text += f"  lost {result['ppl'] - result['ppl_fp16']:7.3f}"
    if "kl_mean" in result:
        mean, p99, same = against_fp16(result)
        text += f"  KL {mean} mean, {p99:>6} at 99 %  same first choice {same:>7}"
    return text


def describe_result(result):
    from .rows import row
    return f"{result['model']} " + describe(row("", result["model"], result["method"], result["bits"], **result["options"]))
