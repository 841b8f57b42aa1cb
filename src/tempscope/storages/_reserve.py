"""
Descriptors put by for the day when the process has none left: cleaning up must work then too.

Deleting a tree of any depth needs three at a time: the directory that it stands in, the one at
hand, and the listing of that.
They are descriptors of our own directory, which nobody else opens, so that one whose number was
closed and given out again behind our back is known for a stranger's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from tempscope.storages._descriptor import Descriptor, close_own, identity_of
from tempscope.storages._openat2 import open_directory


__all__ = ["NO_DESCRIPTORS", "fill", "give_all_back", "release", "with_reserve"]

NO_DESCRIPTORS = frozenset([errno.EMFILE, errno.ENFILE])
_COUNT = 3

_T = TypeVar("_T")
_held: list[tuple[Descriptor, tuple[int, int]]] = []


def fill(dir_fd: int) -> None:
    """Have the reserve full, by descriptors of our directory *dir_fd*, as far as there are any."""
    try:
        while len(_held) < _COUNT:
            descriptor = open_directory(".", dir_fd=dir_fd)
            _held.append((descriptor, identity_of(descriptor.fd)))
    except OSError:
        # The next scope's end tries again.
        pass


def release() -> bool:
    """Close one of the reserve; returns whether there was one."""
    while _held:
        descriptor, identity = _held.pop()
        if close_own(descriptor, identity):
            return True
    return False


def give_all_back() -> None:
    """Close the whole reserve: its owner is gone, or this is a forked child's copy."""
    while release():
        pass


def with_reserve(call: Callable[[], _T]) -> _T:
    """Return what *call* returns; where it finds no descriptor, call it again with one of the reserve."""
    while True:
        try:
            return call()
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS or not release():
                raise
