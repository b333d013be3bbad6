"""Hugging Face transformers models whose attention cache is xq's.

    enabled = xq.transformers.enable(model, bits=4, method="latent")
    model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=100)      makes its own cache
    cache = enabled.cache(batch=2, tokens=4096)                                       or takes this one
    model.generate(**inputs, past_key_values=cache)
    xq.transformers.disable(model)

This package needs torch, transformers and safetensors. docs/transformers.md is its manual.
"""

from ._cache import Cache, MemoryUse
from ._enable import Enabled, disable, enable
from ._graph import DecodeGraph

__all__ = ["Cache", "DecodeGraph", "Enabled", "MemoryUse", "disable", "enable"]
