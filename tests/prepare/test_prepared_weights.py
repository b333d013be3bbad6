"""Tests that other programs can read prepared weights, with the safetensors package."""

import json
import os
import struct
import subprocess
import tempfile
import unittest

import numpy
from safetensors import safe_open

XQ = os.environ.get("XQ", "build/xq")
D, KV, HEADS, KV_HEADS, LAYERS = 256, 128, 4, 2, 3


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(array.tobytes())


class PreparedWeights(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        random = numpy.random.default_rng(4)
        self.weights = {f"model.layers.{layer}.self_attn.{which}_proj.{kind}": random.standard_normal(shape).astype("f4")
                        for layer in range(LAYERS) for which in "kv"
                        for kind, shape in (("weight", (KV, D)), ("bias", (KV,)))}
        write_safetensors(self.path("model.safetensors"), self.weights)
        with open(self.path("config.json"), "w", encoding="utf-8") as file:
            json.dump({"model_type": "llama", "hidden_size": D, "num_attention_heads": HEADS, "attention_bias": True,
                       "num_key_value_heads": KV_HEADS, "head_dim": KV // KV_HEADS, "num_hidden_layers": LAYERS}, file)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def projection(self, layer, which):
        return self.weights[f"model.layers.{layer}.self_attn.{which}_proj.weight"].T

    def prepare(self, *options):
        subprocess.run([XQ, "prepare", self.folder.name, "--out", self.path("w.safetensors"), "--quiet", *options],
                       check=True)
        return safe_open(self.path("w.safetensors"), "numpy")

    def test_matrices_and_vectors_have_plain_names(self):
        with self.prepare("--method", "x", "--no-rotation") as file:
            for layer in range(LAYERS):
                numpy.testing.assert_array_equal(file.get_tensor(f"layers.{layer}.wk"),
                                                 self.projection(layer, "k").astype("f2"))
                numpy.testing.assert_array_equal(file.get_tensor(f"layers.{layer}.bv"),
                                                 self.weights[f"model.layers.{layer}.self_attn.v_proj.bias"])
            self.assertEqual(sorted(file.keys()), sorted(f"layers.{layer}.{what}" for layer in range(LAYERS)
                                                         for what in ("wk", "wv", "bk", "bv", "lost")))

    def test_factors_multiply_to_the_projection(self):
        with self.prepare("--method", "latent", "--store", "f32") as file:
            uk, ak = file.get_tensor("layers.1.uk"), file.get_tensor("layers.1.ak")
            rank, heads = ak.shape[0], uk.shape[1] // ak.shape[0]  # the keys of each KV head have their own latent
            self.assertEqual(heads, KV_HEADS)
            dim = ak.shape[1] // heads
            product = numpy.concatenate([uk[:, h * rank:(h + 1) * rank] @ ak[:, h * dim:(h + 1) * dim] for h in range(heads)],
                                        axis=1)
            numpy.testing.assert_allclose(product, self.projection(1, "k"), atol=1e-5)

    def test_metadata_say_what_the_file_is(self):
        with self.prepare("--method", "latent", "--layers", "0,2", "--pack") as file:
            metadata = file.metadata()
        self.assertEqual(metadata["xq_prepared"], "2")
        self.assertEqual(json.loads(metadata["layers"]), [0, 2])
        self.assertEqual(json.loads(metadata["spec"])["cache"]["method"], "latent")
        self.assertEqual(json.loads(metadata["packing"])["weights"], "int8")
        self.assertRegex(metadata["layers.2.packed.xxh3"], "^[0-9a-f]{16}$")

    def test_packed_weights_are_aligned_in_the_file(self):
        for store in ("f16", "none"):
            with self.prepare("--method", "latent", "--pack", "--weights", "int8", "--store", store) as file:
                packed = {name: file.get_tensor(name) for name in file.keys() if name.endswith(".packed")}
            self.assertEqual(len(packed), LAYERS)
            with open(self.path("w.safetensors"), "rb") as file:
                data = file.read()
            length = struct.unpack_from("<Q", data)[0]
            header = json.loads(data[8:8 + length])
            for name, array in packed.items():
                begin = 8 + length + header[name]["data_offsets"][0]
                self.assertEqual((begin % 256, header[name]["dtype"]), (0, "U8"))
                self.assertEqual(data[begin:begin + array.size], array.tobytes())


if __name__ == "__main__":
    unittest.main()
