"""
Paths outside the scope that were registered to be deleted with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tempscope import _log
from tempscope._names import escape
from tempscope.errors import ForeignPathError, StorageError
from tempscope.model import Entry, Removal
from tempscope.protocols import OutsidePathJournal, TempArea
from tempscope.storages import Identity, identify, remove_outside


__all__ = ["OutsidePaths"]


class OutsidePaths:
    """
    The registered outside paths of one scope.

    Lives as long as the scope; all its threads may use it, and register under the scope's lock.

    Args:
        area: Returns the scope's area, whose journal the paths are written to; raises when the
            scope takes no more.
    """

    __slots__ = ("_area", "_journal", "_paths")

    def __init__(self, area: Callable[[], TempArea]) -> None:
        self._area = area
        self._journal: OutsidePathJournal | None = None
        # Each with its identity as text, or empty.  Both are the very objects that the journal keeps: of a
        # path's own text there is no other.
        self._paths: dict[str, str] = {}

    def register(self, file: Path) -> None:
        """Remember *file*, and write it down where the storage can, before returning."""
        path = os.fspath(file)
        if os.path.dirname(path) == path:
            raise ForeignPathError(
                f"{path!r} is the root of a file system, which no scope deletes", path=path
            )
        area = self._area()
        identity = str(identify(path) or "")
        if isinstance(area, OutsidePathJournal):
            # Kept: paths are written off when the scope is closed already, and gives no area any more.
            self._journal = area
            area.note_outside(file, identity)
        self._paths[path] = identity
        _log.debug("outside path registered", path=path)

    def unregister(self, path: str) -> bool:
        """
        Forget *path*; returns whether it was registered.

        Raises:
            StorageError: If that cannot be written down; it is still registered then.
        """
        if path not in self._paths:
            return False
        if self._journal is not None:
            self._journal.forget_outside(Path(path))
        self._paths.pop(path, None)
        _log.debug("outside path unregistered", path=path)
        return True

    def described(self, protected: Iterable[tuple[int, int]] = ()) -> dict[str, str]:
        """Return them as text, each with its identity, but for the *protected*, which stay anyway."""
        sources = set(protected)
        return {
            path: text
            for path, text in self._paths.items()
            if not sources or _inode_of(Identity.parse(text)) not in sources
        }

    def take_up(self, area: TempArea, described: Mapping[str, str]) -> None:
        """Go on with paths that another process registered, and that *area* tells already."""
        self._journal = area if isinstance(area, OutsidePathJournal) else None
        self._paths = dict(described)

    def remove_all(self, protected: Iterable[tuple[int, int]] = ()) -> Iterator[Removal]:
        """
        Delete them one by one, newest first, and tell of each.

        One that was interrupted is still registered; one that fails does not stop the rest, and stays
        in the journal for the sweep.

        Args:
            protected: Device and inode of each staged source, which stays.
        """
        sources = set(protected)
        while True:
            try:
                path, text = self._paths.popitem()
            except KeyError:
                return
            try:
                removal = _remove(path, Identity.parse(text), sources)
            except BaseException:
                self._paths[path] = text
                raise
            yield removal if removal.failed else removal + self._write_off(path)

    def _write_off(self, path: str) -> Removal:
        try:
            if self._journal is not None:
                self._journal.forget_outside(Path(path))
        except StorageError as error:
            # What was deleted a sweep finds gone, but a staged source that stayed it would delete.
            entry = Entry(escape(path), "failed", f"it is still in the journal: {error}", error.errno)
            return Removal(failed=1, entries=(entry,))
        return Removal()


def _inode_of(identity: Identity | None) -> tuple[int, int] | None:
    return None if identity is None else (identity.device, identity.inode)


def _remove(path: str, registered: Identity | None, sources: set[tuple[int, int]]) -> Removal:
    try:
        present = identify(path) if sources else None
    except OSError as error:
        reason = f"cannot be looked at: {error.strerror}"
        return Removal(failed=1, entries=(Entry(escape(path), "failed", reason, error.errno),))
    if _inode_of(present) in sources:
        _log.warn("a staged source was registered for deletion; it stays")
        return Removal(kept=1, entries=(Entry(escape(path), "kept", "it is the source of a staged file"),))
    removal = remove_outside(path, registered)
    if removal.complete:
        _log.debug("outside path deleted", path=path)
    return removal
