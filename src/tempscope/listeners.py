"""
Telling others what happens to scopes.

A listener is a function of one :class:`~tempscope.model.Event`; :class:`~tempscope.TempScopes` and
:class:`~tempscope.Janitor` take any number of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from tempscope import _log
from tempscope.errors import ConfigurationError
from tempscope.model import Event, EventKind
from tempscope.protocols import Listener


__all__ = ["LoggingListener", "check_listeners", "tell"]

_MESSAGES: dict[EventKind, str] = {
    "created": "a temporary file was created",
    "staged": "a file was staged",
    "published": "a file was published",
    "closed": "a scope was closed",
    "removed": "temporary files were removed",
    "kept": "temporary files were kept",
    "swept": "a janitor made a pass",
    "failed": "something was left behind",
}


class LoggingListener:
    """
    Logs each event, with a constant message; what varies stands in fields of the record.

    Lives as long as whoever tells it; shared by all threads.
    Paths are logged at debug level only, since file names can be secrets.

    Args:
        level: Of the log records; a failure is a warning at least.

        logger: Where to; None for the logger ``tempscope``.
    """

    def __init__(self, level: int = logging.INFO, logger: logging.Logger | None = None) -> None:
        self._level = level
        self._logger = _log.LOGGER if logger is None else logger

    def __call__(self, event: Event, /) -> None:
        """Log *event*."""
        level = max(self._level, logging.WARNING) if event.kind == "failed" else self._level
        if self._logger.isEnabledFor(level):
            fields = _log.own_fields(_told(event, level))
            self._logger.log(level, _MESSAGES[event.kind], extra=fields)

    def __repr__(self) -> str:
        return f"LoggingListener({self._level}, {self._logger!r})"


def _told(event: Event, level: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"event": event.kind, "scope": event.scope, "label": event.label}
    if event.reason:
        fields["reason"] = event.reason
    if event.removal is not None:
        counts = ("removed", "removed_bytes", "kept", "skipped", "failed")
        fields.update((name, getattr(event.removal, name)) for name in counts)
    if level <= logging.DEBUG:
        fields.update(path=event.path, source=event.source)
    return fields


def check_listeners(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """
    Return *listeners* as a tuple.

    Raises:
        ConfigurationError: If it is no collection of functions, or one of a class that was not called.
    """
    if callable(listeners) or not isinstance(listeners, Iterable):
        raise ConfigurationError(f"listeners cannot be {listeners!r}: give a list of functions")
    checked = tuple(listeners)
    for listener in checked:
        if isinstance(listener, type) or not callable(listener):
            raise ConfigurationError(f"a listener cannot be {listener!r}: it must be a function of one event")
    return checked


def tell(listeners: Sequence[Listener], event: Event) -> None:
    """Tell each of *listeners* of *event*; one that fails is logged, and the others are told."""
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:
            _log.warn("a listener failed", event=event.kind, error=type(error).__name__)
