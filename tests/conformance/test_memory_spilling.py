"""Memory keeps the contract when it spills to disk."""

from __future__ import annotations

import pytest

from tempscope import LocalDiskStorage, MemoryStorage
from tempscope.testing import StorageContract


class TestSpillingMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        with LocalDiskStorage(tmp_path / "base") as disk, MemoryStorage(spill_to=disk) as storage:
            yield storage


class TestMemoryStorageThatSpillsEverything(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        with (
            LocalDiskStorage(tmp_path / "base") as disk,
            MemoryStorage(spill_to=disk, spill_above=0) as storage,
        ):
            yield storage
