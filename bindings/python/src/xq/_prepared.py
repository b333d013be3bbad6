"""Prepared weights, in files that `prepare` wrote."""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any, Dict, Optional, Tuple, Union

import numpy

from . import _c
from ._closing import Closing
from ._context import Context, checked_context, encode
from ._error import argument_error, check
from ._memory import Array, DeviceBuffer, count_of
from ._plan import Plan, WEIGHTS, checked_plan, weight_shapes


class Prepared(Closing):
    """A safetensors file that `xq.prepare` or `xq prepare` wrote, mapped into memory. It must not be changed while it
    is open; replacing it is fine. Several threads may make calls at the same time, except for `close`.

    spec        the choices that the matrices depend on: {"model": ..., "cache": {...}}. `xq.override` adds bits and the
                other choices of a plan
    layers      the number of layers of the model
    weights     the type of the packed weights: "f16", "bf16", "int8", "e4m3"; None: no weights are packed
    base_layer  cross-layer methods: the first layer that has the method of the spec; other methods: 0

    Raises FileError; FormatError for a file that is damaged, unfinished or of another kind or version.
    """

    def __init__(self, context: Context, path: Union[str, os.PathLike[str]]) -> None:
        self._handle: Optional[int] = None
        handle = ctypes.c_void_p()
        checked_context("context", context)._call(_c.lib.xq_prepared_open, encode("path", path), ctypes.byref(handle))
        self._handle = handle.value
        self._context = context
        context._children.add(self)
        info = _c.xq_prepared_info()
        self._call(_c.lib.xq_prepared_query, ctypes.byref(info))
        self.spec: Dict[str, Any] = json.loads(info.spec_json)
        self.layers: int = info.layers
        self.weights: Optional[str] = info.weights.decode() if info.weights else None
        self.base_layer: int = info.base_layer

    @property
    def handle(self) -> int:
        """The xq_prepared. Raises ArgumentError once the file or its context is closed."""
        if self._handle is None:
            raise argument_error("prepared", "it is closed")
        return self._handle

    def _call(self, function: Any, *arguments: Any) -> None:
        check(function(self.handle, *arguments), self._context.handle)

    @property
    def prepared_layers(self) -> Tuple[int, ...]:
        """The numbers of the layers that the file has."""
        return tuple(i for i in range(self.layers) if _c.lib.xq_prepared_layer_spec(self.handle, i) is not None)

    def layer_spec(self, layer: int) -> Dict[str, Any]:
        """The choices that a layer's matrices depend on, like `spec`. Raises ArgumentError for a layer that the file
        does not have."""
        text = _c.lib.xq_prepared_layer_spec(self.handle, count_of("layer", layer, 0, self.layers - 1))
        if text is None:
            raise argument_error("layer", f"the file does not have layer {layer}")
        spec: Dict[str, Any] = json.loads(text)
        return spec

    def layer(self, layer: int) -> Dict[str, Array]:
        """Returns copies of a layer's matrices as f32, under the names that `Plan.pack_weights` takes. Raises
        ArgumentError for a layer that the file does not have or has only packed, and FormatError if the file is
        damaged."""
        spec = self.layer_spec(layer)
        found = _c.xq_weights()
        self._call(_c.lib.xq_prepared_layer, layer, ctypes.byref(found))
        shapes = weight_shapes(spec["model"], spec["cache"])
        pointers = {name: getattr(found, name) for name in WEIGHTS}
        return {name: numpy.ctypeslib.as_array(pointer, shapes[name]).copy() for name, pointer in pointers.items() if pointer}

    def packed(self, plan: Plan, layer: int) -> Array:
        """Returns a copy of a layer's packed weights on the host, uint8 [weights_bytes] of the plan. Raises
        ArgumentError for a layer that the file does not have packed, and for a plan that takes other weights (`field`
        names the difference); FormatError if the file is damaged."""
        address, count = self._packed(plan, layer)
        return numpy.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), (count,)).copy()

    def upload(self, plan: Plan, layer: int) -> DeviceBuffer:
        """Returns a layer's packed weights, as `packed` does, in device memory. They are copied from the mapped
        file."""
        address, count = self._packed(plan, layer)
        buffer = self._context.alloc(count)
        self._context._call(_c.lib.xq_device_write, buffer.address, address, count)
        return buffer

    def _packed(self, plan: Plan, layer: int) -> Tuple[int, int]:
        address, count = ctypes.c_void_p(), ctypes.c_size_t()
        self._call(_c.lib.xq_prepared_packed, checked_plan("plan", plan).handle, count_of("layer", layer, 0, self.layers - 1),
                   ctypes.byref(address), ctypes.byref(count))
        assert address.value is not None
        return address.value, count.value

    def close(self) -> None:
        """Unmaps the file. Closing twice is fine, and closing the context closes its prepared weights. Raises
        ArgumentError within the context's log callback."""
        if self._handle is not None:
            self._context._refuse_within_log("prepared")
            self._destroy()

    def _destroy(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            _c.lib.xq_prepared_close(handle)
