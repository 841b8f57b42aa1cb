"""
Our root: ``<base_dir>/tempscope-<uid>/``, private, marked, held open.

Everything else is done relative to the descriptor held here, so that somebody who renames a
parent, or puts a link in its place, changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

import attrs

from tempscope._names import escape
from tempscope.errors import BaseDirectoryError, StorageError
from tempscope.storages import _lock
from tempscope.storages._base import absolute, check_base, find_base
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._openat2 import let_in, open_directory


__all__ = [
    "MARKER",
    "Root",
    "find_root",
    "make_directory",
    "make_private_directory",
    "open_root",
    "root_name",
]

MARKER = ".tempscope-root"
"""The file by which a sweep knows a root of ours from a look-alike."""

_MARKER_TEXT = b"""This directory is managed by tempscope; what is in it belongs to running programs.
To remove what dead programs left: python -c "import tempscope; print(tempscope.sweep('..'))"
"""


@attrs.define(eq=False)
class Root:
    """
    An open root.

    Lives as long as an instance in it; shared by all threads of the process that opened it.
    """

    path: str
    descriptor: Descriptor
    identity: tuple[int, int]

    @property
    def fd(self) -> int:
        """The root's descriptor."""
        return self.descriptor.fd

    def close(self) -> None:
        """Let go of the root."""
        self.descriptor.close()


def root_name() -> str:
    """Return our directory's name in a base directory: one for each user."""
    return f"tempscope-{os.geteuid() if hasattr(os, 'geteuid') else os.environ.get('USERNAME', 'user')}"


def open_root(base_dir: str | os.PathLike[str] | None, *, create: bool = True) -> Root:
    """
    Open our root in *base_dir*, making it, and a missing base directory, where needed.

    Args:
        base_dir: The parent; None for what the environment names.

        create: False to look only.

    Raises:
        BaseDirectoryError: If the base directory or our name in it cannot be used safely; the
            message says why and which setting to use.
    """
    base, explicit = find_base() if base_dir is None else (absolute(base_dir, "base directory"), True)
    with _open_base(base, explicit=explicit, create=create and explicit) as base_descriptor:
        path = os.path.join(base, root_name())
        descriptor = _open_own(base_descriptor.fd, path, create)
        root = Root(path, descriptor, _check_own(path, descriptor))
        _check_marker(root, base_descriptor.fd, create)
    # A cleaner that finds the root empty leaves it while it is locked.
    _lock.share(root.fd)
    return root


def find_root(base_dir: str | os.PathLike[str] | None) -> Root | None:
    """Open our root in *base_dir* to look only; None if there is none."""
    try:
        return open_root(base_dir, create=False)
    except BaseDirectoryError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _open_base(base: str, *, explicit: bool, create: bool) -> Descriptor:
    try:
        if create:
            os.makedirs(base, exist_ok=True)
        # O_PATH needs no right to list the directory, which a hardened one may not give.
        descriptor = Descriptor.open(base, getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0))
    except (FileExistsError, NotADirectoryError) as error:
        raise BaseDirectoryError(
            f"the base directory {escape(base)!r} is not a directory",
            path=base,
            errno=errno.ENOTDIR,
            cause=error,
        ) from error
    except OSError as error:
        raise _unusable(base, error) from error
    check_base(base, os.fstat(descriptor.fd), explicit=explicit)
    return descriptor


def _unusable(path: str, error: OSError) -> StorageError:
    return storage_error(
        error,
        f"the base directory {escape(path)!r} cannot be used",
        path=path,
        otherwise=BaseDirectoryError,
        hint="set TEMPSCOPE_BASE_DIR or base_dir to a directory you can write to",
    )


def _open_own(base_fd: int, path: str, create: bool) -> Descriptor:
    name = os.path.basename(path)
    try:
        if create:
            return make_private_directory(base_fd, name, exist_ok=True)
        return open_directory(name, dir_fd=base_fd)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
            raise BaseDirectoryError(
                f"{escape(path)!r} is taken by something that is not a directory of ours: "
                "remove it, or set TEMPSCOPE_BASE_DIR or base_dir to another place",
                path=path,
                cause=error,
            ) from error
        if error.errno == errno.EACCES:
            _check_whose(path, base_fd, error)
        raise _unusable(os.path.dirname(path), error) from error


