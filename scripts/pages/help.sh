#!/bin/sh
# Writes what `xq --help` and `xq SUBCOMMAND --help` print, of every subcommand and its parts: DIRECTORY/xq.txt,
# DIRECTORY/xq-tune.txt, DIRECTORY/xq-tune-report.txt, ...; and DIRECTORY/models, the presets that --model knows.
# Man pages and completion are made from these files, so that options are written down once, in cli/.
#
#   usage: scripts/pages/help.sh XQ DIRECTORY
set -eu
xq=$1
folder=$2
mkdir -p "$folder"
rm -f "$folder"/*
"$xq" --help >"$folder/xq.txt"
# `  tune      summary (parts: merge, report)`: the subcommand, and the parts that it has.
sed -n '/^$/,/^`xq/s/^  \([a-z][a-z-]*\) .*/\1/p' "$folder/xq.txt" | while read -r name; do
    "$xq" "$name" --help >"$folder/xq-$name.txt"
    for part in $(sed -n "s/^  $name .*(parts: \(.*\))\$/\1/p" "$folder/xq.txt" | tr ',' ' '); do
        "$xq" "$name" "$part" --help >"$folder/xq-$name-$part.txt"
    done
done
"$xq" gen --list-models >"$folder/models"
