"""Contexts. A context is a device and a kernel cache."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import threading
import weakref
from typing import Any, Callable, Dict, Iterable, Optional, Sequence, Set, Union

from . import _c
from ._closing import Closing
from ._error import argument_error, check
from ._memory import DeviceBuffer, Staging, count_of, host_bytes

LOGGER = logging.getLogger("xq")
_LEVELS: Dict[int, int] = {_c.LogLevel.DEBUG: logging.DEBUG, _c.LogLevel.INFO: logging.INFO,
                           _c.LogLevel.WARNING: logging.WARNING}

LogFunction = Callable[[int, str], None]


@dataclasses.dataclass(frozen=True)
class DeviceInfo:
    """The device that a context runs on."""

    name: str
    arch: str  #: the architecture that plans are for by default, for example "sm_90a"
    is_sim: bool  #: whether it is the software device, whose times are modelled
    driver: int  #: CUDA driver version, 1000 * major + 10 * minor; 0 on the software device
    nvrtc: int  #: NVRTC version, in the same form; 0: not found
    sm_count: int
    memory_bytes: int
    l2_bytes: int
    shared_bytes_per_block: int
    ordinal: int  #: the GPU's number, as torch counts them; -1 on the software device


def encode(name: str, text: Union[str, os.PathLike[str], None]) -> Optional[bytes]:
    """Encodes text for the library as UTF-8, and paths as the file system encodes them."""
    if text is None:
        return None
    try:
        data = os.fsencode(text)
    except TypeError:
        raise TypeError(f"{name}: {type(text).__name__} is no text; valid: a str or a path") from None
    except UnicodeEncodeError:
        raise argument_error(name, "it has characters that UTF-8 cannot encode") from None
    if b"\0" in data:
        raise argument_error(name, "it contains a NUL character")
    return data


def _to_logging(level: int, message: str) -> None:
    LOGGER.log(level, "%s", message)


def _log_callback(log: Optional[LogFunction], running: threading.local) -> Any:
    """The C callback that calls `log`. `running.depth` counts the callbacks that the current thread is in."""
    if log is not None and not callable(log):
        raise TypeError(f"log: {type(log).__name__} is not callable; valid: a function of a level and a line of text, or None")
    deliver = _to_logging if log is None else log

    def callback(_user: Any, level: int, message: bytes) -> None:
        before = getattr(running, "depth", 0)
        running.depth = before + 1
        try:
            deliver(_LEVELS.get(level, logging.WARNING), message.decode("utf-8", "replace"))
        finally:
            running.depth = before

    return _c.LogCallback(callback)


def _stores(kernels: Optional[Sequence[Union[str, os.PathLike[str]]]]) -> Optional[bytes]:
    """Joins the names of kernel stores with colons, as the library takes them."""
    if kernels is None:
        return None
    if isinstance(kernels, (str, bytes, os.PathLike)) or not isinstance(kernels, Iterable):
        raise argument_error("kernels", f"{kernels!r} is no list; valid: a list of folders")
    names = [encode("kernels", name) or b"" for name in kernels]
    for name in names:
        if b":" in name:
            raise argument_error("kernels", f"{name.decode()!r} has a colon, which separates names; valid: names without a colon")
    return b":".join(names)


class Context(Closing):
    """A device and a kernel cache.

    device        "auto": the first GPU that works, else the software device; "cuda", "cuda:N"; "sim", "sim:GPU" with
                  GPU one of h100, h200, a100, rtx4090
    cache_dir     the folder of compiled kernels; None: $XQ_CACHE_DIR, else $XDG_CACHE_HOME/xq, else ~/.cache/xq; "":
                  none
    template_dir  a folder of kernel templates that replaces the built-in templates (for development)
    kernels       kernel stores: folders that are searched in order before the cache and never written; None:
                  $XQ_KERNELS
    no_compile    True: a kernel that is neither in a store nor in the cache is an error; False: $XQ_NO_COMPILE decides
    log           a function that is called with a level of the `logging` module and a line of text, from any thread;
                  None: the logger "xq". It runs within a call that uses the context, so it cannot close the context or
                  its plans and prepared weights: `close` raises ArgumentError there

    A context may be used from several threads. `close`, or the end of a `with` block, closes its plans and prepared
    weights and frees its memory; work that uses them must have ended. Raises ArgumentError, DeviceError.
    """

    def __init__(self, device: str = "auto", cache_dir: Union[str, os.PathLike[str], None] = None,
                 template_dir: Union[str, os.PathLike[str], None] = None, log: Optional[LogFunction] = None,
                 kernels: Optional[Sequence[Union[str, os.PathLike[str]]]] = None, no_compile: bool = False) -> None:
        self._handle: Optional[int] = None
        self._allocated: Set[int] = set()  # addresses
        self._lock = threading.RLock()  # reentrant: the garbage collector may free a buffer while this thread holds it
        self._children: weakref.WeakSet[Any] = weakref.WeakSet()
        self._staging = Staging()
        self._running = threading.local()
        self._callback = _log_callback(log, self._running)
        options = _c.xq_context_options(device=encode("device", device), cache_dir=encode("cache_dir", cache_dir),
                                        template_dir=encode("template_dir", template_dir), log=self._callback,
                                        kernels=_stores(kernels), no_compile=int(bool(no_compile)))
        handle = ctypes.c_void_p()
        status = _c.lib.xq_context_create(ctypes.byref(options), ctypes.byref(handle))
        try:
            check(status, handle.value)
        except BaseException:
            _c.lib.xq_context_destroy(handle)
            raise
        self._handle = handle.value
        self.device: DeviceInfo = self._query()
        self.is_sim: bool = self.device.is_sim

    def _query(self) -> DeviceInfo:
        info = _c.xq_device_info()
        self._call(_c.lib.xq_context_device, ctypes.byref(info))
        return DeviceInfo(name=info.name.decode(), arch=info.arch.decode(), is_sim=bool(info.is_sim), driver=info.driver,
                          nvrtc=info.nvrtc, sm_count=info.sm_count, memory_bytes=info.memory_bytes, l2_bytes=info.l2_bytes,
                          shared_bytes_per_block=info.shared_bytes_per_block, ordinal=info.ordinal)

    @property
    def handle(self) -> int:
        """The xq_context. Raises ArgumentError once the context is closed."""
        if self._handle is None:
            raise argument_error("context", "it is closed")
        return self._handle

    def _call(self, function: Any, *arguments: Any) -> None:
        handle = self.handle
        check(function(handle, *arguments), handle)

    # ---------------------------------------------------------------- memory

    def alloc(self, nbytes: int, fill: Optional[int] = None) -> DeviceBuffer:
        """Allocates `nbytes` of device memory. If `fill` is given, every byte is set to it. Raises OutOfMemoryError."""
        size = count_of("nbytes", nbytes, 0, 2**62)
        address = ctypes.c_uint64()
        with self._lock:
            self._call(_c.lib.xq_device_alloc, size, ctypes.byref(address))
            self._allocated.add(address.value)
        buffer = DeviceBuffer(self, address.value, size)
        if fill is not None:
            buffer.fill(fill)
        return buffer

    def upload(self, data: Any) -> DeviceBuffer:
        """Copies `data` to new device memory: bytes, a numpy array, a CPU tensor, or any contiguous buffer."""
        buffer = self.alloc(host_bytes("data", data).nbytes)
        buffer.write(data)
        return buffer

    def _free(self, address: int, quiet: bool = False) -> None:
        with self._lock:
            if self._handle is None:  # close has freed the memory
                return
            self._allocated.remove(address)
            status = _c.lib.xq_device_free(self._handle, address)
        if not quiet:
            check(status, self._handle)

    def synchronize(self) -> None:
        """Waits for all launches so far. Raises DeviceError for errors of the device, and ArgumentError for errors that
        a checked plan found."""
        self._call(_c.lib.xq_device_synchronize)

    # ---------------------------------------------------------------- lifetime

    @property
    def closed(self) -> bool:
        return self._handle is None

    def close(self) -> None:
        """Closes the plans and prepared weights, frees all memory of the context, and closes the context. Closing twice
        is fine. Raises ArgumentError within the log callback."""
        if self._handle is not None:
            self._refuse_within_log("context")
            self._destroy()

    def _refuse_within_log(self, name: str) -> None:
        """Raises ArgumentError in the log callback, because the call that logs goes on to use the context."""
        if getattr(self._running, "depth", 0):
            raise argument_error(name, "it cannot be closed from within the context's log callback")

    def _destroy(self) -> None:
        for child in list(self._children):
            child._destroy()
        self._staging.clear()
        with self._lock:
            handle, self._handle = self._handle, None
            for address in self._allocated:
                _c.lib.xq_device_free(handle, address)
            self._allocated.clear()
            _c.lib.xq_context_destroy(handle)

    def __repr__(self) -> str:
        return f"<xq.Context {'closed' if self.closed else self.device.name!r}>"


def checked_context(name: str, value: Any) -> Context:
    """Returns the argument `name` if it is a context. Raises TypeError otherwise."""
    if not isinstance(value, Context):
        raise TypeError(f"{name}: {type(value).__name__} is no context; valid: an xq.Context")
    return value
