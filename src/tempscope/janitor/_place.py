"""
The storage that a sweep, statistics or a janitor is about, and how to look over it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import attrs

from tempscope._names import escape
from tempscope.errors import ConfigurationError
from tempscope.model import Entry, Removal, ScopeRecord, Verdict
from tempscope.protocols import Pace, Sweepable, Sweeping, TempStorage
from tempscope.storages import LocalDiskStorage
from tempscope.storages._failure import mount_of


__all__ = ["Place", "is_place", "shown", "storage_at", "sweeping_of", "takes_memory"]

Place: TypeAlias = TempStorage | str | os.PathLike[str] | None
"""A storage, or the base directory of one on a file system; None is the one that the environment names."""


def is_place(given: object) -> bool:
    """Return whether *given* is a storage or may be a base directory."""
    if given is None or isinstance(given, (str, bytes, os.PathLike)):
        return True
    return hasattr(given, "areas") and hasattr(given, "reclaim") and not isinstance(given, type)


def storage_at(given: Place, who: str) -> TempStorage:
    """
    Return the storage that *given* is or names.

    Raises:
        ConfigurationError: If it is neither; the message names *who* needs it.

        BaseDirectoryError: If it cannot be a base directory.
    """
    if given is None or isinstance(given, (str, bytes, os.PathLike)):
        return LocalDiskStorage(given)
    if not is_place(given):
        raise ConfigurationError(f"{who} needs a storage or a base directory, not {given!r}")
    return given


def takes_memory(storage: TempStorage) -> bool:
    """Return whether what *storage* holds on a file system takes memory, as on a RAM disk."""
    base_dir = getattr(storage, "base_dir", None)
    return base_dir is not None and mount_of(os.fspath(base_dir))[1] == "tmpfs"


def shown(record: ScopeRecord) -> str:
    """Return what names *record*'s scope in a report."""
    # The text of a path in memory would move its directory to disk; what it displays does not.
    directory = getattr(record.directory, "display", record.directory)
    return escape(str(directory) if directory is not None else record.token)


def sweeping_of(storage: TempStorage) -> AbstractContextManager[Sweeping]:
    """Return what to look over *storage* with."""
    if isinstance(storage, Sweepable):
        return storage.sweeping()
    return nullcontext(_PlainSweeping(storage))


@attrs.define(eq=False)
class _PlainSweeping:
    """Sweeps a storage by the methods that every storage has."""

    storage: TempStorage
    live: int = 0
    left: tuple[Entry, ...] = ()

    def records(self) -> Iterable[ScopeRecord]:
        """Tell what is there, but only count the living."""
        for record in self.storage.areas():
            if record.state == "live":
                self.live += 1
            else:
                yield record

    def reclaim(
        self, record: ScopeRecord, verdict: Verdict, *, dry_run: bool = False, pace: Pace | None = None
    ) -> Removal:
        """Reclaim it, in one go, or say that this would be done."""
        if not dry_run:
            return self.storage.reclaim(record, verdict)
        if verdict.keep:
            return Removal(kept=1, entries=(Entry(shown(record), "kept", verdict.reason),))
        return Removal(removed=1, removed_bytes=record.usage.freeable_bytes if record.usage else 0)
