"""Tiny transformers models of random weights for the tests of xq.transformers. There is one of each family, with the
features of its family: biases, norms of queries and keys, windows, stretched RoPE."""

import importlib.util
import unittest

from python_binding import xq  # noqa: F401: finds the package and the library of this checkout

MISSING = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
needs_transformers = unittest.skipIf(MISSING, f"{' and '.join(MISSING)} cannot be imported; `make torch` installs them")

D, HEADS, KV_HEADS, HEAD_DIM, LAYERS, WINDOW, VOCABULARY = 128, 4, 2, 64, 4, 24, 258
PAD, BOS, EOS = 0, 1, 2

if not MISSING:
    import torch
    import transformers

SHAPE = dict(hidden_size=D, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
             head_dim=HEAD_DIM, vocab_size=VOCABULARY, max_position_embeddings=512, pad_token_id=PAD, bos_token_id=BOS,
             eos_token_id=EOS)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
ALTERNATING = ["sliding_attention", "full_attention"] * 2

#: Family: the class of its configuration in transformers, and the options that it has in addition to SHAPE.
FAMILIES = {
    "llama": ("LlamaConfig", {"rope_parameters": LLAMA3, "attention_bias": True}),
    "qwen2": ("Qwen2Config", {"hidden_size": 256, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2,
                              "head_dim": None}),
    "qwen3": ("Qwen3Config", {"rope_parameters": YARN}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": WINDOW, "query_pre_attn_scalar": 50, "layer_types": ALTERNATING}),
    "mistral": ("MistralConfig", {"sliding_window": WINDOW}),
}


def make_model(family="llama", seed=3, **changes):
    """Returns a model of this family in f32, with random weights that are so large that attention is not uniform.
    Options whose value is None are left out."""
    name, own = FAMILIES[family]
    options = {key: value for key, value in {**SHAPE, **own, **changes}.items() if value is not None}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**options)).eval()
    random = torch.Generator().manual_seed(seed)
    for parameter_name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            scale = 1.0 if "embed" in parameter_name else parameter.shape[1] ** -0.5
            values = torch.randn(parameter.shape, generator=random) * scale
        elif parameter_name.endswith("bias"):
            values = torch.randn(parameter.shape, generator=random) * 0.3
        else:
            values = torch.rand(parameter.shape, generator=random) + (-0.5 if family == "gemma3" else 0.5)
        # values that f16 holds, so that packing rounds nothing
        parameter.data = values.half().float()
    model.generation_config.pad_token_id = PAD
    return model


def ids_of(count, seed=5):
    """Returns int64 [1, count] without special tokens."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (1, count), generator=random)


def pad_left(*rows):
    """Returns rows [1, n] of several lengths as a batch, and its mask."""
    longest = max(row.shape[1] for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, longest - row.shape[1]:] = row
        mask[index, longest - row.shape[1]:] = 1
    return ids, mask
