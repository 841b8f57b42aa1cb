"""
What plain paths read of a path that they are joined with or compared to, from Python 3.12 on.

``Path(p)`` takes ``_raw_paths``, so there *p* moves to its real place, if it has one; what only
compares takes the others and moves nothing.
"""

from __future__ import annotations

from pathlib import PurePath


__all__ = ["Internals"]


class Internals:
    """Serves ``_raw_paths`` and its like; an instance is the path itself."""

    __slots__ = ()

    def _plain(self) -> PurePath:
        raise NotImplementedError

    def _moved(self) -> str:
        raise NotImplementedError

    @property
    def _raw_paths(self) -> list[str]:
        return [self._moved()]

    @property
    def _tail(self) -> list[str]:
        return list(self._plain().parts[1:])

    @property
    def _drv(self) -> str:
        return self._plain().drive

    @property
    def _root(self) -> str:
        return self._plain().root

    @property
    def _str_normcase(self) -> str:
        plain = self._plain()
        return str(plain) if plain.drive == "" else str(plain).lower()

    @property
    def _parts_normcase(self) -> list[str]:
        return self._str_normcase.split("/" if self._plain().drive == "" else "\\")
