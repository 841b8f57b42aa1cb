"""
Letting SIGTERM and SIGHUP unwind the program, so that its scopes close; opt-in.

By default a SIGTERM ends a Python program on the spot: no ``finally``, no ``with``, no ``atexit``.
What it leaves behind is found by the next sweep; these handlers let it go at once.

A handler here only raises, in the main thread, where it interrupts whatever runs.
When everything has unwound, the earlier disposition is restored and the signal is sent again, so
that whoever waits for the process sees the signal as the reason for its end (``wait(2)``), as
they would without us.

Another signal must not interrupt the clean-up that the first began, but no signal may make the
program deaf: code can swallow what was raised, on purpose or, as finalisers do, by necessity.
So another one is ignored only while something is seen to be unwinding, and raises otherwise.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from tempscope._closing import is_closing_here
from tempscope._outcomes import SignalExit
from tempscope.errors import ConfigurationError


__all__ = ["install_signal_handlers", "uninstall_signal_handlers"]

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None
_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")
_FRAMEWORKS = (
    "gunicorn",
    "uwsgi",
    "celery",
    "billiard",
    "uvicorn",
    "hypercorn",
    "twisted",
    # What loop.add_signal_handler() sets: the loop is told past Python's handlers.
    "asyncio",
    "uvloop",
)
_earlier: dict[int, _Handler] = {}
_received: list[int] = []
"""The signals that raised, the latest first: what ends the process, and is handed on."""

_raised: list[weakref.ref[SignalExit]] = []


def install_signal_handlers() -> None:
    """
    Let SIGTERM, SIGHUP (and on Windows SIGBREAK) unwind the program, so that its scopes close.

    For programs of your own; a server framework that handles these signals closes its workers
    itself, and is left to it.
    A signal that is ignored stays ignored.
    A handler of the application is called after everything has unwound.
    While a signal unwinds the program, another one changes nothing; once code has swallowed the first,
    the next one unwinds again.
    A signal that was received is sent again at the end of the process even so, unless the handlers are
    installed anew before.
    A forked child starts without what its parent received.
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
                f"{signal.Signals(number).name} is handled by {owner}, which sees to the end itself: "
                "do not install tempscope's handlers there"
            )
    if not _is_unwinding(sys._getframe()):
        _received.clear()
    for number, handler in found.items():
        # None is a handler that was not set from Python: nobody could restore it.
        if handler is _handle or handler is signal.SIG_IGN or handler is None:
            continue
        _earlier[number] = handler
        signal.signal(number, _handle)


def uninstall_signal_handlers() -> None:
    """
    Put back the handlers that were there before; a handler that somebody set since stays.

    A signal that was received before is sent again at the end of the process all the same.

    Raises:
        ConfigurationError: If this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("signal handlers can only be removed in the main thread")
    for number, handler in list(_earlier.items()):
        if signal.getsignal(number) is _handle:
            signal.signal(number, handler)
        # This may be the ``finally`` of what a signal unwinds, which is yet to be sent again.
        if number not in _received:
            del _earlier[number]


def _handle(number: int, frame: FrameType | None) -> None:
    # Nothing but raising: locks, logging or files here could deadlock with what was interrupted.
    if _is_unwinding(frame):
        return
    # In one step each: another signal may call this between any two.
    _received[:] = [number, *(each for each in _received if each != number)]
    # No variable holds the error, or it would hold itself by its traceback.
    raise _known(SignalExit(128 + number))


def _known(error: SignalExit) -> SignalExit:
    _raised[:] = [*(each for each in _raised if each() is not None), weakref.ref(error)]
    return error


def _is_unwinding(frame: FrameType | None) -> bool:
    """Return whether what a signal began is still going on; *frame* is where the program is."""
    if not _received:
        return False
    errors = [error for each in _raised if (error := each()) is not None]
    return _is_ending() or (
        bool(errors) and (_is_handled(errors) or is_closing_here() or _ends_event_loop(frame))
    )


def _is_ending() -> bool:
    """Return whether the main thread has ended: the others are waited for, or exit handlers run."""
    # The first is true a little earlier: while thread pools are waited for.
    return getattr(threading, "_SHUTTING_DOWN", False) or not threading.main_thread().is_alive()


def _is_handled(errors: list[SignalExit]) -> bool:
    """Return whether this thread is in an ``except``, ``finally`` or ``with`` that one of *errors* left."""
    waiting: list[BaseException | None] = [sys.exception()]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        if any(error is each for each in errors):
            return True
        seen.add(id(error))
        # What is raised meanwhile hides it, and is raised in its context.
        waiting += [error.__context__, error.__cause__]
        waiting += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return False


def _ends_event_loop(frame: FrameType | None) -> bool:
    """Return whether asyncio cancels its tasks: what each of them then handles does not tell why."""
    runners = sys.modules.get("asyncio.runners")
    if runners is None:
        return False
    ending = runners.Runner.close.__code__
    while frame is not None and frame.f_code is not ending:
        frame = frame.f_back
    return frame is not None


# What the parent received was not sent to a forked child.  A platform without fork has nothing to
# register; and a function of ours would keep this module, and its last breath, alive.
for _list in (_received, _raised):
    getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_list.clear)


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
