"""Tests the Python package's prepared weights, the program that makes them, and the simulation of cached values."""

import os
import sys
import tempfile
import unittest
import unittest.mock

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import SPEC, HAVE_TORCH, WITHOUT_TORCH, context, random_weights, write_model, xq

from xq import _program

D, KV, LAYERS = 256, 128, 3


class PreparedWeights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = os.path.join(cls.folder.name, "model")
        cls.projections = write_model(cls.model, D, 4, 2, LAYERS)
        cls.path = os.path.join(cls.folder.name, "latent.safetensors")
        cls.result = xq.prepare(cls.model, cls.path, method="latent", rank=(64, 100), pack=True, store="f32", threads=1)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def plan(self, prepared, layer=0, **cache):
        spec = xq.override(prepared.layer_spec(layer), {"cache": {"bits": 4, **cache}}, context=context())
        return xq.Plan(context(), spec)

    def test_the_result_is_that_of_the_program(self):
        self.assertEqual(self.result["file"], self.path)
        self.assertEqual([(layer["layer"], layer["method"]) for layer in self.result["layers"]],
                         [(i, "latent") for i in range(LAYERS)])

    def test_matrices_and_packed_weights(self):
        with xq.Prepared(context(), self.path) as prepared:
            self.assertEqual((prepared.layers, prepared.prepared_layers, prepared.weights, prepared.base_layer),
                             (LAYERS, (0, 1, 2), "int8", 0))
            self.assertEqual((prepared.spec["cache"]["rank_k"], prepared.spec["cache"]["rank_v"]), (64, 100))
            matrices = prepared.layer(1)
            self.assertEqual({name: m.shape for name, m in matrices.items()},
                             {"uk": (D, 64), "ak": (64, KV), "uv": (D, 100), "av": (100, KV)})
            u, s, v = numpy.linalg.svd(self.projections[1, "v"].astype("f8"))
            best = (u[:, :100] * s[:100]) @ v[:100]
            numpy.testing.assert_allclose(matrices["uv"] @ matrices["av"], best, atol=1e-4)
            plan = self.plan(prepared, 1)
            self.assertEqual({name: m.shape for name, m in matrices.items()}, plan.weight_shapes())
            packed = prepared.packed(plan, 1)
            numpy.testing.assert_array_equal(packed, plan.pack_weights(**matrices))
            self.assertEqual(prepared.upload(plan, 1).read(), packed.tobytes())
        self.assertEqual(packed.nbytes, plan.info.weights_bytes)  # a copy, which outlives the file
        self.assertRaisesRegex(xq.ArgumentError, "closed", prepared.layer, 0)

    def test_mistakes_are_named(self):
        with xq.Prepared(context(), self.path) as prepared:
            self.assertRaisesRegex(xq.ArgumentError, "layer: 3; valid: 0 to 2", prepared.layer, 3)
            plan = xq.Plan(context(), xq.override(prepared.spec, {"cache": {"rank_k": 128}}, context=context()))
            with self.assertRaises(xq.ArgumentError) as caught:
                prepared.packed(plan, 0)
            self.assertIn("rank", caught.exception.field)
        with self.assertRaises(xq.FileError) as caught:
            xq.Prepared(context(), "/nowhere/x.safetensors")
        self.assertIsInstance(caught.exception, OSError)
        self.assertRaises(xq.FormatError, xq.Prepared, context(), os.path.join(self.model, "model.safetensors"))

    def test_every_option_reaches_the_program(self):
        path = os.path.join(self.folder.name, "other.safetensors")
        result = xq.prepare(self.model, path, method="latent-cl", base_layer=1, layers=[0, 1, 2], store="bf16", rotation=True,
                            pack=True, weights="int8", threads=2)
        self.assertEqual([layer["method"] for layer in result["layers"]], ["latent", "latent-cl", "latent-cl"])
        with xq.Prepared(context(), path) as prepared:
            self.assertEqual((prepared.base_layer, prepared.weights), (1, "int8"))
            self.assertEqual(prepared.layer(2)["ukv"].shape, (D, 2 * KV))
            self.assertEqual(set(prepared.layer(0)), {"uk", "ak", "uv", "av"})
        xq.prepare(self.model, path, method="x", feedback=True, group=64, layers=[1])
        with xq.Prepared(context(), path) as prepared:
            self.assertEqual(prepared.prepared_layers, (1,))
            self.assertRaisesRegex(xq.ArgumentError, "does not have layer 0", prepared.layer_spec, 0)
            self.assertEqual(prepared.layer(1)["uk"].shape, (D, D))

    def test_the_programs_refusals_are_exceptions(self):
        out = os.path.join(self.folder.name, "refused.safetensors")
        for message, use in (
                (r"^cannot read .*nosuch/config.json", lambda: xq.prepare(self.model + "/nosuch", out)),
                ("--store: 'f64' is not known; valid: f16, bf16, f32, none", lambda: xq.prepare(self.model, out, store="f64")),
                ("add --pack", lambda: xq.prepare(self.model, out, weights="int8")),
                ("layers: the list is empty", lambda: xq.prepare(self.model, out, layers=[]))):
            self.assertRaisesRegex(ValueError, message, use)
        self.assertFalse(os.path.exists(out))
        with unittest.mock.patch.dict("os.environ", {"XQ_PROGRAM": "/nowhere/xq"}):
            self.assertRaisesRegex(xq.FileError, "/nowhere/xq is no program", xq.prepare, self.model, out)

    def test_exit_statuses_have_their_exceptions(self):
        for script, kind, message in (("echo 'xq prepare: no GPU' >&2; exit 3", xq.DeviceError, "^no GPU$"),
                                      ("kill -9 $$", xq.Error, "signal 9"), ("exit 9", xq.Error, "status 9")):
            path = os.path.join(self.folder.name, "fake")
            with open(path, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\n" + script + "\n")
            os.chmod(path, 0o755)
            with unittest.mock.patch.dict("os.environ", {"XQ_PROGRAM": path}):
                self.assertRaisesRegex(kind, message, xq.prepare, self.model, "out")

    def test_the_entry_point_is_the_program(self):
        with unittest.mock.patch("os.execv") as execv, unittest.mock.patch("sys.argv", ["xq", "info", "--json"]):
            _program.main()
        execv.assert_called_once_with(_program.program(), ["xq", "info", "--json"])


class Simulation(unittest.TestCase):
    def x(self, rows=40, width=128):
        return numpy.random.default_rng(1).standard_normal((rows, width)).astype("f4")

    def test_a_simulated_cache_holds_what_kernels_read(self):
        x = self.x()
        for cache in ({"bits": 3, "group": 64}, {"bits": 4, "axis_k": "channel", "group": 32},
                      {"bits": 4, "group": 32, "zero_point": "integer", "clip": 0.9}):
            spec = {**SPEC, "cache": {**SPEC["cache"], **cache}}
            paged = xq.PagedCache(xq.Plan(context(), spec, max_tokens=64, max_append=64), 8)
            sequence = paged.add()
            paged.append([sequence], x.astype("f2"), counts=[len(x)])
            held = xq.simulate_cache(x, bits=cache["bits"], group=cache["group"], by_channel=cache.get("axis_k") == "channel",
                                     integer_zero=cache.get("zero_point") == "integer", clip=cache.get("clip", 0))
            numpy.testing.assert_array_equal(held, paged.dequantize(sequence).astype("f4"))

    def test_feedback_lowers_the_error_of_products(self):
        x, a = self.x(200), random_weights()["wk"]
        numbers = dict(bits=2, group=64)
        feedback = xq.simulate_feedback(a, width=128, **numbers)
        self.assertEqual(feedback.shape, (2, 64, 64))
        errors = [numpy.square((xq.simulate_cache(x, feedback=f, **numbers) - x) @ a).mean() for f in (None, feedback)]
        self.assertLess(errors[1], 0.8 * errors[0])
        for cost in (numpy.ones(128), numpy.tile(numpy.eye(32), (4, 1))):
            numpy.testing.assert_array_equal(xq.simulate_feedback(a, width=128, cost=cost, **numbers), feedback)

    def test_feedback_counts_what_errors_cost_together(self):
        x, a = self.x(200), random_weights()["wk"]
        direction = numpy.linspace(-1, 1, 64)
        cost = numpy.tile(numpy.eye(64) + 50 * numpy.outer(direction, direction), (2, 1))
        numbers = dict(bits=2, group=64)
        errors = []
        for costs in (None, cost):
            feedback = xq.simulate_feedback(a, width=128, cost=costs, **numbers)
            lost = (xq.simulate_cache(x, feedback=feedback, **numbers) - x) @ a
            errors.append(numpy.square(lost.reshape(-1, 2, 64) @ direction).mean())
        self.assertLess(errors[1], 0.5 * errors[0])

    def test_rounded_weights(self):
        w = random_weights()["wk"]
        numpy.testing.assert_array_equal(xq.simulate_weights(w, "f16"), w.astype("f2").astype("f4"))
        self.assertLess(numpy.abs(xq.simulate_weights(w.astype("f8"), "int8") - w).max(), numpy.abs(w).max() / 127)

    def test_mistakes_are_named(self):
        x = self.x()
        for message, use in (("type is 'f64'; valid: f16, bf16, int8, e4m3", lambda: xq.simulate_weights(x, "f64")),
                             ("x: it has 1 dimensions", lambda: xq.simulate_cache(x[0], bits=4)),
                             ("bits", lambda: xq.simulate_cache(x, bits=5)),
                             ("a: it has 128 rows; valid: 64",
                              lambda: xq.simulate_feedback(self.x(128), width=64, bits=4, group=32)),
                             (r"cost: its shape is \[3\]; valid: \[128\] and \[128, block\]",
                              lambda: xq.simulate_feedback(self.x(128), width=128, bits=4, group=32, cost=numpy.ones(3))),
                             ("cost: its shape is",
                              lambda: xq.simulate_feedback(self.x(128), width=128, bits=4, group=32, cost=numpy.ones(()))),
                             ("block is 3",
                              lambda: xq.simulate_feedback(self.x(128), width=128, bits=4, group=32, cost=numpy.ones((128, 3)))),
                             ("cost is not positive semidefinite",
                              lambda: xq.simulate_feedback(self.x(128), width=128, bits=4, group=32,
                                                           cost=numpy.tile([[1.0, 2.0], [2.0, 1.0]], (64, 1)))),
                             ("feedback: it has 3 elements; valid: 4096",
                              lambda: xq.simulate_cache(x, bits=4, group=32, feedback=numpy.ones(3))),
                             ("w", lambda: xq.simulate_weights(numpy.full((2, 2), numpy.inf), "f16"))):
            self.assertRaisesRegex(xq.ArgumentError, message, use)

    @unittest.skipUnless(HAVE_TORCH, WITHOUT_TORCH)
    def test_tensors_give_tensors(self):
        import torch

        x = torch.from_numpy(self.x())
        held = xq.simulate_cache(x.half(), bits=4, group=32)
        self.assertEqual((type(held), held.dtype), (torch.Tensor, torch.float32))
        numpy.testing.assert_array_equal(held.numpy(), xq.simulate_cache(x.half().numpy(), bits=4, group=32))


if __name__ == "__main__":
    unittest.main()
