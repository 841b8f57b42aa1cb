"""
Files that never have a name: nothing can be left behind, whatever becomes of the process.
"""

from __future__ import annotations

import errno
import os
from typing import IO, Any

from tempscope.errors import ConfigurationError
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._token import new_token


__all__ = ["open_unnamed"]

_TMPFILE = getattr(os, "O_TMPFILE", 0)
# EISDIR: a kernel before 3.11 does not know the flag; ENOENT: some FUSE file systems.
_NO_TMPFILE = frozenset([errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS])
_MODES = frozenset(["w+", "w+b", "wb+", "w+t", "wt+", "w", "wb", "wt"])


def open_unnamed(dir_fd: int, mode: str) -> IO[Any]:
    """
    Open a new file without a name on the file system of the directory *dir_fd*.

    Where the file system has no ``O_TMPFILE`` (``open(2)``), the file has a name in that directory
    for the moment between two system calls; a process killed there leaves it to the sweep.

    Raises:
        ConfigurationError: If *mode* is not for writing a new file.

        OSError: If there is no room.
    """
    if mode not in _MODES:
        raise ConfigurationError(f"unnamed_file(mode={mode!r}): a new file is written: use 'w+b' or 'w+'")
    access = os.O_RDWR if "+" in mode else os.O_WRONLY
    descriptor = _without_name(dir_fd, access) or _unlinked(dir_fd, access)
    file: IO[Any] = os.fdopen(descriptor.fd, mode)
    descriptor.forget()
    return file


def _without_name(dir_fd: int, access: int) -> Descriptor | None:
    if not _TMPFILE:
        return None
    try:
        return Descriptor.open(".", access | _TMPFILE, 0o600, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NO_TMPFILE:
            return None
        raise


def _unlinked(dir_fd: int, access: int) -> Descriptor:
    flags = access | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    name = f".tempscope-{new_token()}"
    descriptor = Descriptor.open(name, flags, 0o600, dir_fd=dir_fd)
    os.unlink(name, dir_fd=dir_fd)
    return descriptor
