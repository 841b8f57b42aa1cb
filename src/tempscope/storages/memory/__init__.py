"""
Files in memory, as paths.

:class:`MemoryStorage` is the storage, :class:`MemoryPath` what it hands out.
"""

from __future__ import annotations

from tempscope.storages.memory._path import MemoryPath
from tempscope.storages.memory._storage import MemoryStorage


__all__ = ["MemoryPath", "MemoryStorage"]
