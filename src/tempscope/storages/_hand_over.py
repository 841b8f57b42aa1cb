"""
Handing an open scope from one process to another: by one rename out, and one rename in.

The scope waits as ``d-<token>/`` under the root, with its record and its registered outside paths
inside.
The rename in is what makes sure that it is taken once; whoever takes it locks the directory first,
so that no sweep can be in the middle of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from tempscope.errors import HandOverError
from tempscope.model import Instant, ScopeRecord
from tempscope.storages import _lock
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._instance import Instance
from tempscope.storages._journal import OutsidePath, encode_outside, read_journal
from tempscope.storages._openat2 import open_directory
from tempscope.storages._record_file import read_record
from tempscope.storages._token import is_token


__all__ = ["OUTSIDE", "Waiting", "find_waiting", "move_in", "outside_of", "put_outside"]

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
OUTSIDE = ".tempscope-outside"
"""The file in a waiting scope that lists its registered outside paths, as a journal does."""


class Waiting(NamedTuple):
    """A scope that waits, found and locked by us."""

    name: str
    directory: Descriptor
    record: ScopeRecord
    outside: dict[str, OutsidePath]


def put_outside(dir_fd: int, outside: Iterable[OutsidePath]) -> None:
    """
    Write the registered outside paths into a scope that is going to wait.

    Raises:
        OSError: If there is no room.
    """
    data = encode_outside(outside)
    if not data:
        return
    _remove_if_there(dir_fd)
    with Descriptor.open(OUTSIDE, _WRITE, 0o600, dir_fd=dir_fd) as file:
        while data:
            data = data[os.write(file.fd, data) :]


def _remove_if_there(dir_fd: int) -> None:
    try:
        os.unlink(OUTSIDE, dir_fd=dir_fd)
    except FileNotFoundError:
        # The usual case: it was never handed over before.
        return


def outside_of(dir_fd: int) -> dict[str, OutsidePath]:
    """Return the registered outside paths of the waiting scope in *dir_fd*."""
    return read_journal(dir_fd, OUTSIDE).outside


def find_waiting(instance: Instance, token: str, now: Instant) -> Waiting:
    """
    Find the scope that waits under *token*, and lock it.

    Raises:
        HandOverError: If the token is malformed, unknown or used, or its time has passed.
    """
    if not is_token(token):
        raise HandOverError(f"{token!r} is no token of detach(): that has 26 lower-case letters and digits")
    name = f"d-{token}"
    try:
        directory = open_directory(name, dir_fd=instance.root.fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise _unknown(error) from error
        raise
    if _lock.seize(directory.fd) == "busy":
        raise HandOverError("somebody else is taking this scope over, or sweeping it, at this moment")
    record = read_record(directory.fd)
    if record is None:
        raise HandOverError("the scope under this token has no readable record: somebody has to look at it")
    if record.expired(now):
        raise HandOverError("the time of this token has passed: detach(ttl=...) says how long", scope=record.name)
    return Waiting(name, directory, record, outside_of(directory.fd))


def move_in(instance: Instance, waiting: Waiting, name: str) -> None:
    """
    Move the waiting scope into *instance* as *name*.

    Raises:
        HandOverError: If somebody else was faster.

        OSError: If the system refuses; the scope still waits then.
    """
    try:
        os.rename(waiting.name, name, src_dir_fd=instance.root.fd, dst_dir_fd=instance.fd)
    except FileNotFoundError as error:
        raise _unknown(error) from error


def _unknown(error: OSError) -> HandOverError:
    return HandOverError("no scope waits under this token: it was used before, swept, or never given out", cause=error)
