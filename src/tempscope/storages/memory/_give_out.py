"""
Taking a finished file or directory out of memory.

Whoever looks at the destination sees the old content or the new, whole.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

from tempscope.errors import StorageError
from tempscope.protocols import Progress
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._destination import Destination
from tempscope.storages._publish import give_name
from tempscope.storages._unnamed import open_without_name
from tempscope.storages.memory._path import MemoryPath


__all__ = ["give_out", "move_out"]

_BUFFER = 1 << 20
_CREATE = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)  # fmt: skip


def give_out(
    path: MemoryPath,
    destination: str,
    *,
    overwrite: bool,
    durable: bool,
    mode: int | None,
    progress: Progress | None,
) -> None:
    """
    Write *path* to the real *destination*, atomically; *path* stays.

    Raises:
        StorageError: If it cannot be; nothing half-written is visible.
    """
    place = Destination(destination, overwrite, durable)
    try:
        directory = path.is_dir()
        path.stat()
        with place:
            bits = place.mode_for(mode, directory=directory)
            writer = _Writer(path, durable, progress)
            if directory or not writer.without_name(path, place, bits):
                with place.beside() as beside:
                    copy = os.path.join(place.directory, beside)
                    if directory:
                        writer.tree(path, copy, bits)
                    else:
                        writer.file(path, copy, bits)
                    install = place.install_tree if directory else place.install
                    install(beside, place.fd)
            place.sync()
    except StorageError:
        raise
    except OSError as error:
        raise place.failure(error, path.display) from error


def move_out(path: MemoryPath, destination: MemoryPath, *, overwrite: bool, mode: int | None) -> None:
    """
    Move *path*, which is there, to *destination* in another scope; the caller holds the locks of both.

    Raises:
        StorageError: If it cannot be; it is still where it was, the destination too.
    """
    place = Destination(destination.display, overwrite, durable=False)
    try:
        found = destination.stat() if destination.exists() else None
        if found is not None:
            if not overwrite:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            place.refuse_to_replace(found.st_mode, path.is_dir())
        moved = path.move(destination)
        if moved.is_file():
            inherited = destination._tree.volume.masked(0o666) if found is None else found.st_mode
            moved.chmod((inherited if mode is None else mode) & 0o777)
    except StorageError:
        raise
    except OSError as error:
        raise place.failure(error, path.display) from error


class _Writer:
    """One publication, and how far it is."""

    def __init__(self, path: MemoryPath, durable: bool, progress: Progress | None) -> None:
        self._durable = durable
        self._progress = progress
        self._done = 0
        self._total = _size(path) if progress is not None else 0

    def without_name(self, path: Path, place: Destination, mode: int) -> bool:
        """
        Write a file that has no name until it is whole; False if the system has none such.

        No journal knows of the copy, so this is how a process that is killed meanwhile leaves nothing.
        """
        copy = open_without_name(place.fd, "wb")
        if copy is None:
            return False
        with copy:
            self._fill(path, copy)
            os.fchmod(copy.fileno(), mode)
            if self._durable:
                os.fsync(copy.fileno())
            named = give_name(copy.fileno(), place)
        self._done = self._done if named else 0
        return named

    def file(self, path: Path, place: str, mode: int) -> None:
        with open(os.open(place, _CREATE, 0o600), "wb") as copy:
            self._fill(path, copy)
            os.chmod(place, mode)
            if self._durable:
                os.fsync(copy.fileno())

    def _fill(self, path: Path, copy: IO[bytes]) -> None:
        with path.open("rb", buffering=0) as content:
            while piece := content.read(_BUFFER):
                copy.write(piece)
                self._done += len(piece)
                if self._progress is not None:
                    self._progress(self._done, max(self._total, self._done))
        copy.flush()

    def tree(self, top: MemoryPath, place: str, mode: int) -> None:
        waiting: list[tuple[Path, str, int]] = [(top, place, mode)]
        made = []
        while waiting:
            here, there, mode = waiting.pop()
            os.mkdir(there, 0o700)
            made.append((there, mode))
            for child in here.iterdir():
                copy = os.path.join(there, child.name)
                if child.is_symlink():
                    os.symlink(os.readlink(child), copy)
                elif child.is_dir():
                    waiting.append((child, copy, child.stat().st_mode & 0o777))
                else:
                    self.file(child, copy, child.stat().st_mode & 0o777)
        for there, mode in reversed(made):
            os.chmod(there, mode)
            if self._durable:
                with Descriptor.open(there, os.O_RDONLY) as directory:
                    os.fsync(directory.fd)


def _size(path: MemoryPath) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(child.lstat().st_size for child in path.rglob("*") if child.is_file())
