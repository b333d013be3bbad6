"""The layers of a model as xq caches them: each layer's spec, plans, and packed weights on the device."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch

from .._context import Context
from .._error import argument_error
from .._memory import DeviceBuffer
from .._plan import Plan, override
from .._prepared import Prepared
from ._model import Array

#: Memory of a cache or of weights: a uint8 tensor on a GPU, or memory of the software device.
Owned = Union[DeviceBuffer, torch.Tensor]
#: The keys of a spec's `cache` that a prepared layer's matrices depend on.
PREPARED_KEYS: Tuple[str, ...] = ("method", "groups_k", "groups_v", "rank_k", "rank_v", "rotation", "feedback")
METHODS: Tuple[str, ...] = ("latent", "x", "latent-cl", "x-cl")
#: Keys of a spec's `cache` that the plain layers before the base of a cross-layer method do not have.
_CROSS_ONLY = ("accumulator_bits", "base", "method")
_LATENT_ONLY = ("rank_k", "rank_v", "groups", "groups_k", "groups_v", "axis_v")


def is_cross(method: str) -> bool:
    """Whether the method is cross-layer: its layers cache deltas, which they add to an accumulator."""
    return method.endswith("-cl")


def zeros(context: Context, device: torch.device, nbytes: int) -> Owned:
    """Returns `nbytes` of zeroed device memory: a uint8 tensor on a GPU, memory of the software device for a CPU
    model."""
    if context.is_sim:
        return context.alloc(nbytes, fill=0)
    return torch.zeros(nbytes, dtype=torch.uint8, device=device)


class Layers:
    """The layers of one model.

    specs    each layer's completed spec
    methods  each layer's method; layers before the base of a cross-layer method have the plain method
    """

    def __init__(self, context: Context, device: torch.device, prepared: Prepared, *, bits: Sequence[int], sliding: Sequence[bool],
                 dtype: str, weights: Optional[str], cache: Mapping[str, Any]) -> None:
        self.context = context
        self._device = device
        self._prepared = prepared
        self._weights = weights
        self._plans: Dict[Tuple[str, int, int, int], Plan] = {}
        self._packed: Dict[int, Owned] = {}
        self.methods: List[str] = []
        self.specs: List[Dict[str, Any]] = []
        for index, layer_bits in enumerate(bits):
            self._add(index, layer_bits, sliding[index], dtype, dict(cache))
        self._texts = [json.dumps(spec) for spec in self.specs]

    def __len__(self) -> int:
        return len(self.specs)

    def _add(self, index: int, bits: int, sliding: bool, dtype: str, cache: Dict[str, Any]) -> None:
        spec = self._prepared.layer_spec(index)
        method = spec["cache"]["method"]
        plain = is_cross(self._prepared.spec["cache"]["method"]) and not is_cross(method)
        if plain:
            dropped = _CROSS_ONLY + PREPARED_KEYS + (() if method == "latent" else _LATENT_ONLY)
            cache = {key: value for key, value in cache.items() if key not in dropped}
        for key in PREPARED_KEYS:
            if key in cache and key in spec["cache"] and spec["cache"][key] != cache[key]:
                raise argument_error("prepared", f"layer {index} is prepared with {key} {json.dumps(spec['cache'][key])}, and "
                                                 f"enable() is asked for {json.dumps(cache[key])}")
        chosen: Dict[str, Any] = {"cache": {**cache, "bits": bits}, "dtype": dtype}
        if self._weights is not None or plain:
            chosen["weights"] = self._weights or "f16"  # by default as in the cross-layer layers that follow
        if is_cross(method) and index == self._prepared.base_layer:
            chosen["cache"]["base"] = True
        if "layer_kinds" in spec["model"]:
            chosen["model"] = {"layer_kind": "sliding" if sliding else "full"}
        self.methods.append(method)
        self.specs.append(override(spec, chosen, context=self.context))

    # ---------------------------------------------------------------- plans and weights

    def plans(self, batch: int, tokens: int, queries: int = 1) -> List[Plan]:
        """Returns each layer's plan for up to `batch` sequences of up to `tokens` tokens, and up to `queries` queries
        of a sequence per call. Layers with the same spec share a plan. Kernels are compiled once and kept in the kernel
        cache."""
        return [self._plan(text, batch, tokens, queries) for text in self._texts]

    def _plan(self, text: str, batch: int, tokens: int, queries: int) -> Plan:
        key = (text, batch, tokens, queries)
        if key not in self._plans:
            self._plans[key] = Plan(self.context, text, max_batch=batch, max_tokens=tokens, max_append=batch * tokens,
                                    max_queries=queries)
        return self._plans[key]

    def packed(self, index: int, plan: Plan) -> Owned:
        """The layer's packed weights on the device. They only depend on the layer's spec, so all its plans share
        them."""
        if index not in self._packed:
            if self._prepared.weights == self.specs[index]["weights"]:
                data = self._prepared.packed(plan, index)
            else:
                data = plan.pack_weights(**self.matrices(index))
            memory = zeros(self.context, self._device, plan.info.weights_bytes)
            if isinstance(memory, DeviceBuffer):
                memory.write(data)
            else:
                memory.copy_(torch.from_numpy(data))
            self._packed[index] = memory
        return self._packed[index]

    def matrices(self, index: int) -> Dict[str, Array]:
        """The layer's prepared matrices as f32, y = x * W (docs/prepare.md)."""
        return self._prepared.layer(index)

    @property
    def weights_bytes(self) -> int:
        """The bytes of all packed weights that are on the device."""
        return sum(memory.nbytes for memory in self._packed.values())

    def group(self, index: int) -> int:
        """The number of elements that share a scale; in per-channel groups these are tokens."""
        return int(self.specs[index]["cache"]["group"])



__all__ = ["METHODS", "PREPARED_KEYS", "Layers", "is_cross", "zeros"]
