"""
Counting what a tree occupies: allocated bytes, each inode once.

Walks like the remover: relative to descriptors, no links, no mounts, bounded descriptors.
"""

from __future__ import annotations

import os
import stat
from functools import partial

import attrs

from tempscope import _log
from tempscope.model import Usage
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._openat2 import open_directory, open_subdirectory
from tempscope.storages._reserve import with_reserve


__all__ = ["measure", "measure_kept"]


_TELLS_BLOCKS = hasattr(os.stat_result, "st_blocks")


@attrs.define
class _Count:
    files: int = 0
    directories: int = 0
    bytes: int = 0
    freeable: int = 0
    seen: dict[tuple[int, int], int] = attrs.Factory(dict)

    def add(self, status: os.stat_result) -> None:
        """Count a directory, or a file of several links."""
        size = int(getattr(status, "st_blocks", 0)) * 512
        if stat.S_ISDIR(status.st_mode):
            self.directories += 1
            self.freeable += size
        else:
            self.files += 1
            size = self._linked(status, size)
        self.bytes += size

    def _linked(self, status: os.stat_result, size: int) -> int:
        """Count a file of several links once; free it only when all its links are in here."""
        key = (status.st_dev, status.st_ino)
        met = self.seen[key] = self.seen.get(key, 0) + 1
        if met == status.st_nlink:
            self.freeable += size
        return size if met == 1 else 0


def measure(dir_fd: int) -> Usage:
    """
    Count what is below the directory *dir_fd*.

    What vanishes, or cannot be entered, while we look is not counted.

    Raises:
        OSError: If the directory itself cannot be read.
    """
    count = _Count()
    path = [((0, 0), _list(dir_fd, count))]
    current: Descriptor | None = None
    while path:
        subdirectories = path[-1][1]
        fd = dir_fd if current is None else current.fd
        if subdirectories:
            child = _enter(fd, subdirectories.pop(), count)
            if child is not None:
                current, listed = child
                path.append((_identity(os.fstat(current.fd)), listed))
            continue
        path.pop()
        current = _go_up(fd, path)
        if current is None and len(path) > 1:
            break
    return Usage(count.files, count.directories, count.bytes, count.freeable)


def measure_kept(dir_fd: int) -> Usage | None:
    """Count what a scope that is to be kept occupies; None if it cannot be read, which loses nothing."""
    try:
        return with_reserve(partial(measure, dir_fd))
    except OSError as error:
        _log.warn("a scope is kept without its size, which could not be measured", errno=error.errno)
        return None


def _list(fd: int, count: _Count) -> list[str]:
    subdirectories: list[str] = []
    files = blocks = 0
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.name)
                    continue
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_nlink > 1:
                count.add(status)
            else:
                # Nearly all are so; a call for each would cost as much as looking at it.
                files += 1
                blocks += status.st_blocks if _TELLS_BLOCKS else 0
    count.files += files
    count.bytes += blocks * 512
    count.freeable += blocks * 512
    return subdirectories


def _enter(fd: int, name: str, count: _Count) -> tuple[Descriptor, list[str]] | None:
    try:
        child = open_subdirectory(fd, name)
        count.add(os.fstat(child.fd))
        return child, _list(child.fd, count)
    except OSError:
        return None


def _go_up(fd: int, path: list[tuple[tuple[int, int], list[str]]]) -> Descriptor | None:
    """Return the parent's descriptor; None for the top, or if the tree was moved meanwhile."""
    if len(path) <= 1:
        return None
    try:
        parent = open_directory("..", dir_fd=fd)
    except OSError:
        return None
    return parent if _identity(os.fstat(parent.fd)) == path[-1][0] else None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