def _check_whose(path: str, base_fd: int, error: OSError) -> None:
    """Say so if what shuts us out is somebody else's directory under our name."""
    try:
        status = os.stat(os.path.basename(path), dir_fd=base_fd, follow_symlinks=False)
    except OSError:
        return
    _check_status(path, status, error)


def make_private_directory(dir_fd: int, name: str, *, exist_ok: bool = False) -> Descriptor:
    """
    Make the directory *name*, mode 0700 whatever the umask, and return it open.

    Raises:
        OSError: ``EEXIST`` if it is there already (unless *exist_ok*), else the system's.
    """
    try:
        return make_directory(dir_fd, name).descriptor
    except FileExistsError:
        if not exist_ok:
            raise
        return open_directory(name, dir_fd=dir_fd)


class MadeDirectory(NamedTuple):
    """A directory that was just made, open; what it is; and whether the umask had taken some of its mode."""

    descriptor: Descriptor
    identity: tuple[int, int]
    stripped: bool


def make_directory(dir_fd: int, name: str) -> MadeDirectory:
    """
    Make the directory *name*, mode 0700 whatever the umask.

    Raises:
        OSError: ``EEXIST`` if it is there already, else the system's.
    """
    os.mkdir(name, 0o700, dir_fd=dir_fd)
    try:
        return _open_made(dir_fd, name)
    except OSError:
        _take_back(dir_fd, name)
        raise


def _take_back(dir_fd: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError:
        # Empty and without a lock, it is the next sweep's.
        pass


def _open_made(dir_fd: int, name: str) -> MadeDirectory:
    stripped = False
    try:
        descriptor = open_directory(name, dir_fd=dir_fd)
    except PermissionError:
        # A umask that takes the owner's own bits leaves a directory that its maker cannot open.
        stripped = let_in(dir_fd, name)
        if not stripped:
            raise
        descriptor = open_directory(name, dir_fd=dir_fd)
    status = os.fstat(descriptor.fd)
    if stat.S_IMODE(status.st_mode) != 0o700:
        stripped = True
        os.fchmod(descriptor.fd, 0o700)
    return MadeDirectory(descriptor, (status.st_dev, status.st_ino), stripped)


def _check_own(path: str, descriptor: Descriptor) -> tuple[int, int]:
    status = os.fstat(descriptor.fd)
    _check_status(path, status)
    return status.st_dev, status.st_ino


def _check_status(path: str, status: os.stat_result, cause: OSError | None = None) -> None:
    problem = ""
    if status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}, not to {os.geteuid()}"
    elif status.st_mode & 0o077:
        problem = f"is open to others (mode {stat.S_IMODE(status.st_mode):04o}, not 0700)"
    if problem:
        raise BaseDirectoryError(
            f"{escape(path)!r} {problem}, so it cannot be trusted: "
            "set TEMPSCOPE_BASE_DIR or base_dir to a directory of your own",
            path=path,
            cause=cause,
        )


def _check_marker(root: Root, base_fd: int, create: bool) -> None:
    if _has_marker(root):
        return
    if not os.listdir(root.fd):
        if create:
            _write_marker(root, base_fd)
        return
    # Between these two looks another process may have marked it and begun to use it.
    if _has_marker(root):
        return
    raise BaseDirectoryError(
        f"{escape(root.path)!r} has no file {MARKER} and is not empty, so it is not ours: "
        "set TEMPSCOPE_BASE_DIR or base_dir to another place",
        path=root.path,
    )


def _has_marker(root: Root) -> bool:
    try:
        return stat.S_ISREG(os.stat(MARKER, dir_fd=root.fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _write_marker(root: Root, base_fd: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        marker = Descriptor.open(MARKER, flags, 0o600, dir_fd=root.fd)
    except FileNotFoundError:
        # A cleaner took the empty root away: the caller makes it again.
        raise
    except OSError as error:
        # Without a file in it the root can be taken back, if nobody else began to use it.
        _take_back(base_fd, os.path.basename(root.path))
        raise _unusable(root.path, error) from error
    with marker:
        try:
            os.fchmod(marker.fd, 0o600)
            os.write(marker.fd, _MARKER_TEXT)
        except OSError:
            # The file is the mark; what it says is for people.
            pass
