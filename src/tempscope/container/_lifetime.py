"""How an object of a scope is entered when it is built, and left when the scope closes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs


Exit: TypeAlias = Callable[[BaseException | None], object]
AsyncExit: TypeAlias = Callable[[BaseException | None], Awaitable[object]]


def _nothing(error: BaseException | None) -> None:
    """Leave an object that needs no leaving."""


@attrs.frozen
class Entered:
    """
    An object in use.

    Attributes:
        value: What the users of the object receive, as ``with … as value``.

        leave: Called with the job's exception or None when the scope closes; what it returns is
            for nobody: an object of a scope cannot swallow the job's exception.

        asynchronous: Whether *leave* has to be awaited.
    """

    value: Any
    leave: Exit | AsyncExit = _nothing
    asynchronous: bool = False


def must_be_awaited(built: object) -> bool:
    """Tell whether *built* is only the promise of an object: a coroutine or a future."""
    return asyncio.isfuture(built) or inspect.iscoroutine(built)


def is_asynchronous(kind: type) -> bool:
    """
    Tell whether objects of *kind* need an async scope.

    One that serves both ``with`` and ``async with`` does not: it is entered by ``with``.
    """
    if hasattr(kind, "__enter__"):
        return False
    if hasattr(kind, "__aenter__"):
        return True
    close = getattr(kind, "close", None)
    return inspect.iscoroutinefunction(close) or (close is None and hasattr(kind, "aclose"))


def enter(thing: Any) -> Entered:
    """Enter *thing*, an object whose kind is not asynchronous."""
    if hasattr(type(thing), "__enter__"):
        return Entered(type(thing).__enter__(thing), _exit_of(thing))
    close = getattr(thing, "close", None)
    return Entered(thing, lambda _: close()) if callable(close) else Entered(thing)


async def enter_async(thing: Any) -> Entered:
    """Enter *thing*, of whatever kind."""
    if not is_asynchronous(type(thing)):
        return enter(thing)
    if hasattr(type(thing), "__aenter__"):
        return Entered(await type(thing).__aenter__(thing), _async_exit_of(thing), asynchronous=True)
    close = getattr(thing, "close", None) or thing.aclose
    return Entered(thing, lambda _: close(), asynchronous=True)


def _exit_of(manager: Any) -> Exit:
    def leave(error: BaseException | None) -> None:
        try:
            type(manager).__exit__(manager, *_triple(error))
        except BaseException as raised:
            if raised is not error:
                raise

    return leave


def _async_exit_of(manager: Any) -> AsyncExit:
    async def leave(error: BaseException | None) -> None:
        try:
            await type(manager).__aexit__(manager, *_triple(error))
        except BaseException as raised:
            if raised is not error:
                raise

    return leave


def _triple(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)
