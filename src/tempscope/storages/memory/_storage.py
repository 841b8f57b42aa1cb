"""The storage whose files are in this process's memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from tempscope.errors import ConfigurationError, ScopeClosedError, UnsupportedError
from tempscope.model import Capability, Entry, Removal, ScopeRecord, Verdict
from tempscope.protocols import OutsidePathJournal, StagedFile, TakingOver, TempStorage
from tempscope.storages.memory._area import MemoryArea
from tempscope.storages.memory._node import Volume
from tempscope.storages.memory._path import MemoryPath
from tempscope.storages.memory._remove import discard
from tempscope.storages.memory._spill import Spill, settle_large
from tempscope.storages.memory._tree import Tree
from tempscope.units import parse_size


__all__ = ["MemoryStorage"]


class MemoryStorage:
    """
    Keeps files in this process's memory, as paths that services use like any other.

    Lives as long as its process needs it, usually as a container's singleton; shared by all
    threads.
    Two of them share nothing.
    Constructing one touches nothing, and a scope that only uses its paths' own methods never
    touches the disk.

    A kept scope stays in memory, for :meth:`areas` and a sweep in this process.

    Not promised: anything after the process ends, or in a forked child, whose memory is a copy.

    Args:
        max_bytes: How large all files together may be: bytes, or text such as ``"512MiB"``; a file
            counts with its size, holes included, and what moved to disk does not count.
            Beyond it writing raises :class:`~tempscope.StorageFull`, which is an ``ENOSPC``.

        max_files: How many files and directories there may be, the scopes' own not counted.

        spill_to: A storage to whose place a file moves when somebody asks for its real path, or
            when it grows above *spill_above*.
            It is the caller's to close, after this one.
            What is moved there does not count for its own ``max_bytes``.

        spill_above: From which size on a file moves to *spill_to*: bytes, or text such as
            ``"64MiB"``; None leaves files of any size in memory.

    Raises:
        ConfigurationError: If a size cannot be one, *spill_above* has nowhere to spill to, or
            *spill_to* is no storage, or has no real paths.
    """

    __slots__ = ("_areas", "_closed", "_kept", "_spill_to", "_volume")

    def __init__(
        self,
        *,
        max_bytes: int | str | None = None,
        max_files: int | None = None,
        spill_to: TempStorage | None = None,
        spill_above: int | str | None = None,
    ) -> None:
        if spill_above is not None and spill_to is None:
            raise ConfigurationError(
                f"spill_above={spill_above!r} needs a place to spill to: give spill_to, as LocalDiskStorage()"
            )
        if spill_to is not None:
            _check_spill_to(spill_to)
        self._volume = Volume(
            _size(max_bytes, "max_bytes"), _count(max_files, "max_files"), _size(spill_above, "spill_above")
        )
        self._spill_to = spill_to
        self._areas: dict[str, MemoryArea] = {}
        self._kept: dict[str, tuple[Tree, ScopeRecord]] = {}
        self._closed = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Retaining, unnamed files, and with *spill_to* real paths and what else needs a disk."""
        if self._spill_to is None:
            return _IN_MEMORY
        return _IN_MEMORY | (self._spill_to.capabilities & _ON_DISK)

    def open_area(self, record: ScopeRecord) -> MemoryArea:
        """Return a new, empty area."""
        with self._volume.lock:
            self._check_open(record.name or record.token)
            spill = None if self._spill_to is None else Spill(self._spill_to, record)
            return self._new_area(record, spill)

    def _new_area(self, record: ScopeRecord, spill: Spill | None) -> MemoryArea:
        area = self._areas[record.token] = MemoryArea(self, record, self._grow(record, spill))
        return area

    def take_over(
        self, token: str
    ) -> tuple[ScopeRecord, MemoryArea, Mapping[str, str], Sequence[StagedFile]]:
        """Give the scope that waits under *token* to this process; its files stay on the disk."""
        other = self._spill_to
        if not isinstance(other, TakingOver):
            raise UnsupportedError(
                f"no scope can be taken over by {self!r}: give MemoryStorage(spill_to=LocalDiskStorage()) "
                "the place where scopes wait"
            )
        with self._volume.lock:
            self._check_open()
            record, taken, outside, staged = other.take_over(token)
            spill = Spill(other, record)
            spill.area = taken
            area = self._new_area(record, spill)
            area.tree.on_disk = area.tree.root.shadowed = True
            if isinstance(taken, OutsidePathJournal):
                # Nothing is journalled for a storage in memory, which could not take it back.
                for path in outside:
                    taken.forget_outside(Path(path))
        return record, area, outside, staged

    def _check_open(self, scope: str | None = None) -> None:
        if self._closed:
            raise ScopeClosedError("the memory storage is closed: open scopes before it is", scope=scope)

    def _grow(self, record: ScopeRecord, spill: Spill | None) -> Tree:
        tree = Tree(self._volume, record.token, spill)
        self._volume.trees.append(tree)
        return tree

    def areas(self) -> Iterable[ScopeRecord]:
        """Tell the live areas and the kept ones."""
        with self._volume.lock:
            return [
                *(area.record for area in self._areas.values()),
                *(record for _, record in self._kept.values()),
            ]

    def survey(self) -> Iterable[ScopeRecord]:
        """Tell the same with what each occupies now."""
        with self._volume.lock:
            live = [attrs.evolve(area.record, usage=area.usage()) for area in self._areas.values()]
            return [*live, *(record for _, record in self._kept.values())]

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        """Delete a kept area, or keep it on; a live one is left alone."""
        with self._volume.lock:
            area = self._areas.get(record.token)
            if area is not None:
                entry = Entry(area.tree.shown(()), "skipped", "its scope is open in this process")
                return Removal(skipped=1, entries=(entry,))
            if record.token not in self._kept:
                return Removal()
            tree, kept = self._kept[record.token]
            if verdict.keep:
                self._kept[record.token] = tree, attrs.evolve(kept, verdict=verdict)
                return Removal(kept=1, entries=(Entry(tree.shown(()), "kept", verdict.reason),))
            del self._kept[record.token]
            return discard(tree)

    def spill(self, *, at_least: int | str = "64KiB") -> int:
        """
        Move files to *spill_to* for good, the largest first: for when memory runs short.

        Args:
            at_least: From which size on: bytes, or text such as ``"1MiB"``.

        Returns:
            How many bytes left memory.

        Raises:
            ConfigurationError: If *at_least* is no size.

            UnsupportedError: If there is nowhere to spill to.

            StorageError: If the disk refuses; what did not move is still in memory.
        """
        size = parse_size(at_least, what="at_least", bare=True, minimum=0)
        if self._spill_to is None:
            raise UnsupportedError(
                f"{self!r} has nowhere to spill to: give it spill_to, as LocalDiskStorage()"
            )
        return settle_large(self._volume, size)

    def close(self) -> None:
        """Remove all areas, kept ones too; twice is fine."""
        with self._volume.lock:
            self._closed = True
            for area in list(self._areas.values()):
                area.remove()
            for tree, _ in self._kept.values():
                discard(tree)
            self._kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        volume = self._volume
        limits = {"max_bytes": volume.max_bytes, "max_files": volume.max_files, "spill_to": self._spill_to}
        given = ", ".join(f"{name}={value!r}" for name, value in limits.items() if value is not None)
        return f"MemoryStorage({given})"

    # -- for its areas, which hold the lock

    def _forget(self, area: MemoryArea) -> None:
        self._areas.pop(area._record.token, None)

    def _retain(self, area: MemoryArea, record: ScopeRecord) -> ScopeRecord:
        """Go on with the files of *area* under a tree of their own, so that its paths are void."""
        old = area.tree
        tree = old.renewed()
        self._volume.trees.append(tree)
        old.end()
        self._forget(area)
        kept = attrs.evolve(record, directory=MemoryPath.of(tree, ()))
        self._kept[record.token] = tree, kept
        return kept


_IN_MEMORY = frozenset([Capability.RETAIN, Capability.UNNAMED_FILES])
_ON_DISK = frozenset([Capability.REAL_PATHS, Capability.HAND_OVER, Capability.COMMAND_LEASE])


def _check_spill_to(value: TempStorage) -> None:
    if isinstance(value, type) or not hasattr(value, "open_area"):
        raise ConfigurationError(
            f"spill_to cannot be {value!r}: give a storage on a disk, as LocalDiskStorage()"
        )
    if Capability.REAL_PATHS not in value.capabilities:
        raise ConfigurationError(
            f"spill_to={value!r} has no real paths: give a storage on a disk, as LocalDiskStorage()"
        )


def _size(value: int | str | None, what: str) -> int | None:
    return None if value is None else parse_size(value, what=what, bare=True, minimum=0)


def _count(value: int | None, what: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ConfigurationError(
            f"{what} is {value!r}: give a whole number of files, 0 or more, or None for no limit"
        )
    return value
