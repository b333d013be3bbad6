#!/usr/bin/env python3
"""Prints what a token's cache takes on each rank under tensor parallelism, as a table in Markdown.

The numbers are those of completed specs, which `xq gen --print-spec` prints. XQ names the program (default: xq).
"""
import argparse
import functools
import json
import os
import subprocess

MODELS = {"llama-3.1-8b": "Llama-3.1-8B", "llama-3.1-70b": "Llama-3.1-70B"}
RANKS = (1, 2, 4, 8)


@functools.lru_cache(maxsize=None)
def complete(*options):
    """Returns the completed spec, or None if it is refused because a latent is wider than the rank's keys."""
    done = subprocess.run([os.environ.get("XQ", "xq"), "gen", "--print-spec", *options], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if "cache.rank_k" in done.stderr:
        return None
    raise SystemExit(done.stderr.strip())


def spec_of_rank(model, ranks, bits, *options):
    """Returns the spec of one of `ranks` ranks, with the rank's heads and the whole width of x."""
    whole = complete("--model", model)["model"]
    chosen = {"num_attention_heads": whole["num_attention_heads"] // ranks,
              "num_key_value_heads": whole["num_key_value_heads"] // ranks, "head_dim": whole["head_dim"]}
    sets = [part for key, value in chosen.items() for part in ("--set", f"model.{key}={value}")]
    return complete("--model", model, "--bits", str(bits), *sets, *options)


def cell(model, ranks, bits, options, field="page_bytes"):
    """Returns the bytes per token and, in brackets, their ratio to the bytes of the sharded fp16 KV cache."""
    spec, baseline = spec_of_rank(model, ranks, bits, *options), spec_of_rank(model, ranks, bits)
    if spec is None:
        return "refused"
    number, kv = spec["layout"][field], baseline["layout"]["kv_page_bytes"]
    return f"{number / spec['cache']['page']:,.0f} ({number / kv:.0%})"


def rows(model, bits, rank):
    """Yields the name and the cells of each cache."""
    shape = complete("--model", model)["model"]
    whole = shape["num_key_value_heads"] * shape["head_dim"]

    def latent(columns):
        return "--method", "latent", "--rank", str(columns)

    yield "fp16 keys and values, sharded", [cell(model, n, bits, (), "kv_page_bytes") for n in RANKS]
    yield "x, replicated", [cell(model, n, bits, ("--method", "x")) for n in RANKS]
    for columns in whole, rank:
        yield f"joint latents, rank {columns}, replicated", [cell(model, n, bits, latent(columns)) for n in RANKS]
        yield (f"latents per group, rank {columns} in all, sharded",
               [cell(model, n, bits, latent(columns // n)) for n in RANKS])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=int, default=4, help="bits of a cached element (4)")
    parser.add_argument("--rank", type=int, default=256, help="columns of the truncated latents (256)")
    arguments = parser.parse_args()
    print("| model | cache | " + " | ".join(f"TP {n}" for n in RANKS) + " |")
    print("|---|---|" + "---|" * len(RANKS))
    for model, name in MODELS.items():
        for cache, cells in rows(model, arguments.bits, arguments.rank):
            print(f"| {name} | {cache} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
