"""
Which scope is the current one: the innermost that was *entered* in this context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, cast

from tempscope.errors import NoOpenScopeError, ScopeClosedError


if TYPE_CHECKING:
    from tempscope._scope import Scope
    from tempscope.manager import TempFileManager

__all__ = ["as_current", "current_scope", "enter", "leave"]

_current: ContextVar[Scope | None] = ContextVar("tempscope_current_scope", default=None)


def current_scope() -> TempFileManager:
    """
    Return the innermost scope that was entered in this context.

    Tasks see the scope of the context they were started in; plain threads see none, unless the
    function was carried over by :meth:`TempFileManager.bind`.

    Raises:
        NoOpenScopeError: If no scope was entered here.

        ScopeClosedError: If the innermost scope is closed; an outer one is never returned in its
            place, for its files have another lifetime.
    """
    manager = _current.get()
    if manager is None:
        raise NoOpenScopeError(
            "no scope was entered in this context: use 'with scopes.open(...):' around the job "
            "(threads need TempFileManager.bind; a FastAPI dependency, 'async with')"
        )
    if manager.closed:
        raise ScopeClosedError(
            f"the innermost scope of this context, {manager._shown!r}, is closed", scope=manager._shown
        )
    return cast("TempFileManager", manager)


def enter(manager: Scope) -> Token[Scope | None]:
    """Make *manager* the current scope of this context."""
    return _current.set(manager)


def leave(manager: Scope) -> None:
    """
    Make current again what was before *manager*.

    While one that was entered later is still inside, nothing changes, until that leaves too.
    In another context, as of an async fixture, nothing changes either.
    """
    manager._left = True
    current = _current.get()
    while current is not None and current._left and current._variable is not None:
        try:
            _current.reset(current._variable)
        except ValueError:
            # Entered in another context, whose variable cannot be reached from here; it will find
            # its scope closed there.
            return
        current._variable = None
        current = _current.get()


@contextmanager
def as_current(manager: Scope) -> Iterator[None]:
    """Make *manager* current for a ``with`` block; sets and resets our variable only."""
    token = _current.set(manager)
    try:
        yield
    finally:
        _current.reset(token)
