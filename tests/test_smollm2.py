"""tools/smollm2.py on a tiny model of random weights: what it writes, and what it says of bad input."""

import contextlib
import io
import json
import os
import shutil
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tools"))

import gguf
import numpy

import smollm2
from realmodel import forward, llama_gguf, tensors, tokenizer

D, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 32, 48, 2, 4, 2, 8
TEXT = "The quick brown fox jumps over the lazy dog; 42 times.\n" * 4


def byte_tokens():
    """The 256 characters that stand for bytes in byte-level BPE, and one merge."""
    return sorted(tokenizer.pre_tokenizers.ByteLevel.alphabet()) + ["th"]


def tiny_weights(seed=1):
    random = numpy.random.default_rng(seed)

    def matrix(rows, columns):
        return (random.standard_normal((rows, columns)) / columns ** 0.5).astype(numpy.float32)

    weights = {"token_embd.weight": matrix(len(byte_tokens()) + 1, D), "output_norm.weight": numpy.ones(D, "f4")}
    for layer in range(LAYERS):
        weights.update({f"blk.{layer}.{name}.weight": array for name, array in {
            "attn_norm": random.uniform(0.5, 1.5, D).astype(numpy.float32),
            "attn_q": matrix(HEADS * HEAD_DIM, D),
            "attn_k": matrix(KV_HEADS * HEAD_DIM, D),
            "attn_v": matrix(KV_HEADS * HEAD_DIM, D),
            "attn_output": matrix(D, HEADS * HEAD_DIM),
            "ffn_norm": random.uniform(0.5, 1.5, D).astype(numpy.float32),
            "ffn_gate": matrix(FFN, D),
            "ffn_up": matrix(FFN, D),
            "ffn_down": matrix(D, FFN),
        }.items()})
    return weights


