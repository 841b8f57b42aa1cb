"""
Files and directories that live as long as one ``with``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from tempscope import _shield
from tempscope.errors import ScopeEnteredError
from tempscope.protocols import TempArea


if TYPE_CHECKING:
    from tempscope.manager import TempFileManager

__all__ = ["TempPath"]


class TempPath:
    """
    A file or directory that is made when its ``with`` (or ``async with``) is entered.

    Used once, by one thread or task.
    When the block ends the path is deleted, unless it is to outlive it (``delete=False``), or an
    exception leaves the block and the scope's policy may keep: then it belongs to the scope, so
    that a failed job's evidence is whole.
    """

    __slots__ = ("_delete", "_generation", "_make", "_manager", "_path", "_wanted")

    def __init__(
        self,
        manager: TempFileManager,
        make: Callable[[TempArea, str], Path],
        wanted: tuple[str, str] | str,
        delete: bool,
    ) -> None:
        self._manager = manager
        self._make = make
        self._wanted = wanted
        self._delete = delete
        self._path: Path | None = None

    def __enter__(self) -> Path:
        if self._path is not None:
            raise ScopeEnteredError(f"{self!r} was entered before: ask the manager for another one")
        manager = self._manager
        self._generation = manager._generation
        self._path = path = manager._made(self._make, self._wanted)
        manager._blocks.add(self)
        return path

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        manager = self._manager
        manager._blocks.discard(self)
        if self._path is not None and self._goes(exc):
            manager._delete_path(self._path, self._generation, exc)
        return False

    async def __aenter__(self) -> Path:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._manager._blocks.discard(self)
        if self._path is not None and self._goes(exc):
            await _shield.complete(partial(self._manager._delete_path, self._path, self._generation, exc))
        return False

    def _goes(self, exc: BaseException | None) -> bool:
        return self._delete and (exc is None or not self._manager._policy.may_keep)

    def __repr__(self) -> str:
        path = "not entered" if self._path is None else repr(self._path)
        return f"<TempPath {path} of {self._manager._shown!r}>"
