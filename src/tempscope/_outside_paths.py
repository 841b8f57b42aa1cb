"""
Paths outside the scope that were registered to be deleted with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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

    def register(self, file: Path, sources: Container[tuple[int, int] | None] = ()) -> None:
        """
        Remember *file*, and write it down where the storage can, before returning.

        Of the *sources*, the device and inode of each staged one, the journal is not told: they stay, and
        a sweep does not know that.
        """
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
            if _inode_of(Identity.parse(identity)) not in sources:
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

    @contextmanager
    def sparing(self, inode: tuple[int, int]) -> Iterator[None]:
        """Take what has that *inode* out of the journal, while and after it is staged; not if that fails."""
        journal, start = self._journal, "{}:{}:".format(*inode)
        spared = [path for path, text in list(self._paths.items()) if text.startswith(start)]
        if journal is None or not spared:
            yield
            return
        for path in spared:
            journal.forget_outside(Path(path))
        try:
            yield
        except BaseException:
            for path in spared:
                with suppress(StorageError):
                    journal.note_outside(Path(path), self._paths[path])
            raise

    def drop(self, sources: Container[tuple[int, int] | None]) -> None:
        """Forget those that are among the *sources*, which stay anyway."""
        for path, text in list(self._paths.items()):
            if _present(path, text) in sources:
                self.unregister(path)

    def described(self) -> dict[str, str]:
        """Return them as text, each with its identity."""
        return dict(self._paths)

    def take_up(self, area: TempArea, described: Mapping[str, str]) -> None:
        """Go on with paths that another process registered, and that *area* tells already."""
        self._journal = area if isinstance(area, OutsidePathJournal) else None
        self._paths = dict(described)

    def remove_all(self, protected: Iterable[tuple[int, int]] = ()) -> Iterator[Removal]:
        """
        Delete them one by one, newest first, and tell of each.

        One that was interrupted, or failed, is still registered, and in the journal for the sweep; it does
        not stop the rest.

        Args:
            protected: Device and inode of each staged source, which stays.
        """
        sources, failed = set(protected), dict[str, str]()
        try:
            while True:
                try:
                    path, text = self._paths.popitem()
                except KeyError:
                    return
                try:
                    removal = _remove(path, Identity.parse(text), sources)
                except BaseException:
                    failed[path] = text
                    raise
                if not removal.failed:
                    removal += self._write_off(path)
                if removal.failed:
                    failed[path] = text
                yield removal
        finally:
            self._paths.update(failed)

    def _write_off(self, path: str) -> Removal:
        try:
            if self._journal is not None:
                self._journal.forget_outside(Path(path))
        except StorageError as error:
            # What was deleted a sweep finds gone, but a staged source that stayed it would delete.
            entry = Entry(escape(path), "failed", f"it is still in the journal: {error}", error.errno)
            return Removal(failed=1, entries=(entry,))
        return Removal()


def _present(path: str, text: str) -> tuple[int, int] | None:
    """Return the inode that was registered; of what was not there then, the one that is there now."""
    try:
        return _inode_of(Identity.parse(text) if text else identify(path))
    except OSError:
        return None


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
