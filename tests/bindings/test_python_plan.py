"""Tests the contexts, memory, specs and plans of the Python package, on the software device."""

import contextlib
import copy
import gc
import io
import json
import logging
import os
import pickle
import sys
import tempfile
import textwrap
import threading
import unittest
import unittest.mock

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import D, DKV, HEAD_DIM, HEADS, PAGE, ROOT, SPEC, attention, context, ints, random_weights, spec, xq

TOKENS = 20


class Layer:
    """One sequence of TOKENS tokens, in pages 0 and 1. Every array is numpy's."""

    def __init__(self, seed=3, **options):
        random = numpy.random.default_rng(seed)
        self.plan = xq.Plan(context(), SPEC, max_tokens=64, max_append=TOKENS, **options)
        self.weights = random_weights()
        self.x = random.standard_normal((TOKENS, D)).astype("f2")
        self.q = random.standard_normal((1, HEADS, HEAD_DIM)).astype("f2")
        self.table = xq.PageTable(ints(0, 2), ints(0, 1), ints(TOKENS - PAGE))
        self.packed = self.plan.pack_weights(**self.weights)
        self.pages = numpy.zeros(2 * self.plan.info.page_bytes, "u1")
        self.workspace = self.plan.workspace()

    def append(self, **changes):
        arguments = dict(x=self.x, token_sequence=numpy.zeros(TOKENS, "i4"), token_position=numpy.arange(TOKENS, dtype="i4"),
                         table=self.table, pages=self.pages)
        self.plan.append(**{**arguments, **changes})

    def attend(self, **changes):
        arguments = dict(q=self.q, table=self.table, pages=self.pages, weights=self.packed, workspace=self.workspace)
        return self.plan.attend(**{**arguments, **changes})


