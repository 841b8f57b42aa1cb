"""
Taking back what no living owner holds.

Everything is checked at the moment of acting, on what is held open: that it is ours, that nobody
else holds its lock, that its name still means it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tempscope._names import escape
from tempscope.model import Entry, Removal, ScopeRecord, Verdict
from tempscope.protocols import Pace
from tempscope.storages import _lock
from tempscope.storages._delete import remove_entry
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._hand_over import OUTSIDE
from tempscope.storages._holders import keepers
from tempscope.storages._instance import identity_of, is_area_name, is_named
from tempscope.storages._journal import OutsidePath, read_journal
from tempscope.storages._measure import measure, measure_kept
from tempscope.storages._openat2 import let_in, open_subdirectory
from tempscope.storages._outside import is_still_there, remove_outside
from tempscope.storages._record_file import read_record, write_record
from tempscope.storages._root import Root
from tempscope.storages._token import is_token, new_token
from tempscope.storages._trust import Trust


__all__ = ["Reclaiming"]

_MINE = ("i-", "k-", "d-", "t-")
_NOTHING = Removal()
_TAKEN_NAME = frozenset([errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR])
_NO_DIRECTORY = frozenset([errno.ENOTDIR, errno.ELOOP])


class Reclaiming:
    """
    Takes things back under one open root.

    Lives as long as the root is open; used by one thread.
    """

    __slots__ = ("_budget", "_held", "_pace", "_root", "_staying", "_trust", "_unreadable")

    def __init__(self, root: Root, trust: Trust, budget: int) -> None:
        self._root = root
        self._trust = trust
        self._budget = budget
        self._pace: Pace | None = None
        self._held: tuple[str, Descriptor] | None = None
        self._staying: set[str] = set()
        self._unreadable: set[str] = set()

    @contextmanager
    def holding(self, name: str, descriptor: Descriptor) -> Iterator[None]:
        """Know for the time of a ``with`` that the caller holds *name*, checked and locked."""
        self._held = (name, descriptor)
        try:
            yield
        finally:
            self._held = None

    def leave(self, name: str) -> None:
        """Know that the journal of the instance *name* could not be read when its scopes were to be told."""
        self._unreadable.add(name)

    def run(
        self, record: ScopeRecord, verdict: Verdict, *, dry_run: bool, pace: Pace | None = None
    ) -> Removal:
        """Delete, or keep on, what *record* tells, if at this moment nobody holds it."""
        self._pace = pace
        names = self._names_of(record.directory)
        if not names:
            return _left(str(record.directory), "it is not a directory that a sweep may touch")
        if self._held is not None and self._held[0] == names[0]:
            return self._settle(names, self._held[1], record, verdict, dry_run)
        held = self._take(names[0])
        if isinstance(held, Removal):
            return held
        with held:
            return self._settle(names, held, record, verdict, dry_run)

    def _names_of(self, directory: Path | None) -> tuple[str, ...]:
        """Return the names below the root that lead to *directory*; none if it is not one of ours."""
        if directory is None or not directory.is_relative_to(self._root.path):
            return ()
        parts = directory.relative_to(self._root.path).parts
        if not parts or parts[0][:2] not in _MINE or not is_token(parts[0][2:]):
            return ()
        if len(parts) == 1 or (len(parts) == 2 and parts[0][:2] == "i-" and is_area_name(parts[1])):
            return parts
        return ()

    # -- proof

    def _take(self, name: str) -> Descriptor | Removal:
        """Open and lock *name*, and make sure that it still is what was locked."""
        try:
            descriptor = open_subdirectory(self._root.fd, name)
            problem = self._problem(name, descriptor)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            return _left(self._path(name), f"it cannot be opened: {_words(error)}", error.errno)
        if problem:
            descriptor.close()
            return _left(self._path(name), problem)
        return descriptor

    def _problem(self, name: str, descriptor: Descriptor) -> str:
        status = os.fstat(descriptor.fd)
        if status.st_uid != os.geteuid():
            return f"it belongs to user {status.st_uid}"
        state = _lock.seize(descriptor.fd)
        if state != "held":
            return "somebody holds it" if state == "busy" else "its file system has no locks"
        if not is_named(self._root.fd, name, (status.st_dev, status.st_ino)):
            return "it was replaced meanwhile"
        return self._trust.objection(descriptor.fd)

    # -- acting

    def _settle(
        self, names: tuple[str, ...], held: Descriptor, record: ScopeRecord, verdict: Verdict, dry_run: bool
    ) -> Removal:
        try:
            if len(names) == 2:
                removal = self._area(names, held, record, verdict, dry_run)
                if not removal.complete:
                    self._staying.add(names[0])
                return removal
            if names[0].startswith("i-"):
                return self._instance(names[0], held, dry_run)
            return self._alone(names[0], held, record, verdict, dry_run)
        except OSError as error:
            return _failed(self._path(*names), error)

    def _area(
        self,
        names: tuple[str, ...],
        instance: Descriptor,
        record: ScopeRecord,
        verdict: Verdict,
        dry_run: bool,
    ) -> Removal:
        path, area = self._path(*names), names[1]
        directory = _open_area(instance.fd, area)
        if directory is None:
            # No directory: nothing can hold it, nothing can be kept of it.
            return _NOTHING if dry_run else self._remove(instance.fd, area, None, self._path(names[0]))
        with directory:
            state = _lock.seize(directory.fd)
            if state != "held":
                return _left(path, _held(keepers(directory.fd)))
            outside = self._handed_over(directory, path, dry_run)
            if outside.failed:
                return outside
            if verdict.keep:
                return outside + self._retain(directory, instance.fd, area, record, verdict, dry_run)
            if dry_run:
                return outside + _would_remove(directory)
            parent = self._path(names[0])
            return outside + self._remove(instance.fd, area, identity_of(directory.fd), parent)

    def _retain(
        self,
        directory: Descriptor,
        parent_fd: int,
        name: str,
        record: ScopeRecord,
        verdict: Verdict,
        dry_run: bool,
    ) -> Removal:
        """Give *name* the name of a kept scope, with its record inside."""
        token = record.token if is_token(record.token) else new_token()
        if dry_run:
            return _kept(self._path(f"k-{token}"), verdict.reason)
        kept = attrs.evolve(record, state="retained", verdict=verdict, usage=measure_kept(directory.fd))
        try:
            self._move_to_kept(directory, parent_fd, name, attrs.evolve(kept, token=token))
        except OSError as error:
            if error.errno not in _TAKEN_NAME:
                raise
            # A hostile record may name a scope that is kept already.
            token = new_token()
            self._move_to_kept(directory, parent_fd, name, attrs.evolve(kept, token=token))
        return _kept(self._path(f"k-{token}"), verdict.reason)

    def _move_to_kept(self, directory: Descriptor, parent_fd: int, name: str, record: ScopeRecord) -> None:
        write_record(directory.fd, record)
        os.rename(name, f"k-{record.token}", src_dir_fd=parent_fd, dst_dir_fd=self._root.fd)

    def _instance(self, name: str, held: Descriptor, dry_run: bool) -> Removal:
        """Settle the outside paths of a dead instance, then remove it, unless scopes are still in it."""
        journal = read_journal(held.fd)
        if journal.unreadable or name in self._unreadable:
            reason = "its journal cannot be read, so nothing of it is touched"
            return Removal(failed=1, entries=(Entry(escape(self._path(name)), "failed", reason),))
        if name in self._staying or (not dry_run and any(map(is_area_name, os.listdir(held.fd)))):
            return _NOTHING
        removal = self._outside(journal.outside.values(), dry_run)
        tracked = [each.path for each in journal.tracked.values() if is_still_there(each.path, each.identity)]
        for path in dict.fromkeys(tracked):
            removal += _left(
                path, "it is tracked by a process that is gone: whoever tracks it deletes it by age"
            )
        if journal.ignored:
            removal += _left(self._path(name), f"{journal.ignored} lines of its journal could not be read")
        if removal.failed or tracked or dry_run:
            # What could not be deleted is not forgotten, and what is tracked is known by this journal alone.
            return removal
        gone = self._remove_by_trash(name, identity_of(held.fd))
        return removal + attrs.evolve(gone, removed=0, removed_bytes=0)

    def _outside(self, paths: Iterable[OutsidePath], dry_run: bool) -> Removal:
        removal = _NOTHING
        for outside in paths:
            removal += _settled_outside(outside, dry_run)
        return removal

    def _handed_over(self, directory: Descriptor, path: str, dry_run: bool) -> Removal:
        """Settle the outside paths that a scope took along when it was handed over, or was going to be."""
        told = read_journal(directory.fd, OUTSIDE)
        # What else stands under that name, a program put there: it tells nothing.
        if told.unreadable and _is_file(directory.fd, OUTSIDE):
            reason = "what it took along cannot be read, so nothing of it is touched"
            return Removal(failed=1, entries=(Entry(escape(path), "failed", reason),))
        return self._outside(told.outside.values(), dry_run)

    def _alone(
        self, name: str, held: Descriptor, record: ScopeRecord, verdict: Verdict, dry_run: bool
    ) -> Removal:
        outside = self._handed_over(held, self._path(name), dry_run) if name.startswith("d-") else _NOTHING
        if outside.failed:
            return outside
        if not verdict.keep:
            return outside + self._delete_alone(name, held, dry_run)
        if name.startswith("d-"):
            return outside + self._retain(held, self._root.fd, name, record, verdict, dry_run)
        if name.startswith("k-") and not dry_run:
            present = read_record(held.fd) or record
            write_record(held.fd, attrs.evolve(present, state="retained", verdict=verdict))
        return _kept(self._path(name), verdict.reason)

    def _delete_alone(self, name: str, held: Descriptor, dry_run: bool) -> Removal:
        if dry_run:
            return _would_remove(held)
        if name.startswith("t-"):
            return self._remove(self._root.fd, name, identity_of(held.fd), self._root.path)
        return self._remove_by_trash(name, identity_of(held.fd))

    # -- removing

    def _remove_by_trash(self, name: str, identity: tuple[int, int]) -> Removal:
        """Remove the directory *name*, whose lock we hold, whole: first out of sight, then away."""
        trash = f"t-{new_token()}"
        try:
            os.rename(name, trash, src_dir_fd=self._root.fd, dst_dir_fd=self._root.fd)
        except OSError:
            # A full or read-only disk may refuse the rename; removing needs no room.
            # Without pauses: under this name nobody may see half of it.
            trash, self._pace = name, None
        return self._remove(self._root.fd, trash, identity, self._root.path)

    def _remove(self, dir_fd: int, name: str, identity: tuple[int, int] | None, parent: str) -> Removal:
        removal = remove_entry(dir_fd, name, expected=identity, budget=self._budget, pace=self._pace)
        told = tuple(attrs.evolve(entry, path=f"{escape(parent)}/{entry.path}") for entry in removal.entries)
        return attrs.evolve(removal, entries=told)

    def _path(self, *names: str) -> str:
        return "/".join((self._root.path, *names))


def _open_area(instance_fd: int, area: str) -> Descriptor | None:
    """Open the directory of an area; None if what has its name is no directory."""
    try:
        return open_subdirectory(instance_fd, area)
    except PermissionError:
        # A job may have shut its own directory.
        let_in(instance_fd, area)
        return open_subdirectory(instance_fd, area)
    except OSError as error:
        if error.errno in _NO_DIRECTORY or error.errno == errno.ENOENT:
            return None
        raise


def _is_file(dir_fd: int, name: str) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)


def _settled_outside(outside: OutsidePath, dry_run: bool) -> Removal:
    """Delete one registered path, and name it in the result."""
    removal = remove_outside(outside.path, outside.identity, sweeping=True, dry_run=dry_run)
    told = tuple(attrs.evolve(entry, path=escape(outside.path)) for entry in removal.entries[:1])
    if removal.removed and removal.complete:
        reason = "it was registered by a scope that was never closed"
        told = (Entry(escape(outside.path), "removed", reason, bytes=removal.removed_bytes),)
    return Removal(
        removed=int(bool(removal.removed) and removal.complete),
        removed_bytes=removal.removed_bytes,
        skipped=int(bool(removal.skipped)),
        failed=int(bool(removal.failed)),
        entries=told,
    )


def _would_remove(directory: Descriptor) -> Removal:
    own = getattr(os.fstat(directory.fd), "st_blocks", 0) * 512
    return Removal(removed=1, removed_bytes=measure(directory.fd).freeable_bytes + own)


def _held(by: str) -> str:
    return f"a command that its owner started still holds it: held by {by or 'a process that is not seen'}"


def _words(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)


def _left(path: str, reason: str, code: int | None = None) -> Removal:
    return Removal(skipped=1, entries=(Entry(escape(path), "skipped", reason, code),))


def _kept(path: str, reason: str) -> Removal:
    return Removal(kept=1, entries=(Entry(escape(path), "kept", reason),))


def _failed(path: str, error: OSError) -> Removal:
    return Removal(failed=1, entries=(Entry(escape(path), "failed", _words(error), error.errno),))
