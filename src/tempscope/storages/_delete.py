"""
Removing a tree that may change under our hands, and may be hostile.

Works relative to directory descriptors, iteratively, with a bounded number of descriptors and
bounded memory; never follows a link, never enters a mount, never opens anything but directories,
never changes the mode of a file (a hard link's source would change with it).
It removes what it can, says what it cannot, and can be called again.

The standard library's ``shutil.rmtree`` recurses or runs out of descriptors on deep trees, and
empties bind mounts; see ``docs/explanation/deleting.md``.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Sequence

import attrs

from tempscope._names import escape
from tempscope.model import Entry, EntryKind, Removal
from tempscope.protocols import Pace
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._openat2 import let_in, make_writable, open_directory, open_subdirectory
from tempscope.storages._reserve import NO_DESCRIPTORS, release


__all__ = ["BUDGET", "PART", "remove_contents", "remove_entry"]

BUDGET = 20_000_000
"""How many entries one removal handles at most: it ends even if somebody adds to the tree for ever."""

PART = 2_000
"""How many entries a removal that keeps a pace handles before it asks whether to go on."""

_SUBDIRECTORIES_AT_ONCE = 1_000
_KEPT_LEVELS = 4
_ROUNDS = 3
_EXACTLY = 2_000
_EVERY = 64
"""Of more files than _EXACTLY one in so many is looked at, for the others too: looking takes half as
long as removing does."""
_ENTRIES_REPORTED = 100
_NAMES_SHOWN = 8
_NOT_A_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
_DENIED = (errno.EACCES, errno.EPERM)


def remove_entry(
    dir_fd: int,
    name: str,
    *,
    expected: tuple[int, int] | None = None,
    held: Descriptor | None = None,
    likely: Sequence[str] = (),
    spared: str = "",
    budget: int = BUDGET,
    pace: Pace | None = None,
) -> Removal:
    """
    Remove *name* from the directory *dir_fd*: a file, a link, or a directory with all in it.

    The directory *dir_fd* itself is not ours to change: its permissions are never repaired.

    Args:
        dir_fd: An open directory.

        name: A name in it, no path.

        expected: The device and inode that it must be; anything else by that name is left alone.

        held: An open descriptor of what is expected, which spares opening it; closed afterwards.

        likely: Names of files that are probably all there is in the directory, which spares listing it.

        spared: A directory with a file of that name in it stays, and counts as skipped; none if empty.

        budget: How many entries to handle at most; calling again goes on.

        pace: Asked after each part whether to go on; if not, the rest counts as one thing skipped.

    Returns:
        What went and what did not; a missing *name* is simply not counted.
    """
    walk = _Walk(budget, pace=pace, spared=spared)
    walk.run(_Level("", _Borrowed(dir_fd), only=name, expected=expected, held=held, likely=likely))
    return walk.result()


def remove_contents(dir_fd: int, *, budget: int = BUDGET) -> Removal:
    """Remove all that is in the directory *dir_fd*, which is ours, but not the directory."""
    walk = _Walk(budget)
    walk.run(_Level("", _Borrowed(dir_fd)))
    return walk.result()


@attrs.define
class _Level:
    """One directory on the way down."""

    name: str
    descriptor: Descriptor | None
    identity: tuple[int, int] = (0, 0)
    size: int = 0
    only: str | None = None
    expected: tuple[int, int] | None = None
    held: Descriptor | None = None
    likely: Sequence[str] = ()
    guessed: bool = False
    subdirectories: list[str] = attrs.Factory(list)
    listed: bool = False
    more: bool = False
    again: bool = False
    rounds: int = 0
    stuck: set[str] = attrs.Factory(set)


@attrs.define
class _Walk:
    """One removal; used by one thread, once."""

    budget: int
    removed: int = 0
    removed_bytes: int = 0
    skipped: int = 0
    failed: int = 0
    files: int = 0
    entries: list[Entry] = attrs.Factory(list)
    levels: list[_Level] = attrs.Factory(list)
    starts: int = 1
    pace: Pace | None = None
    spared: str = ""
    pause_at: int = 0
    paid: int = 0

    def result(self) -> Removal:
        return Removal(
            removed=self.removed,
            removed_bytes=self.removed_bytes,
            skipped=self.skipped,
            failed=self.failed,
            entries=tuple(self.entries),
        )

    def run(self, top: _Level) -> None:
        """Walk down from *top*, whose descriptor the caller keeps open."""
        self.levels = [top]
        current = top.descriptor
        if self.pace is not None:
            self.pause_at = max(0, self.budget - PART)
        try:
            while current is not None and self.budget > 0:
                current = self._step(current)
                if self.budget <= self.pause_at and current is not None and not self._goes_on():
                    self._count("skipped", self._path(""), "it was put off; removing again goes on", None)
                    return
            if current is not None:
                self._count("failed", self._path(""), "the budget was used up; removing again goes on", None)
        finally:
            for level in self.levels:
                for descriptor in (level.descriptor, level.held):
                    if descriptor is not None:
                        descriptor.close()

    def _goes_on(self) -> bool:
        """Say what was done since this was last asked, and hear whether to go on."""
        if self.pace is None or self.budget <= 0:
            return True
        freed, self.paid = self.removed_bytes - self.paid, self.removed_bytes
        self.pause_at = max(0, self.budget - PART)
        return self.pace(freed)

    # -- one step: list, go down, or go up

    def _step(self, current: Descriptor) -> Descriptor | None:
        level = self.levels[-1]
        if not level.listed:
            level.listed = True
            self._list(level, current.fd)
        if level.subdirectories:
            return self._go_down(level, current)
        if level.more or level.again:
            level.rounds += level.again
            level.listed = level.more = level.again = False
            return current
        return self._go_up(level, current)

    def _list(self, level: _Level, fd: int) -> None:
        if level.only is not None:
            self._look_at(level, fd, level.only)
            return
        if level.guessed:
            self._remove_likely(level, fd)
            # What cannot be emptied without being listed is listed, for the rest.
            if not level.stuck:
                return
        try:
            with os.scandir(fd) as entries:
                self._sift(level, fd, entries)
        except OSError as error:
            if error.errno in NO_DESCRIPTORS and self._release_kept():
                level.more = True
            elif error.errno != errno.ENOENT:
                self._report(level, "", "failed", error)

    def _remove_likely(self, level: _Level, fd: int) -> None:
        for name in level.likely:
            try:
                size = _freed(os.stat(name, dir_fd=fd, follow_symlinks=False))
            except FileNotFoundError:
                continue
            except OSError:
                size = 0
            self._unlink(level, fd, name, size)

    def _sift(self, level: _Level, fd: int, entries: Iterable[os.DirEntry[str]]) -> None:
        """Unlink what is no directory and note what is one: the loop that decides how long all takes."""
        stuck, subdirectories, unlink = level.stuck, level.subdirectories, os.unlink
        removed, files, stop = 0, self.files, self.budget - self.pause_at
        try:
            for entry in entries:
                name = entry.name
                if stuck and name in stuck:
                    continue
                size = 0
                try:
                    if _is_directory(entry):
                        subdirectories.append(name)
                        stop = removed if len(subdirectories) >= _SUBDIRECTORIES_AT_ONCE else stop
                    else:
                        files += 1
                        if files <= _EXACTLY:
                            size = _freed_by(entry)
                        elif not files % _EVERY:
                            size = _freed_by(entry) * _EVERY
                        unlink(name, dir_fd=fd)
                        removed += 1
                        if size:
                            self.removed_bytes += size
                except OSError as error:
                    self._unlink(level, fd, name, size, error)
                    stop = self.budget - self.pause_at
                if removed >= stop:
                    level.more = True
                    return
        finally:
            self.removed += removed
            self.budget -= removed
            self.files = files

    def _look_at(self, level: _Level, fd: int, name: str) -> None:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self._report(level, name, "failed", error)
            return
        if self._is_another(level, name, status):
            return
        if stat.S_ISDIR(status.st_mode):
            level.subdirectories.append(name)
        else:
            self._unlink(level, fd, name, _freed(status))

    def _go_down(self, level: _Level, current: Descriptor) -> Descriptor:
        name = level.subdirectories.pop()
        child, level.held = level.held or self._enter(level, current.fd, name), None
        if child is None:
            return current
        status = os.fstat(child.fd)
        if self._is_another(level, name, status) or self._is_spared(level, name, child.fd):
            child.close()
            return current
        if len(self.levels) > _KEPT_LEVELS:
            current.close()
            level.descriptor = None
        below = _Level(name, child, _identity(status), _allocated(status))
        if level.likely:
            below.likely, below.guessed, level.likely = level.likely, True, ()
        self.levels.append(below)
        return child

    def _go_up(self, level: _Level, current: Descriptor) -> Descriptor | None:
        self.levels.pop()
        if not self.levels:
            return None
        parent = self.levels[-1]
        above = parent.descriptor or self._reopen(parent, current.fd)
        current.close()
        if above is None:
            return self._start_over()
        parent.descriptor = above
        if level.stuck:
            parent.stuck.add(level.name)
        else:
            self._remove_emptied(parent, above.fd, level)
        return above

    def _reopen(self, parent: _Level, fd: int) -> Descriptor | None:
        """Open what is above *fd*, if it still is *parent*."""
        while True:
            try:
                above = open_directory("..", dir_fd=fd)
            except OSError as error:
                if error.errno in NO_DESCRIPTORS and self._release_kept():
                    continue
                if error.errno in _DENIED and make_writable(fd):
                    continue
                return None
            if _identity(os.fstat(above.fd)) == parent.identity:
                return above
            above.close()
            return None

    def _start_over(self) -> Descriptor | None:
        # Somebody moved the directory we stood in; what is above it now may be anybody's.
        for level in self.levels[1:]:
            if level.descriptor is not None:
                level.descriptor.close()
        top = self.levels[0]
        del self.levels[1:]
        self.starts += 1
        if self.starts > _ROUNDS:
            self._count(
                "failed", self._path(""), "directories were moved while they were being removed", None
            )
            return None
        # Whatever could not be removed and is still here is met, and told, again.
        self.failed = self.skipped = 0
        self.entries.clear()
        top.stuck.clear()
        top.subdirectories.clear()
        top.listed = False
        return top.descriptor

    # -- one entry

    def _enter(self, level: _Level, dir_fd: int, name: str) -> Descriptor | None:
        self.budget -= 1
        repaired = False
        while True:
            try:
                return open_subdirectory(dir_fd, name)
            except OSError as error:
                code = error.errno
                if code == errno.ENOENT:
                    return None
                if code in _NOT_A_DIRECTORY:
                    self._unlink(level, dir_fd, name, 0)
                    return None
                if code == errno.EXDEV:
                    self._report(level, name, "skipped", error, "a mount point; nothing below it was touched")
                    return None
                if code in NO_DESCRIPTORS and self._release_kept():
                    continue
                if code in _DENIED and not repaired:
                    repaired = let_in(dir_fd, name) or self._repair(level, dir_fd)
                    if repaired:
                        continue
                self._report(level, name, "failed", error)
                return None

    def _unlink(self, level: _Level, fd: int, name: str, size: int, error: OSError | None = None) -> None:
        """
        Remove *name*, which is no directory; if it is one after all, note it as one.

        With *error*, which trying it gave, only do what that asks for.
        """
        self.budget -= 1
        while True:
            if error is None:
                try:
                    os.unlink(name, dir_fd=fd)
                except OSError as raised:
                    error = raised
                else:
                    self.removed += 1
                    self.removed_bytes += size
                    return
            if error.errno == errno.ENOENT:
                return
            if _means_directory(error, fd, name):
                level.subdirectories.append(name)
                return
            if error.errno not in _DENIED or not self._repair(level, fd):
                self._report(level, name, "failed", error)
                return
            error = None

    def _remove_emptied(self, parent: _Level, fd: int, level: _Level) -> None:
        """Remove the directory of *level*, which we emptied; if it is not empty, note to come again."""
        while True:
            try:
                os.rmdir(level.name, dir_fd=fd)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                if error.errno in _NOT_A_DIRECTORY:
                    self._unlink(parent, fd, level.name, 0)
                    return
                if error.errno in _NOT_EMPTY and (level.guessed or parent.rounds < _ROUNDS - 1):
                    parent.again = True
                    # What was only guessed at was not listed yet.
                    parent.rounds -= level.guessed
                    return
                if error.errno in _DENIED and self._repair(parent, fd):
                    continue
                self._report(parent, level.name, "failed", error)
                return
            self.removed += 1
            self.removed_bytes += level.size
            return

    def _repair(self, level: _Level, fd: int) -> bool:
        # The directory that a single entry is removed from may be the user's own.
        return level.only is None and make_writable(fd)

    def _release_kept(self) -> bool:
        """Close the descriptors kept for the way up, which ``..`` opens again, else one of the reserve."""
        released = False
        for level in self.levels[1:-1]:
            if level.descriptor is not None:
                level.descriptor.close()
                level.descriptor = None
                released = True
        return released or release()

    # -- what could not be removed

    def _is_another(self, level: _Level, name: str, status: os.stat_result) -> bool:
        if level.expected is None or level.expected == _identity(status):
            return False
        error = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self._report(level, name, "skipped", error, "it is not what was to be removed any more")
        return True

    def _is_spared(self, level: _Level, name: str, fd: int) -> bool:
        if not self.spared:
            return False
        try:
            os.stat(self.spared, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._report(level, name, "failed", error)
            return True
        busy = OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self._report(level, name, "skipped", busy, "it is tempscope's, and scopes of others may be in it")
        return True

    def _report(self, level: _Level, name: str, kind: EntryKind, error: OSError, reason: str = "") -> None:
        level.stuck.add(name)
        self._count(kind, self._path(name), reason or os.strerror(error.errno or errno.EIO), error.errno)

    def _count(self, kind: EntryKind, path: str, reason: str, code: int | None) -> None:
        if kind == "skipped":
            self.skipped += 1
        else:
            self.failed += 1
        if len(self.entries) < _ENTRIES_REPORTED:
            self.entries.append(Entry(path, kind, reason, code))

    def _path(self, name: str) -> str:
        names = [level.name for level in self.levels[1:]] + [name] * bool(name)
        if len(names) > _NAMES_SHOWN:
            names = ["…", *names[-_NAMES_SHOWN:]]
        return escape("/".join(names) or self.levels[0].only or ".")


class _Borrowed(Descriptor):
    """A descriptor that stays its owner's."""

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._held.append(fd)

    def close(self) -> None:
        self.forget()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _allocated(status: os.stat_result) -> int:
    return int(getattr(status, "st_blocks", 0)) * 512


def _freed(status: os.stat_result) -> int:
    return _allocated(status) if status.st_nlink == 1 else 0


def _freed_by(entry: os.DirEntry[str]) -> int:
    try:
        return _freed(entry.stat(follow_symlinks=False))
    except OSError:
        return 0


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _means_directory(error: OSError, fd: int, name: str) -> bool:
    if error.errno == errno.EISDIR or sys.platform == "linux":
        return error.errno == errno.EISDIR
    # POSIX lets unlink(2) answer EPERM for a directory, and the BSDs do.
    try:
        return error.errno == errno.EPERM and stat.S_ISDIR(
            os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        )
    except OSError:
        return False
