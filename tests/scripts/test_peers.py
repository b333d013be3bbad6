"""scripts/peers.py: attention of other libraries beside `xq compare`. Without a GPU, xq runs on the software device and
PyTorch on the CPU."""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import types
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import peers

XQ = os.environ.get("XQ", str(ROOT / "build" / "xq"))

try:
    import torch
    import torch.nn.attention
except ImportError:
    torch = None
needs_torch = unittest.skipUnless(torch, "torch is not installed; `make torch` installs it")


def run(*arguments):
    """The exit status, standard output and standard error of peers.main."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = peers.main(list(arguments))
        except SystemExit as stop:
            status = stop.code
    return status, out.getvalue(), err.getvalue()


class BadInput(unittest.TestCase):
    def refused(self, *arguments):
        status, out, err = run(*arguments)
        self.assertNotEqual(status, 0)
        self.assertEqual(out, "")
        return err.strip().splitlines()[-1]

    def test_numbers(self):
        for text in ("0", "1,1", "-4", "a", "4,", "²"):
            self.assertIn("whole numbers above 0", self.refused(f"--tokens={text}"))
            self.assertIn("--batch", self.refused(f"--batch={text}"))

    def test_a_folder_that_is_missing(self):
        self.assertIn("--json /nowhere/x.json: No such file or directory", self.refused("--json", "/nowhere/x.json"))

    @needs_torch
    def test_without_a_gpu(self):
        with unittest.mock.patch("torch.cuda.is_available", return_value=False):
            self.assertIn("--device cuda: PyTorch sees no GPU", self.refused())

    @needs_torch
    def test_errors_of_xq(self):
        self.assertIn("--xq /nowhere/xq: No such file", self.refused("--device", "sim", "--xq", "/nowhere/xq"))
        self.assertIn("llama-9", self.refused("--device", "sim", "--xq", XQ, "--model", "llama-9"))

    @needs_torch
    def test_nothing_is_left_of_a_run_that_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            self.refused("--device", "sim", "--xq", "/nowhere/xq", "--json", os.path.join(folder, "x.json"))
            self.assertEqual(os.listdir(folder), [])

    def test_without_torch(self):
        with unittest.mock.patch.dict(sys.modules, {"torch": None}):
            self.assertIn("`make torch` installs it", self.refused("--device", "sim"))


@needs_torch
class Rows(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "peers.json")
            cls.status, cls.out, cls.err = run("--device", "sim", "--xq", XQ, "--model", "smollm2-135m", "--tokens", "64,100",
                                               "--batch", "1,2", "--json", path)
            with open(path, encoding="utf-8") as file:
                cls.found = json.load(file)

    def test_every_size_has_every_row(self):
        self.assertEqual(self.status, 0, self.err)
        for batch in (1, 2):
            for tokens in (64, 100):
                names = [row["name"] for row in self.found["rows"] if (row["batch"], row["tokens"]) == (batch, tokens)]
                self.assertEqual(names, ["xq fp16-kv", "xq fp8-kv", "xq unfused", "xq fused", *peers.PEERS])

    def test_outputs_are_those_of_double_precision(self):
        times = [row for row in self.found["rows"] if "refused" not in row]
        self.assertIn("sdpa-math", [row["name"] for row in times])
        for row in times:
            self.assertLess(row["rel_err"], 2e-3, row)
            self.assertGreater(row["time_us"], 0)

    def test_a_library_that_cannot_run_says_why(self):
        refused = {row["name"]: row["refused"] for row in self.found["rows"] if "refused" in row}
        self.assertTrue(refused["sdpa-cudnn"])
        self.assertIn("sdpa-cudnn", self.out)
        self.assertIn("cannot run: ", self.out)

    def test_versions(self):
        self.assertEqual(self.found["torch"], torch.__version__)
        self.assertIn("software device", self.found["device"])


@needs_torch
class Paged(unittest.TestCase):
    """Checks the pages and scales that FlashInfer would get, with a stand-in for it that attends in double precision."""

    def setUp(self):
        self.model = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "attention_scale": 0.17}
        self.library = types.ModuleType("flashinfer")
        self.library.BatchDecodeWithPagedKVCacheWrapper = Wrapper

    def row(self, name, tokens=192):
        step = peers.Step(torch, "cpu", self.model, 3, tokens)
        with unittest.mock.patch.dict(sys.modules, {"flashinfer": self.library}):
            return peers.peer_row(name, step, step.reference(), peers.Timer(torch, "cpu"))

    def test_pages_hold_the_keys_and_values(self):
        self.assertLess(self.row("flashinfer-fp16")["rel_err"], 1e-6)

    def test_scales_of_e4m3(self):
        error = self.row("flashinfer-fp8")["rel_err"]
        self.assertLess(error, 0.06)
        self.assertGreater(error, 1e-3)

    def test_half_a_page(self):
        self.assertEqual(self.row("flashinfer-fp16", 100)["refused"], "tokens: a multiple of 64, not 100")


class Wrapper:
    def __init__(self, workspace, layout, use_tensor_cores):
        assert layout == "NHD"

    def plan(self, indptr, indices, last, heads, kv_heads, head_dim, page, sm_scale, q_data_type, kv_data_type):
        self.indptr, self.indices, self.last, self.page, self.scale = indptr, indices, last, page, sm_scale
        self.kv_heads, self.head_dim = kv_heads, head_dim

    def run(self, q, cache, k_scale=1.0, v_scale=1.0):
        rows = []
        for i in range(len(q)):
            pages = cache[self.indices[self.indptr[i]:self.indptr[i + 1]].long()].double()
            k, v = (pages[:, which].reshape(-1, self.kv_heads, self.head_dim).transpose(0, 1) for which in (0, 1))
            heads = q[i].double().view(self.kv_heads, -1, self.head_dim)
            rows.append(((heads @ (k * k_scale).transpose(-1, -2) * self.scale).softmax(-1) @ (v * v_scale)).reshape(q[i].shape))
        return torch.stack(rows)


if __name__ == "__main__":
    unittest.main()
