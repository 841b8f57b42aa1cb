"""
Bringing bytes from one open file to another: shared where the file system can, else copied.
"""

from __future__ import annotations

import errno
import os

from tempscope.protocols import Progress


try:
    import fcntl
except ImportError:  # a platform without ioctl
    fcntl = None  # type: ignore[assignment]

__all__ = ["STEP_DOWN", "copy_bytes", "knows_unable", "note_unable", "reflink"]

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
_unable: set[tuple[str, int, int]] = set()

_FICLONE = 0x40049409
_CHUNK = 1 << 26
_BUFFER = 1 << 20


def knows_unable(way: str, source: os.stat_result, target: os.stat_result) -> bool:
    """Return whether *way* is known not to lead from the one device to the other."""
    return (way, source.st_dev, target.st_dev) in _unable


def note_unable(way: str, source: os.stat_result, target: os.stat_result, code: int | None) -> None:
    """
    Remember that *way* does not lead from the one device to the other, if *code* says so of all files.

    Two mounts of one device are not told apart by its number, so a failure between them says nothing
    about the next pair.
    """
    if code in _NEVER and (code != errno.EXDEV or source.st_dev != target.st_dev):
        _unable.add((way, source.st_dev, target.st_dev))


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
    source, target = os.fstat(source_fd), os.fstat(target_fd)
    if knows_unable("reflink", source, target):
        return False
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno not in STEP_DOWN:
            raise
        note_unable("reflink", source, target, error.errno)
        return False
    return True


def copy_bytes(source_fd: int, target_fd: int, size: int, progress: Progress | None = None) -> int:
    """
    Copy from both files' present positions to the source's end.

    Args:
        source_fd: Open for reading.

        target_fd: Open for writing, not for appending.

        size: How many bytes are expected, for *progress*.

        progress: Called after each piece; what it raises ends the copy.

    Returns:
        How many bytes were copied.
    """
    done, in_kernel = 0, hasattr(os, "copy_file_range")
    while True:
        if in_kernel:
            try:
                count = os.copy_file_range(source_fd, target_fd, _CHUNK)
            except OSError as error:
                if error.errno not in STEP_DOWN:
                    raise
                in_kernel = False
                continue
            if count == 0 and done == 0:
                # Files that the kernel makes up, as in /proc, copy as empty: read them instead.
                in_kernel = False
                continue
        else:
            count = _copy_piece(source_fd, target_fd)
        if count == 0:
            return done
        done += count
        if progress is not None:
            progress(done, max(size, done))


def _copy_piece(source_fd: int, target_fd: int) -> int:
    piece = memoryview(os.read(source_fd, _BUFFER))
    size = len(piece)
    while piece:
        piece = piece[os.write(target_fd, piece) :]
    return size
