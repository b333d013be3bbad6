"""Objects that own a handle of the library."""

from __future__ import annotations

from typing import Any, Optional, TypeVar

_Self = TypeVar("_Self", bound="Closing")


class Closing:
    """Closes itself at the end of a `with` block, and when nothing refers to it any more."""

    _handle: Optional[int]

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()
