"""A storage that remembers what was asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs

from tempscope.protocols import TempStorage
from tempscope.testing._wrapped import WrappedStorage


__all__ = ["Call", "RecordingStorage"]


@attrs.frozen(kw_only=True)
class Call:
    """
    One call of a storage, or of one of its areas.

    Attributes:
        method: Its name; ``"directory"`` is the area's property.

        args: The arguments given by position.

        kwargs: The arguments given by name.

        result: What it returned; None if it raised.

        error: What it raised, if it did.
    """

    method: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = attrs.field(factory=dict)
    result: Any = None
    error: BaseException | None = None


class RecordingStorage(WrappedStorage):
    """
    Any storage, with every finished call written down.

    Lives as long as its test; shared by all threads as far as *inner* is.
    Closing it closes *inner*.

    Args:
        inner: The storage that does the work.
    """

    def __init__(self, inner: TempStorage) -> None:
        super().__init__(inner)
        self._recorded: list[Call] = []
        self._lock = threading.Lock()

    @property
    def calls(self) -> tuple[Call, ...]:
        """What was asked so far, in the order in which it was finished."""
        with self._lock:
            return tuple(self._recorded)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods called so far, in the same order."""
        return tuple(call.method for call in self.calls)

    def forget(self) -> None:
        """Forget what was asked so far."""
        with self._lock:
            self._recorded.clear()

    def _call(self, method: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._note(Call(method=method, args=args, kwargs=kwargs, error=error))
            raise
        self._note(Call(method=method, args=args, kwargs=kwargs, result=result))
        return result

    def _note(self, call: Call) -> None:
        with self._lock:
            self._recorded.append(call)