class Contexts(unittest.TestCase):
    def test_device_is_described(self):
        device = context().device
        self.assertIn("software device", device.name)
        self.assertEqual((device.is_sim, device.ordinal, device.driver), (True, -1, 0))
        self.assertGreater(device.memory_bytes, 0)

    def test_bad_devices_are_value_errors_with_the_librarys_message(self):
        with self.assertRaisesRegex(ValueError, "device 'gpu' is not valid; valid: auto, cuda, cuda:N") as caught:
            xq.Context("gpu")
        error = caught.exception
        self.assertIsInstance(error, xq.Error)
        self.assertEqual((error.status, error.stage, error.field), (xq.Status.ERROR_ARGUMENT, "argument", "device"))

    def test_a_nul_is_refused(self):
        with self.assertRaisesRegex(xq.ArgumentError, "device: .*NUL"):
            xq.Context("sim\0h100")

    def test_mistakes_are_named(self):
        for message, options in (("device: int is no text", {"device": 3}), ("cache_dir: list is no text", {"cache_dir": []}),
                                 ("device: .*UTF-8", {"device": "\ud800"}), ("log: int is not callable", {"log": 3})):
            with self.assertRaisesRegex((TypeError, xq.ArgumentError), message):
                xq.Context(**{"device": "sim", **options})
        self.assertRaisesRegex(xq.ArgumentError, "kernels: 5 is no list", xq.Context, "sim", kernels=5)
        for call in (lambda: xq.Plan(None, SPEC), lambda: xq.Plan.load("sim", b""), lambda: xq.Prepared(3, "file"),
                     lambda: xq.complete(SPEC, context=3), lambda: xq.override(SPEC, {}, context=3)):
            self.assertRaisesRegex(TypeError, "context: .* is no context; valid: an xq.Context", call)

    def test_what_owns_memory_is_neither_copied_nor_pickled(self):
        buffer = context().alloc(8)
        plan = xq.Plan(context(), SPEC)
        for owner in (context(), buffer, buffer[:4], plan, xq.PagedCache(plan, 2), xq.Prepared.__new__(xq.Prepared)):
            for call in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.subTest(type(owner).__name__, call=call.__name__):
                    self.assertRaisesRegex(TypeError, f"^{type(owner).__name__} objects can be neither copied nor pickled", call,
                                           owner)

    def test_a_log_callback_cannot_close_what_it_is_called_for(self):
        refused = []

        def log(_level, _message):
            for name, owner in (("context", opened), ("plan", first)):
                with self.assertRaisesRegex(xq.ArgumentError, f"{name}: it cannot be closed from within .* log callback"):
                    owner.close()
                refused.append(name)

        first = None
        with xq.Context("sim", log=lambda *message: first and log(*message)) as opened:
            first = xq.Plan(opened, SPEC)
            second = xq.Plan(opened, SPEC, max_tokens=64)  # logs where its kernels come from
            self.assertEqual(set(refused), {"context", "plan"})
            self.assertEqual(second.info.max_tokens, 64)
            first.close()
        self.assertTrue(opened.closed)

    def test_kernels_come_from_stores_or_are_an_error(self):
        spec = {"model": {"hidden_size": 128, "num_attention_heads": 2, "head_dim": 64}, "cache": {"method": "x"}}
        with tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as empty:
            with xq.Context("sim", cache_dir=store) as context:
                image = xq.Plan(context, spec).save()
            with xq.Context("sim", cache_dir=empty, kernels=[empty, store], no_compile=True, log=lambda *_: None) as context:
                self.assertEqual(xq.Plan(context, spec).save(), image)
            with xq.Context("sim", cache_dir=empty, kernels=[], no_compile=True) as context:
                with self.assertRaises(xq.Error) as caught:
                    xq.Plan(context, spec)
                self.assertEqual(caught.exception.field, "no_compile")
        for bad, text in (("/opt/kernels", "a list of folders"), (["a:b"], "has a colon")):
            with self.assertRaisesRegex(ValueError, text):
                xq.Context("sim", kernels=bad)

    def test_a_closed_context_is_refused_and_closing_twice_is_fine(self):
        opened = xq.Context("sim")
        memory = opened.alloc(8)
        plan = xq.Plan(opened, SPEC)
        opened.close()
        opened.close()
        for use in (lambda: opened.alloc(1), lambda: memory.read(), lambda: plan.spec_json, lambda: plan.save()):
            with self.assertRaisesRegex(xq.ArgumentError, "it is closed"):
                use()
        del memory, plan
        gc.collect()

    def test_with_closes(self):
        with xq.Context("sim:a100") as opened:
            self.assertIn("A100", opened.device.name)
        self.assertTrue(opened.closed)

    def test_log_goes_to_logging_by_default_or_to_a_function(self):
        with self.assertLogs("xq", logging.DEBUG) as logs, unittest.mock.patch.dict("os.environ", {"XQ_LIBCUDA": "/none"}):
            with xq.Context("auto"):
                pass
            lines = []
            with xq.Context("auto", log=lambda level, message: lines.append((level, message))):
                pass
        self.assertRegex(logs.output[0], "INFO:xq:no GPU .*using the software device")
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(lines[0][0], logging.INFO)
        self.assertIn("using the software device", lines[0][1])


