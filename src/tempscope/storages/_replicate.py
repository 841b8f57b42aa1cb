"""
Making a directory tree a second time, file by file, relative to descriptors.

Links are made again with the same text, whatever they lead to; what is neither file, directory nor
link is refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from tempscope.storages._descriptor import Descriptor, identity_of
from tempscope.storages._openat2 import open_directory
from tempscope.storages._root import make_private_directory
from tempscope.storages._walk import Walk


__all__ = ["replicate"]


def replicate(
    walk: Walk,
    into: Descriptor,
    *,
    file: Callable[[int, str, int], object],
    leave: Callable[[int, int], object],
) -> None:
    """
    Make what *walk* meets a second time, in the new directory *into*, which is closed in the end.

    Stops at the first error; what was made until then stays, for the caller to remove.

    Args:
        walk: Over the tree.

        into: An empty directory that nobody else can enter, as those that are made in it.

        file: Called as ``file(from_fd, name, to_fd)`` for each file.

        leave: Called as ``leave(from_fd, to_fd)`` for each directory when all in it was made.

    Raises:
        OSError: What the system says, at ``walk.path``; ``EINVAL`` for what cannot be made a second time.
    """
    place = identity_of(into.fd)
    identities: list[tuple[int, int]] = []
    current = into
    for what, fd, entry in walk:
        if what == "enter":
            if identity_of(fd) == place:
                raise OSError(errno.EINVAL, "the copy would be made inside of it")
            if entry:
                current = make_private_directory(current.fd, entry)
            identities.append(identity_of(current.fd))
        elif what == "leave":
            leave(fd, current.fd)
            identities.pop()
            if identities:
                current = _above(current, identities[-1])
        elif what == "file":
            file(fd, entry, current.fd)
        elif what == "link":
            os.symlink(os.readlink(entry, dir_fd=fd), entry, dir_fd=current.fd)
        else:
            raise OSError(errno.EINVAL, "a pipe, socket or device is no file")


def _above(current: Descriptor, identity: tuple[int, int]) -> Descriptor:
    above = open_directory("..", dir_fd=current.fd)
    if identity_of(above.fd) != identity:
        raise OSError(errno.ESTALE, "a directory was moved meanwhile")
    return above
