#!/bin/sh
# Writes the output of `xq --help` and `xq SUBCOMMAND --help`, for every subcommand and its parts, to DIRECTORY/xq.txt,
# DIRECTORY/xq-tune.txt, DIRECTORY/xq-tune-report.txt, ...; and the presets that --model knows to DIRECTORY/models.
# Man pages and completion are made from these files, so that cli/ is the only place that defines options.
#
#   usage: scripts/pages/help.sh XQ DIRECTORY
set -eu
xq=$1
folder=$2
mkdir -p "$folder"
rm -f "$folder"/*
"$xq" --help >"$folder/xq.txt"
# A line `  tune      summary (parts: merge, report)` names a subcommand and its parts.
sed -n '/^$/,/^`xq/s/^  \([a-z][a-z-]*\) .*/\1/p' "$folder/xq.txt" | while read -r name; do
    "$xq" "$name" --help >"$folder/xq-$name.txt"
    for part in $(sed -n "s/^  $name .*(parts: \(.*\))\$/\1/p" "$folder/xq.txt" | tr ',' ' '); do
        "$xq" "$name" "$part" --help >"$folder/xq-$name-$part.txt"
    done
done
"$xq" gen --list-models >"$folder/models"
