"""The contents of caches and packed weights, computed on the host without a context or a device."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any, Optional, Tuple

import numpy

from . import _c
from ._error import argument_error, check
from ._memory import Array, count_of, is_tensor
from ._plan import float_array, float_pointer


def _quantizer(bits: int, group: int, by_channel: bool, integer_zero: bool, latents: int, clip: float) -> _c.xq_quantizer:
    return _c.xq_quantizer(bits=count_of("bits", bits, 0, 64), group=count_of("group", group, 0, 2**31 - 1),
                           by_channel=int(bool(by_channel)), integer_zero=int(bool(integer_zero)),
                           latents=count_of("latents", latents, 0, 2**31 - 1), clip=clip)


def _matrix(name: str, value: Any) -> Array:
    array = float_array(name, value)
    if array.ndim != 2:
        raise argument_error(name, f"it has {array.ndim} dimensions; valid: 2")
    return array


def _as(value: Any, array: Array) -> Any:
    """Returns the array as a tensor if `value` is a tensor."""
    return sys.modules["torch"].from_numpy(array) if is_tensor(value) else array


def simulate_cache(x: Any, *, bits: int, group: int = 0, by_channel: bool = False, integer_zero: bool = False, latents: int = 0,
                   clip: float = 0.0, feedback: Optional[Array] = None) -> Any:
    """Returns x [rows, width] after a cache of this format has quantized and dequantized it, bit for bit as append
    quantizes it and kernels read it.

    bits          2, 3, 4, 8; 16: values are only rounded to f16
    group         elements that share a scale; 0: all of a latent
    by_channel    whether a group is consecutive rows of one channel instead of channels of one row; rows after the last
                  whole group are only rounded to f16
    integer_zero  whether cache.zero_point is "integer"
    latents       the number of matrices side by side in a row, each stored padded to a multiple of 64 columns; 0: one.
                  Groups of channels begin again with each matrix
    clip          the share of a group's range that codes span, up to 1; 0: 1
    feedback      the result of `simulate_feedback`; None: no feedback

    x is an array or a tensor of floating-point numbers; the result is f32 of the same shape and kind. Raises
    ArgumentError.
    """
    rows = _matrix("x", x)
    quantizer = _quantizer(bits, group, by_channel, integer_zero, latents, clip)
    if feedback is not None:
        table = float_array("feedback", feedback)
        expected = _feedback_shape(rows.shape[1], group, latents)
        if table.size != math.prod(expected):
            raise argument_error("feedback", f"it has {table.size} elements; valid: {math.prod(expected)}")
        quantizer.feedback = float_pointer(table)
    out = numpy.empty_like(rows)
    check(_c.lib.xq_simulate_cache(ctypes.byref(quantizer), *rows.shape, float_pointer(rows), float_pointer(out)), None)
    return _as(x, out)


def _feedback_shape(width: int, group: int, latents: int) -> Tuple[int, int, int]:
    """The shape [groups, group, group]. With several latents, a group is at most one latent wide."""
    count = max(1, latents)
    latent_width = -(-(width // count) // 64) * 64
    size = min(group, latent_width) if count > 1 else group
    return (count * -(-latent_width // size), size, size) if size else (0, 0, 0)


def simulate_feedback(a: Any, *, width: int, bits: int, group: int, latents: int = 0, cost: Any = None,
                      integer_zero: bool = False, clip: float = 0.0) -> Array:
    """Computes the matrices by which append feeds the errors of a group's channels back into its later channels, for a
    stream of rows of `width` values. They are for `simulate_cache` with the same bits, group, latents, integer_zero and
    clip.

    a     [width / latents, cols]: the matrix that the stream is multiplied by, as `Plan.pack_weights` takes it (for
          method x, ak and av side by side)
    cost  [cols]: the cost of squared errors of each column of the product; or [cols, block]: row c holds the cost of
          errors of column c together with errors of each column in its block, symmetric and positive semidefinite (for
          keys k_cost, [dkv, head_dim]); None: errors of all columns cost the same

    Returns f32 [groups, group, group]. Groups are those of the stored row, in which each latent is padded to a multiple
    of 64. With several latents, `group` is at most the width of a latent. Raises ArgumentError, also for NaN and
    infinity, and for invalid costs.
    """
    matrix = _matrix("a", a)
    count_of("width", width, 1, 2**31 - 1)
    count_of("group", group, 1, 256)
    per_latent = width // max(1, count_of("latents", latents, 0, width))
    if matrix.shape[0] != per_latent:
        raise argument_error("a", f"it has {matrix.shape[0]} rows; valid: {per_latent}")
    costs = None if cost is None else float_array("cost", cost)
    if costs is not None and (costs.ndim not in (1, 2) or costs.shape[0] != matrix.shape[1]):
        columns = matrix.shape[1]
        raise argument_error("cost", f"its shape is {list(costs.shape)}; valid: [{columns}] and [{columns}, block]")
    block = costs.shape[1] if costs is not None and costs.ndim == 2 else 1
    quantizer = _quantizer(bits, group, False, integer_zero, latents, clip)
    out = numpy.empty(_feedback_shape(width, group, latents), numpy.float32)
    check(_c.lib.xq_simulate_feedback(ctypes.byref(quantizer), width, matrix.shape[1], float_pointer(matrix),
                                      block, None if costs is None else float_pointer(costs), float_pointer(out)), None)
    return out


def simulate_weights(w: Any, type: str) -> Any:
    """Returns w [rows, cols] after rounding to packed weights of type "f16", "bf16", "int8" or "e4m3". The 8-bit types
    have a scale for each column. int8 also keeps sums over 64 rows, so w needs all rows of a matrix. w is an array or a
    tensor of floating-point numbers; the result is f32 of the same shape and kind. Raises ArgumentError, also for NaN,
    infinity, and values beyond the type's range."""
    matrix = _matrix("w", w)
    out = numpy.empty_like(matrix)
    check(_c.lib.xq_simulate_weights(type.encode(), *matrix.shape, float_pointer(matrix), float_pointer(out)), None)
    return _as(w, out)
