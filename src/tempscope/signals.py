"""
Letting SIGTERM and SIGHUP unwind the program, so that its scopes close; opt-in.

By default a SIGTERM ends a Python program on the spot: no ``finally``, no ``with``, no ``atexit``.
What it leaves behind is found by the next sweep; these handlers let it go at once.

A handler here only raises, in the main thread, where it interrupts whatever runs.
When everything has unwound, the earlier disposition is restored and the signal is sent again, so
that whoever waits for the process sees the signal as the reason for its end (``wait(2)``), as
they would without us.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from tempscope._outcomes import SignalExit
from tempscope.errors import ConfigurationError


__all__ = ["install_signal_handlers", "uninstall_signal_handlers"]

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")
_FRAMEWORKS = ("gunicorn", "uwsgi", "celery", "billiard", "uvicorn", "hypercorn", "twisted")
_earlier: dict[int, _Handler] = {}
_received: list[int] = []


def install_signal_handlers() -> None:
    """
    Let SIGTERM, SIGHUP (and on Windows SIGBREAK) unwind the program, so that its scopes close.

    For programs of your own; a server framework that handles these signals closes its workers
    itself, and is left to it.
    A signal that is ignored stays ignored.
    A handler of the application is called after everything has unwound.
    Installing twice is not an error.

    Raises:
        ConfigurationError: If this is not the main thread, the only one that may set handlers, or
            if a framework handles one of the signals; nothing was changed then.

    Not promised: that threads other than the main one are interrupted; their scopes close when
    they end by themselves, or at the end of the process.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "signal handlers can only be installed in the main thread: call it where the program starts"
        )
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    found = {number: signal.getsignal(number) for number in numbers}
    for number, handler in found.items():
        owner = getattr(handler, "__module__", None) or type(handler).__module__
        if owner.split(".")[0] in _FRAMEWORKS:
            raise ConfigurationError(
                f"{signal.Signals(number).name} is handled by {owner}, which ends its workers itself: "
                "do not install tempscope's handlers there"
            )
    for number, handler in found.items():
        # None is a handler that was not set from Python: nobody could restore it.
        if handler is _handle or handler is signal.SIG_IGN or handler is None:
            continue
        _earlier[number] = handler
        signal.signal(number, _handle)


def uninstall_signal_handlers() -> None:
    """
    Put back the handlers that were there before; a handler that somebody set since stays.

    Raises:
        ConfigurationError: If this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("signal handlers can only be removed in the main thread")
    for number in list(_earlier):
        handler = _earlier.pop(number)
        if signal.getsignal(number) is _handle:
            signal.signal(number, handler)


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what signal() hands over
    # Nothing but raising: locks, logging or files here could deadlock with what was interrupted.
    if _received:
        return
    _received.append(number)
    raise SignalExit(128 + number)


def _send_again() -> None:
    """At exit: hand the signal to the application's own handler, which may still do what it likes."""
    for number in _received:
        handler = _earlier.get(number)
        if callable(handler):
            signal.signal(number, handler)
            os.kill(os.getpid(), number)


atexit.register(_send_again)


class _LastBreath:
    """
    Ends the process by the signal, after all exit handlers of everybody have run.

    The interpreter drops it when it takes the modules apart; should it be kept alive by something,
    the exit status is 128 and the signal's number, as a shell would say.
    """

    def __del__(
        self,
        received: list[int] = _received,
        earlier: dict[int, _Handler] = _earlier,
        set_handler: Callable[[int, Any], Any] = signal.signal,
        kill: Callable[[int, int], None] = os.kill,
        getpid: Callable[[], int] = os.getpid,
        default: signal.Handlers = signal.SIG_DFL,
        finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        if finalizing() and received and earlier.get(received[0]) is default:
            set_handler(received[0], default)
            kill(getpid(), received[0])


_last_breath = _LastBreath()
