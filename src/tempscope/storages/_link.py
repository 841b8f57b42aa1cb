"""
Bringing an outside file or directory in: hard link, reflink, copy, each where the one before cannot be.

A directory comes in file by file, by the same ways.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import attrs

from tempscope._names import escape
from tempscope.errors import NameTakenError, PathMissingError, StagedSourceChangedError, StorageError
from tempscope.model import StagedMethod
from tempscope.protocols import Progress
from tempscope.storages._copy import LINKS, REFLINKS, STEP_DOWN, copy_bytes, reflink
from tempscope.storages._delete import remove_entry
from tempscope.storages._descriptor import Descriptor, Descriptors
from tempscope.storages._failure import storage_error
from tempscope.storages._openat2 import open_directory
from tempscope.storages._replicate import replicate
from tempscope.storages._root import make_private_directory
from tempscope.storages._staged import LinkedState, StagedOnDisk, digest_of, torn
from tempscope.storages._walk import Walk


__all__ = ["Linking", "stage", "stage_at_once"]

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LOOK = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LINK_STEP_DOWN = STEP_DOWN | {errno.EACCES}
"""Some file systems refuse links so; where the source itself cannot be read, copying says that."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_AT_TARGET = (errno.ENOSPC, errno.EDQUOT)


Reserve: TypeAlias = Callable[[int], AbstractContextManager[object]]


class Linking(NamedTuple):
    """
    When a hard link is tried: for files of ``threshold`` bytes or more.

    ``by_content`` says whether what was linked is also compared by what is in it.
    """

    threshold: int = 0
    by_content: bool = False


class _Came(NamedTuple):
    """How one file came in, how large it is, and the source's device and inode."""

    method: StagedMethod
    size: int
    identity: tuple[int, int]
    linked: LinkedState | None = None


def stage(
    source: Path,
    dir_fd: int,
    name: str,
    path: Path,
    *,
    linking: Linking | None,
    progress: Progress | None,
    reserve: Reserve | None = None,
) -> StagedOnDisk:
    """
    Bring *source* into the directory *dir_fd* as *name*.

    Args:
        source: An absolute path of a file or directory; a link is followed once, here.

        dir_fd: The area's directory.

        name: A name that was checked.

        path: Where the result stands, as the caller will know it.

        linking: When a hard link is tried; None for never.

        progress: Called while copying.

        reserve: Entered round each reflink or copy, with its size; what it raises comes out of here.

    Raises:
        StorageError: If it cannot be; nothing of it stays.

        StagedSourceChangedError: If a file changed while it was copied.
    """
    status = _look_at(source)
    if stat.S_ISLNK(status.st_mode):
        source = Path(os.path.realpath(source))
        status = _look_at(source)
    if stat.S_ISDIR(status.st_mode):
        return _Tree(source, dir_fd, name, path, linking, progress, reserve or nullcontext).stage()
    try:
        came = _bring_in(
            None, os.fspath(source), dir_fd, name, linking, progress, reserve or nullcontext, status
        )
    except StorageError:
        raise
    except OSError as error:
        raise _not_staged(error, source, path) from error
    return _staged(source, path, came)


def stage_at_once(
    source: Path, dir_fd: int, name: str, path: Path, linking: Linking | None, *, reflinks: bool
) -> StagedOnDisk | None:
    """
    Stage the file *source* by hard link, in three system calls, or by reflink.

    Neither copies, so the caller may hold a lock meanwhile.

    Args:
        reflinks: Whether a reflink, which nobody reserves room for here, may be tried.

    Returns:
        None if :func:`stage` has more to do, or to say.
    """
    text = os.fspath(source)
    try:
        status = os.lstat(text)
        if not stat.S_ISREG(status.st_mode):
            return None
        if linking is not None and status.st_size >= linking.threshold:
            if linking.by_content:
                return None
            if _link(None, text, dir_fd, name, status.st_dev):
                return _staged(source, path, _linked(dir_fd, name, linking))
        if not reflinks or (REFLINKS and REFLINKS.suspects(status.st_dev, os.fstat(dir_fd).st_dev)):
            return None
        with Descriptors() as held:
            reading, status = _open_source(held, None, text)
            return _staged(source, path, _fill_new(held, reading, status, dir_fd, name, _refuse_to_copy))
    except OSError:
        # The other function knows the words.
        return None


