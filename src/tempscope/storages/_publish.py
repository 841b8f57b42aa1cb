"""
Taking a finished file out: whoever looks at the destination sees the old file or the new, whole.

The order is write, sync the file, rename, sync the directory: a rename alone can leave an empty
file after a power cut.
Both directories are held open from the start, so that a parent that is renamed or replaced
meanwhile changes nothing, and one that cannot be synced is known of before anything has moved.
"""

from __future__ import annotations

import errno
import os
import stat

import attrs

from tempscope import _log
from tempscope._names import RESERVED_PREFIX, escape
from tempscope.errors import NameTakenError, PathMissingError, StorageError
from tempscope.protocols import Progress
from tempscope.storages._copy import copy_bytes, reflink
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._journal import Journal, OutsidePath
from tempscope.storages._token import new_token


__all__ = ["publish_file", "published_mode", "sync_directory"]

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_LOOKUP = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_NO_LINKS = frozenset([errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
_NO_DIRECTORY_SYNC = frozenset([errno.EINVAL, errno.EOPNOTSUPP])


def publish_file(
    dir_fd: int,
    name: str,
    destination: str,
    *,
    overwrite: bool,
    durable: bool,
    mode: int | None,
    progress: Progress | None,
    journal: Journal | None = None,
) -> None:
    """
    Move the file *name* of the directory *dir_fd* to *destination*.

    Args:
        dir_fd: The directory that it is in.

        name: Its name there.

        destination: An absolute path.

        overwrite: Whether an existing file may be replaced.

        durable: Whether file and name are on the disk before this returns.

        mode: The permissions; None as :func:`published_mode` says.

        progress: Called while copying.

        journal: Told of a copy that is being made beside the destination, for the sweep after a crash.

    Raises:
        StorageError: If it cannot be; the file is still where it was, the destination too.  Only
            where the directory cannot be synced has the file moved.
    """
    parent, target = os.path.split(destination)
    try:
        with Descriptor.open(name, _READ, dir_fd=dir_fd) as content:
            status = os.fstat(content.fd)
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(
                    f"{escape(name)!r} is no file, so it cannot be published", errno=errno.EINVAL
                )
            with _open_parent(parent, durable) as into:
                _Publication(
                    dir_fd=dir_fd,
                    name=name,
                    content=content.fd,
                    status=status,
                    parent=parent,
                    into=into.fd,
                    target=target,
                    mode=published_mode(destination, mode),
                    overwrite=overwrite,
                    durable=durable,
                    progress=progress,
                    journal=journal,
                ).run()
    except StorageError:
        raise
    except OSError as error:
        raise _not_published(error, name, destination) from error


def published_mode(destination: str, mode: int | None) -> int:
    """
    Return the permissions for a published file: as asked, else what was there, else by the umask.

    Raises:
        StorageError: If what is there may not be replaced by a file: a directory, a device, a pipe.
    """
    try:
        present = os.lstat(destination).st_mode
    except FileNotFoundError:
        present = 0
    if stat.S_ISDIR(present):
        raise StorageError(
            f"{escape(destination)!r} is a directory: name the file that it should become",
            errno=errno.EISDIR,
            path=destination,
        )
    if present and not (stat.S_ISREG(present) or stat.S_ISLNK(present)):
        raise StorageError(
            f"{escape(destination)!r} is a device, pipe or socket, which publishing would replace: "
            "name a file, or copy the content to it yourself",
            errno=errno.EINVAL,
            path=destination,
        )
    if mode is not None:
        return mode & 0o777
    return present & 0o777 if stat.S_ISREG(present) else 0o666 & ~_umask()


def _umask() -> int:
    # Setting the umask to read it would change it for all other threads meanwhile.
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022


@attrs.define(kw_only=True)
class _Publication:
    """One file on its way out; used once."""

    dir_fd: int
    name: str
    content: int
    status: os.stat_result
    parent: str
    into: int
    target: str
    mode: int
    overwrite: bool
    durable: bool
    progress: Progress | None
    journal: Journal | None

    def run(self) -> None:
        # A file of several names may be an alias of somebody's input: the product must not be.
        if self.status.st_nlink > 1 or not self._move():
            self._copy_beside()
            _remove_quietly(self.name, self.dir_fd)
        if self.durable:
            _sync(self.into)

    def _move(self) -> bool:
        """Move within one file system; False if it is not one."""
        os.fchmod(self.content, self.mode)
        try:
            if self.durable:
                os.fsync(self.content)
            self._install(self.name, self.dir_fd)
        except OSError as error:
            os.fchmod(self.content, stat.S_IMODE(self.status.st_mode))
            if error.errno == errno.EXDEV:
                return False
            raise
        return True

    def _install(self, name: str, dir_fd: int) -> None:
        if self.overwrite:
            os.rename(name, self.target, src_dir_fd=dir_fd, dst_dir_fd=self.into)
            return
        try:
            # link(2) refuses an existing name in one step, which a check before a rename cannot.
            os.link(name, self.target, src_dir_fd=dir_fd, dst_dir_fd=self.into, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._claim_and_replace(name, dir_fd)
        else:
            _remove_quietly(name, dir_fd)

    def _claim_and_replace(self, name: str, dir_fd: int) -> None:
        # On a file system without hard links (FAT, some FUSE) an empty file holds the name for a moment.
        Descriptor.open(self.target, _CREATE, 0o600, dir_fd=self.into).close()
        try:
            os.rename(name, self.target, src_dir_fd=dir_fd, dst_dir_fd=self.into)
        except BaseException:
            _remove_quietly(self.target, self.into)
            raise

    def _copy_beside(self) -> None:
        """Copy to a name of ours beside the destination, then install that."""
        beside = f"{RESERVED_PREFIX}{new_token()}"
        path = os.path.join(self.parent, beside)
        self._announce(path)
        try:
            self._copy_to(beside)
            self._install(beside, self.into)
        except BaseException:
            _remove_quietly(beside, self.into)
            raise
        finally:
            # A copy that could not be removed stays in the journal, for the sweep.
            if not _is_there(beside, self.into):
                self._withdraw(path)

    def _copy_to(self, beside: str) -> None:
        with Descriptor.open(beside, _CREATE, 0o600, dir_fd=self.into) as copy:
            if not reflink(self.content, copy.fd):
                copy_bytes(self.content, copy.fd, self.status.st_size, self.progress)
            os.fchmod(copy.fd, self.mode)
            if self.durable:
                os.fsync(copy.fd)
            copy.finish()

    def _announce(self, path: str) -> None:
        if self.journal is not None:
            try:
                self.journal.add_outside(OutsidePath(path, None))
            except OSError as error:
                # There may be room at the destination all the same.
                _log.warn("a copy that is being published is not in the journal", errno=error.errno)

    def _withdraw(self, path: str) -> None:
        if self.journal is not None:
            try:
                self.journal.drop_outside(path)
            except OSError as error:
                # Nothing has that name any more, and nothing ever will.
                _log.debug("a finished copy stays in the journal", errno=error.errno)


def _remove_quietly(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warn("a name that is not needed any more stays", errno=error.errno)


def _is_there(name: str, dir_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        return error.errno != errno.ENOENT
    return True


def _open_parent(path: str, durable: bool) -> Descriptor:
    # Looking names up and making them needs less than reading the directory, which syncing it needs.
    return Descriptor.open(path, _DIRECTORY if durable else _LOOKUP)


def sync_directory(path: str) -> None:
    """Make the names in the directory *path* survive a power cut."""
    with _open_parent(path or ".", durable=True) as directory:
        _sync(directory.fd)


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems know no syncing of directories.
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise


def _not_published(error: OSError, name: str, destination: str) -> StorageError:
    what = f"nothing can be published as {escape(destination)!r}"
    parent = os.path.dirname(destination)
    if error.errno == errno.EEXIST:
        return NameTakenError(
            f"{what}: something is there already, and overwrite is False", path=destination, cause=error
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(parent):
        return PathMissingError(
            f"{what}: its directory {escape(parent)!r} is not there", path=destination, cause=error
        )
    if error.errno == errno.ENOENT:
        return PathMissingError(
            f"{escape(name)!r} is not there, so it cannot be published", path=destination, cause=error
        )
    if error.errno == errno.ELOOP:
        return StorageError(f"{what}: {escape(name)!r} is a link, not a file", path=destination, cause=error)
    return storage_error(error, what, path=destination)
