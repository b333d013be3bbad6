"""The library's errors as exceptions."""

from __future__ import annotations

import ctypes
from typing import Dict, Optional, Type

from . import _c
from ._c import Status


class Error(Exception):
    """A call failed. `str()` is the library's one-line message: what is wrong, and what would be valid.

    status   why it failed (xq.Status)
    stage    where it failed: "argument", "spec", "template", "compile", "cache", "device" or "file"; None if unknown
    field    the argument or the key of the spec that is at fault, for example "cache.bits"; None if there is none
    file     the template or file at fault, and `line` the line in it, from 1; None and 0 if there is none
    log      the whole compiler log or device report, possibly many lines; None if there is none
    """

    def __init__(self, message: str, *, status: Status = Status.ERROR_INTERNAL, stage: Optional[str] = None,
                 field: Optional[str] = None, file: Optional[str] = None, line: int = 0, log: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.stage = stage
        self.field = field
        self.file = file
        self.line = line
        self.log = log

    def __str__(self) -> str:
        return self.message


class ArgumentError(Error, ValueError):
    """An argument is missing, out of range, misaligned, or of the wrong type, shape or device."""


class SpecError(Error, ValueError):
    """A spec or a config.json has an impossible or unknown value."""


class UnsupportedError(Error, NotImplementedError):
    """No kernel serves a valid spec, or this GPU does not run an image."""


class CompileError(Error):
    """A template failed, or the compiler refused the source; `log` has the compiler's output."""


class DeviceError(Error, RuntimeError):
    """The device does not exist, NVRTC is not found, or the device reported an error."""


class OutOfMemoryError(Error, MemoryError):
    """Host or device memory ran out; `status` says which. It is also raised when a cache has no free page or slot."""


class FileError(Error, OSError):
    """A file cannot be read or written."""


class FormatError(Error, ValueError):
    """A file or an image is damaged, truncated, or of another format or version."""


_CLASSES: Dict[Status, Type[Error]] = {
    Status.ERROR_ARGUMENT: ArgumentError,
    Status.ERROR_SPEC: SpecError,
    Status.ERROR_UNSUPPORTED: UnsupportedError,
    Status.ERROR_TEMPLATE: CompileError,
    Status.ERROR_COMPILE: CompileError,
    Status.ERROR_NO_DEVICE: DeviceError,
    Status.ERROR_NO_TOOLCHAIN: DeviceError,
    Status.ERROR_DEVICE: DeviceError,
    Status.ERROR_MEMORY: OutOfMemoryError,
    Status.ERROR_DEVICE_MEMORY: OutOfMemoryError,
    Status.ERROR_IO: FileError,
    Status.ERROR_FORMAT: FormatError,
}


def argument_error(field: str, message: str) -> ArgumentError:
    """The exception for a faulty argument `field`; its message begins with the argument's name."""
    return ArgumentError(f"{field}: {message}", status=Status.ERROR_ARGUMENT, stage="argument", field=field)


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else value.decode("utf-8", "replace")


def failure(status: int, context: Optional[int]) -> Error:
    """The exception for a call that returned `status`. `context` is the context's handle, or None if there is none."""
    detail = _c.xq_error_detail()
    known = status in Status._value2member_map_
    kind = _CLASSES.get(Status(status), Error) if known else Error
    shown = Status(status) if known else Status.ERROR_INTERNAL
    name = _text(_c.lib.xq_status_name(status)) or str(status)
    if _c.lib.xq_last_error(context, ctypes.byref(detail)) != Status.OK or detail.status != status:
        return kind("out of memory" if status == Status.ERROR_MEMORY else name, status=shown)
    return kind(_text(detail.message) or name, status=shown, stage=_text(detail.stage), field=_text(detail.field),
                file=_text(detail.file), line=detail.line, log=_text(detail.log))


def check(status: int, context: Optional[int]) -> None:
    """Raises the exception for `status`, unless it is OK."""
    if status != Status.OK:
        raise failure(status, context)
