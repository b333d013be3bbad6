"""Writes a Hugging Face directory of random key and value projections, to time `xq prepare` at a model's sizes.

    tools/random_model.py DIR [--hidden 4096] [--heads 32] [--kv-heads 8] [--layers 32] [--shards 4] [--type bf16]

The defaults are the shapes of Llama-3.1-8B, which take half a gigabyte. The directory only has the files and tensors
that `xq prepare` reads.
"""

import argparse
import json
import os
import struct
import sys

import numpy

from realmodel import InputError, files

CODES = {"bf16": "BF16", "f16": "F16", "f32": "F32"}


def encode(values, kind):
    if kind != "bf16":
        return values.astype("<f2" if kind == "f16" else "<f4").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


def projection(arguments, layer, which):
    """Returns a shape and normal random numbers, scaled so that projected rows are about as large as their inputs."""
    random = numpy.random.default_rng([arguments.seed, layer, which])
    shape = (arguments.kv_heads * arguments.hidden // arguments.heads, arguments.hidden)
    return shape, random.standard_normal(shape, dtype=numpy.float32) / numpy.float32(arguments.hidden ** 0.5)


def write_shard(path, arguments, layers):
    """Writes a shard and returns the names of its tensors. Only one tensor is in memory at a time."""
    names = [(f"model.layers.{layer}.self_attn.{name}_proj.weight", layer, which)
             for layer in layers for which, name in enumerate("kv")]
    rows = arguments.kv_heads * arguments.hidden // arguments.heads
    size = rows * arguments.hidden * (4 if arguments.type == "f32" else 2)
    header = json.dumps({name: {"dtype": CODES[arguments.type], "shape": [rows, arguments.hidden],
                                "data_offsets": [size * i, size * (i + 1)]}
                         for i, (name, _, _) in enumerate(names)}).encode()
    header += b" " * (-len(header) % 8)
    with files.published(path) as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _, layer, which in names:
            file.write(encode(projection(arguments, layer, which)[1], arguments.type))
    return [name for name, _, _ in names]


HELP = {"hidden": "hidden size", "heads": "query heads", "kv-heads": "KV heads", "layers": "layers of the model",
        "shards": "files with the layers' tensors", "seed": "seed of the random numbers"}


def write_model(arguments):
    for name in ("hidden", "heads", "kv_heads", "layers"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: expected 1 or more")
    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed}: expected 0 or more")
    if arguments.hidden % arguments.heads or arguments.heads % arguments.kv_heads:
        raise InputError("--hidden must be a multiple of --heads, and --heads a multiple of --kv-heads")
    if not 1 <= arguments.shards <= arguments.layers:
        raise InputError(f"--shards {arguments.shards}: expected 1 to {arguments.layers}, the number of layers")
    where = {}
    for shard in range(arguments.shards):
        name = f"model-{shard + 1:05}-of-{arguments.shards:05}.safetensors"
        layers = range(arguments.layers * shard // arguments.shards, arguments.layers * (shard + 1) // arguments.shards)
        where.update(dict.fromkeys(write_shard(os.path.join(arguments.directory, name), arguments, layers), name))
    files.write_json(os.path.join(arguments.directory, "model.safetensors.index.json"), {"weight_map": where})
    files.write_json(os.path.join(arguments.directory, "config.json"), {
        "model_type": "llama", "hidden_size": arguments.hidden, "num_attention_heads": arguments.heads,
        "num_key_value_heads": arguments.kv_heads, "num_hidden_layers": arguments.layers, "rope_theta": 500000.0})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", metavar="DIR", help="model directory to write")
    for name, value in {"hidden": 4096, "heads": 32, "kv-heads": 8, "layers": 32, "shards": 4, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{HELP[name]} ({value})")
    parser.add_argument("--type", choices=sorted(CODES), default="bf16", help="type of the matrices (bf16)")
    try:
        write_model(parser.parse_args())
    except InputError as error:
        sys.exit(f"random_model: {error}")


if __name__ == "__main__":
    main()
