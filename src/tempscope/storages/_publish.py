"""
Taking a finished file or directory out: whoever looks at the destination sees the old or the new, whole.

The order is write, sync what was written, rename, sync the directory: a rename alone can leave an
empty file after a power cut.
"""

from __future__ import annotations

import errno
import os
import stat

import attrs

from tempscope.errors import StorageError
from tempscope.protocols import Progress
from tempscope.storages._copy import copy_bytes, reflink
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._destination import Destination, remove_quietly
from tempscope.storages._replicate import replicate
from tempscope.storages._root import make_private_directory
from tempscope.storages._walk import Walk


__all__ = ["give_name", "publish", "publish_unnamed"]

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
_NO_NAME = frozenset([errno.EXDEV, errno.EPERM, errno.ENOENT, errno.EOPNOTSUPP, errno.ENOSYS])
"""What linkat(2) says of files that it can give no name; where the place is at fault, copying says that."""
_NO_FILE = "no file: only files, directories and links can be published"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW


def publish(
    dir_fd: int, name: str, destination: Destination, *, mode: int | None, progress: Progress | None
) -> None:
    """
    Move the file or directory *name* of the directory *dir_fd* to *destination*.

    Args:
        dir_fd: The directory that it is in.

        name: Its name there.

        destination: Where to, not entered yet.

        mode: The permissions; None as :meth:`Destination.mode_for` says.  In a directory each file keeps its
            own.

        progress: Called while copying.

    Raises:
        StorageError: If it cannot be; it is still where it was, the destination too.  Only where the
            destination's directory cannot be synced has it moved.
    """
    publication: _File | _Tree | None = None
    try:
        with Descriptor.open(name, _READ, dir_fd=dir_fd) as content:
            status = os.fstat(content.fd)
            directory = stat.S_ISDIR(status.st_mode)
            if not directory and not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, _NO_FILE)
            with destination:
                bits = destination.mode_for(mode, directory=directory)
                kind = _Tree if directory else _File
                publication = kind(dir_fd, name, content.fd, status, destination, bits, progress)
                publication.run()
                destination.sync()
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise destination.failure(error, publication.shown if publication else name) from error


@attrs.define
class _File:
    """One file on its way out; used once."""

    dir_fd: int
    name: str
    content: int
    status: os.stat_result
    destination: Destination
    mode: int
    progress: Progress | None

    @property
    def shown(self) -> str:
        """Where it is, for messages."""
        return self.name

    def run(self) -> None:
        # A file of several names may be an alias of somebody's input: the product must not be.
        if self.status.st_nlink > 1 or not self._move():
            with self.destination.beside() as beside:
                _copy(self.content, beside, self.destination.fd, self.mode, self.destination, self.progress)
                self.destination.install(beside, self.destination.fd)
            remove_quietly(self.name, self.dir_fd)

    def _move(self) -> bool:
        """Move within one file system; False if it is not one."""
        os.fchmod(self.content, self.mode)
        try:
            if self.destination.durable:
                os.fsync(self.content)
            self.destination.install(self.name, self.dir_fd)
        except OSError as error:
            os.fchmod(self.content, stat.S_IMODE(self.status.st_mode))
            if error.errno == errno.EXDEV:
                return False
            raise
        return True


def publish_unnamed(
    content: int, destination: Destination, *, mode: int | None, progress: Progress | None
) -> None:
    """
    Give the open file *content*, which has no name, one at *destination*, in one step.

    It stays open, and what is written to it afterwards is written to the product.

    Args:
        content: A descriptor that was written to; what is buffered above it is not seen.

        destination, mode, progress: As for :func:`publish`.

    Raises:
        StorageError: If it cannot be, or has a name already; it then still has none.
    """
    shown = "an unnamed file"
    try:
        status = os.fstat(content)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink:
            raise OSError(errno.EINVAL, "no file without a name")
        with destination:
            bits = destination.mode_for(mode)
            os.fchmod(content, bits)
            try:
                _name(content, destination, bits, progress)
            except BaseException:
                os.fchmod(content, stat.S_IMODE(status.st_mode))
                raise
            destination.sync()
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise destination.failure(error, shown) from error


def _name(content: int, destination: Destination, mode: int, progress: Progress | None) -> None:
    if destination.durable:
        os.fsync(content)
    if give_name(content, destination):
        return
    try:
        again = Descriptor.open(f"/proc/self/fd/{content}", os.O_RDONLY)
    except FileNotFoundError as error:
        raise OSError(
            errno.EOPNOTSUPP, "without a name, and without /proc nobody can give it one or read it again"
        ) from error
    with again, destination.beside() as beside:
        _copy(again.fd, beside, destination.fd, mode, destination, progress)
        destination.install(beside, destination.fd)


