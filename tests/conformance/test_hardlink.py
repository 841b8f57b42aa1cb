"""Hard links keep the contract."""

from __future__ import annotations

import pytest

from tempscope import HardlinkStorage
from tempscope.testing import StorageContract


class TestHardlinkStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        with HardlinkStorage(tmp_path / "base") as storage:
            yield storage
