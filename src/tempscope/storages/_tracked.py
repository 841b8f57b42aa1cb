"""
The paths that the other processes under a root track: those of the living, and of those that are gone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from tempscope._names import escape
from tempscope.errors import StorageError
from tempscope.model import TrackedPath
from tempscope.storages import _lock
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._instance import identity_of, is_named
from tempscope.storages._journal import JournalContent, read_journal
from tempscope.storages._openat2 import open_subdirectory
from tempscope.storages._root import Root, find_root
from tempscope.storages._token import is_token
from tempscope.storages._trust import Trust, trust_in


__all__ = ["tracked_elsewhere"]


def tracked_elsewhere(
    base_dir: str | None, own: str | None, *, trust_locks: bool = False
) -> Iterator[TrackedPath]:
    """
    Tell what the processes under the root in *base_dir* track, but for the instance *own*.

    Whoever cannot be shown to be gone counts as living, and of the living the registered outside
    paths are told too: they are in use.

    Raises:
        StorageError: If a living process's journal cannot be read: nobody knows what is in use.
    """
    root = find_root(base_dir)
    if root is None:
        return
    try:
        trust = trust_in(root.fd, vouched=trust_locks)
        for name in sorted(os.listdir(root.fd)):
            if name[:2] == "i-" and is_token(name[2:]) and name != own:
                yield from _of_instance(root, name, trust)
    finally:
        root.close()


def _of_instance(root: Root, name: str, trust: Trust) -> Iterator[TrackedPath]:
    try:
        descriptor = open_subdirectory(root.fd, name)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return
        raise _unknown(root, name, error) from error
    # Released before anything is told: a sweep that comes by meanwhile may do its work.
    with descriptor:
        gone = _is_gone(root, name, descriptor, trust)
        journal = read_journal(descriptor.fd)
    if journal.unreadable and not gone:
        raise _unknown(root, name)
    yield from _told(journal, gone=gone)


def _is_gone(root: Root, name: str, descriptor: Descriptor, trust: Trust) -> bool:
    if _lock.seize(descriptor.fd) != "held" or not is_named(root.fd, name, identity_of(descriptor.fd)):
        return False
    return not trust.objection(descriptor.fd)


def _told(journal: JournalContent, *, gone: bool) -> Iterator[TrackedPath]:
    for (by, path), each in journal.tracked.items():
        yield TrackedPath(path, str(each.identity or ""), by, "gone" if gone else "alive")
    for path, each in journal.outside.items() if not gone else ():
        yield TrackedPath(path, str(each.identity or ""), "", "alive")


def _unknown(root: Root, name: str, error: OSError | None = None) -> StorageError:
    path = f"{root.path}/{name}"
    return StorageError(
        f"what the process of {escape(path)!r} holds cannot be read, so nothing is known not to be in use",
        path=path,
        cause=error,
    )
