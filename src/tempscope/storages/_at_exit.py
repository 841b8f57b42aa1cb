"""
What the storages do when the process ends, after all scopes were closed: the last step put by first.

What puts them by is imported at the first file, later than what closes the scopes, and :mod:`atexit`
would run the steps before it; so what closes the scopes runs them, in :mod:`tempscope._open_scopes`.
"""

from __future__ import annotations

from contextlib import ExitStack


__all__ = ["LAST_STEPS"]

LAST_STEPS = ExitStack()