class Memory(unittest.TestCase):
    def test_bytes_go_there_and_back(self):
        buffer = context().upload(b"abcdefgh")
        self.assertEqual((buffer.nbytes, len(buffer), buffer.address % 256), (8, 8, 0))
        buffer.write(b"XY", offset=2)
        self.assertEqual(buffer.read(), b"abXYefgh")
        self.assertEqual(buffer.read(3, offset=5), b"fgh")
        buffer.fill(7)
        self.assertEqual(buffer.read(), bytes([7] * 8))

    def test_arrays_go_there_and_back(self):
        array = numpy.arange(12, dtype="f4").reshape(3, 4)
        buffer = context().upload(array)
        numpy.testing.assert_array_equal(buffer.numpy("f4", (3, 4)), array)
        numpy.testing.assert_array_equal(buffer.numpy("f4"), array.reshape(-1))
        into = numpy.zeros(4, "f4")
        buffer.read_into(into, offset=16)
        numpy.testing.assert_array_equal(into, array[1])

    def test_slices_are_views(self):
        buffer = context().upload(bytes(range(16)))
        part = buffer[4:8]
        self.assertEqual((part.nbytes, part.address), (4, buffer.address + 4))
        part.write(b"\0\0\0\0")
        self.assertEqual(buffer.read()[3:9], bytes([3, 0, 0, 0, 0, 8]))
        with self.assertRaisesRegex(xq.ArgumentError, "view"):
            part.free()
        del buffer
        gc.collect()
        self.assertEqual(part.read(), bytes(4))

    def test_bounds_and_kinds_are_checked(self):
        buffer = context().alloc(8)
        for use in (lambda: buffer.write(bytes(9)), lambda: buffer.read(4, offset=5), lambda: buffer.write(b"a", offset=-1),
                    lambda: buffer.fill(256), lambda: context().alloc(-1)):
            self.assertRaises(xq.ArgumentError, use)
        self.assertRaises(TypeError, buffer.write, "text")
        for name, use in (("offset", lambda: buffer.write(b"a", 1.0)), ("offset", lambda: buffer.read(offset="1")),
                          ("nbytes", lambda: buffer.read(1.0)), ("nbytes", lambda: context().alloc(True)),
                          ("value", lambda: buffer.fill("a"))):
            self.assertRaisesRegex(TypeError, f"{name}: .* is no whole number", use)
        self.assertRaises(TypeError, lambda: buffer[3])
        self.assertRaisesRegex(xq.ArgumentError, "contiguous", buffer.write, numpy.zeros((4, 4), "u1")[:, :2])
        self.assertRaisesRegex(xq.ArgumentError, "read-only", buffer.read_into, b"12345678")

    def test_elements_that_are_python_objects_are_refused(self):
        buffer = context().alloc(64, fill=255)
        objects = numpy.array([1, "two"], object)
        for field, use in (("dtype", lambda: buffer.numpy(object)), ("dtype", lambda: buffer.numpy([("a", "i4"), ("b", "O")])),
                           ("data", lambda: context().upload(objects)), ("data", lambda: buffer.write(objects)),
                           ("array", lambda: buffer.read_into(objects))):
            self.assertRaisesRegex(xq.ArgumentError, f"{field}: its elements are Python objects", use)
        self.assertRaisesRegex(xq.ArgumentError, "dtype: elements of .* have no bytes", buffer.numpy, "S0")

    def test_freed_memory_is_refused(self):
        buffer = context().alloc(8)
        part = buffer[:4]
        buffer.free()
        buffer.free()
        for use in (buffer.read, part.read):
            self.assertRaisesRegex(xq.ArgumentError, "freed", use)

    def test_memory_is_freed_with_its_object(self):
        before = len(context()._allocated)
        buffer = context().alloc(8)
        self.assertEqual(len(context()._allocated), before + 1)
        del buffer
        gc.collect()
        self.assertEqual(len(context()._allocated), before)

    def test_too_much_is_a_memory_error(self):
        with self.assertRaises(MemoryError) as caught:
            context().alloc(1 << 60)
        self.assertEqual(caught.exception.status, xq.Status.ERROR_DEVICE_MEMORY)


class Specs(unittest.TestCase):
    def test_completion_and_overrides(self):
        completed = xq.complete(SPEC, context=context())
        self.assertEqual((completed["cache"]["bits"], completed["dtype"]), (8, "f16"))
        self.assertEqual(xq.complete(json.dumps(SPEC), context=context()), completed)
        changed = xq.override(completed, {"cache": {"bits": 4}}, context=context())
        self.assertEqual(changed, xq.complete(spec(bits=4), context=context()))
        self.assertEqual(xq.override(changed, {"cache": {"bits": None}}, context=context())["cache"]["bits"], 4)

    def test_errors_name_the_key(self):
        with self.assertRaises(xq.SpecError) as caught:
            xq.complete(spec(bits=5), context=context())
        self.assertEqual(caught.exception.field, "cache.bits")
        self.assertIn("2, 3, 4, 8", str(caught.exception))
        with self.assertRaisesRegex(xq.SpecError, "spec:1:2: malformed JSON"):
            xq.complete("{", context=context())
        self.assertRaises(TypeError, xq.complete, 4)
        self.assertRaises(ValueError, xq.complete, {"model": float("nan")}, context=context())


    def test_text_that_the_library_would_cut_is_refused(self):
        text = json.dumps(SPEC)
        for field, call in (("spec", lambda: xq.complete(text + "\0x", context=context())),
                            ("spec", lambda: xq.Plan(context(), text + "\0x")),
                            ("overrides", lambda: xq.override(SPEC, "{}\0x", context=context()))):
            self.assertRaisesRegex(xq.ArgumentError, f"{field}: it contains a NUL character", call)
        self.assertRaisesRegex(TypeError, "spec: .*set is not JSON", xq.complete, {"cache": {1, 2}}, context=context())
        self.assertRaisesRegex(xq.ArgumentError, "spec: ", xq.complete, {"cache": {"bits": numpy.nan}}, context=context())


