"""
What has to happen when a scope closes: everything, newest first, whatever any of it raises.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import attrs

from tempscope import _shield
from tempscope.errors import ScopeError


__all__ = ["Callback", "Exit", "Exits", "Failures", "Leaving"]

_Interrupt = (KeyboardInterrupt, SystemExit)


class Exit(Protocol):
    """One thing to do when the scope closes; used once."""

    def run(self, exc: BaseException | None) -> None:
        """Do it in this thread; *exc* is what the job raised."""
        ...

    async def arun(self, exc: BaseException | None) -> None:
        """Do it on an event loop, in this task."""
        ...


@attrs.frozen
class Callback:
    """
    A function of the application.

    It runs when its scope closes, or before, when ``cleanup_all`` is called; once.
    What belongs to an object of the scope is no callback: it waits for the scope's end.
    """

    function: Callable[..., object]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = attrs.Factory(dict)

    def run(self, exc: BaseException | None) -> None:
        """Call it; what it returns means nothing."""
        self.function(*self.args, **self.kwargs)

    async def arun(self, exc: BaseException | None) -> None:
        """Call it, on the loop's own thread: it may belong to what runs there."""
        self.run(exc)


@attrs.frozen
class Leaving:
    """
    The end of an object of the scope, which is told the job's exception and cannot swallow it.

    An asynchronous one is awaited in the closing task, where it may leave what was entered there.
    Not promised: that a native cancellation does not reach it.
    """

    function: Callable[[BaseException | None], Any]
    is_async: bool = False

    def run(self, exc: BaseException | None) -> None:
        """Leave it; one that must be awaited cannot be left so."""
        if self.is_async:
            raise ScopeError(
                "an object of this scope is left by awaiting: close the scope by 'async with' or aclose()"
            )
        self.function(exc)

    async def arun(self, exc: BaseException | None) -> None:
        """Leave it, of whatever kind."""
        if self.is_async:
            await _shield.shielded(self.function(exc))
        else:
            self.function(exc)


@attrs.define
class Failures:
    """
    What was raised while a scope closed.

    ``errors`` are reported by the rules of a scope; an interrupt among them is raised last.
    """

    errors: list[Exception] = attrs.Factory(list)
    interrupt: BaseException | None = None

    def add(self, error: BaseException) -> None:
        """Remember *error*; of several interrupts the first one counts, an exit before a cancellation."""
        if isinstance(error, Exception):
            self.errors.append(error)
        elif self.interrupt is None or isinstance(error, _Interrupt) > isinstance(self.interrupt, _Interrupt):
            self.interrupt = error


class Exits:
    """
    The exits of one scope, in the order of their registration.

    Lives as long as the scope; all its threads may add, one of them runs.
    """

    __slots__ = ("_entries", "_numbers")

    def __init__(self) -> None:
        self._entries: dict[int, Exit] = {}
        self._numbers: Iterator[int] = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Exit]:
        return iter(list(self._entries.values()))

    def push(self, exit_: Exit) -> int:
        """Add the newest exit; returns the key to take it back with."""
        key = next(self._numbers)
        self._entries[key] = exit_
        return key

    def discard(self, key: int) -> None:
        """Take an exit back; one that is gone is not an error."""
        self._entries.pop(key, None)

    def pop(self) -> Exit | None:
        """Take the newest exit, or None when there are no more; each is given out once."""
        try:
            return self._entries.popitem()[1]
        except KeyError:
            return None

    def pop_callbacks(self) -> Iterator[Callback]:
        """Take the callbacks, newest first, and leave the rest."""
        for key, exit_ in reversed(list(self._entries.items())):
            if isinstance(exit_, Callback) and self._entries.pop(key, None) is not None:
                yield exit_

    def run(self, exc: BaseException | None, failures: Failures) -> None:
        """Run all of them, newest first; what they raise goes to *failures*."""
        while True:
            try:
                while (exit_ := self.pop()) is not None:
                    exit_.run(exc)
                return
            except BaseException as error:
                _add(failures, error, exc)

    async def arun(self, exc: BaseException | None, failures: Failures) -> None:
        """Run all of them on an event loop; only the loop's own end (``GeneratorExit``) stops that."""
        while True:
            try:
                while (exit_ := self.pop()) is not None:
                    await exit_.arun(exc)
                return
            except GeneratorExit:
                raise
            except BaseException as error:
                _add(failures, error, exc)


def _add(failures: Failures, error: BaseException, exc: BaseException | None) -> None:
    # An exit that raises the job's own exception again only did not swallow it.
    if error is not exc:
        failures.add(error)
