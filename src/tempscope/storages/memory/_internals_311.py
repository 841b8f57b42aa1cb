"""
What plain paths read of a path that they are joined with or compared to, on Python 3.11.

``Path(p)`` takes ``_parts``, so there *p* moves to its real place, if it has one; what only compares
takes the others and moves nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path, PurePath
from typing import Any


__all__ = ["Internals"]


class Internals:
    """Serves ``_parts`` and its like, and what only this version has; an instance is the path itself."""

    __slots__ = ()

    def _plain(self) -> PurePath:
        raise NotImplementedError

    def _moved(self) -> str:
        raise NotImplementedError

    @property
    def _parts(self) -> list[str]:
        return list(PurePath(self._moved()).parts)

    @property
    def _cparts(self) -> list[str]:
        return list(self._plain().parts)

    @property
    def _drv(self) -> str:
        return self._plain().drive

    @property
    def _root(self) -> str:
        return self._plain().root

    def _goal(self, target: Any) -> Path:
        raise NotImplementedError

    def link_to(self, target: Any) -> None:
        """Make *target* a second name of this file; deprecated, as in :mod:`pathlib`."""
        text = "pathlib.Path.link_to() is deprecated: use hardlink_to() instead"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        assert isinstance(self, Path)
        self._goal(target).hardlink_to(self)
