"""A storage that fails when the test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs

from tempscope.protocols import TempStorage
from tempscope.testing._wrapped import WrappedStorage


__all__ = ["FaultyStorage"]


@attrs.define
class _Fault:
    """What happens before some calls of one method; used under the storage's lock."""

    act: Callable[..., object]
    skip: int
    times: int | None

    def is_due(self) -> bool:
        """Count a call, and say whether it is one of those."""
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class FaultyStorage(WrappedStorage):
    """
    Any storage, made to fail at the n-th call of a method, or to call a hook there.

    Lives as long as its test; shared by all threads as far as *inner* is.
    Closing it closes *inner*.
    Methods of the storage and of its areas are told by name; ``"directory"`` is the area's property.

    Args:
        inner: The storage that does the work.

    ::

        storage = FaultyStorage(MemoryStorage())
        storage.fail("create_file", StorageFull("no room"), call=2)
    """

    def __init__(self, inner: TempStorage) -> None:
        super().__init__(inner)
        self._faults: dict[str, list[_Fault]] = {}
        self._lock = threading.Lock()

    def fail(
        self, method: str, error: BaseException | type[BaseException], *, call: int = 1, times: int | None = 1
    ) -> None:
        """
        Have *method* raise *error* instead of being done.

        Args:
            method: Its name.

            error: What to raise; a type is called without arguments.

            call: From which call on, counted from now; starts at 1.

            times: How many calls fail; None is all of them.
        """

        def raise_it(*_args: object, **_kwargs: object) -> None:
            raise error

        self.hook(method, raise_it, call=call, times=times)

    def hook(
        self, method: str, function: Callable[..., object], *, call: int = 1, times: int | None = None
    ) -> None:
        """
        Have *function* called, with the call's own arguments, before *method* is done.

        What it raises replaces the call; what it returns is not looked at.

        Args:
            method: Its name.

            function: Called in the thread of the caller.

            call: From which call on, counted from now; starts at 1.

            times: For how many calls; None is all of them.
        """
        if method not in _METHODS:
            raise ValueError(f"no storage and no area has a method {method!r}: {', '.join(sorted(_METHODS))}")
        if call < 1:
            raise ValueError(f"call is {call!r}: calls are counted from 1")
        with self._lock:
            self._faults.setdefault(method, []).append(_Fault(function, call - 1, times))

    def heal(self) -> None:
        """Forget all faults and hooks."""
        with self._lock:
            self._faults.clear()

    def _call(self, method: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        with self._lock:
            due = [fault for fault in self._faults.get(method, ()) if fault.is_due()]
        for fault in due:
            fault.act(*args, **kwargs)
        return function(*args, **kwargs)


_METHODS = frozenset(
    [
        *("areas", "close", "open_area", "reclaim", "take_over"),
        *(
            "create_dir",
            "create_file",
            "delete",
            "directory",
            "give_out",
            "remove",
            "retain",
            "take_in",
            "usage",
        ),
        *("forget_outside", "give_up", "hand_over", "lease_fd", "note_outside", "unnamed_file"),
    ]
)
