"""Tests tools/models.py activations on tiny models: the values that the forward pass records, and the messages for bad
input."""

import json
import os
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import tiny_models
from tiny_models import D, FFN, HEAD_DIM, HEADS, KV_HEADS, LAYERS, TEXT, TinyModel

import numpy

from realmodel import forward, tensors, tokenizer


class Activations(TinyModel):
    def setUp(self):
        super().setUp()
        self.assertEqual(self.convert()[0], 0)

    def read(self, name, shape):
        return tensors.Reader(self.path("a.safetensors")).read(name, shape)

    def check_against(self, plain_model):
        ids = tokenizer.encode_file(self.model, self.text, 40, 1 << 20)
        self.assertEqual(self.activations(), (0, "models: running 2 of 2 layers over 40 tokens\n"))
        expected = plain_model(tensors.Reader(self.path("model", "model.safetensors")), ids).run()
        self.assertEqual(len(expected), 4 * LAYERS)
        for name, array in expected.items():
            found = self.read(name, array.shape)
            numpy.testing.assert_allclose(found, array, atol=2e-5, rtol=1e-4, err_msg=name)

    def set_config(self, **changes):
        path = self.path("model", "config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**config, **changes}, file)
        return config


class KeyCosts(unittest.TestCase):
    tokens, heads, kv_heads, dh, theta, scale = 40, 4, 2, 8, 1000.0, 0.6

    def setUp(self):
        random = numpy.random.default_rng(3)
        self.q = random.normal(size=(self.tokens, self.heads, self.dh))
        self.k, self.v = random.normal(size=(2, self.tokens, self.kv_heads, self.dh))

    def attend(self, k, window):
        rope = forward.rope
        return forward.attention(rope(self.q, self.theta), rope(k, self.theta), self.v, self.scale, window)

    def test_costs_are_how_far_errors_move_the_output_of_each_head(self):
        for window in (self.tokens, 16):
            cost = forward.key_costs(forward.rope(self.q, self.theta), forward.rope(self.k, self.theta), self.v,
                                     self.theta, self.scale, window)
            self.assertAlmostEqual(float(numpy.trace(cost, axis1=1, axis2=2).mean()) / self.dh, 1, places=5)
            exact, ratios = self.attend(self.k, window), []
            for direction in numpy.eye(self.dh)[:4] + numpy.eye(self.dh)[1]:
                moved = numpy.zeros(self.heads)
                for n in range(0, self.tokens, forward.COST_STRIDE):
                    k = self.k.copy()
                    k[n] += 0.02 * direction
                    change = (self.attend(k, window) - exact).reshape(self.tokens, self.heads, self.dh)
                    moved += (change ** 2).sum(axis=(0, 2))
                ratios.append(moved / numpy.einsum("i,hij,j->h", direction, cost, direction))
            numpy.testing.assert_allclose(ratios, numpy.mean(ratios), rtol=0.05)


class SmolLM2(Activations):
    def test_recorded_tensors_agree_with_a_plain_double_precision_model(self):
        self.check_against(PlainLlama)

    def test_keys_and_values_are_the_projections_of_x(self):
        self.activations("--layers", "1")
        x = self.read("x.1", (40, D))
        for name in "kv":
            weight = self.read(f"w{name}.1", (D, KV_HEADS * HEAD_DIM))
            numpy.testing.assert_allclose(self.read(f"{name}.1", (40, KV_HEADS * HEAD_DIM)), x @ weight, atol=1e-5)

    def test_only_the_layers_asked_for_are_written(self):
        self.activations("--layers", "0")
        self.assertEqual(set(tensors.Reader(self.path("a.safetensors")).entries),
                         {f"{name}.0" for name in ("x", "q", "k", "v", "wk", "wv", "k_cost")})

    def test_up_to_date_file_is_kept_and_that_of_a_changed_text_or_configuration_is_not(self):
        self.activations()
        self.assertEqual(self.activations(), (0, ""))
        with open(self.text, "a", encoding="utf-8") as file:
            file.write("more")
        self.assertIn("running", self.activations()[1])
        self.set_config(rope_theta=5000.0)
        self.assertIn("running", self.activations()[1])

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

    def test_git_lfs_pointer_is_named(self):
        with open(self.path("model", "model.safetensors"), "w", encoding="utf-8") as file:
            file.write("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 660\n")
        self.assert_refused(self.activations(), "model.safetensors", "Git LFS pointer")

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
        for name, value in (("hidden_size", "x"), ("num_key_value_heads", 3), ("rope_scaling", {"type": "yarn"}),
                            ("rope_parameters", {"rope_theta": 5.0}), ("model_type", "gemma"), ("rms_norm_eps", -1),
                            ("num_hidden_layers", 0), ("tie_word_embeddings", 5), ("vocab_size", None)):
            with self.subTest(field=name):
                before = self.set_config(**{name: value})
                self.assert_refused(self.activations(), "config.json", name)
                self.set_config(**{name: None, **before})
        with open(self.path("model", "config.json"), "w", encoding="utf-8") as file:
            file.write('{"model_type": ')
        self.assert_refused(self.activations(), "config.json", "not JSON")

    def test_layers_outside_the_model_are_refused(self):
        for layers in ("2", "-1", "0,x", "", "0,0", "0,,1"):
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


class Gemma3(Activations):
    family = tiny_models.Gemma3()

    def test_recorded_tensors_agree_with_a_plain_double_precision_model(self):
        self.check_against(PlainGemma3)

    def test_key_norms_are_recorded_as_multiplied(self):
        self.activations("--layers", "1")
        numpy.testing.assert_allclose(self.read("k_norm.1", (HEAD_DIM,)), self.weights["blk.1.attn_k_norm.weight"],
                                      atol=2e-4)

    def test_published_pattern_says_what_layer_types_would(self):
        self.activations()
        expected = self.read("x.1", (40, D))
        self.set_config(layer_types=None, sliding_window_pattern=2)
        self.assertIn("running", self.activations()[1])
        numpy.testing.assert_array_equal(self.read("x.1", (40, D)), expected)

    def test_config_errors_name_the_field(self):
        for name, value in (("layer_types", ["full_attention"]), ("layer_types", ["full_attention", "linear"]),
                            ("sliding_window", 0), ("query_pre_attn_scalar", "x"),
                            ("use_bidirectional_attention", True), ("attn_logit_softcapping", 50.0),
                            ("hidden_activation", "gelu")):
            with self.subTest(field=name, value=value):
                before = self.set_config(**{name: value})
                self.assert_refused(self.activations(), "config.json", name)
                self.set_config(**{name: None, **before})


class PlainLlama:
    """The same model, computed again position by position in double precision."""

    eps = 1e-5

    def __init__(self, reader, ids):
        self.reader = reader
        self.hidden = [self.embedding(index) for index in ids]
        self.keys, self.values = [], []

    def weight(self, name):
        return self.reader.read(name, self.reader.entries[name][3]).astype(numpy.float64)

    def embedding(self, index):
        return self.weight("model.embed_tokens.weight")[index]

    def norm(self, x, gain):
        return x / numpy.sqrt((x * x).mean() + self.eps) * gain

    @staticmethod
    def rotate(y, position, theta):
        turned = y.copy()
        for i in range(HEAD_DIM // 2):
            angle = position / theta ** (2 * i / HEAD_DIM)
            a, b = y[:, i], y[:, i + HEAD_DIM // 2]
            turned[:, i] = a * numpy.cos(angle) - b * numpy.sin(angle)
            turned[:, i + HEAD_DIM // 2] = a * numpy.sin(angle) + b * numpy.cos(angle)
        return turned

    def attend(self, layer, position, q, k, v, theta=10000.0, window=1 << 30):
        """Returns the output of one position. Keeps k and v for later positions."""
        self.keys.append(self.rotate(k, position, theta))
        self.values.append(v)
        first = max(0, position + 1 - window)
        out = []
        for head, query in enumerate(self.rotate(q, position, theta)):
            shared = head * KV_HEADS // HEADS
            score = numpy.array([key[shared] @ query for key in self.keys[first:]]) / HEAD_DIM ** 0.5
            share = numpy.exp(score) / numpy.exp(score).sum()
            out.append(sum(p * value[shared] for p, value in zip(share, self.values[first:])))
        return self.weight(f"model.layers.{layer}.self_attn.o_proj.weight") @ numpy.concatenate(out)

    def project(self, layer, x):
        """Returns q, k and v as [heads, dh]."""
        return tuple((self.weight(f"model.layers.{layer}.self_attn.{name}_proj.weight") @ x).reshape(-1, HEAD_DIM)
                     for name in "qkv")

    def feed_forward(self, layer, y, activation):
        gate, up, down = (self.weight(f"model.layers.{layer}.mlp.{name}_proj.weight") for name in ("gate", "up", "down"))
        return down @ (activation(gate @ y) * (up @ y))

    def step(self, layer, position, state, record):
        prefix = f"model.layers.{layer}."
        x = self.norm(state, self.weight(prefix + "input_layernorm.weight"))
        q, k, v = self.project(layer, x)
        record(x=x, q=q, k=k.reshape(-1), v=v.reshape(-1))
        state = state + self.attend(layer, position, q, k, v)
        y = self.norm(state, self.weight(prefix + "post_attention_layernorm.weight"))
        return state + self.feed_forward(layer, y, lambda gate: gate / (1 + numpy.exp(-gate)))

    def run(self):
        recorded = {}
        for layer in range(LAYERS):
            self.keys, self.values = [], []
            for position, state in enumerate(self.hidden):
                def record(**rows):
                    for name, row in rows.items():
                        recorded.setdefault(f"{name}.{layer}", []).append(row)
                self.hidden[position] = self.step(layer, position, state, record)
        return {name: numpy.array(rows) for name, rows in recorded.items()}


class PlainGemma3(PlainLlama):
    def embedding(self, index):
        return super().embedding(index) * D ** 0.5

    def norm(self, x, gain):
        return super().norm(x, 1 + gain)

    def step(self, layer, position, state, record):
        prefix = f"model.layers.{layer}."

        def norm(x, name):
            return self.norm(x, self.weight(f"{prefix}{name}.weight"))

        x = norm(state, "input_layernorm")
        q, k, v = self.project(layer, x)
        q = numpy.array([norm(head, "self_attn.q_norm") for head in q])
        record(x=x, q=q, k=k.reshape(-1), v=v.reshape(-1))
        k = numpy.array([norm(head, "self_attn.k_norm") for head in k])
        kind = {"theta": 10000.0, "window": tiny_models.WINDOW} if layer == 0 else {"theta": 1000000.0}
        state = state + norm(self.attend(layer, position, q, k, v, **kind), "post_attention_layernorm")
        y = norm(state, "pre_feedforward_layernorm")
        return state + norm(self.feed_forward(layer, y, gelu), "post_feedforward_layernorm")


def gelu(x):
    return x / 2 * (1 + numpy.tanh((2 / numpy.pi) ** 0.5 * (x + 0.044715 * x ** 3)))


if __name__ == "__main__":
    unittest.main()
