"""
Files and directories in memory, and the volume that counts them.

Everything here is plain data: whoever touches it holds the volume's lock.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, TypeAlias

from tempscope.errors import StorageFull
from tempscope.storages._destination import read_umask
from tempscope.units import format_size


if TYPE_CHECKING:
    from tempscope.storages.memory._file import Stream
    from tempscope.storages.memory._tree import Tree

__all__ = ["BLOCK", "ON_DISK", "Directory", "File", "Node", "Volume"]

BLOCK = 4096
"""The block size that files in memory report, in bytes; buffers take theirs from it."""

# A file up to this size, in bytes, gives back at its last close what it was given for growing, an eighth
# at most; of a larger one, which is dear to copy, the system never had to provide it.
_TRIMMED = 1 << 20
_devices = itertools.count(0x7E5C0000)
_volumes: weakref.WeakSet[Volume] = weakref.WeakSet()
_watching_forks = False


class File:
    """
    The content of one file, and what ``stat`` tells of it.

    Lives while it has a name or somebody has it open.
    ``data`` may be shorter than ``size``: what is missing at the end reads as zeros, so that
    growing a file by ``truncate`` takes no memory.
    """

    __slots__ = ("atime", "ctime", "data", "handles", "links", "mode", "mtime", "number", "size")

    def __init__(self, number: int, mode: int) -> None:
        self.data: bytes | bytearray = b""
        self.size = 0
        self.mode = mode
        self.number = number
        self.links = 1
        self.mtime = self.ctime = self.atime = time.time_ns()
        # By id, and weakly: a handle that is forgotten must be free to go.
        self.handles: dict[int, weakref.ref[Stream]] | None = None

    def opened(self) -> list[Stream]:
        """Return the streams that have the file open."""
        found = [reference() for reference in (self.handles or {}).values()]
        return [handle for handle in found if handle is not None]


class Directory:
    """
    A directory: names and what they mean.

    ``shadowed`` says that it stands on the disk too, because something in it went there.
    """

    __slots__ = ("ctime", "entries", "mode", "mtime", "number", "shadowed")

    def __init__(self, number: int, mode: int) -> None:
        self.entries: dict[str, File | Directory | _OnDisk] = {}
        self.mode = mode
        self.number = number
        self.mtime = self.ctime = time.time_ns()
        self.shadowed = False


class _OnDisk:
    """What a name means whose truth is on the disk; there is one, for all."""

    __slots__ = ()


ON_DISK = _OnDisk()
Node: TypeAlias = File | Directory


class Volume:
    """
    What all areas of one storage share: the lock, the limits, the count of bytes and inodes.

    Lives as long as its storage or any path of it.

    Args:
        max_bytes: How many bytes all files together may have; None is no limit.

        max_files: How many files and directories there may be; None is no limit.

        spill_above: From which size, in bytes, a file moves to disk; None is never.
    """

    __slots__ = (
        "__weakref__",
        "_gid",
        "_numbers",
        "_privileged",
        "_uid",
        "_umask",
        "bytes",
        "device",
        "files",
        "lock",
        "max_bytes",
        "max_files",
        "spill_above",
        "trees",
    )

    def __init__(
        self, max_bytes: int | None = None, max_files: int | None = None, spill_above: int | None = None
    ) -> None:
        self.lock = threading.RLock()
        self.max_bytes = max_bytes
        self.max_files = max_files
        self.spill_above = spill_above
        self.bytes = 0
        self.files = 0
        self.device = next(_devices)
        self.trees: list[Tree] = []
        self._numbers = itertools.count(2)
        self._umask: int | None = None
        self._uid = -1
        self._gid = 0
        self._privileged = False
        _watch_forks(self)

    # -- inodes and bytes

    def new_file(self, mode: int) -> File | None:
        """Return a new file, which is to have one name, or None beyond the limit."""
        if self.max_files is not None and self.files >= self.max_files:
            return None
        self.files += 1
        return File(next(self._numbers), mode)

    def new_directory(self, mode: int) -> Directory | None:
        """Return a new directory without a name, or None beyond the limit."""
        if self.max_files is not None and self.files >= self.max_files:
            return None
        self.files += 1
        return Directory(next(self._numbers), mode)

    def root(self) -> Directory:
        """Return the directory of a new area, which counts for nothing."""
        return Directory(next(self._numbers), 0o700)

    def no_inode(self, shown: str) -> StorageFull:
        """Return the error for what cannot be made."""
        error = StorageFull(
            f"{shown!r} cannot be made: the memory storage holds {self.files} files and directories, "
            f"and max_files={self.max_files}",
            errno=errno.ENOSPC,
            path=shown,
        )
        error.free_inodes = 0
        return error

    def charge(self, more: int) -> bool:
        """Count *more* bytes, or fewer if negative; False, and nothing counted, beyond the limit."""
        if more > 0 and self.max_bytes is not None and self.bytes + more > self.max_bytes:
            return False
        self.bytes += more
        return True

    def no_room(self, more: int, shown: str) -> StorageFull:
        """Return the error for what cannot grow."""
        limit = self.max_bytes or 0
        error = StorageFull(
            f"{shown!r} cannot grow by {format_size(more)}: the memory storage holds "
            f"{format_size(self.bytes)} of at most {format_size(limit)} (max_bytes={limit})",
            errno=errno.ENOSPC,
            path=shown,
        )
        error.wanted_bytes, error.free_bytes = more, limit - self.bytes
        return error

    def closed(self, node: File) -> None:
        """Free *node*, which nobody has open any more, or what it has beyond its content."""
        if not node.links:
            self.release(node)
        elif type(node.data) is bytearray and node.size <= _TRIMMED:
            node.data = bytes(node.data)

    def release(self, node: Node) -> None:
        """Stop counting *node*, which has no name any more and nobody has open."""
        self.files -= 1
        if isinstance(node, File):
            self.bytes -= node.size
            node.data, node.size = b"", 0

    # -- who we are

    @property
    def privileged(self) -> bool:
        """Whether permissions mean nothing to this process, as to root."""
        if self._uid < 0:
            self._ask_who()
        return self._privileged

    def _ask_who(self) -> None:
        self._uid = os.getuid() if hasattr(os, "getuid") else 0
        self._gid = os.getgid() if hasattr(os, "getgid") else 0
        self._privileged = not hasattr(os, "geteuid") or os.geteuid() == 0

    def masked(self, mode: int) -> int:
        """Return *mode* less the umask, which is read once and then remembered."""
        if self._umask is None:
            self._umask = read_umask()
        return mode & ~self._umask & 0o7777

    def status(self, node: Node) -> os.stat_result:
        """Return what ``stat`` tells of *node*."""
        if self._uid < 0:
            self._ask_who()
        if isinstance(node, File):
            kind, links, size, held, atime = stat.S_IFREG, node.links, node.size, len(node.data), node.atime
        else:
            children = sum(type(child) is Directory for child in node.entries.values())
            kind, links, size, held, atime = stat.S_IFDIR, 2 + children, BLOCK, BLOCK, node.mtime
        times = (atime, node.mtime, node.ctime)
        return os.stat_result(
            (
                kind | node.mode,
                node.number,
                self.device,
                links,
                self._uid,
                self._gid,
                size,
                *(time // 1_000_000_000 for time in times),
            ),
            {
                **{name: time / 1e9 for name, time in zip(_FLOATS, times, strict=True)},
                **{f"{name}_ns": time for name, time in zip(_FLOATS, times, strict=True)},
                "st_blksize": BLOCK,
                "st_blocks": -(-held // 512),
                "st_rdev": 0,
            },
        )


_FLOATS = ("st_atime", "st_mtime", "st_ctime")


def _watch_forks(volume: Volume) -> None:
    global _watching_forks  # noqa: PLW0603  one hook for the process: it cannot be taken back
    _volumes.add(volume)
    if not _watching_forks and hasattr(os, "register_at_fork"):
        _watching_forks = True
        os.register_at_fork(after_in_child=_renew_locks)


def _renew_locks() -> None:
    """Give a forked child locks that no thread of its parent holds."""
    for volume in _volumes:
        volume.lock = threading.RLock()
