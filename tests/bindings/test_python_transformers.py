"""Tests xq.transformers on tiny models of random weights, one of each family, on the software device."""

import copy
import io
import os
import sys
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_transformers import FAMILIES, HEAD_DIM, KV_HEADS, LAYERS, MISSING, PAD, ids_of, make_model, needs_transformers, \
    pad_left, xq

if not MISSING:
    import torch
    import transformers

    import xq.transformers

TOKENS = 128


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def generate(model, ids, count=12, **options):
    """Returns the new ids of each row, by greedy decoding."""
    out = model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, **options)
    return out[:, ids.shape[1]:].tolist()


def scored(model, ids, count=12, **options):
    """Returns the new ids of each row, by greedy decoding, and the lead of each id's logit over the second."""
    out = model.generate(ids, max_new_tokens=count, min_new_tokens=count, do_sample=False, output_logits=True,
                         return_dict_in_generate=True, **options)
    best = torch.stack(out.logits, 1).topk(2).values
    return out.sequences[:, ids.shape[1]:].tolist(), (best[..., 0] - best[..., 1]).tolist()


class TransformersTest(unittest.TestCase):
    """Contexts are opened once. A model is enabled until its test ends. No test computes gradients."""

    _context = None

    @classmethod
    def setUpClass(cls):
        if TransformersTest._context is None:
            TransformersTest._context = xq.Context("sim")

    def setUp(self):
        no_grad = torch.no_grad()
        no_grad.__enter__()
        self.addCleanup(no_grad.__exit__, None, None, None)

    def enable(self, model, bits=8, **options):
        enabled = xq.transformers.enable(model, bits, context=self._context, **options)
        self.addCleanup(lambda: getattr(model, "_xq_enabled", None) and xq.transformers.disable(model))
        return enabled

    def assert_same_tokens(self, found, expected, leads):
        """The ids must be equal until an id leads by so little that rounding may decide: a change of one bit of x moves
        codes, and these move logits by some hundredths. After such an id the texts differ."""
        same = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), len(expected))
        self.assertGreaterEqual(same, 2, (found, expected))
        if same < len(expected):
            self.assertLess(leads[same], 0.1, (same, found, expected))

    def assert_refused(self, words, call, kind=None):
        with self.assertRaisesRegex(kind or xq.UnsupportedError, words):
            call()


def logits_in_pieces(model, cache, ids):
    """Gives the model 40 tokens of the prompt at once, ten tokens one by one, and the rest in one piece."""
    pieces = [ids[:, :40], *(ids[:, t:t + 1] for t in range(40, 50)), ids[:, 50:]]
    return torch.cat([model(piece, past_key_values=cache).logits for piece in pieces if piece.shape[1]], 1)


