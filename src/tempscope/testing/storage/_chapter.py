"""
What a chapter of the suite stands on: the fixture an adopter gives, and those made of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tempscope.errors import ScopeClosedError
from tempscope.model import Capability, Instant, ScopeRecord, Verdict
from tempscope.protocols import TempArea, TempStorage
from tempscope.storages import new_token
from tempscope.testing._suite import Suite


__all__ = ["Chapter", "OpenArea", "Peek", "a_record"]

OpenArea: TypeAlias = Callable[..., TempArea]
"""Called with a record, or nothing; the area is removed after the test, and what it retained too."""

Peek: TypeAlias = Callable[[Path], bytes | None]
"""Returns what is at a path, past the storage; None if nothing is."""

_MODIFIED_NS = 1_600_000_000_123_456_000


def a_record(name: str = "job", **known: Any) -> ScopeRecord:
    """Return the record of a scope that was just opened."""
    return ScopeRecord(token=new_token(), name=name, opened=Instant(1_700_000_000.0, 1_000.0), **known)


class Chapter(Suite):
    """
    Base of the chapters.

    Lives as pytest makes it, one instance a test.
    A subclass gives ``storage`` and may give ``peek``.
    """

    to_give = frozenset(["storage", "peek"])

    @pytest.fixture
    def storage(self) -> TempStorage:
        """The storage under test, new for each test; give this fixture."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture storage that gives a new storage")

    @pytest.fixture
    def peek(self, storage: TempStorage) -> Peek | None:
        """What looks past the storage; a storage on real paths has it already, another may give it."""
        return _read_from_disk if Capability.REAL_PATHS in storage.capabilities else None

    @pytest.fixture
    def witness(self, peek: Peek | None) -> Peek:
        """The back door of those clauses that look at the world and not only at the storage's word."""
        if peek is None:
            pytest.skip(
                "no back door: give the fixture peek(path) -> bytes | None, which looks past the storage"
            )
        return peek

    @pytest.fixture
    def open_area(self, storage: TempStorage) -> Iterator[OpenArea]:
        """Opens areas; nothing of them outlives the test."""
        opened: dict[str, TempArea] = {}

        def open_one(record: ScopeRecord | None = None) -> TempArea:
            record = record or a_record()
            opened[record.token] = storage.open_area(record)
            return opened[record.token]

        yield open_one
        for area in reversed(opened.values()):
            area.remove()
        with contextlib.suppress(ScopeClosedError):
            _reclaim_all(storage, opened)

    @pytest.fixture
    def area(self, open_area: OpenArea) -> TempArea:
        """An area of a scope that was just opened."""
        return open_area()

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        """A real directory that is nobody's but the test's."""
        directory = tmp_path / "outside"
        directory.mkdir()
        return directory

    @pytest.fixture
    def source(self, outside: Path) -> Path:
        """A real file of three megabytes and a bit, mode 0640, last modified long ago."""
        path = outside / "source.bin"
        path.write_bytes(bytes(range(256)) * (3 << 12) + b"and a bit")
        path.chmod(0o640)
        os.utime(path, ns=(_MODIFIED_NS, _MODIFIED_NS))
        return path


def _reclaim_all(storage: TempStorage, opened: dict[str, TempArea]) -> None:
    for record in list(storage.areas()):
        if record.token in opened and record.state == "retained":
            storage.reclaim(record, Verdict(keep=False, reason="its test is over"))


def _read_from_disk(path: Path) -> bytes | None:
    try:
        with open(os.fspath(path), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
