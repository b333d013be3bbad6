#!/usr/bin/env python3
"""Replays the recorded tuning spaces of docs/results, draws docs/tuning-replay.svg, and prints the table of
docs/tuning.md.

usage: scripts/plot-replay.py [XQ]      (XQ defaults to build/xq; needs gnuplot)
"""

import glob
import json
import subprocess
import sys

SPACES = "docs/results/space-*.json"
PLOT = "docs/tuning-replay.svg"
COLOURS = ["#1b6ca8", "#c8553d", "#3a7d44", "#8e5572", "#b8860b", "#444444"]

SETTINGS = f"""
set terminal svg size 860,480 font "Helvetica,12" noenhanced background "#ffffff"
set output "{PLOT}"
set title "The best of all over the best found, modelled times; thick: model, thin: random (mean of 100 seeds)"
set xlabel "measurements"
set ylabel "percent of the best"
set logscale x 2
set xrange [1:64]
set yrange [60:101]
set grid
set key bottom right
"""


def replay(xq):
    command = [xq, "tune", "replay", *sorted(glob.glob(SPACES)), "--json", "-"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def series(space, strategy):
    points = [f"{row['measurements']} {100 * row[strategy]:.2f}" for row in space["after"]]
    return "\n".join(points + ["e"])


def draw(spaces):
    curves, data = ["97 with lines dashtype 2 linecolor '#888888' title '97 %'"], []
    for space, colour in zip(spaces, COLOURS):
        look = f"with linespoints pointtype 7 linecolor '{colour}'"
        curves.append(f"'-' {look} pointsize 0.5 linewidth 2.5 title \"{space['space']}\"")
        curves.append(f"'-' {look} pointsize 0.2 linewidth 0.8 notitle")
        data += [series(space, "model"), series(space, "random")]
    script = SETTINGS + "plot " + ", ".join(curves) + "\n" + "\n".join(data) + "\n"
    subprocess.run(["gnuplot"], input=script, check=True, text=True)


def table(spaces):
    lines = ["| space | candidates | after 8 | after 16 | after 32 |", "|---|---|---|---|---|"]
    for space in spaces:
        after = {row["measurements"]: row for row in space["after"]}
        cells = [f"{100 * after[n]['model']:.1f} / {100 * after[n]['random']:.1f}" for n in (8, 16, 32)]
        lines.append(f"| {space['space']} | {space['candidates']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    spaces = replay(sys.argv[1] if len(sys.argv) > 1 else "build/xq")
    draw(spaces)
    print(table(spaces))


if __name__ == "__main__":
    main()
