"""
Taking a finished file or directory out of memory.

Whoever looks at the destination sees the old content or the new, whole.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

from tempscope._names import RESERVED_PREFIX
from tempscope.errors import StorageError
from tempscope.protocols import Progress
from tempscope.storages._descriptor import Descriptor, open_file
from tempscope.storages._destination import Destination
from tempscope.storages._publish import give_name
from tempscope.storages._token import new_token
from tempscope.storages._unnamed import open_without_name
from tempscope.storages.memory._path import MemoryPath
from tempscope.storages.memory._remove import remove


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
    scope: str,
) -> None:
    """
    Write *path* of the scope named *scope* to the real *destination*, atomically; *path* stays.

    Raises:
        StorageError: If it cannot be; nothing half-written is visible.
    """
    place = Destination(destination, overwrite, durable, scope=scope)
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


def move_out(
    path: MemoryPath, destination: MemoryPath, *, overwrite: bool, mode: int | None, scope: str
) -> None:
    """
    Move *path*, which is there in the scope named *scope*, to *destination* in another one.

    The caller holds the locks of both.

    Raises:
        StorageError: If it cannot be; it is still where it was, the destination too.
    """
    place = Destination(destination.display, overwrite, durable=False, scope=scope)
    volume = destination._tree.volume
    try:
        if not destination._names:
            raise StorageError(
                f"{destination.display!r} is a scope's own directory: name a place in it",
                errno=errno.EISDIR,
                path=destination,
                scope=scope,
            )
        if not destination.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        directory = path.is_dir()
        present = _mode_of(destination)
        bits = place.mode_over(present, mode, directory=directory, umask=lambda: ~volume.masked(0o777))
        if directory and stat.S_ISLNK(present):
            raise StorageError(
                f"{destination.display!r} is a link, which no directory replaces in memory: remove it",
                errno=errno.ENOTDIR,
                path=destination,
                scope=scope,
            )
        _rename(path, destination)
        destination.chmod(bits)
    except StorageError:
        raise
    except OSError as error:
        raise place.failure(error, path.display) from error


def _mode_of(path: MemoryPath) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _rename(path: MemoryPath, destination: MemoryPath) -> None:
    try:
        path.replace(destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    # Of two storages: whole before it has the name, so that what was there stays if there is no room.
    beside = destination.with_name(f"{RESERVED_PREFIX}{new_token()}")
    try:
        path.copy(beside, follow_symlinks=False, preserve_metadata=True)
        beside.replace(destination)
    except BaseException:
        remove(beside._tree, beside._names)
        raise
    remove(path._tree, path._names)


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
            self._fill(path, copy, mode)
            named = give_name(copy.fileno(), place)
        self._done = self._done if named else 0
        return named

    def file(self, path: Path, place: str, mode: int) -> None:
        with open_file(place, _CREATE, "wb") as copy:
            self._fill(path, copy, mode)

    def _fill(self, path: Path, copy: IO[bytes], mode: int) -> None:
        with path.open("rb", buffering=0) as content:
            while piece := content.read(_BUFFER):
                copy.write(piece)
                # Told of is only what is there, and closing must have nothing more to say.
                copy.flush()
                self._done += len(piece)
                if self._progress is not None:
                    self._progress(self._done, max(self._total, self._done))
        os.fchmod(copy.fileno(), mode)
        if self._durable:
            os.fsync(copy.fileno())

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
