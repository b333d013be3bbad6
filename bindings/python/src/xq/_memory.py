"""Device memory, and the arguments of launches that point to it.

An argument is one of

  - a `DeviceBuffer`, memory that the context owns;
  - a torch tensor on the context's GPU; with a software device, a CPU tensor or a numpy array, which is copied to the
    device for the call, and copied back afterwards if the call writes it;
  - an int, a raw device address, which is used as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import operator
import sys
import threading
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from . import _c
from ._closing import Unique
from ._error import argument_error

if TYPE_CHECKING:
    import torch

    from ._context import Context

    Array = numpy.ndarray[Any, Any]
    Memory = Union["DeviceBuffer", torch.Tensor, Array, int]
else:
    Array = numpy.ndarray
    Memory = Any

#: For each dtype, by its name in specs, the types of torch and numpy that an argument's elements may have. numpy has no
#: bf16, so its bits are uint16 there.
DTYPES: Dict[str, Tuple[str, ...]] = {
    "f16": ("float16",),
    "bf16": ("bfloat16", "uint16"),
    "f32": ("float32",),
    "int32": ("int32",),
    "uint32": ("uint32", "int32"),
}
SIZES = {"f16": 2, "bf16": 2, "f32": 4, "int32": 4, "uint32": 4}


class DeviceBuffer(Unique):
    """A piece of device memory, made by `Context.alloc` and `Context.upload`.

    address   the address on the device, aligned to 256 bytes
    nbytes    the size in bytes

    The memory is freed by `free`, or with the object, or with the context. A slice, `buffer[first:end]` in bytes, is a
    view. It keeps the buffer alive and owns no memory.
    """

    def __init__(self, context: Context, address: int, nbytes: int, base: Optional[DeviceBuffer] = None) -> None:
        self._context = context
        self._address = address
        self._base = base
        self._freed = False
        self.nbytes = nbytes

    @property
    def context(self) -> Context:
        return self._context

    @property
    def address(self) -> int:
        """The address on the device. Raises ArgumentError once the memory was freed or the context closed."""
        if self._context.closed:
            raise argument_error("context", "it is closed")
        if not self._alive():
            raise argument_error("buffer", "its memory was freed")
        return self._address

    def _alive(self) -> bool:
        owner = self if self._base is None else self._base
        return not owner._freed and not self._context.closed

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        return f"<xq.DeviceBuffer of {self.nbytes} bytes{'' if self._alive() else ', freed'}>"

    def __getitem__(self, part: slice) -> DeviceBuffer:
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise TypeError("a DeviceBuffer takes slices of bytes: buffer[first:end]")
        first, end, _ = part.indices(self.nbytes)
        base = self if self._base is None else self._base
        return DeviceBuffer(self._context, self.address + first, max(0, end - first), base)

    def write(self, data: Any, offset: int = 0) -> None:
        """Copies `data` (bytes, a numpy array, a CPU tensor, any contiguous buffer) to the buffer, from byte `offset`
        on."""
        source = host_bytes("data", data)
        self._check(offset, source.nbytes)
        self._context._call(_c.lib.xq_device_write, self.address + offset, source.address, source.nbytes)

    def read(self, nbytes: Optional[int] = None, offset: int = 0) -> bytes:
        """Returns `nbytes` bytes from `offset` on, or all bytes from there on if `nbytes` is None."""
        count = self.nbytes - whole("offset", offset) if nbytes is None else whole("nbytes", nbytes)
        self._check(offset, count)
        into = ctypes.create_string_buffer(count) if count else b""
        self._context._call(_c.lib.xq_device_read, into, self.address + offset, count)
        return bytes(into)

    def read_into(self, array: Any, offset: int = 0) -> None:
        """Fills a writable numpy array, CPU tensor or buffer with the bytes from `offset` on."""
        target = host_bytes("array", array, writable=True)
        self._check(offset, target.nbytes)
        self._context._call(_c.lib.xq_device_read, target.address, self.address + offset, target.nbytes)

    def numpy(self, dtype: Any, shape: Union[int, Sequence[int]] = -1) -> Array:
        """Returns a copy of the beginning of the buffer as an array. With shape -1 it has as many elements as fit."""
        kind = numpy.dtype(dtype)
        _refuse_objects("dtype", kind)
        if not kind.itemsize:
            raise argument_error("dtype", f"elements of {kind} have no bytes")
        dims = (self.nbytes // kind.itemsize,) if shape == -1 else shape
        array = numpy.empty(dims, kind)
        self.read_into(array)
        return array

    def fill(self, value: int = 0) -> None:
        """Sets every byte to `value`, 0 to 255."""
        if not 0 <= whole("value", value) <= 255:
            raise argument_error("value", f"{value} is not a byte; valid: 0 to 255")
        self._context._call(_c.lib.xq_device_fill, self.address, value, self.nbytes)

    def free(self) -> None:
        """Frees the memory. Work that uses it must have ended. Freeing twice is fine; a view cannot be freed."""
        if self._base is not None:
            raise argument_error("buffer", "a view does not own its memory; free the buffer that it is a part of")
        if not self._freed:
            self._freed = True
            self._context._free(self._address)

    def __del__(self) -> None:
        if getattr(self, "_base", self) is None and not self._freed:
            self._context._free(self._address, quiet=True)

    def _check(self, offset: int, count: int) -> None:
        if whole("offset", offset) < 0 or count < 0 or offset + count > self.nbytes:
            raise argument_error("offset", f"{count} bytes at {offset} are beyond the buffer's {self.nbytes}")


# -------------------------------------------------------------------------------------------- properties of arguments


class Seen(NamedTuple):
    """The known properties of an argument. Raw addresses have no size, shape or dtype; buffers only have a size."""

    address: int
    nbytes: Optional[int]
    shape: Optional[Tuple[int, ...]]
    dtype: Optional[str]
    host: bool
    keep: Any = None  # the object that the address belongs to


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor. It does not import torch: without that import there can be no tensors."""
    torch_module = sys.modules.get("torch")
    return torch_module is not None and isinstance(value, torch_module.Tensor)


