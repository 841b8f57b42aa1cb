"""
Where the files of programs live that name no storage: the one root that they all share.
"""

from __future__ import annotations

from functools import cache

from tempscope.storages import LocalDiskStorage


__all__ = ["default_storage"]


@cache
def default_storage() -> LocalDiskStorage:
    """Return the process's default storage; two that racing threads get share one lease."""
    return LocalDiskStorage()
