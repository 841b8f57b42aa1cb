"""
The scopes that are open in this process, and what happens to them when it ends.

Nothing here keeps a forgotten scope alive, except a standalone manager that was never entered:
its callers hold paths, not the manager.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import TYPE_CHECKING

from tempscope import _log
from tempscope.storages._at_exit import LAST_STEPS


if TYPE_CHECKING:
    from tempscope._scope import Scope

__all__ = ["forget", "hold", "note", "open_managers"]

_EXIT_SECONDS = 20.0
_open: dict[int, weakref.ref[Scope]] = {}
_held: dict[int, Scope] = {}


def note(manager: Scope) -> None:
    """Know that *manager* is open; it may still be forgotten by everybody else."""
    _open[id(manager)] = weakref.ref(manager)


def hold(manager: Scope) -> None:
    """Keep *manager* until it closes or the process ends."""
    _held[id(manager)] = manager


def forget(manager: Scope) -> None:
    """Know that *manager* is closed, or gone."""
    _open.pop(id(manager), None)
    if _held:
        _held.pop(id(manager), None)


def open_managers() -> list[Scope]:
    """Return the managers that are open in this process, oldest first."""
    pid = os.getpid()
    found = [reference() for reference in list(_open.values())]
    return [
        manager for manager in found if manager is not None and manager._pid == pid and not manager.closed
    ]


def close_all() -> None:
    """
    Close what is still open, newest first, at interpreter exit.

    In this thread alone: no thread, pool, event loop or subprocess can be started any more.
    Bounded in time: what is left then is the sweep's.
    An interrupt does not stop it, and is raised last.
    """
    deadline, interrupt = time.monotonic() + _EXIT_SECONDS, None
    for manager in reversed(open_managers()):
        if time.monotonic() > deadline:
            _log.warn("the process ended before all its scopes were closed; the next sweep removes them")
            break
        try:
            manager._close_at_exit()
        except Exception as error:
            _log.warn("a scope could not be closed at exit", scope=manager._shown, error=type(error).__name__)
        except BaseException as error:
            interrupt = interrupt or error
    if interrupt is not None:
        raise interrupt


def _end() -> None:
    """At interpreter exit: close what is open, and only then what it stood on."""
    with LAST_STEPS:
        close_all()


atexit.register(_end)

if hasattr(os, "register_at_fork"):
    # What the parent process opened is not this one's to close, or to tell of.
    os.register_at_fork(after_in_child=_open.clear)
