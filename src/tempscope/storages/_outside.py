"""
Deleting a registered path outside our root: only if it still is what was registered.
"""

from __future__ import annotations

import os
from functools import partial

from tempscope._names import RESERVED_PREFIX, escape
from tempscope.model import Entry, Removal
from tempscope.storages._delete import remove_entry
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._identity import Identity, identify
from tempscope.storages._reserve import with_reserve
from tempscope.storages._root import MARKER
from tempscope.storages._token import is_token


__all__ = ["is_still_there", "remove_outside"]

_LOOKUP = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_NOTHING = Removal()


def remove_outside(
    path: str,
    registered: Identity | None,
    *,
    sweeping: bool = False,
    dry_run: bool = False,
    roots: bool = False,
) -> Removal:
    """
    Remove *path*, a file, link or directory, if its identity is the one that was *registered*.

    A root of ours in a directory stays: scopes of other processes may be in it.

    Args:
        path: An absolute path.

        registered: What it was; None for a path that was not there yet, which only the living
            process deletes.

        sweeping: Whether this is a sweep, for which a missing birth time proves nothing.

        dry_run: Whether only to say what would be done.

        roots: Whether roots of ours go all the same, since nobody uses them any more.
    """
    directory, name = os.path.split(path)
    if name in ("", ".", ".."):
        return _kept(path, "skipped", "it is no name in a directory")
    try:
        with with_reserve(partial(Descriptor.open, directory, _LOOKUP)) as parent:
            return _remove(parent.fd, name, path, registered, sweeping, dry_run, "" if roots else MARKER)
    except (FileNotFoundError, NotADirectoryError):
        return _NOTHING
    except OSError as error:
        return _kept(path, "failed", f"it cannot be looked at: {error.strerror}", error.errno)


def is_still_there(path: str, registered: Identity | None) -> bool:
    """Return whether *path* surely is what a process that is gone *registered*; if unsure, it is not."""
    return bool(remove_outside(path, registered, sweeping=True, dry_run=True).removed)


def _remove(
    dir_fd: int,
    name: str,
    path: str,
    registered: Identity | None,
    sweeping: bool,
    dry_run: bool,
    spared: str,
) -> Removal:
    present = identify(name, dir_fd=dir_fd)
    if present is None:
        return _NOTHING
    reason = _objection(name, registered, present, sweeping)
    if reason:
        return _kept(path, "skipped", reason)
    if registered is not None and registered.birth and not present.birth:
        # The inode has one: not seen is not another.
        return _kept(path, "failed", "its birth time cannot be read, so nobody can tell what it is")
    if dry_run:
        return Removal(removed=1)
    return remove_entry(dir_fd, name, expected=(present.device, present.inode), spared=spared)


def _objection(name: str, registered: Identity | None, present: Identity, sweeping: bool) -> str:
    if registered is None:
        # A name of 128 random bits is proof in itself: nobody else can have made it.
        known = not sweeping or (name.startswith(RESERVED_PREFIX) and is_token(name[len(RESERVED_PREFIX) :]))
        return "" if known else "it was registered before it existed, so a sweep cannot know it"
    if (registered.device, registered.inode) != (present.device, present.inode):
        return "it is not the file that was registered"
    if registered.birth and present.birth and registered.birth != present.birth:
        return "it is not the file that was registered: the birth time differs"
    if registered.handle and present.handle and registered.handle != present.handle:
        return "it is not the file that was registered: the file handle differs"
    if sweeping and not registered.birth:
        return "its file system keeps no birth time, so a sweep cannot know it"
    return ""


def _kept(path: str, kind: str, reason: str, code: int | None = None) -> Removal:
    entry = Entry(escape(path), kind, reason, code)  # type: ignore[arg-type]
    return Removal(skipped=int(kind == "skipped"), failed=int(kind == "failed"), entries=(entry,))
