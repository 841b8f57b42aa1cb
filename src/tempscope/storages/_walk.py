"""
Going through a directory tree, relative to descriptors: two of them are open, however deep it is.

No link is followed.  Unlike the deleter it stops at the first thing that is wrong: what is copied, or
synced, must be whole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import attrs

from tempscope.storages._descriptor import Descriptor
from tempscope.storages._openat2 import open_directory


__all__ = ["Step", "Walk", "WhatItIs"]

WhatItIs: TypeAlias = Literal["enter", "leave", "file", "link", "other"]


class Step(NamedTuple):
    """
    One thing that is met.

    A directory is entered (``fd`` is then open on it), and left when all in it was met; all else has
    ``fd`` on the directory that it is in.
    ``name`` is empty for the top.
    """

    what: WhatItIs
    fd: int
    name: str


@attrs.define
class _Level:
    name: str
    identity: tuple[int, int]
    subdirectories: list[str]


class Walk:
    """
    One walk over the tree whose top is open as *top*, which stays open; used once, by one thread.

    Raises:
        OSError: From the iterator: what cannot be read, and ``ESTALE`` if a directory is moved
            meanwhile.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._levels: list[_Level] = []
        self._name = ""

    @property
    def path(self) -> str:
        """Where the walk is, relative to the top; for messages."""
        names = [*(level.name for level in self._levels[1:]), self._name]
        return "/".join(name for name in names if name)

    def __iter__(self) -> Iterator[Step]:
        current = open_directory(".", dir_fd=self._top)
        yield from self._arrive("", current)
        while True:
            level = self._levels[-1]
            if level.subdirectories:
                name = self._name = level.subdirectories.pop()
                current = open_directory(name, dir_fd=current.fd)
                yield from self._arrive(name, current)
                continue
            self._name = ""
            yield Step("leave", current.fd, level.name)
            if len(self._levels) == 1:
                return
            current = self._go_up(current)

    def _arrive(self, name: str, current: Descriptor) -> Iterator[Step]:
        status = os.fstat(current.fd)
        level = _Level(name, (status.st_dev, status.st_ino), [])
        self._levels.append(level)
        self._name = ""
        yield Step("enter", current.fd, name)
        others: list[tuple[WhatItIs, str]] = []
        with os.scandir(current.fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    level.subdirectories.append(entry.name)
                else:
                    others.append((_what_is(entry), entry.name))
        for what, self._name in others:
            yield Step(what, current.fd, self._name)

    def _go_up(self, current: Descriptor) -> Descriptor:
        self._levels.pop()
        above = open_directory("..", dir_fd=current.fd)
        status = os.fstat(above.fd)
        if (status.st_dev, status.st_ino) != self._levels[-1].identity:
            raise OSError(errno.ESTALE, "a directory was moved meanwhile", self.path)
        return above


def _what_is(entry: os.DirEntry[str]) -> WhatItIs:
    if entry.is_symlink():
        return "link"
    return "file" if entry.is_file(follow_symlinks=False) else "other"
