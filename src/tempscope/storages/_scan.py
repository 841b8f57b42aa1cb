"""
What lies under a root, and who of it lives.

The name is the state: ``i-`` a process's instance, ``k-`` kept, ``f-`` given up, ``d-`` handed
over, ``t-`` trash, each followed by a token.
Whatever has another name, is a link, belongs to somebody else or cannot be decided is left alone,
and told.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Self

import attrs

from tempscope._names import escape
from tempscope.errors import BaseDirectoryError
from tempscope.model import Entry, Instant, Removal, ScopeRecord, ScopeState, Usage, Verdict
from tempscope.protocols import Pace
from tempscope.storages import _lock
from tempscope.storages._delete import BUDGET
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._holders import heirs, holders
from tempscope.storages._instance import is_area_name, is_named
from tempscope.storages._journal import JournalContent, read_journal
from tempscope.storages._measure import measure
from tempscope.storages._openat2 import DIRECTORY, mount_id, open_subdirectory
from tempscope.storages._owner import read_owner
from tempscope.storages._reclaim import Reclaiming
from tempscope.storages._record_file import read_record
from tempscope.storages._root import MARKER, Root, find_root
from tempscope.storages._token import is_token
from tempscope.storages._trust import Trust, trust_in


__all__ = ["DiskSweep", "scan", "survey"]

_STATES: dict[str, ScopeState] = {"k-": "retained", "f-": "given_up", "d-": "handed_over", "t-": "trash"}
_ASKED_FOR_HEIRS = 8
"""Of how many living instances a sweep asks whether their owner is gone; not always of the same ones."""

_LINK = frozenset([errno.ENOTDIR, errno.ELOOP])


class DiskSweep:
    """
    One look over a root, and what is done about it; see :class:`~tempscope.protocols.Sweeping`.

    Lives for one ``with`` block; used by one thread.
    A dead instance is locked once, and stays locked while its scopes are told: what is done to them
    then needs no further proof.

    Args:
        base_dir: The parent of the root; a missing root has nothing in it.

        trust_locks: Whether to believe locks on a network or unknown file system.

        budget: How many entries one removal handles at most.

        look_into_the_living: Whether the scopes of living processes are told too.

        measuring: Whether all are told for statistics: with their usage, and of a dead instance its
            scopes alone.

    Raises:
        BaseDirectoryError: On entering, if the root cannot be ours.

        StorageError: On entering, if its locks cannot be tried.
    """

    def __init__(
        self,
        base_dir: str | None,
        *,
        trust_locks: bool = False,
        budget: int = BUDGET,
        look_into_the_living: bool = False,
        measuring: bool = False,
    ) -> None:
        self._base_dir = base_dir
        self._trust_locks = trust_locks
        self._budget = budget
        self._look_into_the_living = look_into_the_living or measuring
        self._measuring = measuring
        self._root: Root | None = None
        self._trust = Trust("", vouched=False)
        self._reclaiming: Reclaiming | None = None
        self._live = 0
        self._left: list[Entry] = []

    def __enter__(self) -> Self:
        root = self._root = find_root(self._base_dir)
        if root is not None:
            try:
                self._trust = trust_in(root.fd, vouched=self._trust_locks)
            except OSError as error:
                root.close()
                raise storage_error(
                    error, f"the locks in {escape(root.path)!r} cannot be tried", path=root.path
                ) from error
            self._reclaiming = Reclaiming(root, self._trust, self._budget)
        return self

    def __exit__(self, *_: object) -> None:
        if self._root is not None:
            self._root.close()

    @property
    def live(self) -> int:
        """How many living owners were met so far."""
        return self._live

    @property
    def left(self) -> tuple[Entry, ...]:
        """What was met so far and is not to be touched, each with the reason."""
        return tuple(self._left)

    def reclaim(
        self, record: ScopeRecord, verdict: Verdict, *, dry_run: bool = False, pace: Pace | None = None
    ) -> Removal:
        """Delete, or keep on, what no living owner holds; with *dry_run* only say what that would do."""
        if self._reclaiming is None:
            return Removal()
        return self._reclaiming.run(record, verdict, dry_run=dry_run, pace=pace)

    def records(self) -> Iterator[ScopeRecord]:
        """Tell what is there, dead instances scope by scope and then the instance itself, as trash."""
        root = self._root
        if root is None:
            return
        names = _names_in(root)
        asked = _some_of([name for name in names if name.startswith("i-")])
        with Descriptor() as descriptor:
            for name in names:
                if not is_token(name[2:]) or (name[:2] != "i-" and name[:2] not in _STATES):
                    if name != MARKER:
                        self._leave(name, "it has no name of ours")
                elif self._open(root, name, descriptor):
                    try:
                        yield from self._found(root, name, descriptor, ask=name in asked)
                    except OSError as error:
                        reason = f"it cannot be looked at: {os.strerror(error.errno or errno.EIO)}"
                        self._leave(name, reason, error.errno)

    def _found(self, root: Root, name: str, descriptor: Descriptor, *, ask: bool) -> Iterator[ScopeRecord]:
        if name[:2] != "i-":
            yield from self._standing_alone(root, name, descriptor)
        elif (state := _lock.seize(descriptor.fd)) != "busy":
            yield from self._unheld(root, name, descriptor, state)
        else:
            self._live += 1
            if self._look_into_the_living:
                yield from self._living(root, name, descriptor)
            elif ask:
                self._note_heirs(name, descriptor)

    def _leave(self, name: str, reason: str, code: int | None = None) -> None:
        assert self._root is not None
        self._left.append(Entry(escape(f"{self._root.path}/{name}"), "skipped", reason, code))

    def _open(self, root: Root, name: str, descriptor: Descriptor) -> bool:
        try:
            descriptor.reopen(name, DIRECTORY, dir_fd=root.fd)
        except OSError as error:
            if error.errno in _LINK:
                self._leave(name, "it is not a directory", error.errno)
            elif error.errno != errno.ENOENT:
                reason = f"it cannot be opened: {os.strerror(error.errno or errno.EIO)}"
                self._leave(name, reason, error.errno)
            return False
        return True

    # -- instances

    def _living(self, root: Root, name: str, descriptor: Descriptor) -> Iterator[ScopeRecord]:
        yield from self._live_areas(descriptor.fd, Path(root.path, name), holders(descriptor.fd))

    def _live_areas(self, fd: int, home: Path, held_by: str | None = None) -> Iterator[ScopeRecord]:
        try:
            yield from _areas(fd, home, "live", held_by=held_by, measured=self._measuring)
        except OSError:
            # They are only told; their owner knows them.
            return

    def _note_heirs(self, name: str, descriptor: Descriptor) -> None:
        who = heirs(descriptor.fd)
        if who is not None:
            self._leave(name, f"its lease is held by {who}")

    def _unheld(
        self, root: Root, name: str, descriptor: Descriptor, state: _lock.LockState
    ) -> Iterator[ScopeRecord]:
        if not os.fstat(descriptor.fd).st_nlink:
            # Another sweep was faster.
            return
        objection = self._objection(root, name, descriptor, state)
        if not objection:
            assert self._reclaiming is not None
            with self._reclaiming.holding(name, descriptor):
                yield from self._dead(root, name, descriptor)
            return
        self._leave(name, objection)
        if self._look_into_the_living:
            # Nothing shows that its owner is gone.
            yield from self._live_areas(descriptor.fd, Path(root.path, name))

    def _objection(self, root: Root, name: str, descriptor: Descriptor, state: _lock.LockState) -> str:
        status = os.fstat(descriptor.fd)
        if status.st_uid != os.geteuid():
            return f"it belongs to user {status.st_uid}"
        if mount_id(descriptor.fd) != mount_id(root.fd):
            return "a file system is mounted on it"
        if not is_named(root.fd, name, (status.st_dev, status.st_ino)):
            return "it was replaced meanwhile"
        if state == "unsupported":
            return "its file system has no locks, so nothing shows whether its owner lives"
        return self._trust.objection(descriptor.fd)

    def _dead(self, root: Root, name: str, descriptor: Descriptor) -> Iterator[ScopeRecord]:
        home = Path(root.path, name)
        try:
            if not (yield from _areas(descriptor.fd, home, "orphaned", measured=self._measuring)):
                assert self._reclaiming is not None
                self._reclaiming.leave(name)
        except OSError as error:
            reason = f"its scopes cannot be listed: {os.strerror(error.errno or errno.EIO)}"
            self._leave(name, reason, error.errno)
            return
        if self._measuring:
            return
        # After its scopes the instance itself: its registered outside paths, and its directory.
        yield attrs.evolve(_unknown(name[2:]), state="trash", directory=home)

    # -- what stands alone

    def _standing_alone(self, root: Root, name: str, descriptor: Descriptor) -> Iterator[ScopeRecord]:
        status = os.fstat(descriptor.fd)
        if status.st_uid != os.geteuid():
            self._leave(name, f"it belongs to user {status.st_uid}")
            return
        state = _STATES[name[:2]]
        record = read_record(descriptor.fd) if state in ("retained", "handed_over") else None
        if record is None or (state == "retained" and record.token != name[2:]):
            # What a damaged record cannot say is kept: nothing in it counts, nothing ever expires.
            record = _unknown(name[2:])
        if self._measuring and record.usage is None:
            record = attrs.evolve(record, usage=_usage(descriptor.fd))
        yield attrs.evolve(record, state=state, directory=Path(root.path, name))


def _names_in(root: Root) -> list[str]:
    try:
        return sorted(os.listdir(root.fd))
    except OSError as error:
        raise BaseDirectoryError(
            f"what is in {escape(root.path)!r} cannot be listed: {os.strerror(error.errno or errno.EIO)}",
            path=root.path,
            cause=error,
        ) from error


def _some_of(names: list[str]) -> list[str]:
    start = time.monotonic_ns() // 1_000 % len(names) if names else 0
    return (names[start:] + names[:start])[:_ASKED_FOR_HEIRS]


def _areas(
    fd: int, home: Path, state: ScopeState, *, held_by: str | None = None, measured: bool = False
) -> Generator[ScopeRecord, None, bool]:
    """Tell the scopes in the instance *fd*, whose directory is *home*; returns whether that was possible."""
    names = sorted(filter(is_area_name, os.listdir(fd)), key=lambda name: int(name[1:]))
    journal = read_journal(fd) if names else JournalContent()
    if journal.unreadable and state == "orphaned":
        # The journal knows what is to be kept; its instance, which comes next, is left alone and told.
        return False
    owner = read_owner(fd) if names else None
    for name in names:
        record = journal.areas.get(name) or _unknown(name)
        # A policy that goes by sizes is going to be asked about orphans that want to stay.
        known = measured or (state == "orphaned" and record.never_closed.keep)
        yield attrs.evolve(
            record,
            state=state,
            directory=home / name,
            owner=record.owner or owner,
            held_by=held_by,
            usage=_usage_of(fd, name) if known else record.usage,
        )
    return True


def _usage_of(instance_fd: int, name: str) -> Usage | None:
    try:
        with open_subdirectory(instance_fd, name) as area:
            return _usage(area.fd)
    except OSError:
        return None


def _usage(fd: int) -> Usage | None:
    try:
        return measure(fd)
    except OSError:
        return None


def _unknown(token: str) -> ScopeRecord:
    return ScopeRecord(token=token, opened=Instant(0.0, 0.0, ""))


def scan(base_dir: str | None, *, trust_locks: bool = False) -> Iterator[ScopeRecord]:
    """Tell every scope under the root in *base_dir*; a missing root has none."""
    with DiskSweep(base_dir, trust_locks=trust_locks, look_into_the_living=True) as sweep:
        yield from sweep.records()


def survey(base_dir: str | None, *, trust_locks: bool = False) -> Iterator[ScopeRecord]:
    """Tell every scope under the root in *base_dir* with what it occupies; a missing root has none."""
    with DiskSweep(base_dir, trust_locks=trust_locks, measuring=True) as sweep:
        yield from sweep.records()
