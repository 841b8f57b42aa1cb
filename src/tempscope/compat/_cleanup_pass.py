"""
One clean-up by age: over what is tracked, and what lies below a directory that nobody tracks.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import attrs

from tempscope import _log
from tempscope._names import escape
from tempscope.errors import TempscopeError
from tempscope.model import Removal, TrackedPath
from tempscope.protocols import TrackedPaths
from tempscope.storages import MARKER, Identity, identify, is_still_there, remove_outside


__all__ = ["CleanupPass", "Seen", "look_at"]

_SHOWN = 100
_SECONDS_AN_HOUR = 3600


@attrs.frozen
class Seen:
    """When something was last changed, in seconds since the epoch, and its size, in bytes."""

    changed: float
    size: int
    is_directory: bool = False


def look_at(path: str) -> Seen | None:
    """
    Return what *path* is like, a directory with all that is in it; None if nothing is there.

    Raises:
        OSError: If it cannot be looked at.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(status.st_mode):
        return Seen(status.st_mtime, status.st_size)
    changed, size = status.st_mtime, 0
    for directory, directories, files in os.walk(path):
        for name in directories + files:
            try:
                inner = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            changed = max(changed, inner.st_mtime)
            size += 0 if stat.S_ISDIR(inner.st_mode) else inner.st_size
    return Seen(changed, size, is_directory=True)


@attrs.define(eq=False)
class CleanupPass:
    """
    One clean-up; used once, by one thread.

    Args:
        storage: Knows what is tracked.

        by: For whom: the base directory as tracked paths name it.

        hours: How old is too old.

        adopt: Whether files that nobody tracks go by their age too.
    """

    storage: TrackedPaths
    by: str
    hours: float
    adopt: bool = attrs.field(kw_only=True)
    removed: int = 0
    removed_bytes: int = 0
    errors: int = 0
    untracked: int = 0
    untracked_paths: list[str] = attrs.Factory(list)
    skipped: list[str] = attrs.Factory(list)
    _before: float = 0.0
    _known: set[str] = attrs.Factory(set)
    _held: set[str] = attrs.Factory(set)
    _emptied: set[str] = attrs.Factory(set)

    def run(self) -> None:
        """Do it; what goes wrong with one path is counted, and does not stop the rest."""
        self._before = time.time() - self.hours * _SECONDS_AN_HOUR
        try:
            tracked = list(self._sorted_out())
        except (OSError, TempscopeError) as error:
            # What a living process holds is not known, so nothing is known not to be held.
            self._failed(self.by, str(error))
            return
        for each in tracked:
            self._guarded(each.path, partial(self._age, each))
        self._guarded(self.by, self._look_at_the_untracked)
        self._remove_emptied()

    def _guarded(self, path: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, TempscopeError) as error:
            self._failed(path, str(error))

    def _failed(self, path: str, reason: str) -> None:
        self.errors += 1
        self._skip(path, reason)

    def _skip(self, path: str, reason: str) -> None:
        if len(self.skipped) < _SHOWN:
            self.skipped.append(f"{escape(path)}: {reason}")

    # -- what is tracked

    def _sorted_out(self) -> Iterator[TrackedPath]:
        """Tell what is ours to judge, and note what is known and what is held."""
        for each in self.storage.tracked(everywhere=True):
            ours = each.by == self.by
            if each.tracker == "alive" or (each.tracker == "this process" and not ours):
                self._held.add(each.path)
            elif each.tracker == "this process":
                self._known.add(each.path)
                yield each
            elif is_still_there(each.path, Identity.parse(each.identity)):
                # Of a dead run that tracked it for another directory it is known, and left.
                self._known.add(each.path)
                if ours:
                    yield each

    def _age(self, tracked: TrackedPath) -> None:
        path = tracked.path
        seen = look_at(path)
        if seen is None:
            self._untrack(path)
            return
        if self._is_held(path, seen):
            self._skip(path, "another living process, or another manager, holds it")
            return
        if seen.changed > self._before:
            if not tracked.identity:
                # It was tracked before it was there; from now on a later run knows it too.
                self.storage.track(Path(path), str(identify(path) or ""), self.by)
            return
        if self._remove(path, Identity.parse(tracked.identity), seen.size):
            self._untrack(path)

    def _untrack(self, path: str) -> None:
        self.storage.untrack(Path(path), self.by)

    def _is_held(self, path: str, seen: Seen) -> bool:
        """Whether somebody holds *path*, a directory that it is in, or something in it."""
        if not self._held:
            return False
        if not self._held.isdisjoint([path, *map(str, Path(path).parents)]):
            return True
        return seen.is_directory and any(held.startswith(f"{path}/") for held in self._held)

    def _remove(self, path: str, identity: Identity | None, size: int) -> bool:
        removal = remove_outside(path, identity)
        if not removal.complete:
            self._not_removed(path, removal)
            return False
        if removal.removed:
            self.removed += 1
            self.removed_bytes += size
            self._emptied.add(os.path.dirname(path))
            _log.debug("old path deleted", path=path)
        return True

    def _not_removed(self, path: str, removal: Removal) -> None:
        reason = removal.leftovers[0].reason
        if removal.failed:
            self._failed(path, reason)
        else:
            self._skip(path, reason)

    # -- what nobody tracks

    def _look_at_the_untracked(self) -> None:
        for directory, directories, files in os.walk(self.by):
            if MARKER in files or directory in self._known or directory in self._held:
                # Scopes, ours or another process's; or a directory that is tracked as a whole.
                directories.clear()
                continue
            if not directories and not files and self._is_old(directory):
                self._emptied.add(directory)
            for name in files:
                path = os.path.join(directory, name)
                if path not in self._known and path not in self._held:
                    self._guarded(path, partial(self._meet, path))

    def _is_old(self, directory: str) -> bool:
        try:
            return os.lstat(directory).st_mtime <= self._before
        except OSError:
            return False

    def _meet(self, path: str) -> None:
        identity = identify(path)
        seen = look_at(path)
        if identity is None or seen is None:
            return
        old = seen.changed <= self._before
        if self.adopt and old and self._remove(path, identity, seen.size):
            return
        self.untracked += 1
        if len(self.untracked_paths) < _SHOWN:
            self.untracked_paths.append(path)

    # -- directories

    def _remove_emptied(self) -> None:
        for directory in sorted(self._emptied, key=len, reverse=True):
            path = directory
            while path.startswith(f"{self.by}/"):
                try:
                    os.rmdir(path)
                except OSError:
                    # Not empty, or somebody else's to remove.
                    break
                path = os.path.dirname(path)
