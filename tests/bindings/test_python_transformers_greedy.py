"""Compares greedy texts of xq.transformers with those of examples/llama, token for token, with the same prepared file,
method and bits. The models are a tiny one, and SmolLM2-135M if build/smollm2 has it.

Both programs give the prompt to the cache and attend to it there (prefill="xq"), in f32 on the CPU, and continue
greedily. They add in different orders, so x differs in its last bits, a few codes differ by one, and logits differ by
some hundredths. Texts are the same as long as every token leads the second best by much more than that, which the tests
also check."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import BUILD, ROOT
from python_transformers import MISSING, ids_of, make_model, needs_transformers, xq

if not MISSING:
    import torch
    import transformers

    import xq.transformers

LLAMA = os.path.join(BUILD, "llama", "llama")
SMOLLM2 = os.path.join(ROOT, "build", "smollm2")
SURE = 225  # seed of a prompt after which every token of the tiny model leads clearly
# Takes the place of --python: the ids of the prompt are the prompt itself, and the ids to decode are printed as they
# are.
IDS_FOR_TEXT = """#!/bin/sh
case $3 in decode) cat ;; *) printf '%s\\n' -1 "$5" ;; esac
"""


@needs_transformers
@unittest.skipUnless(os.path.exists(LLAMA), "no build/llama/llama (make llama builds it)")
class Greedy(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.python = self.path("ids")
        with open(self.python, "w", encoding="utf-8") as file:
            file.write(IDS_FOR_TEXT)
        os.chmod(self.python, 0o755)

    def path(self, name):
        return os.path.join(self.folder, name)

    def theirs(self, directory, ids, count, *options):
        """Returns the ids that `llama generate` adds to the prompt."""
        run = subprocess.run([LLAMA, "generate", directory, "--prompt", " ".join(map(str, ids[0].tolist())), "--tokens", str(count),
                              "--python", self.python, *options], capture_output=True, text=True, timeout=300, check=False,
                             env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        found = list(map(int, run.stdout.split()))
        self.assertEqual(found[:ids.shape[1]], ids[0].tolist())
        return found[ids.shape[1]:]

    def ours(self, model, ids, count, prepared, bits):
        """Returns the ids that xq.transformers adds, and the lead of the least certain token."""
        xq.transformers.enable(model, bits, prepared=prepared, prefill="xq")
        out = model.generate(ids, max_new_tokens=count, do_sample=False, output_logits=True, return_dict_in_generate=True)
        xq.transformers.disable(model)
        best = torch.cat(out.logits).topk(2).values
        return out.sequences[0, ids.shape[1]:].tolist(), float((best[:, 0] - best[:, 1]).min())

    def test_a_tiny_model(self):
        model = make_model("llama", rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attention_bias=False)
        directory, prepared, ids = self.path("model"), self.path("prepared.safetensors"), ids_of(20, seed=SURE)
        model.save_pretrained(directory)
        with open(os.path.join(directory, "config.json"), "r+", encoding="utf-8") as file:
            config = json.load(file)
            config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]  # the example reads this older form
            file.seek(0)
            json.dump(config, file)
            file.truncate()
        for method in ("latent", "x"):
            xq.prepare(directory, prepared, method=method)
            for device in ("host", "sim"):
                with self.subTest(method=method, device=device):
                    found, lead = self.ours(model, ids, 12, prepared, 8)
                    self.assertGreater(lead, 0.3)
                    self.assertEqual(found, self.theirs(directory, ids, 12, "--cache", method, "--prepared", prepared, "--bits", "8",
                                                        "--first-bits", "8", "--device", device))

    @unittest.skipUnless(os.path.exists(os.path.join(SMOLLM2, "model.safetensors")), "no build/smollm2 (make demo writes it)")
    def test_smollm2(self):
        prepared = self.path("latent.safetensors")
        xq.prepare(SMOLLM2, prepared, method="latent")
        model = transformers.AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32)
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(SMOLLM2, "tokenizer.json"))
        ids = tokenizer("1 2 3 4 5 6 7 8 9 10 11 12", return_tensors="pt").input_ids
        for bits in (4, 3):
            with self.subTest(bits=bits):
                found, lead = self.ours(model, ids, 12, prepared, bits)
                self.assertEqual(tokenizer.decode(found), " 13 14 15 16")
                self.assertGreater(lead, 0.5)
                self.assertEqual(found, self.theirs(SMOLLM2, ids, 12, "--cache", "latent", "--prepared", prepared, "--bits",
                                                    str(bits), "--first-bits", str(bits), "--device", "sim"))


if __name__ == "__main__":
    unittest.main()
