"""Tests examples/python/generate.py on a tiny model."""

import math
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "bindings")]

from python_binding import PACKAGE, ROOT
from python_transformers import MISSING, make_model, needs_transformers

if not MISSING:
    import torch

    from test_llama import write_tokenizer

GENERATE = os.path.join(ROOT, "examples", "python", "generate.py")
TEXT = "The quick brown fox jumps over the lazy dog; 42 times. " * 4


def run(*arguments):
    return subprocess.run([sys.executable, "-B", GENERATE, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False,
                          env={**os.environ, "PYTHONPATH": PACKAGE})


@needs_transformers
class Example(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.model, cls.text = os.path.join(folder.name, "model"), os.path.join(folder.name, "text")
        cls.own = make_model("llama")
        cls.own.generation_config.eos_token_id = None
        cls.own.save_pretrained(cls.model)
        write_tokenizer(os.path.join(cls.model, "tokenizer.json"), False)
        with open(cls.text, "w", encoding="utf-8") as file:
            file.write(TEXT)

    def test_texts_memory_and_perplexity(self):
        result = run(self.model, "--prompt", "The quick", "--prompt", "The quick brown fox", "--tokens", 5, "--bits", 8, "--perplexity",
                     self.text, "--window", 40, "--windows", 2)
        self.assertEqual(result.returncode, 0, result.stderr)
        texts = result.stdout.split("-" * 20)
        self.assertEqual(len(texts), 3)
        self.assertIn("The quick brown fox", texts[1])
        self.assertIn("5 tokens of each text", result.stdout)
        through_xq, own = map(float, re.search(r"2 x 40 tokens of .*: ([\d.]+) with xq's cache, ([\d.]+) with", result.stdout).groups())
        self.assertAlmostEqual(own, self.perplexity(), delta=own * 1e-3)
        self.assertAlmostEqual(through_xq, own, delta=own * 0.02)
        self.assertNotEqual(through_xq, own)
        # A page of 64 tokens holds the 40 tokens. There are 4 layers. Each has two streams of 128 columns of one byte,
        # and 4 bytes per group: keys and values have one group in each of their two latents.
        self.assertIn(f"cache: {4 * 64 * (2 * 128 + 4 * 4):,} bytes for 40 tokens", result.stdout)
        self.assertIn(f"fp16 keys and values: {4 * 40 * 512:,} bytes", result.stdout)

    def perplexity(self):
        import tokenizers

        ids = torch.tensor(tokenizers.Tokenizer.from_file(os.path.join(self.model, "tokenizer.json")).encode(TEXT).ids[:80]).view(2, 40)
        with torch.no_grad():
            logits = self.own(ids, use_cache=False).logits[:, :-1]
        return math.exp(torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)))

    def test_help_and_bad_input(self):
        result = run("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for option in ("--prompt", "--perplexity", "--prepared", "--prefill"):
            self.assertIn(option, result.stdout)
        for arguments, words in (((self.model,), "give --prompt TEXT or --perplexity FILE"),
                                 ((self.model, "--prompt", "a", "--tokens", 0), "--tokens 0: expected 1 or more"),
                                 ((self.model, "--prompt", "a", "--bits", 5), "cache.bits"),
                                 ((self.model, "--perplexity", self.text, "--windows", 99), "99 windows of 128 need more"),
                                 ((self.model, "--perplexity", self.text + ".not"), "No such file")):
            with self.subTest(arguments[1:]):
                result = run(*arguments)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(words, result.stderr)
                self.assertNotIn("Traceback", result.stderr)


if __name__ == "__main__":
    unittest.main()
