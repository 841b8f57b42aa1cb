"""
The one logger, ``tempscope``.

Messages are constant; what varies stands in ``extra`` fields that begin with ``tempscope_``.
Debug for every creation and deletion, warning for anything left behind.
Paths at debug level only; warnings carry labels and tokens (names of files can be secrets).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from tempscope._names import escape


__all__ = ["LOGGER", "debug", "debugging", "own_fields", "warn"]

LOGGER: Final = logging.getLogger("tempscope")
LOGGER.addHandler(logging.NullHandler())


def debugging() -> bool:
    """Return whether anybody listens at debug level; asked first where building fields costs."""
    return LOGGER.isEnabledFor(logging.DEBUG)


def debug(message: str, **fields: Any) -> None:
    """Log *message* at debug level with *fields*."""
    if LOGGER.isEnabledFor(logging.DEBUG):
        LOGGER.debug(message, extra=own_fields(fields))


def warn(message: str, **fields: Any) -> None:
    """Log *message* as a warning with *fields*."""
    LOGGER.warning(message, extra=own_fields(fields))


def own_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return *fields* as a log record takes them: under names of our own, fit for one line."""
    return {f"tempscope_{key}": _shown(value) for key, value in fields.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Path):
        # The text of a path in memory would move the file to disk; what it displays does not.
        value = getattr(value, "display", None) or str(value)
    return escape(value) if isinstance(value, str) else value