def _staged(source: Path, path: Path, came: _Came) -> StagedOnDisk:
    return StagedOnDisk(
        path=path,
        source=source,
        method=came.method,
        bytes_saved=0 if came.method == "copy" else came.size,
        linked={} if came.linked is None else {"": came.linked},
        identity=came.identity,
    )


def _look_at(source: Path) -> os.stat_result:
    try:
        return os.lstat(source)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise PathMissingError(
                f"{escape(str(source))!r} is not there, so it cannot be staged", path=source, cause=error
            ) from error
        raise _not_staged(error, source, source) from error


# -- one file


def _bring_in(
    from_fd: int | None,
    source: str,
    into: int,
    name: str,
    linking: Linking | None,
    progress: Progress | None,
    reserve: Reserve,
    status: os.stat_result,
) -> _Came:
    """Bring the file *source*, relative to *from_fd*, in; raises OSError."""
    _refuse_unless_file(status)
    if (
        linking is not None
        and status.st_size >= linking.threshold
        and _link(from_fd, source, into, name, status.st_dev)
    ):
        return _linked(into, name, linking)
    return _duplicate(from_fd, source, into, name, progress, reserve)


def _refuse_unless_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is neither a file nor a directory, nor a link to one")


def _link(from_fd: int | None, source: str, into: int, name: str, device: int) -> bool:
    if LINKS and LINKS.suspects(device, os.fstat(into).st_dev):
        with Descriptor.open(source, _LOOK, dir_fd=from_fd) as known:
            if LINKS.knows(known.fd, into):
                return False
    try:
        os.link(source, name, src_dir_fd=from_fd, dst_dir_fd=into, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _LINK_STEP_DOWN:
            raise
        with Descriptor.open(source, _LOOK, dir_fd=from_fd) as known:
            LINKS.note(known.fd, into, error.errno)
        return False
    return True


def _linked(into: int, name: str, linking: Linking) -> _Came:
    try:
        status = os.stat(name, dir_fd=into, follow_symlinks=False)
        # Something else may have taken the source's name between our looking and our linking.
        _refuse_unless_file(status)
        state = LinkedState.of(status)
        if linking.by_content:
            state = state._replace(digest=digest_of(name, dir_fd=into))
    except BaseException:
        _remove_if_there(name, into)
        raise
    return _Came("hardlink", state.size, (state.device, state.inode), state)


def _duplicate(
    from_fd: int | None, source: str, into: int, name: str, progress: Progress | None, reserve: Reserve
) -> _Came:
    with Descriptors() as held:
        reading, status = _open_source(held, from_fd, source)
        with reserve(status.st_size):
            return _fill_new(held, reading, status, into, name, partial(copy_bytes, progress=progress))


def _open_source(held: Descriptors, from_fd: int | None, source: str) -> tuple[int, os.stat_result]:
    reading = held.open(source, _READ, dir_fd=from_fd)
    status = os.fstat(reading)
    _refuse_unless_file(status)
    return reading, status


def _fill_new(
    held: Descriptors,
    reading: int,
    status: os.stat_result,
    into: int,
    name: str,
    copy: Callable[[int, int], object],
) -> _Came:
    """Make a new file *name* that is as *reading*, whose *status* was read."""
    # Never set-id bits, and always readable and writable by its new owner.
    mode = status.st_mode & 0o777 | 0o600
    writing = held.open(name, _CREATE, mode, dir_fd=into)
    try:
        shared = reflink(reading, writing)
        if not shared:
            copy(reading, writing)
        if stat.S_IMODE(os.fstat(writing).st_mode) != mode:
            # The umask took something.
            os.fchmod(writing, mode)
        os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
        held.finish()
        # A reflink is whole: it is atomic to writes (ioctl_ficlonerange(2)).
        if not shared:
            _refuse_torn(status, reading)
    except BaseException:
        _remove_if_there(name, into)
        raise
    return _Came("reflink" if shared else "copy", status.st_size, (status.st_dev, status.st_ino))


def _refuse_to_copy(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _refuse_torn(before: os.stat_result, reading: int) -> None:
    changed = LinkedState.of(before).differences(LinkedState.of(os.fstat(reading)))
    if changed:
        raise _Changed(changed)


class _Changed(OSError):
    """A file was written to while it was copied."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__(errno.ESTALE, os.strerror(errno.ESTALE))
        self.words = words


def _remove_if_there(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass


# -- a directory


@attrs.define
class _Tree:
    """One directory on its way in; used once."""

    source: Path
    into: int
    name: str
    path: Path
    linking: Linking | None
    progress: Progress | None
    reserve: Reserve
    method: StagedMethod = "copy"
    saved: int = 0
    linked: dict[str, LinkedState] = attrs.Factory(dict)
    done: int = 0
    total: int = 0
    walk: Walk | None = None

    def stage(self) -> StagedOnDisk:
        try:
            with (
                open_directory(os.fspath(self.source)) as top,
                make_private_directory(self.into, self.name) as copy,
            ):
                try:
                    self._run(top.fd, copy)
                except BaseException:
                    remove_entry(self.into, self.name)
                    raise
        except StorageError:
            raise
        except OSError as error:
            below = "" if self.walk is None else self.walk.path
            raise _not_staged(error, self.source / below, self.path / below) from error
        return StagedOnDisk(
            path=self.path,
            source=self.source,
            method=self.method,
            bytes_saved=self.saved,
            linked=self.linked,
        )

    def _run(self, top: int, copy: Descriptor) -> None:
        if self.progress is not None:
            self.walk = Walk(top)
            self.total = sum(
                os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
                for what, fd, name in self.walk
                if what == "file"
            )
        self.walk = Walk(top)
        replicate(self.walk, copy, file=self._file, leave=self._leave)

    def _file(self, from_fd: int, name: str, into: int) -> None:
        status = os.stat(name, dir_fd=from_fd, follow_symlinks=False)
        progress = None if self.progress is None else self._tell
        came = _bring_in(from_fd, name, into, name, self.linking, progress, self.reserve, status)
        self.done += came.size
        if progress is not None and came.method != "copy":
            progress(0, 0)
        if came.linked is not None:
            assert self.walk is not None
            self.linked[self.walk.path] = came.linked
            self.method = "hardlink"
        elif came.method == "reflink" and self.method == "copy":
            self.method = "reflink"
        self.saved += 0 if came.method == "copy" else came.size

    def _tell(self, done: int, _size: int) -> None:
        assert self.progress is not None
        self.progress(self.done + done, max(self.total, self.done + done))

    def _leave(self, from_fd: int, into: int) -> None:
        status = os.fstat(from_fd)
        # Never set-id bits, and always open to its new owner.
        os.fchmod(into, stat.S_IMODE(status.st_mode) & 0o777 | 0o700)
        os.utime(into, ns=(status.st_atime_ns, status.st_mtime_ns))


def _not_staged(error: OSError, source: Path, path: Path) -> StorageError | StagedSourceChangedError:
    shown = escape(str(source))
    if isinstance(error, _Changed):
        return torn(source, error.words)
    code = error.errno or errno.EIO
    if code == errno.EEXIST:
        return NameTakenError(
            f"the name {escape(path.name)!r} is taken in this scope", path=str(path), cause=error
        )
    own_words = error.strerror or ""
    return storage_error(
        error,
        f"{shown!r} cannot be staged",
        path=str(path if code in _AT_TARGET else source),
        hint="" if own_words == os.strerror(code) else own_words,
    )
