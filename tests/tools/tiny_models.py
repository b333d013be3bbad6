"""Tiny models of random weights in GGUF files, one of each family that tools/models.py reads."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tools"))

import gguf
import numpy

import models
from realmodel import InputError, tokenizer  # noqa: F401: for the tests

D, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, CONTEXT = 32, 48, 2, 4, 2, 8, 512
WINDOW = 5  # window of Gemma's sliding layers
TEXT = "The quick brown fox jumps over the lazy dog; 42 times.\n" * 4

BYTE_LEVEL = ["<end>"] + sorted(tokenizer.pre_tokenizers.ByteLevel.alphabet()) + ["th"]

# SentencePiece's kind of vocabulary: special tokens, user-defined runs of spaces (llama.cpp writes them as spaces),
# bytes, and pieces by score.
PIECES = ([("<pad>", 3, -1000.0), ("<eos>", 3, -1000.0), ("<bos>", 3, -1000.0), ("<unk>", 2, -1000.0)]
          + [("\n", 4, -1000.0), ("\n\n", 4, -1000.0), ("  ", 4, -1000.0), ("   ", 4, -1000.0), ("<b>", 4, -1000.0)]
          + [(f"<0x{byte:02X}>", 6, 0.0) for byte in range(256)]
          + [(piece, 1, -float(rank)) for rank, piece in enumerate(
              ["▁t", "he", "▁the", "in", "er", "aa", "aba", "ab", "ba", "▁o", "ver", "ove", "▁over", "bab"]
              + list("▁abcdefghijklmnopqrstuvwxyzTé.,;"))])


class Family:
    """The way that the GGUF file of one architecture is written. `change` edits metadata, name → value; None leaves a
    name out."""

    def matrices(self, matrix):
        return {"attn_q": matrix(HEADS * HEAD_DIM, D), "attn_k": matrix(KV_HEADS * HEAD_DIM, D),
                "attn_v": matrix(KV_HEADS * HEAD_DIM, D), "attn_output": matrix(D, HEADS * HEAD_DIM),
                "ffn_gate": matrix(FFN, D), "ffn_up": matrix(FFN, D), "ffn_down": matrix(D, FFN)}

    def weights(self, seed=1):
        random = numpy.random.default_rng(seed)

        def matrix(rows, columns):
            return (random.standard_normal((rows, columns)) / columns ** 0.5).astype(numpy.float32)

        weights = {"token_embd.weight": matrix(self.vocabulary, D)}
        norms = [("output_norm", D)]
        for layer in range(LAYERS):
            weights.update({f"blk.{layer}.{name}.weight": array for name, array in self.matrices(matrix).items()})
            norms += [(f"blk.{layer}.{name}", size) for name, size in self.norms.items()]
        weights.update({name + ".weight": random.uniform(0.5, 1.5, size).astype(numpy.float32)
                        for name, size in norms})
        return weights

    def fields(self):
        name = self.architecture
        return {
            f"{name}.block_count": LAYERS, f"{name}.context_length": CONTEXT, f"{name}.embedding_length": D,
            f"{name}.feed_forward_length": FFN, f"{name}.attention.head_count": HEADS,
            f"{name}.attention.head_count_kv": KV_HEADS, f"{name}.attention.layer_norm_rms_epsilon": 1e-5,
        }

    def write(self, path, weights, leave_out=(), change=None, architecture=None):
        writer = gguf.GGUFWriter(path, architecture or self.architecture)
        for name, value in {**self.fields(), **(change or {})}.items():
            if name in leave_out or value is None:
                continue
            if isinstance(value, list):
                writer.add_array(name, value)
            else:
                add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
                       str: writer.add_string}[type(value)]
                add(name, value)
        for name, array in weights.items():
            if name not in leave_out:
                writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


class SmolLM2(Family):
    architecture = "llama"
    vocabulary = len(BYTE_LEVEL)
    norms = {"attn_norm": D, "ffn_norm": D}

    def fields(self):
        return {**super().fields(), "llama.rope.dimension_count": HEAD_DIM, "llama.rope.freq_base": 10000.0,
                "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": BYTE_LEVEL,
                "tokenizer.ggml.token_type": [3] + [1] * (len(BYTE_LEVEL) - 1), "tokenizer.ggml.merges": ["t h"]}


class Gemma3(Family):
    architecture = "gemma3"
    vocabulary = len(PIECES)
    norms = {"attn_norm": D, "post_attention_norm": D, "ffn_norm": D, "post_ffw_norm": D,
             "attn_q_norm": HEAD_DIM, "attn_k_norm": HEAD_DIM}

    def fields(self):
        tokens, types, scores = map(list, zip(*PIECES))
        return {**super().fields(), "gemma3.attention.key_length": HEAD_DIM, "gemma3.attention.value_length": HEAD_DIM,
                "gemma3.rope.freq_base": 1000000.0, "gemma3.attention.sliding_window": WINDOW,
                "gemma3.attention.sliding_window_pattern": 2,
                "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": tokens,
                "tokenizer.ggml.token_type": types, "tokenizer.ggml.scores": scores,
                "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1,
                "tokenizer.ggml.unknown_token_id": 3, "tokenizer.ggml.add_bos_token": True,
                "tokenizer.ggml.add_space_prefix": False}


def run(*arguments):
    """Returns the exit status and the text that was printed to stderr."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        status = models.main([str(argument) for argument in arguments])
    return status, stderr.getvalue()


class Refusals(unittest.TestCase):
    def assert_refused(self, result, *words):
        """The exit status must be 1, and the last line must have these words. Progress lines may come before it."""
        status, stderr = result
        last = stderr.rstrip("\n").split("\n")[-1]
        self.assertEqual(status, 1, stderr)
        self.assertTrue(stderr.endswith("\n") and last.startswith("models: "), stderr)
        for word in words:
            self.assertIn(word, last)


class TinyModel(Refusals):
    """A folder with a text, and with tiny.gguf of the class's `family`."""

    family = SmolLM2()

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.gguf = self.path("tiny.gguf")
        self.model = self.path("model")
        self.text = self.path("text.txt")
        self.weights = self.family.weights()
        self.write_gguf()
        with open(self.text, "w", encoding="utf-8") as file:
            file.write(TEXT)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write_gguf(self, **options):
        self.family.write(self.gguf, self.weights, **options)

    def convert(self):
        return run("convert", "--gguf", self.gguf, "--out", self.model)

    def activations(self, *options):
        return run("activations", "--model", self.model, "--text", self.text, "--tokens", "40",
                   "--out", self.path("a.safetensors"), *options)
