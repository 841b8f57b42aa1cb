"""The disk keeps the contract."""

from __future__ import annotations

import pytest

from tempscope import LocalDiskStorage
from tempscope.testing import StorageContract


class TestLocalDiskStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        with LocalDiskStorage(tmp_path / "base") as storage:
            yield storage
