"""Base classes of objects that own handles or memory of the library."""

from __future__ import annotations

from typing import Any, NoReturn, Optional, TypeVar

_Self = TypeVar("_Self", bound="Closing")


class Unique:
    """Refuses copies and pickles, because a second object would use, and free, what the first one owns."""

    _unique = "they own memory or handles of the library"

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} objects can be neither copied nor pickled: {self._unique}")


class Closing(Unique):
    """Closes itself at the end of a `with` block, and when no reference to it is left."""

    _handle: Optional[int]

    def close(self) -> None:
        raise NotImplementedError

    def _destroy(self) -> None:
        """Destroys the handle, if there is one."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._destroy()