@needs_transformers
class Families(TransformersTest):
    """Tests that every family must pass, each in a subtest."""

    def for_all(self, check):
        for family in FAMILIES:
            with self.subTest(family=family):
                check(make_model(family))

    def test_logits_with_8_bits_are_near_the_models_own(self):
        def check(model):
            ids = ids_of(60)
            expected = model(ids, use_cache=False).logits
            found = logits_in_pieces(model, self.enable(model).cache(1, TOKENS), ids)
            self.assertLess(relative(found[:, :40], expected[:, :40]), 1e-5)  # torch computes the prompt
            self.assertLess(relative(found[:, 40:50], expected[:, 40:50]), 0.01)
            self.assertLess(relative(found[:, 50:], expected[:, 50:]), 0.01)
        self.for_all(check)

    def test_prefill_through_the_cache_is_decoding_at_once(self):
        def check(model):
            ids = ids_of(50)
            enabled = self.enable(model, prefill="xq")
            at_once = model(ids, past_key_values=enabled.cache(1, TOKENS)).logits
            in_pieces = logits_in_pieces(model, enabled.cache(1, TOKENS), ids)
            self.assertLess(relative(at_once, in_pieces), 0.01)
            xq.transformers.disable(model)
            self.assertGreater(relative(at_once, model(ids, use_cache=False).logits), 1e-4)
        self.for_all(check)

    def test_disable_puts_the_models_own_attention_back(self):
        def check(model):
            ids = ids_of(20)
            before = model(ids).logits
            self.enable(model, prefill="xq").cache(1, TOKENS)
            xq.transformers.disable(model)
            self.assertTrue(torch.equal(model(ids).logits, before))
            self.assertFalse("forward" in vars(model.base_model.layers[0].self_attn))
            self.assertEqual(generate(model, ids, 3), generate(model, ids, 3))
        self.for_all(check)

    def test_a_batch_with_left_padding_gives_what_each_row_gives_alone(self):
        rows = [ids_of(count, seed=count) for count in (19, 33, 7)]
        ids, mask = pad_left(*rows)

        def check(model):
            for prefill in ("torch", "xq"):
                enabled = self.enable(model, prefill=prefill)
                cache = enabled.cache(3, TOKENS)
                together = generate(model, ids, 6, attention_mask=mask, past_key_values=cache)
                for row, found in zip(rows, together):
                    (expected,), (leads,) = scored(model, row, 6)
                    self.assert_same_tokens(found, expected, leads)
                # the last token is not cached yet
                self.assertEqual(cache.sequence_lengths, [19 + 5, 33 + 5, 7 + 5])
                self.assertEqual(cache.lengths.tolist(), cache.sequence_lengths)
                self.assertEqual(cache.get_seq_length(), 33 + 5)
                xq.transformers.disable(model)
        self.for_all(check)


@needs_transformers
class Methods(TransformersTest):
    CACHES = [("latent", {}), ("latent", {"axis_k": "channel", "group": 32, "page": 32}), ("latent", {"groups": 2}),
              ("latent", {"groups_k": 1, "groups_v": 2}),
              ("latent", {"rotation": False}), ("latent", {"feedback": True, "group": 64}), ("x", {}), ("x", {"rotation": False}),
              ("x", {"axis_k": "channel", "group": 32, "page": 32}), ("latent-cl", {}), ("x-cl", {}),
              ("x-cl", {"accumulator_bits": 8})]

    def test_every_method_comes_near_the_models_own_logits(self):
        model = make_model("llama")
        ids = ids_of(60)
        expected = model(ids, use_cache=False).logits[:, 40:]
        for method, cache in self.CACHES:
            with self.subTest(method=method, cache=cache):
                enabled = self.enable(model, method=method, cache=cache)
                found = logits_in_pieces(model, enabled.cache(1, TOKENS), ids)[:, 40:]
                self.assertLess(relative(found, expected), 0.02)
                self.assertGreater(relative(found, expected), 1e-4)
                xq.transformers.disable(model)

    def test_padding_with_tails_rotation_and_an_accumulator(self):
        model = make_model("qwen2")
        rows = [ids_of(count, seed=count) for count in (40, 31)]  # row 2 closes a group of 32 tokens while it decodes
        ids, mask = pad_left(*rows)
        for method, cache in (("latent", {"axis_k": "channel", "group": 32, "page": 32}), ("x", {}), ("latent-cl", {})):
            with self.subTest(method=method, cache=cache):
                self.enable(model, method=method, cache=cache)
                for row, found in zip(rows, generate(model, ids, 3, attention_mask=mask)):
                    (expected,), (leads,) = scored(model, row, 3)
                    self.assert_same_tokens(found, expected, leads)
                xq.transformers.disable(model)

    def test_layers_have_bits_of_their_own(self):
        model = make_model("llama")
        enabled = self.enable(model, layer_bits=[8, 4, 4, 2])
        self.assertEqual([spec["cache"]["bits"] for spec in enabled.layers.specs], [8, 4, 4, 2])
        self.assertEqual([spec["weights"] for spec in enabled.layers.specs], ["f16", "int8", "int8", "int8"])
        self.assertEqual(len(set(map(id, enabled.layers.plans(1, TOKENS)))), 3)

    def test_the_layer_before_the_base_has_the_plain_method(self):
        enabled = self.enable(make_model("llama"), method="latent-cl", base_layer=1)
        self.assertEqual(enabled.layers.methods, ["latent"] + ["latent-cl"] * 3)
        self.assertEqual([spec["cache"].get("base", False) for spec in enabled.layers.specs], [False, True, False, False])
        self.assertEqual({spec["weights"] for spec in enabled.layers.specs}, {"f16"})  # the layer before the base follows

    def test_bf16_and_f16_models(self):
        for dtype, name in ((torch.bfloat16, "bf16"), (torch.float16, "f16")):
            with self.subTest(dtype=name):
                model = make_model("qwen3").to(dtype)
                ids = ids_of(50)
                expected = model(ids, use_cache=False).logits.float()
                enabled = self.enable(model)
                self.assertEqual(enabled.layers.specs[0]["dtype"], name)
                found = logits_in_pieces(model, enabled.cache(1, TOKENS), ids)
                self.assertEqual(found.dtype, dtype)
                self.assertLess(relative(found.float(), expected), 0.05 if name == "bf16" else 0.01)