def see(context: Context, name: str, value: Any) -> Seen:
    """Checks that `value` can be used with this context (its kind, device and contiguity) and returns its
    properties."""
    if isinstance(value, DeviceBuffer):
        if value.context is not context:
            raise argument_error(name, "it is memory of another context")
        return Seen(value.address, value.nbytes, None, None, False, value)
    if is_tensor(value):
        return _see_tensor(context, name, value)
    if isinstance(value, numpy.ndarray):
        if not context.is_sim:
            raise argument_error(name, "it is a numpy array, in host memory; valid on a GPU: a CUDA tensor, a DeviceBuffer")
        if not value.flags.c_contiguous:
            raise argument_error(name, "it is not contiguous; numpy.ascontiguousarray makes it so")
        _refuse_objects(name, value.dtype)
        return Seen(value.ctypes.data, value.nbytes, value.shape, value.dtype.name, True, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Seen(address_of(name, value), None, None, None, False)
    raise TypeError(f"{name}: {type(value).__name__} is no device memory; valid: a torch tensor, a DeviceBuffer"
                    f"{', a numpy array' if context.is_sim else ''}, or an address as int")


def _see_tensor(context: Context, name: str, tensor: torch.Tensor) -> Seen:
    want = "cpu" if context.is_sim else f"cuda:{context.device.ordinal}"
    have = tensor.device.type if tensor.device.type != "cuda" else f"cuda:{tensor.device.index}"
    if have != want:
        raise argument_error(name, f"it is on {have}, and the context on "
                                   f"{'the software device, which takes cpu' if context.is_sim else want}")
    if not tensor.is_contiguous():
        raise argument_error(name, "it is not contiguous; tensor.contiguous() makes it so")
    return Seen(tensor.data_ptr(), tensor.numel() * tensor.element_size(), tuple(tensor.shape),
                str(tensor.dtype).replace("torch.", ""), context.is_sim, tensor)


class HostBytes(NamedTuple):
    address: Optional[int]
    nbytes: int
    keep: Any


def host_bytes(name: str, data: Any, writable: bool = False) -> HostBytes:
    """The address and size of contiguous host memory: a CPU tensor, a numpy array, or an object with the buffer
    protocol."""
    if is_tensor(data):
        if data.device.type != "cpu" or not data.is_contiguous():
            raise argument_error(name, "it must be a contiguous CPU tensor")
        return HostBytes(data.data_ptr(), data.numel() * data.element_size(), data)
    try:
        array = numpy.asarray(data if isinstance(data, numpy.ndarray) else memoryview(data))
    except (TypeError, BufferError) as error:
        raise TypeError(f"{name}: {type(data).__name__} is no host memory: {error}") from None
    _refuse_objects(name, array.dtype)
    if not array.flags.c_contiguous:
        raise argument_error(name, "it is not contiguous")
    if writable and not array.flags.writeable:
        raise argument_error(name, "it is read-only")
    return HostBytes(array.ctypes.data, array.nbytes, (array, data))


def _refuse_objects(name: str, dtype: Any) -> None:
    """Refuses elements that are Python objects. They are addresses of this process, which mean nothing on a device."""
    if dtype.hasobject:
        raise argument_error(name, f"its elements are Python objects ({dtype}); valid: numbers")


def address_of(name: str, value: int) -> int:
    """Checks that `value` can be a device address, and returns it."""
    if not 0 <= value < 2**64:
        raise argument_error(name, f"{value} is no address; valid: 0 to 2^64 - 1")
    return value


def whole(name: str, value: Any) -> int:
    """Returns a whole number of Python or numpy as an int. True and False are refused."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name}: {type(value).__name__} is no whole number")


def wholes(name: str, values: Any) -> List[int]:
    """Returns a list of whole numbers."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: {type(values).__name__} is no list; valid: a list of whole numbers")
    return [whole(name, value) for value in values]


