"""
How a job ended, told from the exception that left it.
"""

from __future__ import annotations

import sys

from tempscope._names import escape
from tempscope.errors import ConfigurationError
from tempscope.model import Outcome, OutcomeKind


__all__ = ["OK", "SignalExit", "classify", "describe", "outcome_of"]

OK = Outcome("ok")
_CANCELLED = (KeyboardInterrupt, GeneratorExit)
_MAX_TEXT = 500


class SignalExit(SystemExit):
    """Raised by our signal handlers, so that everything unwinds; the signal is then sent again."""


def outcome_of(exc: BaseException | None, *, retry: bool = False) -> Outcome:
    """
    Return the outcome of a job that *exc* left, or that ended by itself.

    Raises:
        ConfigurationError: If *exc* is no exception.
    """
    if exc is None and not retry:
        return OK
    if exc is not None and not isinstance(exc, BaseException):
        raise ConfigurationError(
            f"exc cannot be {exc!r}: give the exception that ended the job, or None if it ended well"
        )
    error = None if exc is None else describe(exc)
    return Outcome("retry" if retry else classify(exc), exc, error)


def describe(exc: BaseException) -> str:
    """Return type and text of *exc* on one line; its own ``__str__`` may fail."""
    try:
        return escape(f"{type(exc).__name__}: {exc}", _MAX_TEXT)
    except Exception:
        return f"{type(exc).__name__}: its text cannot be had"


def classify(exc: BaseException | None) -> OutcomeKind:
    """
    Return what kind of end *exc* is.

    Cancelled is what stops a job from outside: cancellation of asyncio or trio,
    ``KeyboardInterrupt``, ``GeneratorExit``, a group of only these, and our signal handlers' own
    exception.
    ``SystemExit`` with None or 0 is a job that ended well; any other failed.
    """
    if exc is None:
        return "ok"
    if isinstance(exc, SystemExit) and not isinstance(exc, SignalExit):
        return "ok" if exc.code in (None, 0) else "failed"
    return "cancelled" if _is_cancellation(exc) else "failed"


def _is_cancellation(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(_is_cancellation(each) for each in exc.exceptions)
    return isinstance(exc, (*_CANCELLED, SignalExit)) or _is_async_cancellation(exc)


def _is_async_cancellation(exc: BaseException) -> bool:
    # A program that never imported asyncio or trio cannot have been cancelled by them.
    asyncio, trio = sys.modules.get("asyncio.exceptions"), sys.modules.get("trio")
    return (asyncio is not None and isinstance(exc, asyncio.CancelledError)) or (
        trio is not None and isinstance(exc, trio.Cancelled)
    )
