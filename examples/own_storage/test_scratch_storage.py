"""The scratch storage keeps tempscope's contract."""

from __future__ import annotations

import pytest

from scratch_storage import ScratchStorage
from tempscope.testing import StorageContract


class TestScratchStorage(StorageContract):
    """All clauses, on a directory that pytest removes as the batch system would."""

    @pytest.fixture
    def storage(self, tmp_path):
        """Give a storage on a scratch directory of this test."""
        with ScratchStorage(tmp_path) as storage:
            yield storage
