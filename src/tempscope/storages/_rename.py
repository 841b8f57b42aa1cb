"""
The two renames that Python does not have: to a name that is free, and the exchange of two names.

``renameat2(2)`` (Linux 3.15) by way of the C library; where kernel or file system cannot, the callers
do without or say so.
"""

from __future__ import annotations

import errno
import os
import sys
from functools import cache
from typing import Any


__all__ = ["exchange", "rename_to_free"]

_NOREPLACE, _EXCHANGE = 1, 2


def rename_to_free(name: str, dir_fd: int, target: str, target_fd: int) -> None:
    """
    Rename; ``EEXIST`` if *target* is there already, in one step.

    Raises:
        OSError: ``ENOSYS`` or ``EINVAL`` where kernel or file system cannot, else the system's.
    """
    _rename(name, dir_fd, target, target_fd, _NOREPLACE)


def exchange(name: str, dir_fd: int, target: str, target_fd: int) -> None:
    """
    Exchange what two names mean, in one step.

    Raises:
        OSError: ``ENOSYS`` or ``EINVAL`` where kernel or file system cannot, else the system's.
    """
    _rename(name, dir_fd, target, target_fd, _EXCHANGE)


def _rename(name: str, dir_fd: int, target: str, target_fd: int, flags: int) -> None:
    library = _library()
    if library is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    if library.renameat2(dir_fd, os.fsencode(name), target_fd, os.fsencode(target), flags):
        code = _errno()
        raise OSError(code, os.strerror(code), name, None, target)


@cache
def _library() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        _ = library.renameat2
    except (ImportError, AttributeError, OSError):
        return None
    return library


def _errno() -> int:
    import ctypes

    return ctypes.get_errno() or errno.EIO
