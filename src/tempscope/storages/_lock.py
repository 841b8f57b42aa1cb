"""
The kernel's lock on a directory: who holds it is alive.

``flock(2)`` belongs to the open file description: it goes when the last copy of the descriptor is
closed, however the process ends.
Nobody here ever unlocks: an unlock in a forked child would take the parent's lock with it.
Where a system has no ``flock``, nothing is ever held and nothing is ever judged dead.
"""

from __future__ import annotations

import errno
from typing import Literal


try:
    import fcntl
except ImportError:  # a platform without flock
    fcntl = None  # type: ignore[assignment]

__all__ = ["LockState", "seize", "share"]

LockState = Literal["held", "busy", "unsupported"]

_UNSUPPORTED = frozenset([errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO, errno.EBADF])


def share(fd: int) -> LockState:
    """Take an owner's (shared) lock on *fd*, without waiting."""
    return _flock(fd, exclusive=False)


def seize(fd: int) -> LockState:
    """Take a sweeper's (exclusive) lock on *fd*, without waiting."""
    return _flock(fd, exclusive=True)


def _flock(fd: int, *, exclusive: bool) -> LockState:
    if fcntl is None:
        return "unsupported"
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return "busy"
        if error.errno in _UNSUPPORTED:
            return "unsupported"
        raise
    return "held"
