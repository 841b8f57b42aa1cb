"""
Bringing bytes from one open file to another: shared where the file system can, else copied.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from tempscope.protocols import Progress
from tempscope.storages._openat2 import mount_id


try:
    import fcntl
except ImportError:  # a platform without ioctl
    fcntl = None  # type: ignore[assignment]

__all__ = ["LINKS", "REFLINKS", "STEP_DOWN", "copy_bytes", "reflink"]

STEP_DOWN = frozenset(
    [
        errno.EXDEV,
        errno.EPERM,
        errno.EMLINK,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.ENOTTY,
        errno.EINVAL,
    ]
)
"""Errors that say "not this way here": the next way is tried; all others tell of the source or the room."""

_NEVER = frozenset([errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY])
_FICLONE = 0x40049409
_STEP, _STRIDE = 1 << 24, 1 << 26
"""How much is copied at once: with somebody who is told of it, and without, when only an interrupt waits."""

_BUFFER = 1 << 20
_SEEK_DATA = getattr(os, "SEEK_DATA", None)
_SEEK_HOLE = getattr(os, "SEEK_HOLE", None)


class Unable:
    """
    Between what a way is known not to lead; one for each way, for the whole process.

    Between two devices, or on one, that is known of the devices.  But two mounts of one device may
    refuse what the device itself does not: that is known of the mounts.
    """

    def __init__(self) -> None:
        # By device numbers, which the next file system to be mounted may get, then by what tells those apart.
        self._devices: dict[tuple[int, int], set[tuple[int, int]]] = {}
        self._mounts: set[tuple[int, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._devices or self._mounts)

    def suspects(self, source_device: int, target_device: int) -> bool:
        """Return whether it is worth opening a source to ask."""
        return (source_device, target_device) in self._devices or (
            bool(self._mounts) and source_device == target_device
        )

    def knows(self, source_fd: int, target_fd: int) -> bool:
        """Return whether it is known not to lead from where the one is open to where the other is."""
        devices = _devices(source_fd, target_fd)
        if devices in self._devices and _systems(source_fd, target_fd) in self._devices[devices]:
            return True
        return (
            bool(self._mounts)
            and devices[0] == devices[1]
            and (mount_id(source_fd), mount_id(target_fd)) in self._mounts
        )

    def note(self, source_fd: int, target_fd: int, code: int | None) -> None:
        """Remember that it failed with *code*, if that says so of all files."""
        devices = _devices(source_fd, target_fd)
        if code == errno.EXDEV and devices[0] == devices[1]:
            self._mounts.add((mount_id(source_fd), mount_id(target_fd)))
        elif code in _NEVER:
            self._devices.setdefault(devices, set()).add(_systems(source_fd, target_fd))

    def clear(self) -> None:
        """Forget all."""
        self._devices.clear()
        self._mounts.clear()


def _devices(source_fd: int, target_fd: int) -> tuple[int, int]:
    return os.fstat(source_fd).st_dev, os.fstat(target_fd).st_dev


def _systems(source_fd: int, target_fd: int) -> tuple[int, int]:
    """Return the ids of the file systems (``f_fsid``, statvfs(3))."""
    return os.fstatvfs(source_fd).f_fsid, os.fstatvfs(target_fd).f_fsid


LINKS = Unable()
REFLINKS = Unable()


def reflink(source_fd: int, target_fd: int) -> bool:
    """
    Make *target_fd* share all blocks of *source_fd* (``ioctl_ficlone(2)``).

    Returns:
        Whether it does now; False where the file system cannot.

    Raises:
        OSError: If it is about the source or the room.
    """
    if fcntl is None:
        return False
    if REFLINKS and REFLINKS.knows(source_fd, target_fd):
        return False
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno not in STEP_DOWN:
            raise
        REFLINKS.note(source_fd, target_fd, error.errno)
        return False
    return True


def copy_bytes(source_fd: int, target_fd: int, progress: Progress | None = None) -> int:
    """
    Copy all of one file to another, which is empty; holes stay holes.

    Args:
        source_fd: Open for reading.

        target_fd: Open for writing, not for appending.

        progress: Called after each piece; what it raises ends the copy.

    Returns:
        How many bytes the copy has, holes counted.
    """
    return _Copy(source_fd, target_fd, progress).run()


class _Copy:
    """One copy; used once."""

    def __init__(self, source_fd: int, target_fd: int, progress: Progress | None) -> None:
        self._source = source_fd
        self._target = target_fd
        self._progress = progress
        self._most = _STRIDE if progress is None else _STEP
        self._in_kernel = hasattr(os, "copy_file_range")
        status = os.fstat(source_fd)
        self._size = status.st_size
        # Without this question every file would be asked for its holes.
        self._sparse = _SEEK_DATA is not None and getattr(status, "st_blocks", 0) * 512 < self._size

    def run(self) -> int:
        done = 0
        for start, end in self._data() if self._sparse else [(0, None)]:
            if self._sparse:
                # Asking for holes moved the source's position.
                os.lseek(self._source, start, os.SEEK_SET)
                os.lseek(self._target, start, os.SEEK_SET)
            done = self._range(start, end)
        if self._sparse and done < self._size:
            os.ftruncate(self._target, self._size)
            done = self._size
            self._tell(done)
        return done

    def _data(self) -> Iterator[tuple[int, int]]:
        """Give the ranges that are not holes."""
        assert _SEEK_DATA is not None
        assert _SEEK_HOLE is not None
        end = 0
        while end < self._size:
            try:
                start = os.lseek(self._source, end, _SEEK_DATA)
                end = os.lseek(self._source, start, _SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    # Nothing but a hole up to the end.
                    return
                if error.errno not in STEP_DOWN:
                    raise
                # A file system that does not tell.
                start, end = end, self._size
            yield start, end

    def _range(self, done: int, end: int | None) -> int:
        """Copy from where both files stand, to *end* or the source's; return up to where."""
        while end is None or done < end:
            count = self._piece(self._most if end is None else min(self._most, end - done), done)
            if count == 0:
                break
            done += count
            self._tell(done)
        return done

    def _piece(self, most: int, done: int) -> int:
        if self._in_kernel:
            try:
                count = os.copy_file_range(self._source, self._target, most)
            except OSError as error:
                if error.errno not in STEP_DOWN:
                    raise
            else:
                # Files that the kernel makes up, as in /proc, copy as empty: read them instead.
                if count or done:
                    return count
            self._in_kernel = False
        piece = memoryview(os.read(self._source, min(most, _BUFFER)))
        count = len(piece)
        while piece:
            piece = piece[os.write(self._target, piece) :]
        return count

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, max(self._size, done))
