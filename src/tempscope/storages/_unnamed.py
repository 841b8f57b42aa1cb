"""
Files that never have a name: nothing can be left behind, whatever becomes of the process.
"""

from __future__ import annotations

import errno
import os
from typing import IO, Any

from tempscope.storages._descriptor import open_file
from tempscope.storages._token import new_token


__all__ = ["open_unnamed", "open_without_name"]

_TMPFILE = getattr(os, "O_TMPFILE", 0)
_NAMED = os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
# EISDIR: a kernel before 3.11 does not know the flag; ENOENT: some FUSE file systems.
_NO_TMPFILE = frozenset([errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS])


def open_unnamed(dir_fd: int, mode: str) -> IO[Any]:
    """
    Open a new file without a name on the file system of the directory *dir_fd*.

    Where the file system has no ``O_TMPFILE`` (``open(2)``), the file has a name in that directory
    for the moment between two system calls; a process killed there leaves it to the sweep.

    Args:
        dir_fd: An open directory.

        mode: ``"w+b"`` or ``"wb"``.

    Raises:
        OSError: If there is no room.
    """
    file = open_without_name(dir_fd, mode)
    if file is None:
        name = f".tempscope-{new_token()}"
        file = open_file(name, _NAMED | _access(mode), mode, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
    return file


def open_without_name(dir_fd: int, mode: str) -> IO[Any] | None:
    """
    Open a new file that has no name at any moment, and can be given one; None if the system cannot.

    Args and errors as for :func:`open_unnamed`.
    """
    if not _TMPFILE:
        return None
    try:
        return open_file(".", _TMPFILE | _access(mode), mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        return None


def _access(mode: str) -> int:
    return os.O_RDWR if "+" in mode else os.O_WRONLY