def write_gguf(path, weights, leave_out=(), architecture="llama"):
    writer = gguf.GGUFWriter(path, architecture)
    fields = {
        "block_count": LAYERS, "context_length": 512, "embedding_length": D, "feed_forward_length": FFN,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": HEAD_DIM,
    }
    for name, value in fields.items():
        if name not in leave_out:
            writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    tokens = ["<end>"] + byte_tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["t h"])
    for name, array in weights.items():
        if name not in leave_out:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(*arguments):
    """Exit status and what was printed to stderr."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        status = smollm2.main([str(argument) for argument in arguments])
    return status, stderr.getvalue()


class TinyModel(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.gguf = self.path("tiny.gguf")
        self.model = self.path("model")
        self.text = self.path("text.txt")
        self.weights = tiny_weights()
        write_gguf(self.gguf, self.weights)
        with open(self.text, "w", encoding="utf-8") as file:
            file.write(TEXT)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def convert(self):
        return run("convert", "--gguf", self.gguf, "--out", self.model)

    def activations(self, *options):
        return run("activations", "--model", self.model, "--text", self.text, "--tokens", "40",
                   "--out", self.path("a.safetensors"), *options)

    def assert_refused(self, result, *words):
        """Exit status 1 and one line with these words: progress lines may come before it."""
        status, stderr = result
        last = stderr.rstrip("\n").split("\n")[-1]
        self.assertEqual(status, 1, stderr)
        self.assertTrue(stderr.endswith("\n") and last.startswith("smollm2: "), stderr)
        for word in words:
            self.assertIn(word, last)


class Convert(TinyModel):
    def test_config_names_the_shape(self):
        self.assertEqual(self.convert()[0], 0)
        with open(self.path("model", "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        expected = {"model_type": "llama", "hidden_size": D, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
                    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
                    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
                    "torch_dtype": "float16"}
        self.assertEqual(expected, {name: config[name] for name in expected})

    def test_weights_are_stored_as_fp16_under_their_names(self):
        self.convert()
        with open(self.path("model", "model.safetensors"), "rb") as file:
            data = file.read()
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        entry = header["model.layers.1.mlp.up_proj.weight"]
        begin, end = entry["data_offsets"]
        stored = numpy.frombuffer(data[8 + length + begin:8 + length + end], "<f2").reshape(entry["shape"])
        self.assertEqual(entry["dtype"], "F16")
        numpy.testing.assert_array_equal(stored, self.weights["blk.1.ffn_up.weight"].astype(numpy.float16))
        self.assertEqual(len(header), 1 + 2 + 9 * LAYERS)

    def test_unpermuted_rows_rotate_halves_as_the_stored_rows_rotate_neighbours(self):
        random = numpy.random.default_rng(2)
        stored = random.standard_normal((HEADS * HEAD_DIM, D))
        x = random.standard_normal((5, D))
        angle = numpy.arange(5)[:, None] * 10000.0 ** (-numpy.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        y = (x @ stored.T).reshape(5, HEADS, HEAD_DIM)
        turned = (y[..., 0::2] + 1j * y[..., 1::2]) * numpy.exp(1j * angle)[:, None, :]
        halves = forward.rope((x @ llama_gguf.unpermute(stored, HEADS).T).reshape(5, HEADS, HEAD_DIM), 10000.0)
        numpy.testing.assert_allclose(halves[..., :HEAD_DIM // 2], turned.real, atol=1e-6)
        numpy.testing.assert_allclose(halves[..., HEAD_DIM // 2:], turned.imag, atol=1e-6)

    def test_quantized_tensors_are_dequantized(self):
        blocks = numpy.random.default_rng(3).standard_normal((FFN, D)).astype(numpy.float32)
        path = self.path("q8.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tensor("t", gguf.quants.quantize(blocks, gguf.GGMLQuantizationType.Q8_0),
                          raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        model = object.__new__(llama_gguf.Model)
        model.path, model.tensors = path, {"token_embd.weight": gguf.GGUFReader(path).tensors[0]}
        read = model.weight("model.embed_tokens.weight", (FFN, D))
        numpy.testing.assert_allclose(read, blocks, atol=numpy.abs(blocks).max() / 127)

    def test_second_run_keeps_the_files(self):
        self.convert()
        before = os.stat(self.path("model", "model.safetensors")).st_mtime_ns
        status, stderr = self.convert()
        self.assertEqual((status, stderr), (0, ""))
        self.assertEqual(os.stat(self.path("model", "model.safetensors")).st_mtime_ns, before)

    def test_truncated_gguf_is_refused_at_every_length(self):
        size = os.path.getsize(self.gguf)
        for length in (0, 3, 4, 20, 100, 1000, size // 2, size - 1):
            with self.subTest(length=length):
                with open(self.gguf, "rb") as source, open(self.path("cut.gguf"), "wb") as file:
                    file.write(source.read(length))
                self.assert_refused(run("convert", "--gguf", self.path("cut.gguf"), "--out", self.model), "cut.gguf")
                self.assertFalse(os.path.exists(self.path("model", "model.safetensors")))

    def test_missing_file_is_named(self):
        self.assert_refused(run("convert", "--gguf", self.path("none.gguf"), "--out", self.model),
                            "none.gguf", "No such file")

    def test_missing_tensor_is_named(self):
        write_gguf(self.gguf, self.weights, leave_out=("blk.1.attn_k.weight",))
        self.assert_refused(self.convert(), "blk.1.attn_k.weight", "missing")

    def test_missing_metadata_is_named(self):
        write_gguf(self.gguf, self.weights, leave_out=("block_count",))
        self.assert_refused(self.convert(), "llama.block_count", "missing")

    def test_wrong_shape_names_the_expected_one(self):
        self.weights["blk.0.attn_v.weight"] = numpy.zeros((KV_HEADS * HEAD_DIM, D + 1), numpy.float32)
        write_gguf(self.gguf, self.weights)
        self.assert_refused(self.convert(), "blk.0.attn_v.weight", f"[{KV_HEADS * HEAD_DIM}, {D}]")

    def test_nan_weight_names_the_tensor(self):
        self.weights["blk.0.ffn_up.weight"][1, 2] = numpy.nan
        write_gguf(self.gguf, self.weights)
        self.assert_refused(self.convert(), "blk.0.ffn_up.weight", "NaN")
        self.assertEqual(os.listdir(self.folder).count("model"), 0)

    def test_weight_beyond_fp16_names_the_tensor(self):
        self.weights["blk.0.ffn_up.weight"][1, 2] = 1e6
        write_gguf(self.gguf, self.weights)
        self.assert_refused(self.convert(), "mlp.up_proj", "fp16")

    def test_other_architecture_is_refused_by_name(self):
        write_gguf(self.gguf, self.weights, architecture="mamba")
        self.assert_refused(self.convert(), "mamba", "llama")


class Activations(TinyModel):
    def setUp(self):
        super().setUp()
        self.convert()

    def read(self, name, shape):
        return tensors.Reader(self.path("a.safetensors")).read(name, shape)

    def test_recorded_tensors_agree_with_a_plain_double_precision_model(self):
        self.assertEqual(self.activations(), (0, "smollm2: running 2 of 2 layers over 40 tokens\n"))
        ids = tokenizer.encode_file(self.model, self.text, 40, 1 << 20)
        expected = plain_model(tensors.Reader(self.path("model", "model.safetensors")), ids)
        for name, array in expected.items():
            found = self.read(name, array.shape)
            numpy.testing.assert_allclose(found, array, atol=2e-5, rtol=1e-4, err_msg=name)

    def test_keys_and_values_are_the_projections_of_x(self):
        self.activations("--layers", "1")
        x = self.read("x.1", (40, D))
        for name in "kv":
            weight = self.read(f"w{name}.1", (D, KV_HEADS * HEAD_DIM))
            numpy.testing.assert_allclose(self.read(f"{name}.1", (40, KV_HEADS * HEAD_DIM)), x @ weight, atol=1e-5)

    def test_only_the_layers_asked_for_are_written(self):
        self.activations("--layers", "0")
        self.assertEqual(set(tensors.Reader(self.path("a.safetensors")).entries),
                         {f"{name}.0" for name in ("x", "q", "k", "v", "wk", "wv")})

    def test_up_to_date_file_is_kept_and_a_changed_text_is_not(self):
        self.activations()
        self.assertEqual(self.activations(), (0, ""))
        with open(self.text, "a", encoding="utf-8") as file:
            file.write("more")
        self.assertIn("running", self.activations()[1])

    def test_token_ids_decode_to_the_text(self):
        ids = tokenizer.encode_file(self.model, self.text, 40, 1 << 20)
        words = tokenizer.tokenizers.Tokenizer.from_file(self.path("model", "tokenizer.json")).decode(ids)
        self.assertEqual(len(ids), 40)
        self.assertTrue(TEXT.startswith(words) and len(words) >= 40, words)

    def test_truncated_model_is_refused(self):
        path = self.path("model", "model.safetensors")
        with open(path, "rb") as file:
            data = file.read()
        for length in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
            with self.subTest(length=length):
                with open(path, "wb") as file:
                    file.write(data[:length])
                self.assert_refused(self.activations(), "model.safetensors")
                self.assertFalse(os.path.exists(self.path("a.safetensors")))

    def test_damaged_headers_are_refused(self):
        path = self.path("model", "model.safetensors")
        for header in (b"[]", b"{", b'{"a": 1}', b'{"a": {"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}}',
                       b'{"a": {"dtype": "F16", "shape": [3], "data_offsets": [0, 2]}}',
                       b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}'):
            with self.subTest(header=header):
                with open(path, "wb") as file:
                    file.write(struct.pack("<Q", len(header)) + header)
                self.assert_refused(self.activations(), "model.safetensors")

    def test_nan_weight_and_wrong_shape_are_named(self):
        path = self.path("model", "model.safetensors")
        reader = tensors.Reader(path)
        weights = {name: reader.read(name, entry[3]) for name, entry in reader.entries.items()}
        weights["model.layers.0.mlp.up_proj.weight"][0, 0] = numpy.nan
        tensors.write(path, weights)
        self.assert_refused(self.activations(), "model.layers.0.mlp.up_proj.weight", "NaN")
        weights["model.layers.0.mlp.up_proj.weight"] = numpy.zeros((FFN, D - 1), numpy.float32)
        tensors.write(path, weights)
        self.assert_refused(self.activations(), "model.layers.0.mlp.up_proj.weight", f"[{FFN}, {D}]")

    def test_config_errors_name_the_field(self):
        path = self.path("model", "config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        for name, value in (("hidden_size", "x"), ("num_key_value_heads", 3), ("rope_scaling", {"type": "yarn"}),
                            ("model_type", "gemma"), ("rms_norm_eps", -1), ("num_hidden_layers", 0),
                            ("tie_word_embeddings", 5), ("vocab_size", None)):
            with self.subTest(field=name):
                with open(path, "w", encoding="utf-8") as file:
                    json.dump({**config, name: value}, file)
                self.assert_refused(self.activations(), "config.json", name)
        with open(path, "w", encoding="utf-8") as file:
            file.write('{"model_type": ')
        self.assert_refused(self.activations(), "config.json", "not JSON")

    def test_layers_outside_the_model_are_refused(self):
        for layers in ("2", "-1", "0,x", ""):
            with self.subTest(layers=layers):
                self.assert_refused(self.activations("--layers=" + layers), "--layers", "0 to 1")

    def test_short_text_says_how_many_tokens_it_has(self):
        with open(self.text, "w", encoding="utf-8") as file:
            file.write("short")
        self.assert_refused(self.activations(), "text.txt", "only 5 tokens")

    def test_text_that_is_not_utf8_is_refused(self):
        with open(self.text, "wb") as file:
            file.write(b"caf\xe9" * 100)
        self.assert_refused(self.activations(), "text.txt", "UTF-8")

    def test_too_many_tokens_are_refused(self):
        self.assert_refused(self.activations("--tokens", "513"), "--tokens 513", "512")


def plain_model(reader, ids):
    """The same model again, position by position and in double precision."""
    def weight(name):
        return reader.read(name, reader.entries[name][3]).astype(numpy.float64)

    def norm(x, gain):
        return x / numpy.sqrt((x * x).mean() + 1e-5) * gain

    def rotate(y, position):
        turned = y.copy()
        for i in range(HEAD_DIM // 2):
            angle = position / 10000.0 ** (2 * i / HEAD_DIM)
            a, b = y[:, i], y[:, i + HEAD_DIM // 2]
            turned[:, i] = a * numpy.cos(angle) - b * numpy.sin(angle)
            turned[:, i + HEAD_DIM // 2] = a * numpy.sin(angle) + b * numpy.cos(angle)
        return turned

    hidden = [weight("model.embed_tokens.weight")[index] for index in ids]
    recorded = {}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        rows = {name: [] for name in "xqkv"}
        keys, values = [], []
        for position, state in enumerate(hidden):
            x = norm(state, weight(prefix + "input_layernorm.weight"))
            q, k, v = (weight(prefix + f"self_attn.{name}_proj.weight") @ x for name in "qkv")
            for name, row in zip("xqkv", (x, q.reshape(HEADS, HEAD_DIM), k, v)):
                rows[name].append(row)
            keys.append(rotate(k.reshape(KV_HEADS, HEAD_DIM), position))
            values.append(v.reshape(KV_HEADS, HEAD_DIM))
            out = []
            for head, query in enumerate(rotate(q.reshape(HEADS, HEAD_DIM), position)):
                score = numpy.array([key[head * KV_HEADS // HEADS] @ query for key in keys]) / HEAD_DIM ** 0.5
                share = numpy.exp(score) / numpy.exp(score).sum()
                out.append(sum(p * value[head * KV_HEADS // HEADS] for p, value in zip(share, values)))
            state = state + weight(prefix + "self_attn.o_proj.weight") @ numpy.concatenate(out)
            y = norm(state, weight(prefix + "post_attention_layernorm.weight"))
            gate = weight(prefix + "mlp.gate_proj.weight") @ y
            up = weight(prefix + "mlp.up_proj.weight") @ y
            hidden[position] = state + weight(prefix + "mlp.down_proj.weight") @ (gate / (1 + numpy.exp(-gate)) * up)
        recorded.update({f"{name}.{layer}": numpy.array(row) for name, row in rows.items()})
    return recorded


if __name__ == "__main__":
    unittest.main()