@needs_transformers
class Generation(TransformersTest):
    def test_generate_makes_a_cache_as_large_as_it_needs(self):
        model = make_model("llama")
        enabled = self.enable(model)
        made = []
        enabled.cache, make = lambda *sizes: made.append(sizes) or make(*sizes), enabled.cache
        ids = ids_of(10)
        self.assertEqual(generate(model, ids, 5), generate(model, ids, 5, past_key_values=make(1, 15)))
        self.assertEqual(made, [(1, 15)])
        model.generate(ids, max_new_tokens=2, do_sample=True, num_return_sequences=3)
        self.assertEqual(made[-1], (3, 12))

    def test_a_conversation_goes_on_from_its_cache(self):
        model = make_model("llama")
        enabled = self.enable(model, prefill="xq")
        first = ids_of(20)
        cache = enabled.cache(1, TOKENS)
        so_far = model.generate(first, max_new_tokens=6, min_new_tokens=6, do_sample=False, past_key_values=cache)
        longer = torch.cat((so_far, ids_of(9, seed=8)), 1)
        again = generate(model, longer, 6, past_key_values=cache)
        self.assertEqual(again, generate(model, longer, 6))
        self.assertEqual(cache.sequence_lengths, [20 + 6 + 9 + 5])

    def test_sequences_end_at_different_times(self):
        model = make_model("llama")
        self.enable(model)
        rows = [ids_of(count, seed=count) for count in (19, 12)]
        ids, mask = pad_left(*rows)
        alone = [generate(model, row, 10)[0] for row in rows]
        end = next(token for token in alone[0][:6] if token not in alone[1])
        out = model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False, eos_token_id=end)[:, ids.shape[1]:].tolist()
        stop = alone[0].index(end) + 1
        self.assertEqual(out[0], alone[0][:stop] + [PAD] * (10 - stop))
        self.assertEqual(out[1], alone[1])

    def test_masked_new_columns_do_not_enter_the_cache(self):
        """A caller that says which sequences have ended saves their pages."""
        model = make_model("llama")
        enabled = self.enable(model)
        rows = [ids_of(9, seed=1), ids_of(9, seed=2)]
        cache, single = enabled.cache(2, TOKENS), enabled.cache(1, TOKENS)
        mask = torch.ones(2, 9, dtype=torch.int64)
        model(torch.cat(rows), attention_mask=mask, past_key_values=cache)
        model(rows[1], past_key_values=single)
        for token in (7, 8, 9):
            mask = torch.cat((mask, torch.tensor([[0], [1]])), 1)
            both = model(torch.tensor([[PAD], [token]]), attention_mask=mask, past_key_values=cache).logits
            own = model(torch.tensor([[token]]), past_key_values=single).logits
        self.assertEqual(cache.sequence_lengths, [9, 12])
        self.assertLess(relative(both[1], own[0]), 1e-3)

    def test_right_padding_does_not_enter_the_cache(self):
        model = make_model("llama")
        enabled = self.enable(model)
        short, long = ids_of(9, seed=1), ids_of(14, seed=2)
        ids = torch.full((2, 14), PAD)
        ids[0, :9], ids[1] = short, long
        mask = (torch.arange(14) < torch.tensor([[9], [14]])).long()
        cache, single = enabled.cache(2, TOKENS), enabled.cache(1, TOKENS)
        model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), past_key_values=cache)
        model(short, past_key_values=single)
        mask = torch.cat((mask, torch.ones(2, 1, dtype=torch.int64)), 1)
        both = model(torch.tensor([[5], [5]]), attention_mask=mask, position_ids=mask.sum(1, keepdim=True) - 1,
                     past_key_values=cache).logits
        own = model(torch.tensor([[5]]), past_key_values=single).logits
        self.assertEqual(cache.sequence_lengths, [10, 15])
        self.assertLess(relative(both[0], own[0]), 1e-3)

    def test_prefill_in_chunks(self):
        model = make_model("mistral")
        self.enable(model, prefill="xq")
        ids = ids_of(50)
        self.assertEqual(generate(model, ids, 3, prefill_chunk_size=16), generate(model, ids, 3))  # the fourth is a near tie

    def test_assisted_decoding_gives_what_greedy_decoding_gives(self):
        model, assistant = make_model("llama"), make_model("llama")
        ids = ids_of(20)
        self.enable(model)
        for name, options in (("same model", {"assistant_model": assistant}), ("prompt lookup", {"prompt_lookup_num_tokens": 3})):
            with self.subTest(name):
                self.assertEqual(generate(model, ids, 10, **options), generate(model, ids, 10))

    def test_a_reset_cache_is_as_new(self):
        model = make_model("llama")
        cache = self.enable(model, cache={"axis_k": "channel", "group": 32, "page": 32}).cache(1, TOKENS)
        first = generate(model, ids_of(50), 4, past_key_values=cache)
        cache.reset()
        self.assertEqual((cache.get_seq_length(), cache.sequence_lengths, cache.memory().used), (0, [0], 0))
        generate(model, ids_of(37, seed=1), 4, past_key_values=cache)
        cache.reset()
        self.assertEqual(generate(model, ids_of(50), 4, past_key_values=cache), first)

    def test_a_captured_step_gives_what_generate_gives(self):
        """On the CPU there is no graph: the same step runs every time with the same shapes."""
        model = make_model("gemma3")
        enabled = self.enable(model)
        rows = [ids_of(19, seed=1), ids_of(33, seed=2)]
        ids, mask = pad_left(*rows)
        expected = generate(model, ids, 10, attention_mask=mask)
        cache = enabled.cache(2, TOKENS)
        newest = model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), past_key_values=cache).logits[:, -1]
        step, found = enabled.decode_graph(cache), []
        for _ in range(10):
            newest = newest.argmax(-1)
            found.append(newest)
            newest = step.step(newest)
        self.assertEqual(torch.stack(found, 1).tolist(), expected)
        self.assertEqual(cache.sequence_lengths, [29, 43])

    def test_a_captured_step_waits_for_nothing_and_is_the_same_every_time(self):
        """A CUDA graph needs this: no operator reads a tensor on the host, and every step has the same operators on the
        same shapes."""
        from torch.utils._python_dispatch import TorchDispatchMode

        class Recorder(TorchDispatchMode):
            def __init__(self):
                super().__init__()
                self.calls = []

            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                shapes = [tuple(value.shape) for value in torch.utils._pytree.tree_leaves(args) if isinstance(value, torch.Tensor)]
                self.calls.append((str(function), shapes))
                return function(*args, **(kwargs or {}))

        for family in ("llama", "gemma3"):
            with self.subTest(family=family):
                model = make_model(family)
                enabled = self.enable(model, cache={"page": 16})
                cache = enabled.cache(2, TOKENS)
                model(torch.cat((ids_of(14), ids_of(14, seed=1))), past_key_values=cache)
                graph, recorded = enabled.decode_graph(cache), []
                for _ in range(4):  # into the second page
                    with Recorder() as recorder:
                        graph.step(torch.tensor([5, 6]))
                    recorded.append(recorder.calls)
                self.assertEqual(recorded[1:], recorded[:-1])
                waiting = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")
                self.assertEqual([name for name, _ in recorded[0] if name.split(".")[1] in waiting], [])
                self.assertGreater(len(recorded[0]), 100)
                xq.transformers.disable(model)

    def test_memory_is_counted_in_whole_pages(self):
        model = make_model("llama")
        cache = self.enable(model, bits=4, cache={"page": 16}).cache(2, TOKENS)
        ids, mask = pad_left(ids_of(20), ids_of(3))
        model(ids, attention_mask=mask, past_key_values=cache)
        page = cache.enabled.layers.plans(2, TOKENS)[0].info.page_bytes
        memory = cache.memory()
        self.assertEqual(memory.used, LAYERS * 3 * page)
        self.assertEqual(memory.reserved, LAYERS * 2 * (TOKENS // 16) * page)
        self.assertEqual(memory.fp16, LAYERS * 23 * 4 * KV_HEADS * HEAD_DIM)
        self.assertEqual(memory.share, memory.used / memory.fp16)


@needs_transformers
class Prepared(TransformersTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import shutil
        import tempfile

        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model = make_model("qwen2")
        cls.model.save_pretrained(os.path.join(cls.folder, "model"))

    def path(self, name="latent.safetensors", **options):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            xq.prepare(os.path.join(self.folder, "model"), path, **options)
        return path

    def test_a_prepared_file_is_taken_as_it_is(self):
        ids = ids_of(50)
        expected = self.model(ids, use_cache=False).logits
        for name, options in (("latent.safetensors", {"method": "latent"}), ("packed.safetensors", {"method": "x", "pack": True})):
            with self.subTest(name):
                enabled = self.enable(self.model, prepared=self.path(name, **options))
                self.assertEqual(enabled.layers.methods, [options["method"]] * LAYERS)
                self.assertLess(relative(logits_in_pieces(self.model, enabled.cache(1, TOKENS), ids), expected), 0.01)
                xq.transformers.disable(self.model)

    def test_a_truncated_rank_is_taken(self):
        enabled = self.enable(self.model, prepared=self.path("rank.safetensors", method="latent", rank=48))
        self.assertEqual(enabled.layers.specs[0]["cache"]["rank_k"], 48)

    def test_files_of_other_models_are_refused(self):
        path = self.path(method="latent")
        other = make_model("qwen2", seed=4)
        self.assert_refused("prepared: .*differs from the model's k_proj.weight of layer 0", lambda: self.enable(other, prepared=path),
                            xq.ArgumentError)
        turned = make_model("qwen2", rope_parameters={"rope_type": "default", "rope_theta": 500.0})
        self.assert_refused("prepared: .*layer_kinds.*10000.*500", lambda: self.enable(turned, prepared=path), xq.ArgumentError)
        shorter = make_model("qwen2", num_hidden_layers=3)
        self.assert_refused("a model of 4 layers; this one has 3", lambda: self.enable(shorter, prepared=path), xq.ArgumentError)

    def test_what_the_file_was_not_prepared_for_is_refused(self):
        path = self.path(method="latent")
        for options, words in (({"method": "x"}, "prepared with method \"latent\""),
                               ({"cache": {"rotation": False}}, "prepared with rotation true"),
                               ({"base_layer": 1}, "base_layer: it would have no effect")):
            self.assert_refused(words, lambda: self.enable(self.model, prepared=path, **options), xq.ArgumentError)


@needs_transformers
class Refused(TransformersTest):
    """If a model or a call asks for something that xq does not do, the refusal names it."""

    def test_models(self):
        gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=64, n_head=1, vocab_size=32))
        self.assert_refused("model: GPT2LMHeadModel", lambda: self.enable(gpt))
        model = make_model("llama")
        self.assert_refused("bits", lambda: self.enable(model, bits=5), xq.SpecError)
        self.assert_refused("method: 'y'; valid: latent", lambda: self.enable(model, method="y"), xq.ArgumentError)
        self.assert_refused("prefill: 'c'; valid: torch, xq", lambda: self.enable(model, prefill="c"), xq.ArgumentError)
        self.assert_refused("layer_bits: 2 numbers are given for 4 layers", lambda: self.enable(model, layer_bits=[4, 4]), xq.ArgumentError)
        self.assert_refused("cache.bits", lambda: self.enable(model, cache={"bits": 4}), xq.ArgumentError)
        self.assert_refused("device: 'cuda' for a model on the CPU", lambda: xq.transformers.enable(model, device="cuda"),
                            xq.ArgumentError)
        self.assert_refused("xq.transformers.enable\\(\\) was not called", lambda: xq.transformers.disable(model), xq.ArgumentError)
        self.enable(model)
        self.assert_refused("replaced already", lambda: self.enable(model), xq.ArgumentError)

    def test_projections_that_are_not_plain(self):
        model = make_model("llama")
        model.model.layers[2].self_attn.v_proj = torch.nn.Identity()
        self.assert_refused("model.layers.2.self_attn.v_proj: it is a Identity", lambda: self.enable(model))

    def test_rope_that_no_kernel_has(self):
        dynamic = make_model("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})
        self.assert_refused("dynamic", lambda: self.enable(dynamic), xq.Error)

    def test_caches(self):
        model = make_model("llama")
        enabled = self.enable(model)
        ids = ids_of(6)
        cache = enabled.cache(1, 8)
        self.assert_refused("past_key_values: it is a DynamicCache", lambda: model(ids, past_key_values=transformers.DynamicCache()))
        self.assert_refused("past_key_values: none is given", lambda: model(ids))
        self.assert_refused("past_key_values: none is given", lambda: model(ids, use_cache=False))
        self.assert_refused("use_cache: it is False", lambda: model.generate(ids, max_new_tokens=2, use_cache=False))
        for implementation in ("static", "quantized", "offloaded"):
            self.assert_refused(f"cache_implementation: '{implementation}'",
                                lambda: model.generate(ids, max_new_tokens=2, cache_implementation=implementation))
        self.assert_refused("room for 8", lambda: model(ids_of(9), past_key_values=cache), xq.ArgumentError)
        self.assert_refused("the cache has 1 sequences, and the input 2", lambda: model(ids.expand(2, 6), past_key_values=cache),
                            xq.ArgumentError)
        other = make_model("llama")
        self.assert_refused("this cache keeps activations", lambda: other(ids, past_key_values=enabled.cache(1, 8)))
        for name, sizes in (("batch", (0, 8)), ("tokens", (1, 0))):
            self.assert_refused(f"{name}: 0", lambda: enabled.cache(*sizes), xq.ArgumentError)

    def test_a_refused_step_changes_nothing(self):
        model = make_model("llama")
        cache = self.enable(model).cache(1, 10)
        model(ids_of(6), past_key_values=cache)
        self.assert_refused("room for 10", lambda: model(ids_of(5), past_key_values=cache), xq.ArgumentError)
        self.assertEqual((cache.get_seq_length(), cache.lengths.tolist()), (6, [6]))
        model(ids_of(4), past_key_values=cache)

    def test_beam_search(self):
        model = make_model("llama")
        enabled = self.enable(model)
        self.assert_refused("num_beams: 2: beam search", lambda: model.generate(ids_of(6), max_new_tokens=2, num_beams=2))
        self.assert_refused("num_beams: beam search", lambda: enabled.cache(2, 8).reorder_cache(torch.tensor([1, 0])))

    def test_attention_weights_and_gradients(self):
        model = make_model("llama")
        enabled = self.enable(model)
        self.assert_refused("output_attentions",
                            lambda: model(ids_of(6), past_key_values=enabled.cache(1, 8), output_attentions=True))
        with torch.enable_grad():
            self.assert_refused("gradients", lambda: model(ids_of(6), past_key_values=enabled.cache(1, 8)))

    def test_masks_and_positions(self):
        model = make_model("llama")
        cache = self.enable(model).cache(1, 32)
        ids = ids_of(6)
        self.assert_refused("attention_mask: valid: a tensor", lambda: model(ids, attention_mask=torch.ones(1, 1, 6, 6),
                                                                            past_key_values=cache))
        model(ids, past_key_values=cache, position_ids=torch.arange(6)[None])
        token = ids[:, :1]
        self.assert_refused("attention_mask: its shape is \\[1, 1\\]; valid: \\[1, 7\\]",
                            lambda: model(token, attention_mask=torch.ones(1, 1), past_key_values=cache), xq.ArgumentError)
        late = torch.tensor([[0, 1, 1, 1, 1, 1, 1]])
        self.assert_refused("tokens that are cached cannot be masked",
                            lambda: model(token, attention_mask=late, past_key_values=cache), xq.ArgumentError)
        self.assert_refused("position_ids: the positions of sequence 0 do not grow by one",
                            lambda: model(token, position_ids=torch.tensor([[9]]), past_key_values=cache))

    def test_masks_that_are_not_of_ones_and_zeros(self):
        model = make_model("llama")
        cache = self.enable(model).cache(1, 32)
        ids = ids_of(3)
        for value in (0.5, 2.0, -1.0, float("nan"), float("-inf")):
            self.assert_refused("attention_mask: it has other values than 0 and 1",
                                lambda: model(ids, attention_mask=torch.tensor([[1, value, 1]]), past_key_values=cache),
                                xq.ArgumentError)
        self.assertEqual(cache.sequence_lengths, [0])
        model(ids, attention_mask=torch.tensor([[False, True, True]]), past_key_values=cache)
        self.assertEqual(cache.sequence_lengths, [2])

    def test_a_refused_call_leaves_no_positions_behind(self):
        model = make_model("llama")
        cache = self.enable(model).cache(1, 8)
        self.assert_refused("room for 8", lambda: model(ids_of(9), position_ids=torch.arange(100, 109)[None], past_key_values=cache),
                            xq.ArgumentError)
        with unittest.mock.patch.object(model.model.layers[1].mlp, "forward", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, model, ids_of(4), position_ids=torch.arange(50, 54)[None], past_key_values=cache)
        model(ids_of(4), position_ids=torch.arange(4)[None], past_key_values=cache)
        model(ids_of(1), position_ids=torch.tensor([[4]]), past_key_values=cache)
        self.assertEqual(cache.sequence_lengths, [5])

    def test_positions_go_on_from_those_of_the_cache(self):
        model = make_model("llama")
        enabled = self.enable(model)
        ids, token = ids_of(6), ids_of(1)

        def step(cache, first=None, columns=token, **options):
            positions = None if first is None else torch.arange(first, first + columns.shape[1])[None]
            return model(columns, position_ids=positions, past_key_values=cache, **options)

        without = enabled.cache(1, 32)  # the model counts columns here
        step(without, columns=ids)
        for wrong in (0, 5, 7, 100):
            self.assert_refused("position_ids: the positions of sequence 0 do not grow by one .*valid: from 6 on", lambda: step(without, wrong))
        step(without, 6)
        ahead = enabled.cache(1, 32)
        step(ahead, 100, ids)
        self.assert_refused("position_ids: none are given, and the positions of sequence 0 end so far at 105", lambda: step(ahead))
        self.assert_refused("valid: from 106 on", lambda: step(ahead, 6))
        step(ahead, 106)
        for first in (6, 8):  # positions count tokens, or columns with padding
            padded = enabled.cache(1, 32)
            mask = torch.tensor([[0] * 2 + [1] * 6])
            model(torch.cat((ids[:, :2], ids), 1), attention_mask=mask, past_key_values=padded)
            self.assert_refused("valid: from 6 or 8 on", lambda: step(padded, 7))
            step(padded, first)
            step(padded)
            self.assert_refused(f"valid: from {first + 2} on", lambda: step(padded, 16 - first))
        self.assert_refused("position_ids: it is of torch.float32", lambda: step(without, 7.0), xq.ArgumentError)

    def test_cache_positions_that_contradict_the_cache(self):
        model = make_model("llama")
        cache = self.enable(model).cache(1, 32)
        model(ids_of(6), cache_position=torch.arange(6), past_key_values=cache)
        for wrong in ([0], [5], [7], [6, 7], [[6]]):
            self.assert_refused("cache_position: valid: 6 to 6",
                                lambda: model(ids_of(1), cache_position=torch.tensor(wrong), past_key_values=cache), xq.ArgumentError)
        model(ids_of(1), cache_position=torch.tensor([6]), past_key_values=cache)

    def test_wrong_kinds_are_named(self):
        model = make_model("llama")
        for words, options in (("layer_bits: 4 is no list", {"layer_bits": 4}), ("layer_bits: '4444' is", {"layer_bits": "4444"}),
                               ("cache: \\[1\\] is no dict", {"cache": [1]})):
            self.assert_refused(words, lambda: self.enable(model, **options), xq.ArgumentError)
        self.assert_refused("context: str is no context", lambda: xq.transformers.enable(model, context="sim"), TypeError)
        enabled = self.enable(model)
        for name, sizes in (("batch", (True, 8)), ("tokens", (1, True)), ("tokens", (1, 8.0)), ("batch", (2**31, 8)),
                            ("tokens", (1, 2**31)), ("tokens", (2**10, 2**21))):
            self.assert_refused(f"{name}: .*valid: ", lambda: enabled.cache(*sizes), xq.ArgumentError)
        self.assert_refused("input_ids: valid", lambda: model(past_key_values=enabled.cache(1, 8)), xq.ArgumentError)

    def test_an_earlier_enable_does_not_end_a_later_one(self):
        model = make_model("llama")
        first = self.enable(model)
        xq.transformers.disable(model)
        second = self.enable(model, prefill="xq")
        expected = model(ids_of(6), past_key_values=second.cache(1, 8)).logits
        first.disable()
        self.assertTrue(torch.equal(model(ids_of(6), past_key_values=second.cache(1, 8)).logits, expected))
        self.assert_refused("replaced already", lambda: self.enable(model), xq.ArgumentError)
        second.disable()
        second.disable()
        self.assertFalse("forward" in vars(model.model.layers[0].self_attn))

    def test_copies_and_pickles(self):
        model = make_model("llama")
        enabled = self.enable(model)
        disable_first = "Enabled objects can be neither copied nor pickled: .*xq.transformers.disable\\(model\\) first"
        for call in (lambda: copy.deepcopy(model), lambda: torch.save(model, io.BytesIO()), lambda: copy.copy(enabled)):
            self.assert_refused(disable_first, call, TypeError)
        cache = enabled.cache(1, 8)
        for call in (copy.copy, copy.deepcopy):
            self.assert_refused("Cache objects can be neither copied nor pickled", lambda: call(cache), TypeError)
        xq.transformers.disable(model)
        copied = copy.deepcopy(model)
        self.assertTrue(torch.equal(copied(ids_of(6)).logits, model(ids_of(6)).logits))

    def test_taking_back_groups_of_tokens(self):
        model = make_model("llama")
        cache = self.enable(model, cache={"axis_k": "channel", "group": 32, "page": 32}).cache(1, TOKENS)
        model(ids_of(40), past_key_values=cache)
        cache.crop(-3)
        self.assertEqual((cache.sequence_lengths, cache.get_seq_length()), ([37], 37))
        self.assert_refused("crop: tokens of layer 0 are quantized in groups of 32", lambda: cache.crop(-6))


if __name__ == "__main__":
    unittest.main()
