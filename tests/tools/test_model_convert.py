"""Tests tools/models.py convert and expand-kv-heads on tiny models: the files that they write, and their messages for
bad input."""

import json
import os
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import tiny_models
from tiny_models import D, FFN, HEAD_DIM, HEADS, KV_HEADS, LAYERS, TinyModel, run

import gguf
import numpy

from realmodel import convert, forward, gguf_model, tensors, tokenizer


def read_config(*path):
    with open(os.path.join(*path, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def read_header(path):
    with open(path, "rb") as file:
        return json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


class Converting(TinyModel):
    def stored(self, name):
        reader = tensors.Reader(self.path("model", "model.safetensors"))
        return reader.read(name, reader.entries[name][3])


class SmolLM2(Converting):
    def test_config_names_the_shape(self):
        self.assertEqual(self.convert()[0], 0)
        expected = {"model_type": "llama", "hidden_size": D, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
                    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
                    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
                    "torch_dtype": "float16"}
        config = read_config(self.model)
        self.assertEqual(expected, {name: config[name] for name in expected})

    def test_weights_are_stored_as_fp16_under_their_names(self):
        self.convert()
        header = read_header(self.path("model", "model.safetensors"))
        self.assertEqual(header["model.layers.1.mlp.up_proj.weight"]["dtype"], "F16")
        self.assertEqual(len(header), 1 + 2 + 9 * LAYERS)
        numpy.testing.assert_array_equal(self.stored("model.layers.1.mlp.up_proj.weight"),
                                         self.weights["blk.1.ffn_up.weight"].astype(numpy.float16))

    def test_unpermuted_rows_rotate_halves_as_the_stored_rows_rotate_neighbours(self):
        random = numpy.random.default_rng(2)
        stored = random.standard_normal((HEADS * HEAD_DIM, D))
        x = random.standard_normal((5, D))
        angle = numpy.arange(5)[:, None] * 10000.0 ** (-numpy.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        y = (x @ stored.T).reshape(5, HEADS, HEAD_DIM)
        turned = (y[..., 0::2] + 1j * y[..., 1::2]) * numpy.exp(1j * angle)[:, None, :]
        halves = forward.rope((x @ gguf_model.unpermute(stored, HEADS).T).reshape(5, HEADS, HEAD_DIM), 10000.0)
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
        model = gguf_model.Model(self.gguf)
        model.tensors["token_embd.weight"] = gguf.GGUFReader(path).tensors[0]
        read = model.weight("model.embed_tokens.weight", (FFN, D))
        numpy.testing.assert_allclose(read, blocks, atol=numpy.abs(blocks).max() / 127)

    def test_tensor_type_that_cannot_be_dequantized_is_named(self):
        model = gguf_model.Model(self.gguf)
        whole = model.tensors["token_embd.weight"]
        model.tensors["token_embd.weight"] = whole._replace(tensor_type=gguf.GGMLQuantizationType.I64)
        with self.assertRaisesRegex(tiny_models.InputError, r"token_embd.weight \(I64\) cannot be read"):
            model.weight("model.embed_tokens.weight", (self.family.vocabulary, D))

    def test_second_run_keeps_the_files(self):
        self.convert()
        before = os.stat(self.path("model", "model.safetensors")).st_mtime_ns
        self.assertEqual(self.convert(), (0, ""))
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
        self.write_gguf(leave_out=("blk.1.attn_k.weight",))
        self.assert_refused(self.convert(), "blk.1.attn_k.weight", "missing")

    def test_metadata_errors_name_the_field(self):
        for name, value, words in (("llama.block_count", None, "missing"),
                                   ("llama.block_count", 0, "positive integer"),
                                   ("llama.attention.head_count", [4, 4], "positive integer"),
                                   ("llama.attention.head_count_kv", 3, "multiple"),
                                   ("llama.rope.dimension_count", 4, "whole head"),
                                   ("llama.rope.scaling.type", "yarn", "yarn"),
                                   ("llama.expert_count", 8, "8")):
            with self.subTest(name=name, value=value):
                self.write_gguf(change={name: value})
                field = "num_key_value_heads" if name.endswith("_kv") else name
                self.assert_refused(self.convert(), "tiny.gguf", field, words)

    def test_wrong_shape_names_the_expected_one(self):
        self.weights["blk.0.attn_v.weight"] = numpy.zeros((KV_HEADS * HEAD_DIM, D + 1), numpy.float32)
        self.write_gguf()
        self.assert_refused(self.convert(), "blk.0.attn_v.weight", f"[{KV_HEADS * HEAD_DIM}, {D}]")

    def test_nan_weight_names_the_tensor(self):
        self.weights["blk.0.ffn_up.weight"][1, 2] = numpy.nan
        self.write_gguf()
        self.assert_refused(self.convert(), "blk.0.ffn_up.weight", "NaN")
        self.assertEqual(os.listdir(self.folder).count("model"), 0)

    def test_weight_beyond_fp16_names_the_tensor(self):
        self.weights["blk.0.ffn_up.weight"][1, 2] = 1e6
        self.write_gguf()
        self.assert_refused(self.convert(), "mlp.up_proj", "fp16")

    def test_other_architecture_is_refused_by_name(self):
        self.write_gguf(architecture="mamba")
        self.assert_refused(self.convert(), "mamba", "llama, gemma3")


class Gemma3(Converting):
    family = tiny_models.Gemma3()

    def test_config_says_what_the_file_leaves_to_the_architecture(self):
        self.assertEqual(self.convert()[0], 0)
        expected = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": D,
                    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
                    "query_pre_attn_scalar": HEAD_DIM, "sliding_window": tiny_models.WINDOW,
                    "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
                    "layer_types": ["sliding_attention", "full_attention"],
                    "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
                    "torch_dtype": "bfloat16", "bos_token_id": 2, "eos_token_id": 1}
        config = read_config(self.model)
        self.assertEqual(expected, {name: config[name] for name in expected})

    def test_five_of_six_layers_slide_where_the_file_states_no_pattern(self):
        self.write_gguf(change={"gemma3.attention.sliding_window_pattern": None})
        model = gguf_model.Model(self.gguf)
        self.assertEqual(model.shape.layer_types, ("sliding_attention",) * LAYERS)
        self.assertEqual(gguf_model.pattern(7, 6), ("sliding_attention",) * 5 + ("full_attention", "sliding_attention"))

    def test_norms_lose_the_1_that_the_file_adds(self):
        self.convert()
        for name, stored in (("model.norm", "output_norm"),
                             ("model.layers.0.input_layernorm", "blk.0.attn_norm"),
                             ("model.layers.0.post_attention_layernorm", "blk.0.post_attention_norm"),
                             ("model.layers.1.pre_feedforward_layernorm", "blk.1.ffn_norm"),
                             ("model.layers.1.post_feedforward_layernorm", "blk.1.post_ffw_norm"),
                             ("model.layers.1.self_attn.q_norm", "blk.1.attn_q_norm"),
                             ("model.layers.1.self_attn.k_norm", "blk.1.attn_k_norm")):
            with self.subTest(name=name):
                numpy.testing.assert_allclose(self.stored(name + ".weight") + 1, self.weights[stored + ".weight"],
                                              atol=2e-4)

    def test_rows_of_queries_and_keys_keep_their_order(self):
        self.convert()
        for name, stored in (("q_proj", "attn_q"), ("k_proj", "attn_k")):
            numpy.testing.assert_array_equal(self.stored(f"model.layers.1.self_attn.{name}.weight"),
                                             self.weights[f"blk.1.{stored}.weight"].astype(numpy.float16))

    def test_missing_norm_is_named(self):
        self.write_gguf(leave_out=("blk.1.attn_k_norm.weight",))
        self.assert_refused(self.convert(), "blk.1.attn_k_norm.weight", "missing")

    def test_metadata_errors_name_the_field(self):
        for name, value, words in (("gemma3.attention.sliding_window", None, "missing"),
                                   ("gemma3.attention.sliding_window_pattern", 0, "positive integer"),
                                   ("gemma3.attention.value_length", 16, "whole head"),
                                   ("gemma3.final_logit_softcapping", 30.0, "30"),
                                   ("gemma3.rope.scaling.type", "linear", "linear")):
            with self.subTest(name=name, value=value):
                self.write_gguf(change={name: value})
                self.assert_refused(self.convert(), "tiny.gguf", name, words)


class ExpandKvHeads(Converting):
    def setUp(self):
        super().setUp()
        self.convert()
        self.wide = self.path("wide")

    def expand(self, *options):
        return run("expand-kv-heads", "--model", self.model, "--out", self.wide, *options)

    def logits(self, folder):
        size = convert.read_shape(folder)
        ids = tokenizer.encode_file(self.model, self.text, 40, size.vocab_size)
        run_through = forward.Forward(size, tensors.Reader(convert.weights_path(folder)).read, ids)
        for _ in range(LAYERS):
            run_through.step()
        return run_through.logits()

    def test_logits_are_those_of_the_model(self):
        self.assertEqual(self.expand()[0], 0)
        numpy.testing.assert_allclose(self.logits(self.wide), self.logits(self.model), atol=2e-5)  # sums are reordered

    def test_each_query_head_has_its_own_rows(self):
        self.expand()
        self.assertEqual(read_config(self.wide), {**read_config(self.model), "num_key_value_heads": HEADS})
        wide = tensors.Reader(convert.weights_path(self.wide))
        for name in ("k_proj", "v_proj"):
            name = f"model.layers.1.self_attn.{name}.weight"
            rows = wide.read(name, (HEADS * HEAD_DIM, D)).reshape(HEADS, HEAD_DIM, D)
            narrow = self.stored(name).reshape(KV_HEADS, HEAD_DIM, D)
            for head in range(HEADS):
                numpy.testing.assert_array_equal(rows[head], narrow[head * KV_HEADS // HEADS])
        with open(self.path("model", "tokenizer.json"), "rb") as one, open(self.path("wide", "tokenizer.json"), "rb") as two:
            self.assertEqual(one.read(), two.read())

    def test_second_run_keeps_the_files_and_a_changed_model_does_not(self):
        self.expand()
        self.assertEqual(self.expand(), (0, ""))
        self.weights["token_embd.weight"][0, 0] += 1
        self.write_gguf()
        self.convert()
        self.assertIn("expanding", self.expand()[1])

    def test_writing_over_the_model_is_refused(self):
        self.assert_refused(run("expand-kv-heads", "--model", self.model, "--out", self.model + "/."), "--out")

    def test_damaged_models_are_refused(self):
        os.rename(self.path("model", "tokenizer.json"), self.path("kept"))
        self.assert_refused(self.expand(), "tokenizer.json", "No such file")
        self.assertFalse(os.path.exists(self.path("wide", "model.safetensors")))
        os.rename(self.path("kept"), self.path("model", "tokenizer.json"))
        os.truncate(self.path("model", "model.safetensors"), 1000)
        self.assert_refused(self.expand(), "model.safetensors")


class ExpandKvHeadsOfGemma(ExpandKvHeads):
    family = tiny_models.Gemma3()


if __name__ == "__main__":
    unittest.main()
