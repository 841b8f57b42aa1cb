"""
What plain paths read of a path that they are joined with or compared to, from Python 3.13 on.

As on 3.12; and what only this version has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tempscope.storages.memory import _internals_312


__all__ = ["Internals"]


class Internals(_internals_312.Internals):
    """Serves ``_raw_paths`` and its like, and what only this version has; an instance is the path itself."""

    __slots__ = ()

    def full_match(self, pattern: Any, *, case_sensitive: bool | None = None) -> bool:
        """Return whether the whole text matches the pattern."""
        return self._plain().full_match(pattern, case_sensitive=case_sensitive)  # type: ignore[attr-defined,no-any-return,unused-ignore]

    @classmethod
    def from_uri(cls, uri: str) -> Path:
        """Return the plain path of a ``file:`` URI."""
        return Path.from_uri(uri)  # type: ignore[attr-defined,no-any-return,unused-ignore]