def give_name(content: int, destination: Destination) -> bool:
    """
    Give the open file *content*, which never had a name, the one of *destination*, which was entered.

    Returns:
        False if the system cannot, or the place is at fault, which copying there will tell.

    Raises:
        OSError: If something is there and may not be replaced, or the system refuses otherwise.
    """
    path = f"/proc/self/fd/{content}"
    try:
        try:
            # With a directory's descriptor it is linkat(2), which follows the way to the open file.
            os.link(path, destination.name, dst_dir_fd=destination.fd)
        except FileExistsError:
            if not destination.overwrite:
                raise
            with destination.beside() as beside:
                os.link(path, beside, dst_dir_fd=destination.fd)
                destination.install(beside, destination.fd)
    except OSError as error:
        if error.errno not in _NO_NAME:
            raise
        return False
    return True


def _copy(
    content: int, name: str, into: int, mode: int, destination: Destination, progress: Progress | None
) -> None:
    with Descriptor.open(name, _CREATE, 0o600, dir_fd=into) as copy:
        if not reflink(content, copy.fd):
            copy_bytes(content, copy.fd, progress)
        os.fchmod(copy.fd, mode)
        if destination.durable:
            os.fsync(copy.fd)
        copy.finish()


@attrs.define
class _Tree:
    """One directory on its way out; used once."""

    dir_fd: int
    name: str
    content: int
    status: os.stat_result
    destination: Destination
    mode: int
    progress: Progress | None
    total: int = 0
    done: int = 0
    walk: Walk | None = None

    @property
    def shown(self) -> str:
        """Where it is, for messages."""
        below = "" if self.walk is None else self.walk.path
        return os.path.join(self.name, below) if below else self.name

    def run(self) -> None:
        if self._aliased() or not self._move():
            with self.destination.beside() as beside:
                self._copy(beside)
                self.destination.install_tree(beside, self.destination.fd)
            remove_quietly(self.name, self.dir_fd)

    def _aliased(self) -> bool:
        """
        Look through it, and sync it; return whether a file in it has a name elsewhere.

        Such a file may be an alias of somebody's input: the product must not be.
        """
        elsewhere: dict[tuple[int, int], int] = {}
        self.walk = Walk(self.content)
        for what, fd, name in self.walk:
            if what == "other":
                raise OSError(errno.EINVAL, _NO_FILE)
            if what == "file":
                self._look_at(fd, name, elsewhere)
            elif what == "leave":
                _without_set_ids(fd, os.fstat(fd))
                self._sync(fd)
        return any(elsewhere.values())

    def _look_at(self, fd: int, name: str, elsewhere: dict[tuple[int, int], int]) -> None:
        with Descriptor.open(name, _READ, dir_fd=fd) as file:
            status = os.fstat(file.fd)
            self.total += status.st_size
            if status.st_nlink > 1:
                inode = (status.st_dev, status.st_ino)
                elsewhere[inode] = elsewhere.get(inode, status.st_nlink) - 1
                if elsewhere[inode]:
                    # As long as a name is missing it may be somebody's input, whose mode is not ours.
                    return
            _without_set_ids(file.fd, status)
            self._sync(file.fd)

    def _sync(self, fd: int) -> None:
        if self.destination.durable:
            os.fsync(fd)

    def _move(self) -> bool:
        """Move within one file system; False if it is not one."""
        # A directory that may not be written to cannot move to another parent.
        os.fchmod(self.content, self.mode | 0o700)
        try:
            self._sync(self.content)
            self.destination.install_tree(self.name, self.dir_fd)
        except OSError as error:
            os.fchmod(self.content, stat.S_IMODE(self.status.st_mode))
            if error.errno == errno.EXDEV:
                return False
            raise
        if self.mode | 0o700 != self.mode:
            os.fchmod(self.content, self.mode)
            self._sync(self.content)
        return True

    def _copy(self, beside: str) -> None:
        with make_private_directory(self.destination.fd, beside) as copy:
            self.walk = Walk(self.content)
            replicate(self.walk, copy, file=self._file, leave=self._leave)
            os.fchmod(copy.fd, self.mode)
            self._sync(copy.fd)

    def _file(self, from_fd: int, name: str, into: int) -> None:
        with Descriptor.open(name, _READ, dir_fd=from_fd) as content:
            status = os.fstat(content.fd)
            progress = None if self.progress is None else self._tell
            _copy(content.fd, name, into, status.st_mode & 0o777, self.destination, progress)
            self.done += status.st_size

    def _leave(self, from_fd: int, into: int) -> None:
        os.fchmod(into, os.fstat(from_fd).st_mode & 0o777)
        self._sync(into)

    def _tell(self, done: int, _size: int) -> None:
        assert self.progress is not None
        self.progress(self.done + done, max(self.total, self.done + done))


def _without_set_ids(fd: int, status: os.stat_result) -> None:
    if status.st_mode & 0o7000:
        os.fchmod(fd, status.st_mode & 0o777)
