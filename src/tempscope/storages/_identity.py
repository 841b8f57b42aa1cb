"""
What an outside path *is*, beyond its name: device, inode, birth time and file handle.

On ext4 a file made again at the same path gets the same inode at once, so device and inode alone
would let us delete somebody else's new file; the birth time (``statx(2)``) tells them apart.
Kernels before 6.13 count time in milliseconds; the file handle (``name_to_handle_at(2)``) carries a
generation number, which tells apart also what was made within one.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import attrs


__all__ = ["Identity", "identify"]

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_STATX_INO = 0x100
_MAX_HANDLE = 128


@attrs.frozen
class Identity:
    """
    Names one inode.

    ``birth`` is its birth time in nanoseconds since the epoch; 0 where the file system has none.
    ``handle`` is its file handle in hexadecimal digits; empty where there is none.
    """

    device: int
    inode: int
    birth: int
    handle: str = ""

    def __str__(self) -> str:
        return f"{self.device}:{self.inode}:{self.birth}:{self.handle}"

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """Return the identity that *text* is, or None."""
        *numbers, handle = text.split(":")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) < 24 for n in numbers):
            return None
        if len(handle) > 2 * _MAX_HANDLE or not set(handle) <= set("0123456789abcdef"):
            return None
        device, inode, birth = map(int, numbers)
        return cls(device, inode, birth, handle)


def identify(path: str, *, dir_fd: int | None = None) -> Identity | None:
    """
    Return what *path* is now, a link not being followed; None if nothing is there.

    Args:
        path: A path; relative to *dir_fd*, if that is given.

        dir_fd: An open directory.

    Raises:
        OSError: If it cannot be looked at.
    """
    try:
        status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kernel = _kernel()
    at, name = _AT_FDCWD if dir_fd is None else dir_fd, os.fsencode(path)
    if kernel is None:
        return Identity(status.st_dev, status.st_ino, 0)
    birth = kernel.birth(at, name, status.st_ino)
    return Identity(status.st_dev, status.st_ino, birth, kernel.handle(at, name))


@cache
def _kernel() -> Any:
    """Return the system calls that Python does not have, or None where the system has none either."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return _Kernel()
    except (ImportError, AttributeError, OSError):
        return None


class _Kernel:
    """Both system calls, by way of the C library; both answer nothing rather than fail."""

    def __init__(self) -> None:
        import ctypes

        class Timestamp(ctypes.Structure):
            _fields_ = [("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32), ("pad", ctypes.c_int32)]

        class Statx(ctypes.Structure):
            _fields_ = [
                ("mask", ctypes.c_uint32),
                ("blksize", ctypes.c_uint32),
                ("attributes", ctypes.c_uint64),
                ("nlink", ctypes.c_uint32),
                ("uid", ctypes.c_uint32),
                ("gid", ctypes.c_uint32),
                ("mode", ctypes.c_uint16),
                ("pad1", ctypes.c_uint16),
                ("ino", ctypes.c_uint64),
                ("size", ctypes.c_uint64),
                ("blocks", ctypes.c_uint64),
                ("attributes_mask", ctypes.c_uint64),
                ("atime", Timestamp),
                ("btime", Timestamp),
                ("rest", ctypes.c_uint8 * 192),
            ]

        class Handle(ctypes.Structure):
            _fields_ = [
                ("bytes", ctypes.c_uint32),
                ("type", ctypes.c_int32),
                ("data", ctypes.c_uint8 * _MAX_HANDLE),
            ]

        library = ctypes.CDLL(None, use_errno=True)
        self._statx, self._name_to_handle = library.statx, library.name_to_handle_at
        self._buffer, self._handle, self._number, self._by = Statx, Handle, ctypes.c_int, ctypes.byref

    def birth(self, dir_fd: int, name: bytes, inode: int) -> int:
        """Return the birth time in nanoseconds; 0 if there is none, or the inode is another by now."""
        buffer = self._buffer()
        flags, mask = _AT_SYMLINK_NOFOLLOW, _STATX_BTIME | _STATX_INO
        if self._statx(dir_fd, name, flags, mask, self._by(buffer)) != 0:
            return 0
        if not buffer.mask & _STATX_BTIME or buffer.ino != inode:
            return 0
        return int(buffer.btime.sec) * 1_000_000_000 + int(buffer.btime.nsec)

    def handle(self, dir_fd: int, name: bytes) -> str:
        """Return the file handle in hexadecimal digits; nothing if the file system gives none."""
        handle, mount = self._handle(bytes=_MAX_HANDLE), self._number()
        if self._name_to_handle(dir_fd, name, self._by(handle), self._by(mount), 0) != 0:
            return ""
        return bytes(handle.data[: handle.bytes]).hex()
