"""Tests examples/llama on tiny models of random weights, of both families, against a plain forward pass in double
precision; and on SmolLM2-135M if build/smollm2 has it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))

import numpy
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from realmodel import forward, tensors
from realmodel.shape import from_config

XQ = os.environ.get("XQ", os.path.join(ROOT, "build", "xq"))
LLAMA = os.path.join(os.path.dirname(XQ), "llama", "llama")
SMOLLM2 = os.path.join(ROOT, "build", "smollm2")
TEXT = "The quick brown fox jumps over the lazy dog; 42 times. " * 6

LLAMA_CONFIG = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 4,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 258,
                "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512,
                "tie_word_embeddings": False}
GEMMA_CONFIG = {"model_type": "gemma3_text", "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 4,
                "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 258,
                "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
                "query_pre_attn_scalar": 50, "sliding_window": 24, "sliding_window_pattern": 2,
                "rope_scaling": {"rope_type": "linear", "factor": 4.0}}


# ---------------------------------------------------------------- the model, position by position

class Plain:
    """A slow forward pass in double precision, computed from the formulas."""

    def __init__(self, config, weights):
        self.config = config
        self.gemma = config["model_type"] == "gemma3_text"
        self.weights = {name: array.astype(numpy.float64) for name, array in weights.items()}

    def norm(self, x, name):
        gain = self.weights[name] + self.gemma
        return x / numpy.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"]) * gain

    def turn(self, x, positions, layer):
        config, half = self.config, x.shape[-1] // 2
        theta, stretch = config["rope_theta"], 1
        if self.gemma:
            theta, stretch = (theta, 4.0) if (layer + 1) % 2 == 0 else (config["rope_local_base_freq"], 1)
        angle = positions[:, None, None] / stretch * theta ** (-numpy.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return numpy.concatenate([a * numpy.cos(angle) - b * numpy.sin(angle),
                                  b * numpy.cos(angle) + a * numpy.sin(angle)], -1)

    def attention(self, x, layer):
        config, prefix = self.config, f"model.layers.{layer}.self_attn."
        heads, kv, dh = (config[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim"))
        tokens = len(x)
        q, k, v = ((x @ self.weights[prefix + f"{name}_proj.weight"].T).reshape(tokens, -1, dh) for name in "qkv")
        if self.gemma:
            q, k = (self.norm(array, prefix + f"{name}_norm.weight") for name, array in (("q", q), ("k", k)))
        positions = numpy.arange(tokens)
        q, k = self.turn(q, positions, layer), self.turn(k, positions, layer)
        seen = positions[:, None] >= positions
        if self.gemma and (layer + 1) % 2:
            seen &= positions[:, None] - positions < config["sliding_window"]
        out = numpy.empty((tokens, heads, dh))
        for head in range(heads):
            scores = q[:, head] @ k[:, head * kv // heads].T * config.get("query_pre_attn_scalar", dh) ** -0.5
            share = numpy.where(seen, numpy.exp(scores - scores.max()), 0)
            out[:, head] = share / share.sum(-1, keepdims=True) @ v[:, head * kv // heads]
        return out.reshape(tokens, -1) @ self.weights[prefix + "o_proj.weight"].T

    def mlp(self, x, layer):
        gate, up, down = (self.weights[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        g = x @ gate.T
        if self.gemma:
            g = 0.5 * g * (1 + numpy.tanh((2 / numpy.pi) ** 0.5 * (g + 0.044715 * g ** 3)))
        else:
            g = g / (1 + numpy.exp(-g))
        return (g * (x @ up.T)) @ down.T

    def logits(self, ids):
        embedding = self.weights["model.embed_tokens.weight"]
        hidden = embedding[ids] * (self.config["hidden_size"] ** 0.5 if self.gemma else 1)
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            change = self.attention(self.norm(hidden, prefix + "input_layernorm.weight"), layer)
            if self.gemma:
                change = self.norm(change, prefix + "post_attention_layernorm.weight")
            hidden = hidden + change
            before = "pre_feedforward_layernorm" if self.gemma else "post_attention_layernorm"
            change = self.mlp(self.norm(hidden, prefix + before + ".weight"), layer)
            if self.gemma:
                change = self.norm(change, prefix + "post_feedforward_layernorm.weight")
            hidden = hidden + change
        return self.norm(hidden, "model.norm.weight") @ self.weights.get("lm_head.weight", embedding).T


def perplexity(plain, ids, window, bos=None):
    """Returns the mean loss, by the definition of perplexity in the example's README."""
    own = 0 if bos is None else 1
    losses = []
    for begin in range(0, len(ids) // (window - own) * (window - own), window - own):
        piece = ([bos] if own else []) + ids[begin:begin + window - own]
        logits = plain.logits(piece)
        log_sum = numpy.log(numpy.exp(logits).sum(-1))
        losses += [log_sum[t] - logits[t, piece[t + 1]] for t in range(window - 1)]
    return float(numpy.mean(losses))


def divergences(reference, compared):
    """Returns the KL divergence of each row of logits from the reference's row, in nats, and whether the greatest
    logits of the two agree."""
    log_p, log_q = ((logits := rows.astype(numpy.float64)) - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))
                    for rows in (reference, compared))
    return (numpy.exp(log_p) * (log_p - log_q)).sum(-1), log_p.argmax(-1) == log_q.argmax(-1)


