"""Shared parts of the Python package's tests: the package of this checkout with the library of this build, contexts,
and attention in double precision."""

import importlib.util
import json
import os
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = os.path.join(ROOT, "bindings", "python", "src")
BUILD = os.path.dirname(os.environ.get("XQ", os.path.join(ROOT, "build", "xq")))

# The test of the wheel runs other tests with the package that it installed.
if os.environ.get("XQ_TEST_INSTALLED") != "1":
    os.environ.setdefault("XQ_LIBRARY", os.path.join(BUILD, "libxq.so.0"))
    os.environ.setdefault("XQ_PROGRAM", os.path.join(BUILD, "xq"))
    sys.path.insert(0, PACKAGE)

import numpy

import xq

#: Whether torch can be imported. Without it, the tests that need it are skipped for the reason below.
HAVE_TORCH = importlib.util.find_spec("torch") is not None
WITHOUT_TORCH = "torch cannot be imported; `make torch` installs it"

# A model with two KV heads, and the plain method: x itself is cached.
D, HEADS, KV_HEADS, HEAD_DIM, PAGE = 128, 4, 2, 64, 16
DKV = KV_HEADS * HEAD_DIM
MODEL = {"hidden_size": D, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM}
SPEC = {"model": MODEL, "cache": {"method": "x", "rotation": False, "bits": 8, "page": PAGE}}

_context = None


def context():
    """Returns a software device that the tests of a program share. Its log goes to the logger "xq"."""
    global _context
    if _context is None:
        _context = xq.Context("sim")
    return _context


def spec(**cache):
    return {"model": MODEL, "cache": {**SPEC["cache"], **cache}}


def random_weights(seed=1):
    random = numpy.random.default_rng(seed)
    return {name: (random.standard_normal((D, DKV)) / D ** 0.5).astype("f4") for name in ("wk", "wv")}


def rope(rows, positions):
    """Turns rows [tokens, heads, head_dim] to their positions, with NeoX pairs and base 10000."""
    half = rows.shape[-1] // 2
    angles = numpy.asarray(positions)[:, None] * 10000.0 ** (-numpy.arange(half) / half)
    cos, sin = numpy.cos(angles)[:, None], numpy.sin(angles)[:, None]
    first, second = rows[..., :half], rows[..., half:]
    return numpy.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def attention(q, x, weights, position=None, lse=False):
    """Attention in double precision of one query q [heads, head_dim], at the last token or at `position`, over tokens x
    [tokens, d]."""
    tokens = len(x)
    position = tokens - 1 if position is None else position
    tokens = min(tokens, position + 1)
    x = numpy.asarray(x, "f8")[:tokens]
    wk, wv = (numpy.asarray(weights[name], "f2").astype("f8") for name in ("wk", "wv"))
    keys = rope((x @ wk).reshape(tokens, KV_HEADS, HEAD_DIM), range(tokens))
    values = (x @ wv).reshape(tokens, KV_HEADS, HEAD_DIM)
    q = rope(numpy.asarray(q, "f8")[None], [position])[0]
    share = HEADS // KV_HEADS
    scores = numpy.einsum("hd,thd->ht", q, keys.repeat(share, 1)) / HEAD_DIM ** 0.5
    largest = scores.max(1, keepdims=True)
    weights_of = numpy.exp(scores - largest)
    out = numpy.einsum("ht,thd->hd", weights_of, values.repeat(share, 1)) / weights_of.sum(1, keepdims=True)
    return (out, (largest + numpy.log(weights_of.sum(1, keepdims=True)))[:, 0]) if lse else out


def ints(*values):
    return numpy.array(values, "i4")


def write_model(folder, width, heads, kv_heads, layers):
    """Writes a Hugging Face directory with a Llama's key and value projections, for heads of 64. Returns {(layer, "k"
    or "v"): f32 [d, dkv]}."""
    os.makedirs(folder)
    draw = numpy.random.default_rng(4)
    kv = kv_heads * 64
    weights = {(layer, which): draw.standard_normal((kv, width)).astype("f4") for layer in range(layers) for which in "kv"}
    entries, offset = {}, 0
    for (layer, which), array in weights.items():
        entries[f"model.layers.{layer}.self_attn.{which}_proj.weight"] = {
            "dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(entries).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in weights.values():
            file.write(array.tobytes())
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"model_type": "llama", "hidden_size": width, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
                   "head_dim": 64, "num_hidden_layers": layers}, file)
    return {key: array.T for key, array in weights.items()}
