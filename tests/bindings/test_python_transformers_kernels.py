"""Compares the attention of an enabled model, layer by layer, with attention in torch. The latter runs over the values
that a cache of the same format holds (xq.simulate_cache) for the same activations."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_transformers import FAMILIES, MISSING, ids_of, make_model, needs_transformers, xq

if not MISSING:
    import torch

    import xq.transformers

TOKENS = 50
BOUND = 2e-3  # for kernels against attention in f32, as in tests/examples/test_llama_cache.c


def rounded(matrix, weights="f16"):
    return torch.from_numpy(xq.simulate_weights(matrix, weights))


def held(rows, spec, stream):
    """Returns the values that the cache holds for rows [tokens, width] of a stream."""
    cache, stream = spec["cache"], spec["layout"]["streams"][stream]
    return xq.simulate_cache(rows, bits=stream["bits"], group=cache["group"], by_channel=stream["axis"] == "channel",
                             integer_zero=cache["zero_point"] == "integer", latents=stream["latents"], clip=cache["clip"])


def by_latent(rows, a):
    """Multiplies each latent of rows [tokens, latents * rank] by its columns of a [rank, dkv]."""
    latents = rows.shape[1] // a.shape[0]
    return torch.cat([part @ columns for part, columns in zip(rows.chunk(latents, 1), a.chunk(latents, 1))], 1)


def keys_and_values(x, spec, matrices):
    """Returns the keys before bias and norm, and the values, [tokens, dkv], of activations x [tokens, d] as the cache
    holds them."""
    x = x.half().float()
    if "uv" in matrices:
        return tuple(by_latent(held(x @ rounded(matrices[f"u{name}"]), spec, stream), rounded(matrices[f"a{name}"], spec["weights"]))
                     for stream, name in enumerate("kv"))
    rows = held(x @ rounded(matrices["uk"]), spec, 0)
    return rows @ rounded(matrices["ak"], spec["weights"]), rows @ rounded(matrices["av"], spec["weights"])


def attention(decoder, layer, x, spec, matrices):
    """Returns the outputs [tokens, H * dh] of the layer's queries over the simulated cache, in torch's arithmetic."""
    module, tokens = decoder.layers[layer].self_attn, len(x)
    shape = (tokens, -1, module.head_dim)
    keys, values = keys_and_values(x, spec, matrices)
    if module.k_proj.bias is not None:
        keys, values = keys + module.k_proj.bias, values + module.v_proj.bias
    q, k = module.q_proj(x).view(shape), keys.view(shape)
    if hasattr(module, "q_norm"):
        q, k = module.q_norm(q), module.k_norm(k)
    positions = torch.arange(tokens)
    kind = getattr(module, "layer_type", None)
    gemma = "gemma3" in type(decoder).__name__.lower()
    cos, sin = decoder.rotary_emb(x[None], positions[None], *([kind] if gemma else []))
    turn = sys.modules[type(decoder).__module__].apply_rotary_pos_emb
    q, k = turn(q.transpose(0, 1)[None], k.transpose(0, 1)[None], cos, sin)
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), values.view(shape).transpose(0, 1)[None].repeat_interleave(group, 1)
    distance = positions[:, None] - positions
    window = spec["model"].get("sliding_window") or tokens
    seen = (distance >= 0) & (distance < window)
    scores = (q @ k.transpose(2, 3) * module.scaling).masked_fill(~seen, float("-inf"))
    return (scores.softmax(-1) @ v)[0].transpose(0, 1).reshape(tokens, -1)


@needs_transformers
class Kernels(unittest.TestCase):
    def compare(self, family, method):
        """Runs all tokens at once, and then the last one again on its own. These use the kernels of many queries and of
        one."""
        model = make_model(family)
        decoder = model.base_model
        enabled = xq.transformers.enable(model, 4, method=method, prefill="xq")
        seen = {}
        for index, layer in enumerate(decoder.layers):
            module = layer.self_attn
            module.q_proj.register_forward_hook(lambda _m, inputs, _o, i=index: seen.setdefault(("x", i), []).append(inputs[0][0]))
            module.o_proj.register_forward_pre_hook(lambda _m, inputs, i=index: seen.setdefault(("out", i), []).append(inputs[0][0]))
        ids, cache = ids_of(TOKENS), enabled.cache(1, 64)
        model(ids[:, :-1], past_key_values=cache)
        model(ids[:, -1:], past_key_values=cache)
        for index, spec in enumerate(enabled.layers.specs):
            x, found = torch.cat(seen["x", index]), torch.cat(seen["out", index])
            expected = attention(decoder, index, x, spec, enabled.layers.matrices(index))
            for name, rows in (("many queries", slice(0, TOKENS - 1)), ("one query", slice(TOKENS - 1, TOKENS))):
                error = float((found[rows] - expected[rows]).norm() / expected[rows].norm())
                self.assertLess(error, BOUND, (family, method, index, name))

    def test_layers_attend_over_the_simulated_cache(self):
        with torch.no_grad():
            for family in FAMILIES:
                for method in ("latent", "x") if family in ("llama", "gemma3") else ("latent",):
                    with self.subTest(family=family, method=method):
                        self.compare(family, method)


if __name__ == "__main__":
    unittest.main()
