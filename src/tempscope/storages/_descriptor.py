"""
Open descriptors, each closed exactly once.

Between ``os.open`` returning a number and Python storing it, a signal handler may raise, and the
number is lost; between ``os.close`` and forgetting the number, it may be closed twice, which
closes somebody else's file.
Here both steps happen inside one call into C, where no handler runs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import IO, Any, Self


__all__ = ["Descriptor", "Descriptors", "close_own", "identity_of", "is_own", "open_file"]

_consume: Callable[[Iterable[Any]], object] = deque(maxlen=0).extend


class _Owner:
    """
    Lives as long as somebody holds it and closes with the last reference at the latest.

    One thread uses it; two may close it at once.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[int] = []

    def _open(self, name: str, flags: int, mode: int, dir_fd: int | None) -> None:
        if dir_fd is None:
            self._held.extend(map(os.open, (name,), (flags,), (mode,)))
        else:
            self._held.extend(map(partial(os.open, mode=mode, dir_fd=dir_fd), (name,), (flags,)))

    def close(self) -> None:
        """Close all; closing twice, or by two threads at once, is not an error."""
        for _ in range(len(self._held)):
            try:
                self._close_last()
            except (IndexError, OSError):
                # Linux frees the number even when close(2) fails; trying again would be the bug.
                pass

    def finish(self) -> None:
        """
        Close what was opened last, and say what closing said: a file written to may fail only now.

        Raises:
            OSError: The number is free all the same.
        """
        if self._held:
            self._close_last()

    def _close_last(self) -> None:
        _consume(map(os.close, map(list.pop, (self._held,))))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self.close()

    def __del__(self) -> None:
        try:
            if self._held:
                self.close()
        except AttributeError:
            # An interrupt came before there was anything to hold.
            pass


class Descriptors(_Owner):
    """Owns the descriptors that one ``with`` block opens."""

    __slots__ = ()

    def open(self, name: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        """Open *name* relative to *dir_fd*, close-on-exec; raises what ``os.open`` raises."""
        self._open(name, flags, mode, dir_fd)
        return self._held[-1]


class Descriptor(_Owner):
    """Owns at most one descriptor."""

    __slots__ = ()

    @classmethod
    def open(cls, name: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> Self:
        """Open *name* relative to *dir_fd*, close-on-exec; raises what ``os.open`` raises."""
        self = cls()
        self._open(name, flags, mode, dir_fd)
        return self

    def reopen(self, name: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> None:
        """Close what is held, then open *name*."""
        self.close()
        self._open(name, flags, mode, dir_fd)

    def take(self, opened: Iterator[int]) -> None:
        """Hold what *opened* yields; all of it must be C, or a handler could run in between."""
        self._held.extend(opened)

    @property
    def fd(self) -> int:
        """The number; ValueError if nothing is held."""
        try:
            return self._held[0]
        except IndexError:
            raise ValueError("the descriptor is closed") from None

    @property
    def closed(self) -> bool:
        """Whether nothing is held."""
        return not self._held

    def swap(self, other: Descriptor) -> None:
        """Exchange what both hold."""
        self._held, other._held = other._held, self._held

    def forget(self) -> None:
        """Let go of the number without closing it: somebody else closed it and it may be reused."""
        self._held.clear()

    def __repr__(self) -> str:
        return f"<Descriptor {self._held[0] if self._held else 'closed'}>"


def open_file(name: str, flags: int, mode: str, *, dir_fd: int | None = None) -> IO[Any]:
    """
    Open *name* relative to *dir_fd*, mode 0600 if it is made, as a file of Python's in *mode*.

    Raises:
        OSError: What ``os.open`` says.
    """
    opened = map(partial(os.open, mode=0o600, dir_fd=dir_fd), (name,), (flags,))
    [file] = map(partial(open, mode=mode), opened)
    return file


def identity_of(fd: int) -> tuple[int, int]:
    """Return device and inode of what *fd* is."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def is_own(descriptor: Descriptor, identity: tuple[int, int]) -> bool:
    """Return whether *descriptor* still is what it was; False also where the system does not say."""
    try:
        return not descriptor.closed and identity_of(descriptor.fd) == identity
    except (OSError, ValueError):
        return False


def close_own(descriptor: Descriptor, identity: tuple[int, int]) -> bool:
    """Close *descriptor* if it still is what it was, else forget its number; returns which."""
    own = is_own(descriptor, identity)
    if own:
        descriptor.close()
    else:
        # Somebody else closed it, and it may be another file's by now.
        descriptor.forget()
    return own
