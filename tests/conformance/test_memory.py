"""Memory keeps the contract."""

from __future__ import annotations

import pytest

from tempscope import MemoryStorage
from tempscope.testing import StorageContract


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        with MemoryStorage() as storage:
            yield storage

    @pytest.fixture
    def peek(self, storage):
        def look_up(path):
            # By the directory entries themselves, not by what the paths' methods say.
            [node] = [tree.root for tree in storage._volume.trees if tree is path._tree] or [None]
            for name in path._names:
                node = None if node is None else node.entries.get(name)
            return None if node is None else bytes(node.data)

        return look_up
