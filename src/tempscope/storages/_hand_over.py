"""
Handing an open scope from one process to another: by one rename out, and one rename in.

The scope waits as ``d-<token>/`` under the root, with its record, its registered outside paths and
what is known of its linked inputs inside.
The rename in is what makes sure that it is taken once; whoever takes it shares the lock of its
directory first, so that no sweep can be in the middle of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from tempscope import _log
from tempscope._names import escape
from tempscope.errors import HandOverError
from tempscope.model import Instant, ScopeRecord
from tempscope.protocols import StagedFile
from tempscope.storages import _lock
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._identity import Identity
from tempscope.storages._journal import OutsidePath, encode_outside, is_plain_path, lines_of, read_journal
from tempscope.storages._openat2 import open_subdirectory
from tempscope.storages._record_file import RECORD, read_record, write_record, write_whole
from tempscope.storages._records import encode_object, parse_object
from tempscope.storages._root import Root
from tempscope.storages._staged import LinkedState, StagedOnDisk
from tempscope.storages._token import is_token


__all__ = [
    "OUTSIDE",
    "Waiting",
    "check_token",
    "find_waiting",
    "linked_in",
    "outside_paths",
    "put_luggage",
    "remove_luggage",
    "used",
]

OUTSIDE = ".tempscope-outside"
"""The file in a waiting scope that lists its registered outside paths, as a journal does."""

_STAGED = ".tempscope-staged"
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NOT_THERE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV])


class Waiting(NamedTuple):
    """A scope that waits, found, and its lock shared by us."""

    name: str
    directory: Descriptor
    record: ScopeRecord
    outside: list[OutsidePath]
    linked: dict[str, tuple[Path, LinkedState]]

    def staged(self, directory: str) -> list[StagedFile]:
        """Return its linked inputs as they stand under *directory*."""
        return [
            StagedOnDisk(path=Path(directory, name), source=source, method="hardlink", linked=state)
            for name, (source, state) in self.linked.items()
        ]


def outside_paths(described: Mapping[str, str]) -> list[OutsidePath]:
    """Return outside paths as a journal tells them, of what a manager tells of them."""
    return [OutsidePath(path, Identity.parse(identity)) for path, identity in described.items()]


def put_luggage(
    dir_fd: int,
    record: ScopeRecord,
    outside: Iterable[OutsidePath],
    linked: Mapping[str, tuple[Path, LinkedState]],
) -> None:
    """
    Write into a scope that is going to wait all that whoever takes it must know.

    Raises:
        OSError: If there is no room.
    """
    write_record(dir_fd, record)
    _put(dir_fd, _STAGED, b"".join(_line(name, *known) for name, known in linked.items()))
    _put(dir_fd, OUTSIDE, encode_outside(outside))


def remove_luggage(dir_fd: int) -> None:
    """
    Remove what lies in a scope only while it waits.

    Raises:
        OSError: If its outside paths would still be told there, where nobody takes one back.
    """
    for name in (_STAGED, RECORD):
        try:
            os.unlink(name, dir_fd=dir_fd)
        except OSError:
            # Missing, or it goes with the scope.
            continue
    _remove_if_there(dir_fd, OUTSIDE)


def linked_in(directory: str, staged: Sequence[StagedFile]) -> dict[str, tuple[Path, LinkedState]]:
    """Return what is to be remembered of the inputs among *staged* that are links, by their names there."""
    return {
        os.path.relpath(each.path, directory): (each.source, each.linked)
        for each in staged
        if isinstance(each, StagedOnDisk) and each.linked is not None
    }


def _put(dir_fd: int, name: str, data: bytes) -> None:
    if data:
        write_whole(dir_fd, name, data)
    else:
        # What a program of the job, or an earlier hand-over, left under the name counts for nothing.
        _remove_if_there(dir_fd, name)


def _remove_if_there(dir_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        # The usual case.
        return


def _line(name: str, source: Path, state: LinkedState) -> bytes:
    value = {"name": name, "source": str(source), "linked": attrs.astuple(state)}
    return encode_object(value) + b"\n"


def _linked(dir_fd: int) -> Iterator[tuple[str, tuple[Path, LinkedState]]]:
    try:
        with Descriptor.open(_STAGED, _READ, dir_fd=dir_fd) as file:
            for line in lines_of(file.fd):
                found = _parse(parse_object(line) or {})
                if found is None:
                    _log.warn("what is known of a linked input cannot be read; it is not verified")
                else:
                    yield found
    except FileNotFoundError:
        # None was linked.
        return


def _parse(value: dict[str, Any]) -> tuple[str, tuple[Path, LinkedState]] | None:
    name, source, numbers = value.get("name"), value.get("source"), value.get("linked")
    if not isinstance(name, str) or not is_plain_path(f"/{name}") or not is_plain_path(source):
        return None
    if not isinstance(numbers, list) or len(numbers) != len(attrs.fields(LinkedState)):
        return None
    if not all(type(number) is int for number in numbers):
        return None
    return name, (Path(source), LinkedState(*numbers))


# -- finding


def check_token(token: object) -> None:
    """Raise :class:`~tempscope.HandOverError` if *token* cannot be one."""
    if not isinstance(token, str) or not is_token(token):
        raise HandOverError(
            f"{token!r} is no token of detach(): that is 26 characters, a to z and 2 to 7, and nothing else"
        )


def find_waiting(root: Root, token: str, now: Instant) -> Waiting:
    """
    Find the scope that waits under *token*, and share its lock.

    Raises:
        HandOverError: If the token is unknown or used, or its time has passed.

        OSError: If it cannot be looked at.
    """
    name = f"d-{token}"
    try:
        directory = open_subdirectory(root.fd, name)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise used(root, error) from error
        raise
    try:
        return _read(root, name, directory, now)
    except BaseException:
        directory.close()
        raise


def _read(root: Root, name: str, directory: Descriptor, now: Instant) -> Waiting:
    record = read_record(directory.fd)
    if record is None or not is_token(record.token):
        raise _unreadable(root, name)
    if record.expired(now):
        raise HandOverError(
            "the time of this token has passed, and a sweep removes the scope: detach(ttl=...) says how long "
            "it waits",
            scope=record.name,
        )
    if _lock.share(directory.fd) == "busy":
        raise HandOverError("a sweep is removing what waited under this token", scope=record.name)
    outside = read_journal(directory.fd, OUTSIDE)
    if outside.unreadable:
        raise _unreadable(root, name)
    return Waiting(name, directory, record, list(outside.outside.values()), dict(_linked(directory.fd)))


def _unreadable(root: Root, name: str) -> HandOverError:
    return HandOverError(
        f"what waits under this token cannot be read: look at {name} in {escape(root.path)!r}, which nobody "
        "removes"
    )


def used(root: Root, cause: OSError) -> HandOverError:
    """Return the error for a token under which nothing waits."""
    return HandOverError(
        f"no scope waits under this token in {escape(root.path)!r}: it was used before, it was "
        "swept after its time, or it was never given out here",
        cause=cause,
    )
