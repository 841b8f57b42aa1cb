"""Bringing an outside file or directory into memory."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import attrs

from tempscope._names import escape
from tempscope.errors import NameTakenError, PathMissingError, StorageError
from tempscope.model import StagedMethod
from tempscope.protocols import Progress
from tempscope.storages._failure import storage_error
from tempscope.storages._staged import LinkedState, torn
from tempscope.storages.memory._path import MemoryPath
from tempscope.storages.memory._remove import remove
from tempscope.storages.memory._transfer import set_times


__all__ = ["StagedInMemory", "take_in"]

_BUFFER = 1 << 20


@attrs.frozen(kw_only=True)
class StagedInMemory:
    """
    An outside file as it stands in memory; see :class:`~tempscope.protocols.StagedFile`.

    Lives until the scope closes; all threads of the job may use it.
    """

    path: Path
    source: Path
    method: StagedMethod = "copy"
    bytes_saved: int = 0

    def verify(self) -> None:
        """Do nothing: a copy cannot harm its source."""


def take_in(source: Path, target: MemoryPath, *, writable: bool, progress: Progress | None) -> None:
    """
    Copy *source*, with its modes and times, to *target*, where nothing is.

    Raises:
        StorageError: If it cannot be; nothing of the copy stays.
    """
    try:
        status = source.stat()
        if stat.S_ISDIR(status.st_mode):
            target.mkdir(0o700)
        else:
            _refuse_unless_file(source, status)
            target.touch(0o600, exist_ok=False)
    except OSError as error:
        raise _failed(error, source, target) from error
    try:
        _Copy(source, progress).run(source, target, status, writable)
    except BaseException as error:
        _undo(target)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise _failed(error, source, target) from error
        raise


def _failed(error: OSError, source: Path, target: MemoryPath) -> OSError:
    if isinstance(error, StorageError):
        return error
    if isinstance(error, FileExistsError):
        return NameTakenError(f"the name {target.name!r} is taken in this scope", path=target, cause=error)
    shown = _shown(source)
    if error.errno == errno.ENOTDIR:
        return PathMissingError(f"{shown!r} is not there, so it cannot be staged", path=shown, cause=error)
    return storage_error(error, f"{shown!r} cannot be staged", path=str(getattr(source, "display", source)))


class _Copy:
    """One copy, and how far it is."""

    def __init__(self, source: Path, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self._total = _size(source) if progress is not None else 0

    def run(self, source: Path, target: Path, status: os.stat_result, writable: bool) -> None:
        waiting = [(source, target, status)]
        directories = []
        while waiting:
            here, there, status = waiting.pop()
            if stat.S_ISDIR(status.st_mode):
                directories.append((there, status))
                for child in here.iterdir():
                    inside = child.lstat()
                    copy = there / child.name
                    if stat.S_ISDIR(inside.st_mode):
                        copy.mkdir(0o700)
                    waiting.append((child, copy, inside))
            elif stat.S_ISLNK(status.st_mode):
                there.symlink_to(here.readlink())
            else:
                _refuse_unless_file(here, status)
                self._file(here, there, status)
                _dress(there, status, 0o200 if writable else 0)
        for there, status in reversed(directories):
            _dress(there, status, 0o700 if writable else 0o500)

    def _file(self, source: Path, target: Path, status: os.stat_result) -> None:
        with _opened(source) as content, target.open("wb", buffering=0) as copy:
            if not isinstance(source, MemoryPath):
                # Something else may have taken the source's name since we looked.
                _refuse_unless_file(source, os.fstat(content.fileno()))
            while piece := content.read(_BUFFER):
                copy.write(piece)
                self._done += len(piece)
                if self._progress is not None:
                    self._progress(self._done, max(self._total, self._done))
        changed = LinkedState.of(status).differences(LinkedState.of(source.stat()))
        if changed:
            raise torn(source, changed)


def _refuse_unless_file(source: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(
            f"{_shown(source)!r} is neither a file nor a directory, so it cannot be staged",
            errno=errno.EINVAL,
            path=getattr(source, "display", source),
        )


def _shown(source: Path) -> str:
    return escape(str(getattr(source, "display", source)))


def _opened(source: Path) -> io.RawIOBase:
    if isinstance(source, MemoryPath):
        return source.open("rb", buffering=0)  # type: ignore[return-value]
    # Never waits for the other end of a pipe that took the file's place.
    return io.FileIO(
        source, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    )


def _dress(path: Path, status: os.stat_result, more: int) -> None:
    path.chmod(stat.S_IMODE(status.st_mode) & 0o777 | more)
    set_times(path, status.st_atime_ns, status.st_mtime_ns)


def _size(source: Path) -> int:
    if not source.is_dir():
        return source.stat().st_size
    return sum(
        child.lstat().st_size for child in source.rglob("*") if child.is_file() and not child.is_symlink()
    )


def _undo(target: MemoryPath) -> None:
    with target._tree.volume.lock:
        remove(target._tree, target._names)
