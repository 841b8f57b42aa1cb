"""
Ten thousand open scopes hold a handful of descriptors.

Failure mode L18: one lease a scope would run out of them at a thousand jobs.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from tempscope import LocalDiskStorage, TempScopes


pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="/proc/self/fd, which tells the open descriptors, is missing"
)

SCOPES = 10_000
MOST_DESCRIPTORS = 8


def open_descriptors() -> int:
    """Return how many descriptors this process has open; the one to look by always counts as one."""
    return len(os.listdir("/proc/self/fd"))


def test_open_scopes_hold_few_descriptors(tmp_path: Path) -> None:
    """10,000 open scopes with a file each hold at most 8 descriptors, and none after the storage's end."""
    gc.collect()  # what other tests left must not close in the middle of this one
    before = open_descriptors()
    with LocalDiskStorage(tmp_path) as storage:
        scopes = TempScopes(storage)
        opened = [scopes.open() for _ in range(SCOPES)]
        files = [scope.new_file() for scope in opened]

        assert open_descriptors() - before <= MOST_DESCRIPTORS

        assert all(file.exists() for file in (files[0], files[-1], files[SCOPES // 2]))
        opened[0].new_file()  # its directory has to be opened again
        assert open_descriptors() - before <= MOST_DESCRIPTORS
        for scope in opened:
            scope.close()
    # What an earlier storage put by for a day without any may have gone with this one.
    assert open_descriptors() <= before
