"""Tests the Python package with torch: calls take tensors as memory. On the software device these are CPU tensors."""

import os
import sys
import unittest

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import D, HAVE_TORCH, HEAD_DIM, HEADS, PAGE, SPEC, WITHOUT_TORCH, attention, context, random_weights, xq

if HAVE_TORCH:
    import torch

TOKENS = 20


@unittest.skipUnless(HAVE_TORCH, WITHOUT_TORCH)
class Tensors(unittest.TestCase):
    def layer(self, spec=SPEC):
        plan = xq.Plan(context(), spec, max_tokens=64, max_append=TOKENS)
        draw = torch.Generator().manual_seed(3)
        kind = torch.bfloat16 if plan.dtype == "bf16" else torch.float16
        self.x = torch.randn(TOKENS, D, generator=draw).to(kind)
        self.q = torch.randn(1, HEADS, HEAD_DIM, generator=draw).to(kind)
        self.weights = random_weights()
        self.packed = torch.from_numpy(plan.pack_weights(**{k: torch.from_numpy(v) for k, v in self.weights.items()}))
        self.table = xq.PageTable(*(torch.tensor(v, dtype=torch.int32) for v in ([0, 2], [0, 1], [TOKENS - PAGE])))
        self.pages = torch.zeros(2, plan.info.page_bytes, dtype=torch.uint8)
        self.workspace = torch.zeros(plan.info.workspace_bytes, dtype=torch.uint8)
        plan.append(self.x, torch.zeros(TOKENS, dtype=torch.int32), torch.arange(TOKENS, dtype=torch.int32), self.table,
                    self.pages)
        return plan

    def test_everything_may_be_a_tensor(self):
        plan = self.layer()
        out, lse = plan.attend(self.q, self.table, self.pages, self.packed, self.workspace, lse=True)
        self.assertEqual((out.dtype, tuple(out.shape), lse.dtype, tuple(lse.shape)),
                         (torch.float16, (1, HEADS, HEAD_DIM), torch.float32, (1, HEADS)))
        cached = plan.dequantize(self.table, self.pages)
        self.assertIsInstance(cached, torch.Tensor)
        expected = attention(self.q[0].numpy(), cached[:TOKENS].numpy(), self.weights)
        self.assertLess(numpy.abs(out[0].numpy() - expected).max(), 2e-3)
        given = torch.empty_like(out)
        self.assertIs(plan.attend(self.q, self.table, self.pages, self.packed, self.workspace, out=given), given)
        self.assertTrue(torch.equal(given, out))

    def test_bf16(self):
        plan = self.layer({**SPEC, "dtype": "bf16"})
        out = plan.attend(self.q, self.table, self.pages, self.packed, self.workspace)
        self.assertEqual(out.dtype, torch.bfloat16)
        cached = plan.dequantize(self.table, self.pages)[:TOKENS].float().numpy()
        expected = attention(self.q[0].float().numpy(), cached, self.weights)
        self.assertLess(numpy.abs(out[0].float().numpy() - expected).max(), 1.5e-2)

    def test_tensors_give_what_arrays_give(self):
        plan = self.layer()
        out = plan.attend(self.q, self.table, self.pages, self.packed, self.workspace)
        arrays = plan.attend(self.q.numpy(), xq.PageTable(*(t.numpy() for t in (self.table.indptr, self.table.indices,
                                                                              self.table.last_page_len))),
                             self.pages.numpy(), self.packed.numpy(), plan.workspace())
        numpy.testing.assert_array_equal(out.numpy(), arrays)

    def test_views_are_used_in_place(self):
        plan = self.layer()
        large = torch.zeros(3, HEADS, HEAD_DIM, dtype=torch.float16)
        plan.attend(self.q, self.table, self.pages, self.packed, self.workspace, out=large[1:2])
        self.assertTrue((large[1] != 0).any())
        self.assertTrue((large[0] == 0).all() and (large[2] == 0).all())
        joined = torch.stack([large[1], large[1]])  # out_a and out_b overlap with out
        lse = torch.zeros(1, HEADS)
        plan.merge(joined[:1], lse, joined[1:], lse, out=joined[:1])
        self.assertLess((joined[0] - large[1]).abs().max().item(), 2e-3)

    def test_mistakes_are_named(self):
        plan = self.layer()

        def attend(**changes):
            arguments = dict(q=self.q, table=self.table, pages=self.pages, weights=self.packed, workspace=self.workspace)
            plan.attend(**{**arguments, **changes})

        for field, message, value in (("q", "float32; valid: float16", self.q.float()),
                                      ("q", r"\[1, 2, 64\]; valid: \[1, 4, 64\]", self.q[:, :2].contiguous()),
                                      ("q", "not contiguous", self.q.transpose(1, 2).contiguous().transpose(1, 2)),
                                      ("q", "it is on meta, and the context on the software device, which takes cpu",
                                       self.q.to("meta")),
                                      ("pages", "meta", self.pages.to("meta"))):
            with self.assertRaisesRegex(xq.ArgumentError, message) as caught:
                attend(**{field: value})
            self.assertEqual(caught.exception.field, field)

    def test_weights_that_need_gradients(self):
        plan = self.layer()
        linear = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in self.weights.items()}
        numpy.testing.assert_array_equal(plan.pack_weights(**linear), self.packed.numpy())
        half = {name: torch.from_numpy(value).half() for name, value in self.weights.items()}
        numpy.testing.assert_array_equal(plan.pack_weights(**half), self.packed.numpy())
        self.assertRaisesRegex(xq.ArgumentError, "weights.wk: its elements are torch.int64", plan.pack_weights,
                               wk=torch.zeros(D, 128, dtype=torch.int64), wv=self.weights["wv"])

    def test_buffers_take_and_give_tensors(self):
        buffer = context().upload(self.layer() and self.x)
        into = torch.empty_like(self.x)
        buffer.read_into(into)
        self.assertTrue(torch.equal(into, self.x))
        self.assertRaisesRegex(xq.ArgumentError, "contiguous CPU tensor", buffer.write, self.x.t())

    def test_a_cache_takes_tensors(self):
        plan = xq.Plan(context(), SPEC, max_tokens=64, max_batch=2, max_append=40)
        cache = xq.PagedCache(plan, 10, weights=torch.from_numpy(plan.pack_weights(**random_weights())))
        a, b = cache.add(), cache.add()
        x = torch.randn(30, D, generator=torch.Generator().manual_seed(1)).half()
        cache.append([a, b], x, counts=[20, 10])
        q = torch.ones(2, HEADS, HEAD_DIM, dtype=torch.float16)
        out = cache.attend([a, b], q)
        for row, sequence in enumerate((a, b)):
            expected = attention(q[row].numpy(), cache.dequantize(sequence), random_weights())
            self.assertLess(numpy.abs(out[row].numpy() - expected).max(), 2e-3)


class WithoutTorch(unittest.TestCase):
    def test_the_package_does_not_import_torch(self):
        import subprocess

        script = ("import sys; sys.path.insert(0, %r); import xq; c = xq.Context('sim'); p = xq.Plan(c, %r); "
                  "xq.PagedCache(p, 2); sys.exit('torch' in sys.modules)")
        script %= (os.path.dirname(os.path.dirname(xq.__file__)), SPEC)
        self.assertEqual(subprocess.run([sys.executable, "-c", script], check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