class Plans(unittest.TestCase):
    def test_attention_is_that_of_double_precision(self):
        for implementation in ("fused", "unfused"):
            layer = Layer(implementation=implementation)
            layer.append()
            cached = layer.plan.dequantize(layer.table, layer.pages)[:TOKENS]
            self.assertLess(numpy.abs(cached - layer.x).max(), 0.03)
            out, lse = layer.attend(lse=True)
            expected, expected_lse = attention(layer.q[0], cached, layer.weights, lse=True)
            self.assertLess(numpy.abs(out[0] - expected).max(), 2e-3)
            self.assertLess(numpy.abs(lse[0] - expected_lse).max(), 2e-3)

    def test_fp16_kv_is_the_baseline(self):
        layer = Layer(implementation="fp16-kv")
        layer.pages = numpy.zeros(2 * layer.plan.info.page_bytes, "u1")
        layer.append(weights=layer.packed, workspace=layer.workspace)
        self.assertLess(numpy.abs(layer.attend()[0] - attention(layer.q[0], layer.x, layer.weights)).max(), 2e-3)
        self.assertRaises(xq.UnsupportedError, layer.plan.dequantize, layer.table, layer.pages, k=numpy.zeros((32, D), "f2"))

    def test_fp8_kv_has_scales(self):
        layer = Layer(implementation="fp8-kv")
        plan = layer.plan
        shapes = plan.weight_shapes()
        self.assertEqual((shapes["k_scale"], shapes["v_scale"]), ((1,), (1,)))
        weights = {name: value for name, value in layer.weights.items() if name in shapes}
        keys = numpy.abs(layer.x.astype("f4") @ weights["wk"]).max() * 1.5  # a pair that turns may grow by the square root of 2
        values = numpy.abs(layer.x.astype("f4") @ weights["wv"]).max()
        packed = plan.pack_weights(**weights, k_scale=keys / 448, v_scale=numpy.array([values / 448], "f4"))
        layer.pages = numpy.zeros(2 * plan.info.page_bytes, "u1")
        layer.append(weights=packed, workspace=layer.workspace)
        layer.packed = packed
        self.assertLess(numpy.abs(layer.attend()[0] - attention(layer.q[0], layer.x, layer.weights)).max(), 5e-2)
        self.assertRaisesRegex(xq.ArgumentError, "weights.v_scale is 0; valid: numbers from 1e-30 to 1e30", plan.pack_weights,
                               **weights, v_scale=0.0)
        self.assertRaises(xq.UnsupportedError, plan.dequantize, layer.table, layer.pages, k=numpy.zeros((32, D), "f2"))

    def test_device_buffers_and_addresses_do_as_well(self):
        layer = Layer()
        layer.append()
        expected, expected_lse = layer.attend(lse=True)
        upload = context().upload
        arrays = (layer.table.indptr, layer.table.indices, layer.table.last_page_len)
        table = xq.PageTable(*(upload(array) for array in arrays), batch=1)
        q, pages, weights = upload(layer.q), upload(layer.pages), upload(layer.packed)
        out, lse = context().alloc(expected.nbytes), context().alloc(expected_lse.nbytes)
        layer.plan.attend(q, table, pages, weights, layer.workspace, out=out, lse=lse, queries=1, max_tokens=TOKENS)
        numpy.testing.assert_array_equal(out.numpy("f2", expected.shape), expected)
        numpy.testing.assert_array_equal(lse.numpy("f4", expected_lse.shape), expected_lse)
        out.fill(0)
        layer.plan.attend(q.address, table, pages.address, weights.address, layer.workspace.address, out=out.address, queries=1)
        numpy.testing.assert_array_equal(out.numpy("f2", expected.shape), expected)

    def test_halves_of_the_tokens_merge_to_the_whole(self):
        layer = Layer(max_queries=4)
        layer.append()
        many = dict(query_indptr=ints(0, 1), query_position=ints(TOKENS - 1), lse=True)
        whole, whole_lse = layer.attend(**many)
        first = layer.attend(table=xq.PageTable(ints(0, 1), ints(0), ints(PAGE)), **many)
        second = layer.attend(table=xq.PageTable(ints(0, 1), ints(1), ints(TOKENS - PAGE)), token_offset=ints(PAGE), **many)
        out, lse = layer.plan.merge(first[0], first[1], second[0], second[1], lse=True)
        self.assertLess(numpy.abs(out.astype("f4") - whole).max(), 2e-3)
        self.assertLess(numpy.abs(lse - whole_lse).max(), 1e-3)
        same = layer.plan.merge(first[0], first[1], second[0], second[1], out=first[0])
        self.assertIs(same, first[0])
        numpy.testing.assert_array_equal(same, out)

    def test_drafts_of_a_tree_see_what_their_mask_says(self):
        layer = Layer(max_queries=4)
        layer.append()
        q = numpy.random.default_rng(5).standard_normal((2, HEADS, HEAD_DIM)).astype("f2")
        mask = numpy.array([[1], [2]], "u4")  # two alternatives for the last-but-one position
        out = layer.attend(q=q, query_indptr=ints(0, 2), query_position=ints(TOKENS - 2, TOKENS - 2), tree_mask=mask)
        cached = layer.plan.dequantize(layer.table, layer.pages)[:TOKENS]
        expected = attention(q[1], numpy.concatenate([cached[:TOKENS - 2], cached[TOKENS - 1:]]), layer.weights)
        self.assertLess(numpy.abs(out[1] - expected).max(), 2e-3)
        self.assertRaisesRegex(xq.ArgumentError, "mask_words.*no effect", layer.attend, mask_words=1)

    def test_images_load_again(self):
        layer = Layer(max_batch=3)
        layer.append()
        image = layer.plan.save()
        self.assertEqual(image, layer.plan.save())
        loaded = xq.Plan.load(context(), bytearray(image))
        self.assertEqual((loaded.spec, loaded.info), (layer.plan.spec, layer.plan.info))
        self.assertEqual(loaded.info.max_batch, 3)
        numpy.testing.assert_array_equal(
            loaded.attend(layer.q, layer.table, layer.pages, layer.packed, loaded.workspace()), layer.attend())
        with self.assertRaises(xq.FormatError):
            xq.Plan.load(context(), image[:-1])

    def test_info_says_what_the_plan_was_made_for(self):
        info = xq.Plan(context(), SPEC, implementation="unfused", max_batch=2, max_tokens=100, max_append=5, max_queries=3,
                       pool_pages=9).info
        self.assertEqual((info.implementation, info.max_batch, info.max_tokens, info.max_append, info.max_queries,
                          info.max_total_queries, info.pool_pages), ("unfused", 2, 100, 5, 3, 6, 9))
        self.assertEqual((info.hidden_size, info.heads, info.page_tokens, info.rank_k, info.rank_v), (D, HEADS, PAGE, D, 0))
        self.assertEqual(info.parameters_from, "default")

    def test_bad_options_are_named(self):
        for name, value in (("implementation", "fastest"), ("max_batch", 0), ("max_tokens", -1), ("max_append", 2**40),
                            ("max_queries", 0)):
            with self.assertRaises(ValueError) as caught:
                xq.Plan(context(), SPEC, **{name: value})
            self.assertEqual(caught.exception.field, name)
        for value in ("3", True, 1.0):
            self.assertRaisesRegex(TypeError, "max_batch: .* is no whole number", xq.Plan, context(), SPEC, max_batch=value)
        for image in ("abc", 3, None):
            self.assertRaisesRegex(TypeError, "image: ", xq.Plan.load, context(), image)

    def test_several_threads_use_one_plan_and_have_their_own_errors(self):
        layer = Layer()
        layer.append()
        expected, failures = layer.attend(), []

        def work(wrong):
            try:
                if wrong:
                    with self.assertRaisesRegex(xq.ArgumentError, "q"):
                        layer.attend(q=layer.q[:, :2])
                else:
                    numpy.testing.assert_array_equal(layer.attend(workspace=layer.plan.workspace()), expected)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