# ---------------------------------------------------------------- files

def random_weights(config, seed=3):
    random = numpy.random.default_rng(seed)
    gemma = config["model_type"] == "gemma3_text"
    d, ffn, dh = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * dh, config["num_key_value_heads"] * dh

    def matrix(rows, cols, size=1.0):
        return (random.standard_normal((rows, cols)) * size / cols ** 0.5).astype(numpy.float16)

    def gain(width):
        return (random.uniform(0.5, 1.5, width) - gemma).astype(numpy.float32)

    weights = {"model.embed_tokens.weight": matrix(config["vocab_size"], d, 1 if gemma else 8), "model.norm.weight": gain(d)}
    if not gemma:
        weights["lm_head.weight"] = matrix(config["vocab_size"], d, 2)
    norms = ["input_layernorm", "post_attention_layernorm"]
    if gemma:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        weights.update({prefix + name + ".weight": gain(d) for name in norms})
        shapes = {"self_attn.q_proj": (q, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
                  "self_attn.o_proj": (d, q), "mlp.gate_proj": (ffn, d), "mlp.up_proj": (ffn, d),
                  "mlp.down_proj": (d, ffn)}
        weights.update({prefix + name + ".weight": matrix(*shape) for name, shape in shapes.items()})
        if gemma:
            weights.update({prefix + f"self_attn.{name}_norm.weight": gain(dh) for name in "qk"})
    return weights


def write_tokenizer(path, bos):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "th"] + alphabet)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(path)


def run(*arguments, python=sys.executable):
    command = [LLAMA, *map(str, arguments)] + (["--python", python] if python else [])
    return subprocess.run(command, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})


