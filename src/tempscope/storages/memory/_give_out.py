"""
Taking a finished file or directory out of memory.

Whoever looks at the destination sees the old content or the new, whole.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from tempscope._names import RESERVED_PREFIX, escape
from tempscope.errors import NameTakenError, PathMissingError, StorageError
from tempscope.protocols import Progress
from tempscope.storages._failure import storage_error
from tempscope.storages._publish import published_mode, sync_directory
from tempscope.storages._token import new_token
from tempscope.storages.memory._node import read_umask
from tempscope.storages.memory._path import MemoryPath


__all__ = ["give_out"]

_BUFFER = 1 << 20
_CREATE = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)  # fmt: skip
_NO_LINKS = frozenset([errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])


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
    directory = path.is_dir()
    try:
        path.stat()
        beside = os.path.join(os.path.dirname(destination), f"{RESERVED_PREFIX}{new_token()}")
        writer = _Writer(path, durable, progress)
        try:
            if directory:
                writer.tree(path, beside, 0o777 & ~read_umask() if mode is None else mode)
                _install_directory(beside, destination, overwrite)
            else:
                writer.file(path, beside, published_mode(destination, mode))
                _install(beside, destination, overwrite)
        except BaseException:
            _discard(beside)
            raise
        if durable:
            sync_directory(os.path.dirname(destination))
    except StorageError:
        raise
    except OSError as error:
        raise _not_published(error, destination) from error


class _Writer:
    """One publication, and how far it is."""

    def __init__(self, path: MemoryPath, durable: bool, progress: Progress | None) -> None:
        self._durable = durable
        self._progress = progress
        self._done = 0
        self._total = _size(path) if progress is not None else 0

    def file(self, path: Path, place: str, mode: int) -> None:
        with (
            path.open("rb", buffering=0) as content,
            open(os.open(place, _CREATE, 0o600), "wb", buffering=0) as copy,
        ):
            while piece := content.read(_BUFFER):
                rest = memoryview(piece)
                while rest:
                    rest = rest[copy.write(rest) :]
                self._done += len(piece)
                if self._progress is not None:
                    self._progress(self._done, max(self._total, self._done))
            os.chmod(place, mode)
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
                sync_directory(there)


def _size(path: MemoryPath) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(child.lstat().st_size for child in path.rglob("*") if child.is_file())


def _install(beside: str, destination: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(beside, destination)
        return
    try:
        # link(2) refuses an existing name in one step, which a check before a rename cannot.
        os.link(beside, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links (FAT, some FUSE): claim the name, then replace the claim.
        os.close(os.open(destination, _CREATE, 0o600))
        os.replace(beside, destination)
    else:
        os.unlink(beside)


def _install_directory(beside: str, destination: str, overwrite: bool) -> None:
    if not overwrite:
        os.mkdir(destination, 0o700)
        try:
            os.rename(beside, destination)
        except BaseException:
            os.rmdir(destination)
            raise
        return
    os.rename(beside, destination)


def _discard(place: str) -> None:
    if os.path.isdir(place):
        shutil.rmtree(place, ignore_errors=True)
    elif os.path.lexists(place):
        os.unlink(place)


def _not_published(error: OSError, destination: str) -> StorageError:
    what = f"nothing can be published as {escape(destination)!r}"
    if error.errno == errno.EEXIST:
        return NameTakenError(
            f"{what}: something is there already, and overwrite is False", path=destination, cause=error
        )
    parent = os.path.dirname(destination)
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(parent):
        return PathMissingError(
            f"{what}: its directory {escape(parent)!r} is not there", path=destination, cause=error
        )
    return storage_error(error, what, path=destination)