class Documents(unittest.TestCase):
    def test_the_program_of_the_readme_runs(self):
        with open(os.path.join(ROOT, "bindings", "python", "README.md"), encoding="utf-8") as file:
            lines = file.read().split("    import numpy, xq\n")[1].split("\n\n[")[0]
        program = "import numpy, xq\n" + textwrap.dedent(lines)
        self.assertIn("xq.Context()", program)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program.replace("xq.Context()", 'xq.Context("sim")'), {})
        self.assertRegex(printed.getvalue(), r"^\[\[\[[-+\d. e\n\[\]]+\]\]\] 68\.0\n$")


class Arguments(unittest.TestCase):
    def setUp(self):
        self.layer = Layer()
        self.layer.append()

    def refused(self, field, message, call, **changes):
        with self.assertRaisesRegex(xq.ArgumentError, message) as caught:
            call(**changes)
        self.assertEqual(caught.exception.field, field)

    def test_shapes_types_and_layouts(self):
        layer = self.layer
        self.refused("q", r"its shape is \[1, 2, 64\]; valid: \[1, 4, 64\]", layer.attend, q=layer.q[:, :2].copy())
        self.refused("q", "its elements are float32; valid: float16", layer.attend, q=layer.q.astype("f4"))
        self.refused("q", "not contiguous", layer.attend, q=numpy.zeros((1, HEADS, 2 * HEAD_DIM), "f2")[..., ::2])
        self.refused("x", r"valid: \[20, 128\]", layer.append, x=layer.x[:, :64].copy())
        self.refused("token_position", "int64; valid: int32", layer.append, token_position=numpy.arange(TOKENS))
        self.refused("token_sequence", r"valid: \[20\]", layer.append, token_sequence=ints(0))
        self.refused("table.indptr", r"\[3\]; valid: \[2\]", layer.attend,
                     table=xq.PageTable(ints(0, 1, 2), ints(0, 1), ints(4)))
        self.refused("weights", "bytes are needed|are needed", layer.attend, weights=layer.packed[:-1])
        self.refused("workspace", "are needed", layer.attend, workspace=layer.workspace[:-1])
        self.refused("out", "read-only", layer.attend, out=numpy.frombuffer(bytes(512), "f2").reshape(1, HEADS, HEAD_DIM))
        self.refused("max_tokens", "valid: 0 to 64", layer.attend, max_tokens=65)

    def test_kinds(self):
        self.assertRaisesRegex(TypeError, "q: list is no device memory", self.layer.attend, q=[1, 2])
        with xq.Context("sim") as other:
            self.refused("pages", "another context", self.layer.attend, pages=other.alloc(self.layer.pages.nbytes))
        self.refused("pages", "its elements are Python objects", self.layer.attend, pages=numpy.zeros(4, object))
        self.refused("queries", "needed, because q", self.layer.attend, q=context().alloc(512))
        self.refused("out", "must be given", self.layer.attend, q=context().alloc(512), queries=1)

    def test_addresses_are_whole_and_of_64_bits(self):
        for name in ("weights", "workspace", "pages"):
            for address in (-1, 2**64, 2**64 + 256):
                self.refused(name, "is no address; valid: 0 to", self.layer.attend, **{name: address})
            self.assertRaisesRegex(TypeError, f"{name}: bool is no device memory", self.layer.attend, **{name: True})
        for stream in (-1, 2**64):
            self.refused("stream", f"{stream}; valid: 0 to", self.layer.attend, stream=stream)
        self.assertRaisesRegex(TypeError, "stream: str", self.layer.attend, stream="0")

    def test_what_the_library_finds_is_raised(self):
        self.refused("weights", "weights must not be NULL", self.layer.attend, weights=None)
        with self.assertRaisesRegex(xq.ArgumentError, "last_page_len"):
            self.layer.attend(table=xq.PageTable(ints(0, 2), ints(0, 1), ints(PAGE + 1)))

    def test_a_failed_call_leaves_host_arrays_alone(self):
        pages = self.layer.pages.copy()
        with self.assertRaises(xq.ArgumentError):
            self.layer.append(token_position=numpy.arange(TOKENS, dtype="i4") + 500)
        numpy.testing.assert_array_equal(self.layer.pages, pages)


