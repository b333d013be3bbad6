#!/usr/bin/env python3
"""Prints a result of `xq tune --strategy exhaustive --json FILE` on one line, with only the fields that `xq tune
replay` needs.

usage: scripts/compact-space.py FILE > docs/results/space-NAME.json
"""

import json
import sys

UNUSED = ["predicted", "repeats", "error", "lse_error"]  # replay predicts again


def compact(trial):
    return {key: value for key, value in trial.items() if key not in UNUSED}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        root = json.load(file)
    for job in root["jobs"]:
        job["trials"] = [compact(trial) for trial in job["trials"]]
        for name in ["default", "best"]:
            job[name] = {"parameters": job[name]["parameters"]}
    json.dump(root, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
