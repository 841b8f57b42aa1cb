"""The RAM disk keeps the contract."""

from __future__ import annotations

import pytest

from tempscope import RamDiskStorage
from tempscope.testing import StorageContract


class TestRamDiskStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        with RamDiskStorage(sweep_on_start=False) as storage:
            yield storage
