"""Errors of the library as exceptions."""

from __future__ import annotations

import ctypes
from typing import Dict, Optional, Type

from . import _c
from ._c import Status


class Error(Exception):
    """A call that failed. `str()` is the library's one-line message: what is wrong, and what would be valid.

    status   why (xq.Status)
    stage    where: "argument", "spec", "template", "compile", "cache", "device", "file"; None where it is unknown
    field    the offending argument or key of the spec, for example "cache.bits"; None where there is none
    file     a template or a file, and `line` its 1-based line; None and 0 where there is none
    log      the whole compiler log or device report, possibly many lines; None where there is none
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
    """An argument that is missing, out of range, misaligned, or of the wrong type, shape or device."""


class SpecError(Error, ValueError):
    """A spec or a config.json with an impossible or unknown value."""


class UnsupportedError(Error, NotImplementedError):
    """A valid spec that no kernel serves, or an image that this GPU does not run."""


class CompileError(Error):
    """A template that failed, or source that the compiler refused; `log` has the compiler's output."""


class DeviceError(Error, RuntimeError):
    """No such device, no NVRTC, or a fault of the device."""


class OutOfMemoryError(Error, MemoryError):
    """Memory of the host or of the device ran out; `status` says of which. Also: a cache without a free page."""


class FileError(Error, OSError):
    """A file that cannot be read or written."""


class FormatError(Error, ValueError):
    """A file or an image that is damaged, truncated, or of another format or version."""


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
    """What is wrong with the argument `field`; the message begins with its name."""
    return ArgumentError(f"{field}: {message}", status=Status.ERROR_ARGUMENT, stage="argument", field=field)


def _text(value: Optional[bytes]) -> Optional[str]:
    return None if value is None else value.decode("utf-8", "replace")


def failure(status: int, context: Optional[int]) -> Error:
    """The exception for a call that returned `status`. `context` is its handle; None for calls without a context, and where
    there is no handle to ask."""
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