class Weights(unittest.TestCase):
    def test_shapes_of_each_method(self):
        def shapes(**changes):
            return xq.Plan(context(), {"model": {**SPEC["model"], **changes.pop("model", {})},
                                       "cache": {"bits": 4, "page": PAGE, **changes}}).weight_shapes()
        self.assertEqual(shapes(method="x", rotation=False), {"wk": (D, DKV), "wv": (D, DKV)})
        self.assertEqual(shapes(method="x"), {"uk": (D, D), "ak": (D, DKV), "av": (D, DKV)})
        self.assertEqual(shapes(method="latent", rank_k=40, rank_v=64, groups_k=2, groups_v=1), {
            "uk": (D, 40), "ak": (20, DKV), "uv": (D, 64), "av": (64, DKV)})
        self.assertEqual(shapes(method="latent-cl", rank_k=64), {"wk": (D, DKV), "wv": (D, DKV), "ukv": (D, 64)})
        self.assertEqual(shapes(method="latent", feedback=True)["k_cost"], (DKV, HEAD_DIM))
        self.assertEqual(shapes(method="x", rotation=False, model={"attention_bias": True, "qk_norm": "row"}), {
            "wk": (D, DKV), "wv": (D, DKV), "bk": (DKV,), "bv": (DKV,), "k_norm": (DKV,)})

    def test_kinds_of_numbers(self):
        plan = xq.Plan(context(), SPEC)
        weights = random_weights()
        packed = plan.pack_weights(**weights)
        self.assertEqual((packed.dtype, packed.nbytes), (numpy.dtype("u1"), plan.info.weights_bytes))
        for kind in ("f2", "f8"):
            half = {name: value.astype("f2").astype(kind) for name, value in weights.items()}
            numpy.testing.assert_array_equal(plan.pack_weights(**half), packed)
        fortran = {name: numpy.asfortranarray(value) for name, value in weights.items()}
        numpy.testing.assert_array_equal(plan.pack_weights(**fortran), packed)

    def test_mistakes_are_named(self):
        plan = xq.Plan(context(), SPEC)
        weights = random_weights()
        for message, changes in (("weights.wk", {"wk": None}), ("weights.uk.*no effect", {"uk": weights["wk"]}),
                                 (r"weights.wv: its shape is \[128, 64\]; valid: \[128, 128\]", {"wv": weights["wv"][:, :64]}),
                                 ("weights.wk: its elements are int64", {"wk": numpy.zeros((D, DKV), "i8")}),
                                 ("weights.wk", {"wk": numpy.full((D, DKV), numpy.nan, "f4")})):
            self.assertRaisesRegex(xq.ArgumentError, message, plan.pack_weights, **{**weights, **changes})
        for value in (weights["wk"], 1):
            self.assertRaisesRegex(TypeError, "no weights 'keys'; valid: wk, wv", plan.pack_weights, keys=value)


if __name__ == "__main__":
    unittest.main()
