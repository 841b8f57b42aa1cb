"""
Telling, to those who ask for it, what to call instead.
"""

from __future__ import annotations

import warnings


__all__ = ["superseded", "warn_on_use"]

_on: list[bool] = []


def warn_on_use(enabled: bool = True) -> None:
    """
    Have every call of a :mod:`tempscope.compat` API warn, naming the call to move to; off by default.

    One switch for the whole process; the warnings are :class:`DeprecationWarning`.

    Args:
        enabled: False to be silent again.
    """
    _on[:] = [True] if enabled else []


def superseded(old: str, new: str) -> None:
    """Warn whoever called our caller that *new* does better what *old* does."""
    if _on:
        warnings.warn(f"{old} is there for older programs: use {new}", DeprecationWarning, stacklevel=3)