class TinyModel(unittest.TestCase):
    config, bos = LLAMA_CONFIG, False

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.weights = random_weights(cls.config)
        cls.plain = Plain(cls.config, cls.weights)
        cls.write_model("model", cls.config, cls.weights)
        with open(cls.path("text.txt"), "w", encoding="utf-8") as file:
            file.write(TEXT)
        tokenizer = tokenizers.Tokenizer.from_file(cls.path("model", "tokenizer.json"))
        cls.ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
        with open(cls.path("ids.txt"), "w", encoding="utf-8") as file:
            file.write(json.dumps(cls.ids[:100]))

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)

    @classmethod
    def write_model(cls, name, config, weights):
        os.makedirs(cls.path(name), exist_ok=True)
        with open(cls.path(name, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        tensors.write(cls.path(name, "model.safetensors"), weights)
        write_tokenizer(cls.path(name, "tokenizer.json"), cls.bos)

    def logits(self, *options):
        out = self.path("out.safetensors")
        result = run("logits", self.path("model"), "--ids", self.path("ids.txt"), "--out", out, *options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return tensors.Reader(out).read("logits", (100, self.config["vocab_size"]))

    def perplexity(self, *options):
        result = run("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--json", "-", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def prepare(self, method, *options):
        path = self.path(f"{method}.safetensors")
        if not os.path.exists(path):
            subprocess.run([XQ, "prepare", self.path("model"), "--method", method, "--out", path, *options],
                           check=True, capture_output=True)
        return path

    def assert_close(self, found, expected, bound):
        error = numpy.linalg.norm(found - expected) / numpy.linalg.norm(expected)
        self.assertLessEqual(error, bound)

    def assert_refused(self, result, status, *words):
        """The run must end with this exit status and one line with these words."""
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertTrue(result.stderr.startswith("llama: ") and result.stderr.count("\n") == 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)


class Families:
    """Tests that both families must pass."""

    def test_logits_agree_with_a_plain_model_in_double_precision(self):
        expected = self.plain.logits(self.ids[:100])
        self.assert_close(self.logits("--cache", "f32"), expected, 2e-6)
        self.assert_close(self.logits("--cache", "fp16"), expected, 1e-3)

    def test_decoding_token_by_token_is_prefilling_at_once(self):
        for cache in ("f32", "fp16"):
            self.assert_close(self.logits("--cache", cache, "--chunk", 1), self.logits("--cache", cache), 1e-4)
        for cache in (("x", "--no-rotation"), ("x-cl", "--first-layers", 2), ("latent", "--prepared", self.prepare("latent"))):
            options = ("--cache", *cache, "--bits", 8, "--first-bits", 8, "--group", 64)
            self.assert_close(self.logits(*options, "--chunk", 1), self.logits(*options), 3e-3)

    def test_more_bits_come_closer(self):
        exact = self.logits("--cache", "f32")
        for cache in (("kivi",), ("x", "--no-rotation"), ("x-cl",)):
            errors = [numpy.linalg.norm(exact - self.logits("--cache", *cache, "--layer-bits", ",".join(4 * [str(bits)]),
                                                            "--group", 32)) for bits in (2, 3, 4, 8)]
            self.assertEqual(errors, sorted(errors, reverse=True), cache)
            self.assertLess(errors[3], 0.05 * numpy.linalg.norm(exact), cache)

    def test_kernels_give_what_the_host_gives(self):
        caches = (("fp16",), ("x", "--no-rotation", "--axis-k", "channel", "--group", 32), ("x-cl", "--accumulator-bits", 8),
                  ("x", "--prepared", self.prepare("x", "--rotation", "--pack"), "--rotation"),
                  ("latent", "--prepared", self.prepare("latent", "--pack")),
                  ("latent-cl", "--prepared", self.prepare("latent-cl", "--pack"), "--axis-k", "channel", "--group", 32))
        for cache in caches:
            options = ("--cache", *cache, "--chunk", 70)
            if cache[0] != "fp16":
                options += ("--bits", 8, "--first-bits", 8)
            with self.subTest(cache=cache):
                self.assert_close(self.logits(*options, "--device", "sim"), self.logits(*options), 1e-2)


class Llama(TinyModel, Families):
    def test_perplexity_is_the_mean_over_windows(self):
        found = self.perplexity("--cache", "f32")
        windows = len(self.ids) // 48
        self.assertEqual((found["windows"], found["window"], found["tokens"]), (windows, 48, 48 * windows))
        self.assertAlmostEqual(found["nll"], perplexity(self.plain, self.ids, 48), delta=1e-5)
        self.assertAlmostEqual(found["ppl"], numpy.exp(found["nll"]), delta=1e-9 * found["ppl"])
        two = self.perplexity("--cache", "f32", "--windows", 2)
        self.assertAlmostEqual(two["nll"], perplexity(self.plain, self.ids[:96], 48), delta=1e-5)
        begun = self.perplexity("--cache", "f32", "--bos", 7)
        self.assertAlmostEqual(begun["nll"], perplexity(self.plain, self.ids, 48, 7), delta=1e-5)

    def test_memory_counts_everything(self):
        fp16 = 48 * 4 * 2 * 128 * 2
        self.assertEqual(self.perplexity("--cache", "fp16")["memory"], 1)
        # x: 128 channels of 4 bits, and 4 bytes for one group; one page of 64 tokens per layer
        x = self.perplexity("--cache", "x", "--no-rotation")
        self.assertAlmostEqual(x["memory"], 4 * 64 * (64 + 4) / fp16)
        self.assertAlmostEqual(x["memory_paper"], 4.25 / 32)
        self.assertAlmostEqual(x["bytes_per_token"], 4 * 64 * (64 + 4) / 48)
        # by channel: parameters for each group of 32 tokens in each channel, and a tail of 32 tokens
        x = self.perplexity("--cache", "x", "--no-rotation", "--axis-k", "channel", "--group", 32)
        self.assertAlmostEqual(x["memory"], 4 * (64 * (64 + 128 * 4 / 32) + 32 * 256) / fp16)
        # deltas: also one accumulator of 16 bits
        x = self.perplexity("--cache", "x-cl", "--bits", 2)
        self.assertAlmostEqual(x["memory"], (3 * 64 * (64 + 4) + 64 * (32 + 4) + 64 * 256) / fp16)
        self.assertAlmostEqual(x["memory_paper"], (3 * 4.25 + 2.25) / 4 / 32)
        # keys: one whole group of 32 out of 48 tokens, and a tail of 32; values: four groups of 32 per token
        kivi = self.perplexity("--cache", "kivi", "--group", 32)
        keys, values = 32 * 64 + 128 * 4 + 32 * 256, 48 * (64 + 4 * 4)
        self.assertAlmostEqual(kivi["memory"], 4 * (keys + values) / fp16)
        self.assertAlmostEqual(kivi["memory_paper"], 5 / 16)

    def test_the_first_layers_have_bits_of_their_own(self):
        listed = self.perplexity("--cache", "x", "--no-rotation", "--layer-bits", "8,8,2,2")
        first = self.perplexity("--cache", "x", "--no-rotation", "--bits", 2, "--first-layers", 2, "--first-bits", 8)
        self.assertEqual(listed["nll"], first["nll"])
        self.assertNotEqual(listed["nll"], self.perplexity("--cache", "x", "--no-rotation", "--layer-bits", "2,2,8,8")["nll"])
        self.assertEqual(first["cache"]["first_layers"], 2)

    def test_options_reach_the_spec(self):
        one = self.perplexity("--cache", "x", "--no-rotation", "--zero-point", "integer", "--page", 32)
        same = self.perplexity("--cache", "x", "--no-rotation", "--set", 'cache.zero_point="integer"', "--set", "cache.page=32")
        self.assertEqual((one["nll"], one["memory"]), (same["nll"], same["memory"]))
        self.assertNotEqual(one["nll"], self.perplexity("--cache", "x", "--no-rotation")["nll"])
        self.assertEqual(same["cache"]["page"], 32)
        eight = self.perplexity("--cache", "x", "--no-rotation", "--weights", "int8")
        self.assertNotEqual(eight["nll"], self.perplexity("--cache", "x", "--no-rotation")["nll"])

    def test_prepared_files_decide_what_is_left_open(self):
        path = self.prepare("latent-cl", "--pack")
        found = self.perplexity("--cache", "latent-cl", "--prepared", path, "--bits", 8, "--first-bits", 8)
        self.assertEqual(found["cache"]["first_layers"], 3)
        self.assertAlmostEqual(found["nll"], self.perplexity("--cache", "f32")["nll"], delta=0.02)
        text = (self.path("model"), self.path("text.txt"), "--window", 48)
        self.assert_refused(run("perplexity", *text, "--cache", "latent-cl", "--prepared", path, "--first-layers", 1), 1,
                            "latent-cl.safetensors", "layer 0", "--first-layers")
        self.assert_refused(run("perplexity", *text, "--cache", "latent-cl", "--prepared", path, "--rank", 64), 1,
                            "rank_k", "64")
        self.assert_refused(run("perplexity", *text, "--cache", "latent"), 1, "--prepared", "xq prepare")

    def test_rotated_activations_come_from_a_prepared_file(self):
        path = self.prepare("x", "--rotation", "--pack")
        found = self.perplexity("--cache", "x", "--prepared", path, "--bits", 8, "--first-bits", 8)
        self.assertAlmostEqual(found["nll"], self.perplexity("--cache", "f32")["nll"], delta=0.02)
        plain = self.perplexity("--cache", "x", "--no-rotation", "--bits", 8, "--first-bits", 8)
        self.assertEqual(found["memory"], plain["memory"])
        self.assertNotEqual(found["nll"], plain["nll"])
        text = (self.path("model"), self.path("text.txt"), "--window", 48)
        self.assert_refused(run("perplexity", *text, "--cache", "x", "--rotation"), 1, "--prepared",
                            "--method x", "--no-rotation")
        self.assert_refused(run("perplexity", *text, "--cache", "x-cl", "--rotation"), 1, "cache.rotation", "x-cl")

    def test_generation_is_greedy(self):
        prompt = "the lazy dog"
        tokenizer = tokenizers.Tokenizer.from_file(self.path("model", "tokenizer.json"))
        ids = tokenizer.encode(prompt).ids
        for _ in range(8):
            ids.append(int(self.plain.logits(ids)[-1].argmax()))
        result = run("generate", self.path("model"), "--prompt", prompt, "--tokens", 8, "--cache", "f32")
        self.assertEqual((result.returncode, result.stdout), (0, tokenizer.decode(ids) + "\n"))

    def test_generation_ends_where_the_model_ends_it(self):
        tokenizer = tokenizers.Tokenizer.from_file(self.path("model", "tokenizer.json"))
        ids = tokenizer.encode("fox").ids
        first = int(self.plain.logits(ids)[-1].argmax())
        self.write_model("ending", {**self.config, "eos_token_id": [3, first]}, self.weights)
        result = run("generate", self.path("ending"), "--prompt", "fox", "--cache", "f32")
        self.assertEqual(result.stdout, "fox\n")

    def test_json_is_written_as_a_file(self):
        run("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--json", self.path("r.json"))
        with open(self.path("r.json"), encoding="utf-8") as file:
            found = json.load(file)
        self.assertEqual(set(found), {"model", "text", "tokens", "windows", "window", "cache", "ppl", "nll", "memory",
                                      "memory_paper", "bytes_per_token", "seconds"})

    def test_shards_are_one_model(self):
        names = sorted(self.weights)
        self.write_model("sharded", self.config, self.weights)
        os.remove(self.path("sharded", "model.safetensors"))
        places = {}
        for index, part in enumerate((names[:7], names[7:])):
            tensors.write(self.path("sharded", f"part{index}.safetensors"), {name: self.weights[name] for name in part})
            places.update({name: f"part{index}.safetensors" for name in part})
        with open(self.path("sharded", "model.safetensors.index.json"), "w", encoding="utf-8") as file:
            json.dump({"weight_map": places}, file)
        out = self.path("sharded.out")
        run("logits", self.path("sharded"), "--ids", self.path("ids.txt"), "--out", out, "--cache", "f32")
        numpy.testing.assert_array_equal(tensors.Reader(out).read("logits", (100, 258)), self.logits("--cache", "f32"))


class Gemma(TinyModel, Families):
    config, bos = GEMMA_CONFIG, True

    def test_windows_begin_with_the_tokenizers_bos(self):
        found = self.perplexity("--cache", "f32")
        self.assertEqual(found["bos"], 0)
        self.assertAlmostEqual(found["nll"], perplexity(self.plain, self.ids, 48, 0), delta=1e-5)
        without = self.perplexity("--cache", "f32", "--bos", "none")
        self.assertAlmostEqual(without["nll"], perplexity(self.plain, self.ids, 48), delta=1e-5)


class Reference(TinyModel):
    """Compares the predictions with other caches with those of an fp16 cache."""

    def setUp(self):
        self.reference = self.path("reference.safetensors")
        self.recorded = self.perplexity("--record", self.reference)

    def logits_of_windows(self, windows, *options):
        """Returns the logits of the tokens that predict another one, as `llama logits` gives them."""
        rows = []
        for window in range(windows):
            with open(self.path("window.txt"), "w", encoding="utf-8") as file:
                file.write(json.dumps(self.ids[48 * window:48 * (window + 1)]))
            out = self.path("window.safetensors")
            result = run("logits", self.path("model"), "--ids", self.path("window.txt"), "--out", out, *options)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            rows.append(tensors.Reader(out).read("logits", (48, self.config["vocab_size"]))[:-1])
        return numpy.concatenate(rows)

    def assert_differs(self, field, *options, model="model", text="text.txt", window=48):
        """The run must be refused, with the name of the field that differs from the reference's."""
        result = run("perplexity", self.path(model), self.path(text), "--window", window, "--reference", self.reference, *options)
        self.assert_refused(result, 1, f"reference.safetensors: {field}: ")
        return result.stderr

    def test_fp16_is_its_own_reference(self):
        found = self.perplexity("--reference", self.reference)
        self.assertEqual((found["kl_mean"], found["kl_p99"], found["top1"]), (0, 0, 1))
        self.assertEqual(found["kl_tokens"], 47 * found["windows"])
        self.assertEqual(found["reference"], self.reference)
        self.assertEqual(found["nll"], self.recorded["nll"])
        self.assertFalse({"kl_mean", "kl_p99", "top1", "kl_tokens"} & set(self.recorded))

    def test_measures_are_those_of_the_logits(self):
        options = ("--cache", "kivi", "--bits", 2, "--group", 32)
        found = self.perplexity("--reference", self.reference, *options)
        self.assertEqual(found["nll"], self.perplexity(*options)["nll"])
        kl, agreed = divergences(self.logits_of_windows(found["windows"]), self.logits_of_windows(found["windows"], *options))
        self.assertEqual(found["kl_tokens"], len(kl))
        self.assertAlmostEqual(found["kl_mean"], kl.mean(), delta=1e-5 * kl.mean())
        self.assertAlmostEqual(found["kl_p99"], numpy.percentile(kl, 99, method="inverted_cdf"), delta=1e-5 * kl.max())
        self.assertAlmostEqual(found["top1"], agreed.mean(), delta=1e-9)
        self.assertTrue(0.01 < found["kl_mean"] < found["kl_p99"] and 0 < found["top1"] < 1, found)

    def test_more_bits_come_closer(self):
        found = [self.perplexity("--reference", self.reference, "--cache", "x", "--no-rotation", "--bits", bits,
                                 "--first-bits", bits) for bits in (2, 4, 8)]
        for name in ("kl_mean", "kl_p99"):
            self.assertEqual([each[name] for each in found], sorted((each[name] for each in found), reverse=True))
        self.assertGreater(found[2]["top1"], found[0]["top1"])

    def test_the_first_windows_can_do(self):
        options = ("--cache", "kivi", "--bits", 2, "--group", 32)
        kl = divergences(self.logits_of_windows(2), self.logits_of_windows(2, *options))[0]
        self.perplexity("--record", self.path("two.safetensors"), "--reference-windows", 2)
        self.assertLess(os.path.getsize(self.path("two.safetensors")), os.path.getsize(self.reference))
        for reference, chosen in ((self.reference, ("--reference-windows", 2)), (self.path("two.safetensors"), ()),
                                  (self.reference, ("--windows", 2))):
            found = self.perplexity("--reference", reference, *options, *chosen)
            self.assertEqual(found["kl_tokens"], 2 * 47)
            self.assertAlmostEqual(found["kl_mean"], kl.mean(), delta=1e-5 * kl.mean())
        all_of_it = self.perplexity("--reference", self.reference, *options)
        self.assertEqual(self.perplexity("--reference", self.path("two.safetensors"), *options)["nll"], all_of_it["nll"])

    def test_pieces_of_any_length_have_one_reference(self):
        found = self.perplexity("--reference", self.reference, "--chunk", 5)
        self.assertLess(found["kl_p99"], 1e-5)
        self.assertEqual(found["top1"], 1)
        self.perplexity("--record", self.path("pieces.safetensors"), "--chunk", 5)
        self.assertLess(self.perplexity("--reference", self.path("pieces.safetensors"))["kl_p99"], 1e-5)

    def test_another_reference_is_refused_by_the_field_that_differs(self):
        self.assertIn("48, and this run has 32", self.assert_differs("window", window=32))
        self.assertIn("none, and this run has 7", self.assert_differs("bos", "--bos", 7))
        with open(self.path("other.txt"), "w", encoding="utf-8") as file:
            file.write(TEXT[:60] + "!" + TEXT[61:])
        self.assertIn("of window 2", self.assert_differs("tokens", text="other.txt"))
        self.write_model("other", self.config, random_weights(self.config, seed=4))
        self.assert_differs("model", model="other")

    def test_what_is_no_reference_is_refused(self):
        run("logits", self.path("model"), "--ids", self.path("ids.txt"), "--out", self.reference)
        self.assert_differs("format")
        self.recorded = self.perplexity("--record", self.reference)
        with open(self.reference, "rb") as file:
            data = file.read()
        for length, word in ((4, "truncated"), (len(data) - 4, "hidden"), (600, "tokens")):
            with open(self.reference, "wb") as file:
                file.write(data[:length])
            self.assert_refused(run("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--reference",
                                    self.reference), 1, "reference.safetensors", word)
        self.assert_refused(run("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--reference",
                                self.path("none")), 1, "none: No such file")
        with open(self.reference, "wb") as file:
            file.write(data[:-4] + b"\xff\xff\xff\xff")
        self.assert_refused(run("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--reference",
                                self.reference), 1, "KL divergence", "not a number")

    def test_more_windows_than_there_are_are_refused(self):
        windows = self.recorded["windows"]
        for option in (("--record", self.path("never")), ("--reference", self.reference)):
            result = run("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, *option,
                         "--reference-windows", windows + 1)
            self.assert_refused(result, 1, "--reference-windows", f"valid: 1 to {windows}")
        self.assertFalse(os.path.exists(self.path("never")))

    def test_a_run_that_fails_leaves_no_file(self):
        weights = {**self.weights, "model.norm.weight": numpy.full(128, 3e38, numpy.float32)}
        self.write_model("failing", self.config, weights)
        os.makedirs(self.path("empty"))
        result = run("perplexity", self.path("failing"), self.path("text.txt"), "--window", 48, "--record", self.path("empty", "r"))
        self.assert_refused(result, 1, "not a number")
        self.assertEqual(os.listdir(self.path("empty")), [])
        result = run("perplexity", self.path("model"), self.path("text.txt"), "--record", self.path("nowhere", "r"), "--window", 48)
        self.assert_refused(result, 1, "nowhere")


class BadInput(TinyModel):
    def setUp(self):
        shutil.rmtree(self.path("bad"), ignore_errors=True)

    def assert_command_refused(self, status, words, *arguments, python=sys.executable):
        self.assert_refused(run(*arguments, python=python), status, *words)

    def with_model(self, config=None, weights=None):
        self.write_model("bad", config or self.config, weights or self.weights)
        return run("perplexity", self.path("bad"), self.path("text.txt"), "--window", 48)

    def test_command_lines_are_checked(self):
        text = ("perplexity", self.path("model"), self.path("text.txt"), "--window", 48)
        for words, arguments in (
                (("'dance'", "perplexity"), ("dance", "--window", "4")),
                (("model directory",), ("perplexity", self.path("model"))),
                (("'more'",), (*text, "more")),
                (("--tokens", "generate"), (*text, "--tokens", "4")),
                (("--window", "perplexity"), ("generate", self.path("model"), "--prompt", "a", "--window", "4")),
                (("--json", "perplexity"), ("logits", self.path("model"), "--json", "-")),
                (("--json", "value"), (*text, "--json", "--quiet")),
                (("fp16", "--bits"), (*text, "--bits", "4")),
                (("f32", "--first-layers"), (*text, "--cache", "f32", "--first-layers", "1")),
                (("--bits", "'x'"), (*text, "--bits", "x")),
                (("--bots",), (*text, "--bots", "1")),
                (("\\x1b[31m\\x0a",), (*text, "\x1b[31m\n")),
                (("--a", "..."), (*text, "--" + 3000 * "a", "1")),
                (("--bits", "value"), (*text, "--cache", "x", "--no-rotation", "--bits")),
                (("fp16", "group"), (*text, "--group", "64")),
                (("kivi", "axis_k"), (*text, "--cache", "kivi", "--axis-k", "token")),
                (("--record", "kivi", "valid: fp16"), (*text, "--cache", "kivi", "--record", "never")),
                (("--record", "f32", "valid: fp16"), (*text, "--record", "never", "--cache", "f32")),
                (("--record", "--reference"), (*text, "--record", "never", "--reference", "never")),
                (("--reference-windows", "--record FILE"), (*text, "--reference-windows", "2")),
                (("--reference", "perplexity"), ("logits", self.path("model"), "--reference", "never")),
                (("--set", "cache.KEY"), (*text, "--set", "group=3")),
                (("--set", "JSON"), (*text, "--set", "cache.group=row")),
                (("kivi", "host"), (*text, "--cache", "kivi", "--device", "sim")),
                (("--ids",), ("logits", self.path("model")))):
            with self.subTest(arguments=arguments):
                result = subprocess.run([LLAMA, *map(str, arguments)], capture_output=True, text=True,
                                        env={**os.environ, "PYTHON": sys.executable})
                self.assert_refused(result, 2, *words)

    def test_values_out_of_range_are_bad_input(self):
        text = ("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--cache", "x", "--no-rotation")
        for words, options in (
                (("--cache", "'q8'", "latent-cl"), ("--cache", "q8")),
                (("--bits", "'0'", "1 to 16"), ("--bits", 0)),
                (("--windows", "'0'"), ("--windows", 0)),
                (("--reference-windows", "'0'"), ("--reference", "never", "--reference-windows", 0)),
                (("--window", "'99999999999999999999'"), ("--window", "99999999999999999999")),
                (("--layer-bits", "2 layers", "4"), ("--layer-bits", "4,4")),
                (("--layer-bits", "1 to 16"), ("--layer-bits", "4,4,4,4294967300")),
                (("--first-layers", "0 to 4"), ("--first-layers", 5)),
                (("--first-layers", "1 to 4"), ("--cache", "x-cl", "--first-layers", 0)),
                (("cache.clip",), ("--clip", "nan")),
                (("cache.clip",), ("--clip", "1e999")),
                (("cache.group",), ("--group", "inf"))):
            with self.subTest(options=options):
                self.assert_refused(run(*text, *options), 1, *words)

    def test_specs_are_checked_by_xq(self):
        text = ("perplexity", self.path("model"), self.path("text.txt"), "--window", 48, "--cache", "x", "--no-rotation")
        for words, options in ((("cache.bits", "5"), ("--bits", 5)), (("cache.group",), ("--group", 33)),
                               (("axis_v",), ("--axis-v", "channel")), (("colour",), ("--set", "cache.colour=1")),
                               (("weights",), ("--weights", "f8"))):
            with self.subTest(options=options):
                self.assert_command_refused(1, words, *text, *options)

    def test_texts_and_ids_are_checked(self):
        model = self.path("model")
        self.assert_command_refused(1, ("none.txt",), "perplexity", model, self.path("none.txt"))
        self.assert_command_refused(1, ("text.txt", "windows of 512"), "perplexity", model, self.path("text.txt"),
                                    "--window", 512)
        with open(self.path("long.txt"), "w", encoding="utf-8") as file:
            file.write(TEXT * 2)
        self.assert_command_refused(1, ("600 tokens", "at most 512"), "perplexity", model, self.path("long.txt"),
                                    "--window", 600)
        for content, word in (("1 2 300", "300"), ("-3", "ids"), ("", "0 token"), ("9999999999", "ids")):
            with open(self.path("bad.txt"), "w", encoding="utf-8") as file:
                file.write(content)
            self.assert_command_refused(1, ("bad.txt", word), "logits", model, "--ids", self.path("bad.txt"), "--out",
                                        self.path("never"))
            self.assertFalse(os.path.exists(self.path("never")))

    def test_the_interpreter_is_checked(self):
        text = ("perplexity", self.path("model"), self.path("text.txt"))
        self.assert_command_refused(1, ("--python", "'no-such-python'"), *text, python="no-such-python")
        bare = self.path("python")
        with open(bare, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec "{sys.executable}" -S -E -I "$@"\n')
        os.chmod(bare, 0o755)
        self.assert_command_refused(1, ("tokenizers", "pip install"), *text, python=bare)

    def test_configurations_are_checked(self):
        for change, words in (({"model_type": "mamba"}, ("mamba", "llama, gemma3_text")),
                              ({"hidden_size": None}, ("hidden_size", "missing")),
                              ({"hidden_size": -1}, ("hidden_size",)), ({"num_key_value_heads": 3}, ("heads",)),
                              ({"rope_scaling": {"rope_type": "yarn"}}, ("rope_scaling", "yarn", "llama3")),
                              ({"attention_bias": True}, ("attention_bias",)), ({"hidden_act": "relu"}, ("relu", "silu"))):
            with self.subTest(change=change):
                self.assert_refused(self.with_model({**self.config, **change}), 1, "config.json", *words)

    def test_weights_are_checked(self):
        name = "model.layers.1.mlp.up_proj.weight"
        missing = {key: array for key, array in self.weights.items() if key != name}
        self.assert_refused(self.with_model(weights=missing), 1, name, "missing")
        self.assert_refused(self.with_model(weights={**missing, name: self.weights[name][:-1]}), 1, name, "[96,128]")
        broken = self.weights[name].copy()
        broken[3, 4] = numpy.nan
        self.assert_refused(self.with_model(weights={**missing, name: broken}), 1, name, "nan")

    def test_truncated_weights_are_refused_at_every_length(self):
        self.with_model()
        path = self.path("bad", "model.safetensors")
        with open(path, "rb") as file:
            data = file.read()
        for length in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
            with self.subTest(length=length):
                with open(path, "wb") as file:
                    file.write(data[:length])
                self.assert_refused(run("perplexity", self.path("bad"), self.path("text.txt"), "--window", 48), 1,
                                    "model.safetensors")

    def test_a_loss_that_is_not_a_number_ends_the_run(self):
        weights = {**self.weights, "model.norm.weight": numpy.full(128, 3e38, numpy.float32)}
        self.assert_refused(self.with_model(weights=weights), 1, "window 0", "not a number")


@unittest.skipUnless(os.path.exists(os.path.join(SMOLLM2, "model.safetensors")), "no build/smollm2 (make demo writes it)")
class SmolLM2(unittest.TestCase):
    def test_logits_agree_with_the_forward_pass_in_numpy(self):
        with open(os.path.join(SMOLLM2, "config.json"), encoding="utf-8") as file:
            shape = from_config(json.load(file), SMOLLM2)
        ids = [(37 * i * i + 11 * i) % 40000 + 300 for i in range(48)]
        reader = tensors.Reader(os.path.join(SMOLLM2, "model.safetensors"))
        expected = forward.Forward(shape, reader.read, ids)
        for _ in range(shape.num_hidden_layers):
            expected.step()
        with tempfile.TemporaryDirectory() as folder:
            path, out = os.path.join(folder, "ids"), os.path.join(folder, "out")
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(map(str, ids)))
            result = run("logits", SMOLLM2, "--ids", path, "--out", out, "--cache", "f32")
            self.assertEqual(result.returncode, 0, result.stderr)
            found = tensors.Reader(out).read("logits", (48, shape.vocab_size))
        expected = expected.logits()
        self.assertLess(numpy.linalg.norm(found - expected) / numpy.linalg.norm(expected), 1e-5)


if __name__ == "__main__":
    unittest.main()
