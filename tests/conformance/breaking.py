"""What the broken storages are made of: a wrapper that does nothing, and a list of what each one breaks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tempscope import (
    Capability,
    HandOverError,
    HardlinkStorage,
    LocalDiskStorage,
    MemoryStorage,
    Removal,
    ScopeClosedError,
    ScopeRecord,
)


class Area:
    """An area as it is; what breaks a clause is a method that hides one of these."""

    def __init__(self, inner: Any, storage: Any) -> None:
        self.inner = inner
        self.storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Storage:
    """A storage as it is, but for the class of its areas."""

    area_class: type[Area] = Area

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def open_area(self, record: ScopeRecord) -> Any:
        return self.area_class(self.inner.open_area(record), self)


class AbleStorage(Storage):
    """A storage that can also hand over, lease and do without names, as far as one process shows."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.waiting: dict[str, AbleArea] = {}

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.inner.capabilities | {
            Capability.HAND_OVER,
            Capability.COMMAND_LEASE,
            Capability.UNNAMED_FILES,
        }

    def open_area(self, record: ScopeRecord) -> Any:
        return self.area_class(self.inner.open_area(record), self)

    def take_over(self, token: str) -> tuple[ScopeRecord, Any, dict[str, str], list[Any]]:
        if token not in self.waiting:
            raise HandOverError(f"nothing waits under {token!r}")
        area = self.waiting.pop(token)
        record = attrs.evolve(area.handed[0], closed=None, verdict=None)
        return record, self.area_class(area.inner, self), area.handed[1], []


class AbleArea(Area):
    """An area of an :class:`AbleStorage`."""

    handed: Any = None
    fd: int | None = None

    def __getattr__(self, name: str) -> Any:
        if self.handed is not None:
            raise ScopeClosedError("the scope was handed over")
        return super().__getattr__(name)

    def hand_over(self, record: ScopeRecord, outside: dict[str, str], staged: list[Any]) -> str:
        self.handed = record, outside
        self.storage.waiting[record.token] = self
        return record.token

    def lease_fd(self) -> int:
        directory = self.inner.directory
        if self.fd is None:
            self.fd = os.open(directory, os.O_RDONLY)
        return self.fd

    def unnamed_file(self, mode: str) -> Any:
        return tempfile.TemporaryFile(mode, dir=self.inner.directory)

    def remove(self) -> Removal:
        if self.handed is not None:
            return Removal()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        return self.inner.remove()


AbleStorage.area_class = AbleArea


@contextmanager
def sound(kind: str, base: Path) -> Iterator[Any]:
    """Give a storage of ours that keeps the contract."""
    if kind == "memory":
        with MemoryStorage() as storage:
            yield storage
    elif kind == "links":
        with HardlinkStorage(base) as storage:
            yield storage
    else:
        with LocalDiskStorage(base) as storage:
            yield AbleStorage(storage) if kind == "able" else storage


@attrs.frozen
class Mutant:
    """One way to break one clause."""

    number: str
    kind: str
    make: Callable[[Any], Any]

    @contextmanager
    def storage(self, base: Path) -> Iterator[Any]:
        """Give the broken storage."""
        with sound(self.kind, base) as inner:
            yield self.make(inner)


MUTANTS: dict[str, Mutant] = {}


def breaks(number: str, kind: str = "memory") -> Callable[[type[Any]], type[Any]]:
    """Note that a class of areas, or of storages, breaks the clause *number*."""

    def note(cls: type[Any]) -> type[Any]:
        assert number not in MUTANTS, f"{number} has a mutant"
        whole = type(f"With{cls.__name__}", (Storage,), {"area_class": cls}) if issubclass(cls, Area) else cls
        MUTANTS[number] = Mutant(number, kind, whole)
        return cls

    return note
