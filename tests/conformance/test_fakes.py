"""The fakes keep the contract of the storage that they wrap."""

from __future__ import annotations

import pytest

from tempscope import HardlinkStorage, MemoryStorage
from tempscope.testing import FaultyStorage, RecordingStorage, StorageContract


class TestFaultyStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        with FaultyStorage(MemoryStorage()) as storage:
            yield storage


class TestRecordingStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        with RecordingStorage(HardlinkStorage(tmp_path / "base")) as storage:
            yield storage
