"""Reads and writes safetensors files: eight bytes of header length, a JSON header, and the tensors' bytes."""

import json
import os
import struct

import numpy

from . import InputError
from .files import published

# numpy has no bf16, so its bits are read and widened.
TYPES = {"F32": numpy.dtype("<f4"), "F16": numpy.dtype("<f2"), "BF16": numpy.dtype("<u2")}
NAMES = {numpy.dtype("float32"): "F32", numpy.dtype("float16"): "F16"}
LONGEST_HEADER = 100 << 20


def write(path, tensors, metadata=None):
    """Writes a file. `tensors` holds float32 or float16 arrays by name, and `metadata` strings by name."""
    header = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, array in tensors.items():
        end = offset + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with published(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(numpy.ascontiguousarray(array).data)


class Reader:
    """Reads a file's tensors by name, as float32. It checks that the header is valid and that every value is finite."""

    def __init__(self, path):
        self.path = path
        try:
            size = os.path.getsize(path)
            with open(path, "rb") as file:
                start = file.read(8)
                if start == b"version ":
                    raise InputError(f"{path}: this is a Git LFS pointer, not the file itself; `git lfs pull` in its folder "
                                     "fetches the file")
                length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
                if length < 2 or length > min(LONGEST_HEADER, size - 8):
                    raise InputError(f"{path}: this is no complete safetensors file (its header has {length} bytes)")
                text = file.read(length)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        try:
            header = json.loads(text)
            self.metadata = header.pop("__metadata__", {})
            self.entries = {name: self._entry(name, entry) for name, entry in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged safetensors header ({error})") from error
        self.start = 8 + length
        end = max((entry[2] for entry in self.entries.values()), default=0)
        if self.start + end > size:
            raise InputError(f"{path}: the file is truncated: it has {size} of {self.start + end} bytes")

    def _entry(self, name, entry):
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        numbers = (begin, end, *shape)
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or begin > end:
            raise ValueError(f"tensor {name}: bad shape or offsets")
        dtype = entry["dtype"]
        if dtype in TYPES and end - begin != TYPES[dtype].itemsize * int(numpy.prod(shape, dtype=object)):
            raise ValueError(f"tensor {name}: shape and offsets disagree")
        return dtype, begin, end, shape

    def read(self, name, shape):
        """Returns the tensor as float32. It must have this shape."""
        if name not in self.entries:
            raise InputError(f"{self.path}: tensor {name} is missing")
        dtype, begin, end, found = self.entries[name]
        if found != tuple(shape):
            raise InputError(f"{self.path}: tensor {name} has shape {list(found)}; expected {list(shape)}")
        if dtype not in TYPES:
            raise InputError(f"{self.path}: tensor {name} is {dtype}; supported: {', '.join(TYPES)}")
        with open(self.path, "rb") as file:
            file.seek(self.start + begin)
            array = numpy.frombuffer(file.read(end - begin), dtype=TYPES[dtype]).reshape(found)
        if dtype == "BF16":
            array = (array.astype(numpy.uint32) << 16).view(numpy.float32)
        array = array.astype(numpy.float32)
        require_finite(array, f"{self.path}: tensor {name}")
        return array


def require_finite(array, what):
    if not numpy.isfinite(array).all():
        raise InputError(f"{what} holds NaN or infinite values")
