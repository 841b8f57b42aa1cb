"""What the tests of the memory storage stand on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tempscope.model import Instant, ScopeRecord
from tempscope.storages.local import LocalDiskStorage
from tempscope.storages.memory import MemoryStorage


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_tokens = itertools.count()


@pytest.fixture
def record() -> Callable[[], ScopeRecord]:
    """Make a record of a new scope."""
    return lambda: ScopeRecord(
        token=f"{next(_tokens):026d}".translate(str.maketrans("0189", "abcd")), opened=Instant(0, 0)
    )


@pytest.fixture
def storage() -> Iterator[MemoryStorage]:
    """A storage that cannot spill."""
    with MemoryStorage() as storage:
        yield storage


@pytest.fixture
def area(storage, record):
    """An area that cannot spill."""
    return storage.open_area(record())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LocalDiskStorage]:
    """Where to spill to."""
    disk = LocalDiskStorage(tmp_path / "disk", sweep_on_start=False)
    yield disk
    disk.close()


@pytest.fixture
def spilling(disk) -> Iterator[MemoryStorage]:
    """A storage that can spill."""
    with MemoryStorage(spill_to=disk) as storage:
        yield storage


@pytest.fixture
def spill_area(spilling, record):
    """An area that can spill."""
    return spilling.open_area(record())


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[], set[str]]:
    """Tell the names of all that scopes have on the disk: the back door."""

    def look() -> set[str]:
        found = (tmp_path / "disk").glob("tempscope-*/i-*/a*/**/*")
        return {path.name for path in found}

    return look
