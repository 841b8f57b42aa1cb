"""
Bringing an outside file in: hard link, reflink, copy, each where the one before cannot be.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tempscope._names import escape
from tempscope.errors import PathMissingError, StagedSourceChangedError, StorageError
from tempscope.protocols import Progress
from tempscope.storages._copy import STEP_DOWN, copy_bytes, knows_unable, note_unable, reflink
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._staged import LinkedState, StagedOnDisk


__all__ = ["stage_file"]

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LINK_STEP_DOWN = STEP_DOWN | {errno.EACCES}
"""Some file systems refuse links so; where the source itself cannot be read, copying says that."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def stage_file(
    source: Path,
    dir_fd: int,
    name: str,
    path: Path,
    *,
    link_from: int | None,
    progress: Progress | None,
    reserve: Callable[[int], AbstractContextManager[None]] | None = None,
) -> StagedOnDisk:
    """
    Bring the file *source* into the directory *dir_fd* as *name*.

    Args:
        source: An absolute path; a link is followed once, here.

        dir_fd: The area's directory.

        name: A name that was checked.

        path: Where the result stands, as the caller will know it.

        link_from: From how many bytes on a hard link is tried; None for never.

        progress: Called while copying.

        reserve: Entered round a reflink or a copy, with its size; what it raises comes out of here.
    """
    status = _look_at(source)
    if stat.S_ISLNK(status.st_mode):
        source = Path(os.path.realpath(source))
        status = _look_at(source)
    _refuse_unless_file(source, status)
    if link_from is not None and status.st_size >= link_from and _link(source, status, dir_fd, name, path):
        return _linked(source, dir_fd, name, path)
    return _duplicate(source, dir_fd, name, path, progress, reserve or nullcontext)


def _refuse_unless_file(source: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(
            f"{escape(str(source))!r} is neither a file nor a link to one, so it cannot be staged",
            errno=errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL,
            path=source,
        )


def _look_at(source: Path) -> os.stat_result:
    try:
        return os.lstat(source)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise PathMissingError(
                f"{escape(str(source))!r} is not there, so it cannot be staged", path=source, cause=error
            ) from error
        raise _not_staged(error, source) from error


def _link(source: Path, status: os.stat_result, dir_fd: int, name: str, path: Path) -> bool:
    area = os.fstat(dir_fd)
    if knows_unable("link", status, area):
        return False
    try:
        os.link(source, name, dst_dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _LINK_STEP_DOWN:
            raise _not_staged(error, source, path) from error
        note_unable("link", status, area, error.errno)
        return False
    return True


def _linked(source: Path, dir_fd: int, name: str, path: Path) -> StagedOnDisk:
    status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    try:
        # Something else may have taken the source's name between our looking and our linking.
        _refuse_unless_file(source, status)
    except StorageError:
        os.unlink(name, dir_fd=dir_fd)
        raise
    linked = LinkedState.of(status)
    return StagedOnDisk(path=path, source=source, method="hardlink", bytes_saved=linked.size, linked=linked)


def _duplicate(
    source: Path,
    dir_fd: int,
    name: str,
    path: Path,
    progress: Progress | None,
    reserve: Callable[[int], AbstractContextManager[object]],
) -> StagedOnDisk:
    try:
        with Descriptor.open(os.fspath(source), _READ) as reading:
            status = os.fstat(reading.fd)
            _refuse_unless_file(source, status)
            with (
                reserve(status.st_size),
                Descriptor.open(name, _CREATE, 0o600, dir_fd=dir_fd) as writing,
            ):
                shared = _fill(source, reading.fd, writing, status, dir_fd, name, progress)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _not_staged(error, source, path) from error
    return StagedOnDisk(
        path=path,
        source=source,
        method="reflink" if shared else "copy",
        bytes_saved=status.st_size if shared else 0,
    )


def _fill(
    source: Path,
    reading: int,
    writing: Descriptor,
    status: os.stat_result,
    dir_fd: int,
    name: str,
    progress: Progress | None,
) -> bool:
    try:
        shared = reflink(reading, writing.fd)
        if not shared:
            copy_bytes(reading, writing.fd, status.st_size, progress)
        # Never set-id bits, and always readable and writable by its new owner.
        os.fchmod(writing.fd, stat.S_IMODE(status.st_mode) & 0o777 | 0o600)
        os.utime(writing.fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        writing.finish()
        _refuse_if_changed(source, status, os.fstat(reading))
    except BaseException:
        _remove_if_there(name, dir_fd)
        raise
    return shared


def _refuse_if_changed(source: Path, before: os.stat_result, after: os.stat_result) -> None:
    changed = LinkedState.of(before).differences(LinkedState.of(after))
    if not changed:
        return
    error = StagedSourceChangedError(
        f"{escape(str(source))!r} was written to while being copied (its {', '.join(changed)} changed), "
        "so the copy may be neither the old content nor the new: stage it when it is finished",
        path=source,
    )
    error.changed = changed
    raise error


def _remove_if_there(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass


def _not_staged(error: OSError, source: Path, path: Path | None = None) -> StorageError:
    about = path if path is not None and error.errno in (errno.EEXIST, errno.ENOSPC, errno.EDQUOT) else source
    return storage_error(error, f"{escape(str(source))!r} cannot be staged", path=str(about))