def count_of(name: str, value: Any, low: int, high: int) -> int:
    """Returns a whole number from `low` to `high`, both included."""
    number = whole(name, value)
    if not low <= number <= high:
        raise argument_error(name, f"{number}; valid: {low} to {high}")
    return number


# ------------------------------------------------------------------------------------------------ staging


class Staging:
    """Device memory that host arguments are copied through, on the software device. A piece is exactly as large as the
    memory that it stands for, so that the device detects accesses beyond its end. The latest pieces are kept for
    reuse."""

    KEPT = 64

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: List[DeviceBuffer] = []

    def take(self, context: Context, nbytes: int) -> DeviceBuffer:
        with self._lock:
            for i, piece in enumerate(self._free):
                if piece.nbytes == nbytes:
                    return self._free.pop(i)
        return context.alloc(nbytes)

    def give(self, piece: DeviceBuffer) -> None:
        with self._lock:
            self._free.append(piece)
            oldest = self._free.pop(0) if len(self._free) > self.KEPT else None
        del oldest  # frees its memory outside the lock

    def clear(self) -> None:
        with self._lock:
            pieces, self._free = self._free, []
        del pieces


class _Use(NamedTuple):
    struct: Any
    field: str
    seen: Seen
    nbytes: int
    written: bool


class Call:
    """The memory arguments of one call. `add` checks them, and `ready` turns them into device addresses."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._uses: List[_Use] = []

    def add(self, struct: Any, field: str, value: Optional[Memory], *, name: Optional[str] = None, dtype: Optional[str] = None,
            shape: Optional[Tuple[int, ...]] = None, nbytes: int = 0, written: bool = False) -> None:
        """Sets `field` of `struct` to the address of `value` when the call is `ready`; None leaves it 0.

        If a dtype and a shape are given, tensors must have both, and buffers must be at least as large. Otherwise any
        contiguous memory of at least `nbytes` bytes is valid. `written` says that the call writes the memory.
        """
        if value is None:
            return
        name = name or field
        seen = see(self._context, name, value)
        if dtype is not None and seen.dtype is not None and seen.dtype not in DTYPES[dtype]:
            raise argument_error(name, f"its elements are {seen.dtype}; valid: {' or '.join(DTYPES[dtype])}")
        if shape is not None:
            if seen.shape is not None and seen.shape != shape:
                raise argument_error(name, f"its shape is {list(seen.shape)}; valid: {list(shape)}")
            nbytes = math.prod(shape) * SIZES[dtype or "f32"]
        if seen.nbytes is not None and seen.nbytes < nbytes:
            raise argument_error(name, f"it has {seen.nbytes} bytes, and {nbytes} are needed")
        if written and isinstance(value, numpy.ndarray) and not value.flags.writeable:
            raise argument_error(name, "it is read-only, and the call writes it")
        self._uses.append(_Use(struct, field, seen, seen.nbytes if seen.nbytes is not None else nbytes, written))

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """A context manager within which every field has its address and host arguments are on the device. At its end,
        written arguments are copied back, unless an exception is raised."""
        staged = [use for use in self._uses if use.seen.host]
        for use in self._uses:
            if not use.seen.host:
                setattr(use.struct, use.field, use.seen.address)
        pieces: List[DeviceBuffer] = []
        lib, context = _c.lib, self._context
        try:
            spans = _spans(staged)
            for first, end, uses in spans:
                piece = context._staging.take(context, end - first)
                pieces.append(piece)
                context._call(lib.xq_device_write, piece.address, first or None, end - first)
                for use in uses:
                    setattr(use.struct, use.field, piece.address + use.seen.address - first)
            yield
            for (first, _, uses), piece in zip(spans, pieces):
                for use in uses:
                    if use.written:
                        at = piece.address + use.seen.address - first
                        context._call(lib.xq_device_read, use.seen.address or None, at, use.nbytes)
        finally:
            for piece in pieces:
                context._staging.give(piece)


def _spans(uses: List[_Use]) -> List[Tuple[int, int, List[_Use]]]:
    """Joins overlapping ranges of host memory, so that arguments that share host memory also share device memory."""
    spans: List[Tuple[int, int, List[_Use]]] = []
    for use in sorted(uses, key=lambda use: use.seen.address):
        first, end = use.seen.address, use.seen.address + use.nbytes
        if spans and first < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]), spans[-1][2] + [use])
        else:
            spans.append((first, end, [use]))
    return spans


def current_stream(context: Context, stream: Any) -> Optional[int]:
    """The stream to launch on: `stream` (a torch.cuda.Stream or its number), or if it is None, torch's current stream
    on the context's GPU. It is the default stream without torch, before torch has used a GPU, and on the software
    device."""
    if stream is not None:
        return count_of("stream", getattr(stream, "cuda_stream", stream), 0, 2**64 - 1)
    torch_module = sys.modules.get("torch")
    if context.is_sim or torch_module is None or not torch_module.cuda.is_initialized():
        return None
    return int(torch_module.cuda.current_stream(context.device.ordinal).cuda_stream)


def like(context: Context, value: Any, name: str, shape: Tuple[int, ...], dtype: str, zeros: bool = False) -> Any:
    """Returns a new array of the same kind as `value`: a tensor on the same device, or a numpy array."""
    if is_tensor(value):
        torch_module = sys.modules["torch"]
        kind = getattr(torch_module, DTYPES[dtype][0])
        return (torch_module.zeros if zeros else torch_module.empty)(shape, dtype=kind, device=value.device)
    if isinstance(value, numpy.ndarray):
        return (numpy.zeros if zeros else numpy.empty)(shape, DTYPES[dtype][-1])
    raise argument_error(name, "it must be given where the other arguments are no tensors or arrays")


