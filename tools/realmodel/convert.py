"""Writes model directories in the style of Hugging Face: config.json, model.safetensors in fp16, tokenizer.json."""

import os
import shutil

import numpy

from . import InputError, files, shape, tensors, tokenizer
from .gguf_model import Model

FORMAT = "3"  # format of the files that these tools write; a new number makes earlier results stale


def current(path, metadata):
    """Whether `path` is a safetensors file with exactly this metadata."""
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


def read_shape(folder):
    config = os.path.join(folder, "config.json")
    return shape.from_config(files.read_json(config), config)


def weights_path(folder):
    return os.path.join(folder, "model.safetensors")


def from_gguf(path, folder, say):
    metadata = {"format": "pt", "source_sha256": files.sha256(path), "tool": FORMAT}
    if current(weights_path(folder), metadata):
        return
    say(f"converting {os.path.basename(path)} to {folder}")
    model = Model(path)
    vocabulary = tokenizer.from_gguf(model)
    weights = {name: to_half(model.weight(name, size), f"{path}: {name}")
               for name, size in model.shape.tensors().items()}
    files.write_json(os.path.join(folder, "config.json"), {**model.shape.to_config(), **model.special_ids()})
    tokenizer.save(vocabulary, os.path.join(folder, "tokenizer.json"))
    tensors.write(weights_path(folder), weights, metadata)  # last: its metadata says that the folder is complete


def expand_kv_heads(source, folder, say):
    """Writes an MHA model that computes the same function: each query head gets a copy of the KV head that it
    shared."""
    if os.path.realpath(source) == os.path.realpath(folder):
        raise InputError(f"--out {folder}: this is the model itself; expected another directory")
    size = read_shape(source)
    reader = tensors.Reader(weights_path(source))
    metadata = {"format": "pt", "source_sha256": files.sha256(reader.path), "tool": FORMAT, "expanded": "kv heads"}
    if current(weights_path(folder), metadata):
        return
    group = size.num_attention_heads // size.num_key_value_heads
    say(f"expanding {source}: {size.num_key_value_heads} KV heads to {size.num_attention_heads}")

    def expanded(name, stored):
        if not name.endswith((".k_proj.weight", ".v_proj.weight")):
            return stored
        heads = stored.reshape(size.num_key_value_heads, size.head_dim, size.hidden_size)
        return numpy.repeat(heads, group, axis=0).reshape(-1, size.hidden_size)

    weights = {name: expanded(name, to_half(reader.read(name, shape), f"{reader.path}: {name}"))
               for name, shape in size.tensors().items()}
    config = files.read_json(os.path.join(source, "config.json"))
    files.write_json(os.path.join(folder, "config.json"), {**config, "num_key_value_heads": size.num_attention_heads})
    with files.published(os.path.join(folder, "tokenizer.json")) as file, \
            files.opened(os.path.join(source, "tokenizer.json")) as original:
        shutil.copyfileobj(original, file)
    tensors.write(weights_path(folder), weights, metadata)
