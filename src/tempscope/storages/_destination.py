"""
The place where a product goes: whoever looks at it sees what was there or what comes, whole.

Its directory is held open from the start, so that a parent that is renamed or replaced meanwhile
changes nothing, and one that cannot be synced is known of before anything has moved.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, Self

import attrs

from tempscope import _log
from tempscope._names import RESERVED_PREFIX, escape
from tempscope.errors import ForeignPathError, NameTakenError, PathMissingError, StorageError
from tempscope.storages._base import real_path
from tempscope.storages._delete import remove_entry
from tempscope.storages._descriptor import Descriptor, identity_of
from tempscope.storages._failure import storage_error
from tempscope.storages._journal import OutsidePath
from tempscope.storages._rename import exchange, rename_to_free
from tempscope.storages._token import new_token


__all__ = ["Destination", "Home", "ToldOfCopies", "read_umask", "remove_quietly"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_LOOKUP = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_NO_LINKS = frozenset([errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
_NO_RENAME_FLAGS = frozenset([errno.EINVAL, errno.ENOSYS])
_NO_DIRECTORY_SYNC = frozenset([errno.EINVAL, errno.EOPNOTSUPP])


class ToldOfCopies(Protocol):
    """A journal, as far as a destination needs one; both calls raise OSError if they cannot write."""

    def add_outside(self, outside: OutsidePath) -> None:
        """Write down that a copy is being made there."""
        ...

    def drop_outside(self, path: str) -> None:
        """Write down that it is not there any more."""
        ...


def read_umask() -> int:
    """Return the umask without setting it, which would change it for all other threads meanwhile."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return 0o022


class Home(NamedTuple):
    """The directory of a scope, opened as *path* and open as *fd* if at all: what is in it ends with it."""

    path: str
    fd: int | None = None

    def has(self, place: str) -> bool:
        """Whether the real path *place*, which ends in a slash, is in it; OSError if nobody can tell."""
        # The last part of its name stays, however its parents are moved, and most places have none such.
        own = self.path.rpartition("/")[2]
        return f"/{own}/" in place and place.startswith(f"{real_path(self.fd, self.path)}/")


@attrs.define
class Destination:
    """
    One destination, for one ``with`` block and one product.

    Args:
        path: An absolute path.

        overwrite: Whether what is there may be replaced.

        durable: Whether the name is on the disk before :meth:`sync` returns.

        journal: Told of a copy that is being made beside the destination, for the sweep after a crash.

        home: The directory of the scope; None if it has none on a disk.

        scope: The name of the scope, for errors.

    Raises:
        ForeignPathError: From ``with``, if it is in there, also if only a link leads there.

        StorageError: From ``with``, if nobody can tell; OSError if its directory cannot be opened.
    """

    path: str
    overwrite: bool
    durable: bool
    journal: ToldOfCopies | None = None
    home: Home | None = None
    scope: str | None = None
    directory: str = attrs.field(init=False)
    name: str = attrs.field(init=False)
    fd: int = attrs.field(default=-1, init=False)
    _held: Descriptor = attrs.field(factory=Descriptor, init=False)

    def __attrs_post_init__(self) -> None:
        above, slash, name = self.path.rpartition("/")
        self.directory, self.name = above or slash or ".", name or "."

    def __enter__(self) -> Self:
        try:
            # Looking names up and making them needs less than reading the directory, which syncing it needs.
            self._held.reopen(self.directory, _DIRECTORY if self.durable else _LOOKUP)
            self.fd = self._held.fd
            self._refuse_inside(self.fd)
        except BaseException as error:
            self._held.close()
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                # Nobody shall mend what is inside the scope.
                self._refuse_inside(None)
            raise
        return self

    def _refuse_inside(self, fd: int | None) -> None:
        if self.home is None:
            return
        try:
            inside = self.home.has(f"{real_path(fd, self.directory)}/{self.name}/")
        except OSError as error:
            raise storage_error(
                error,
                f"nobody can tell whether {escape(self.path)!r} is inside the scope",
                path=self.path,
                scope=self.scope,
            ) from error
        if inside:
            raise ForeignPathError(
                f"{escape(self.path)!r} is inside the scope: publish to a place that outlives it",
                path=self.path,
                scope=self.scope,
            )

    def __exit__(self, *_: object) -> None:
        self.fd = -1
        self._held.close()

    def install(self, name: str, dir_fd: int) -> None:
        """Move the finished file *name* of the directory *dir_fd* here, in one step."""
        if self.overwrite:
            os.rename(name, self.name, src_dir_fd=dir_fd, dst_dir_fd=self.fd)
            return
        try:
            # link(2) refuses an existing name in one step, which a check before a rename cannot.
            os.link(name, self.name, src_dir_fd=dir_fd, dst_dir_fd=self.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # On a file system without hard links (FAT, some FUSE) an empty file holds the name for a moment.
            with Descriptor.open(self.name, _CREATE, 0o600, dir_fd=self.fd) as file:
                claim = identity_of(file.fd)
            # Closed: some network file systems replace no open file.
            self._replace_claim(claim, name, dir_fd)
        else:
            remove_quietly(name, dir_fd)

    def install_tree(self, name: str, dir_fd: int) -> None:
        """
        Move the finished directory *name* of the directory *dir_fd* here, in one step.

        An empty directory is replaced, and so is a link; whoever wants to replace more removes it
        first, and knows what he does.
        """
        if self.overwrite:
            try:
                os.rename(name, self.name, src_dir_fd=dir_fd, dst_dir_fd=self.fd)
            except NotADirectoryError:
                self._exchange_for_link(name, dir_fd)
            return
        try:
            rename_to_free(name, dir_fd, self.name, self.fd)
        except OSError as error:
            if error.errno not in _NO_RENAME_FLAGS:
                raise
            # An empty directory holds the name for a moment.
            os.mkdir(self.name, 0o700, dir_fd=self.fd)
            status = os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
            self._replace_claim((status.st_dev, status.st_ino), name, dir_fd)

    def _replace_claim(self, claim: tuple[int, int], name: str, dir_fd: int) -> None:
        try:
            os.rename(name, self.name, src_dir_fd=dir_fd, dst_dir_fd=self.fd)
        except BaseException:
            self._give_back(claim)
            raise

    def _give_back(self, claim: tuple[int, int]) -> None:
        """Remove the claim, if it still is one: everybody sees it, and an interrupt may follow the rename."""
        try:
            status = os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
            if (status.st_dev, status.st_ino) != claim:
                return
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(self.name, dir_fd=self.fd)
            elif not status.st_size:
                os.unlink(self.name, dir_fd=self.fd)
        except OSError as error:
            _log.warn("a name that was claimed could not be given back", errno=error.errno)

    def _exchange_for_link(self, name: str, dir_fd: int) -> None:
        exchange(name, dir_fd, self.name, self.fd)
        if not stat.S_ISLNK(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            # Something else had come in the link's place since we looked.
            exchange(name, dir_fd, self.name, self.fd)
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        remove_quietly(name, dir_fd)

    def mode_for(self, mode: int | None, *, directory: bool = False) -> int:
        """
        Return the permissions of the product: *mode*, else what was there, else 0o666 less the umask.

        Of a *directory* 0o777 less the umask.

        Raises:
            StorageError: If what is there may not be replaced: a file takes the place of a file, a
                directory that of a directory, either that of a link, and nothing that of a device; as
                NameTakenError without overwrite, which installing finds out once more, in one step.
        """
        try:
            present = os.stat(self.name, dir_fd=self.fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            present = 0
        return self.mode_over(present, mode, directory=directory)

    def mode_over(
        self, present: int, mode: int | None, *, directory: bool, umask: Callable[[], int] = read_umask
    ) -> int:
        """Do as :meth:`mode_for`, where what is there has the mode *present*, 0 for nothing."""
        if present and not self.overwrite:
            taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            raise self.failure(taken, self.name) from taken
        if stat.S_ISLNK(present):
            present = 0
        if present:
            self._refuse_to_replace(present, directory)
        if mode is not None:
            return mode & 0o777
        return present & 0o777 if present else (0o777 if directory else 0o666) & ~umask()

    def _refuse_to_replace(self, present: int, directory: bool) -> None:
        if stat.S_ISDIR(present) if directory else stat.S_ISREG(present):
            return
        if stat.S_ISDIR(present):
            words, code = "is a directory: name the file that it should become", errno.EISDIR
        elif stat.S_ISREG(present):
            words, code = "is a file, which no directory replaces: name another place", errno.ENOTDIR
        else:
            words = "is a device, pipe or socket, which publishing would replace: name another place"
            code = errno.EINVAL
        raise StorageError(f"{escape(self.path)!r} {words}", errno=code, path=self.path, scope=self.scope)

    @contextmanager
    def beside(self) -> Iterator[str]:
        """
        Give a name in the same directory, under which a copy is made and then installed.

        What is left of it when an exception comes is removed.
        """
        name = f"{RESERVED_PREFIX}{new_token()}"
        path = os.path.join(self.directory, name)
        self._announce(path)
        try:
            yield name
        except BaseException:
            remove_quietly(name, self.fd)
            raise
        finally:
            # A copy that could not be removed stays in the journal, for the sweep.
            if not _is_there(name, self.fd):
                self._withdraw(path)

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

    def sync(self) -> None:
        """Make the name survive a power cut, if that is wanted."""
        if not self.durable:
            return
        try:
            os.fsync(self.fd)
        except OSError as error:
            # Some network and FUSE file systems know no syncing of directories.
            if error.errno not in _NO_DIRECTORY_SYNC:
                raise

    def failure(self, error: OSError, shown: str) -> StorageError:
        """Return our error for what the system said when *shown* was published."""
        what = f"nothing can be published as {escape(self.path)!r}"
        code = error.errno or errno.EIO
        about: Any = {"path": self.path, "scope": self.scope, "cause": error}
        if code == errno.EEXIST:
            return NameTakenError(f"{what}: something is there already, and overwrite is False", **about)
        if code in (errno.ENOENT, errno.ENOTDIR) and not os.path.isdir(self.directory):
            return PathMissingError(f"{what}: its directory {escape(self.directory)!r} is not there", **about)
        if code == errno.ENOENT:
            return PathMissingError(f"{escape(shown)!r} is not there, so it cannot be published", **about)
        if code == errno.ELOOP and os.path.isdir(self.directory):
            return StorageError(f"{what}: {escape(shown)!r} is a link, not a file", errno=code, **about)
        own_words = "" if error.strerror == os.strerror(code) else f"{escape(shown)!r} is {error.strerror}"
        hint = _HINTS.get(code, own_words)
        return storage_error(error, what, path=self.path, scope=self.scope, hint=hint)


_HINTS = {
    errno.ENOTEMPTY: "a directory with something in it is never replaced; remove it, or name another place"
}


def remove_quietly(name: str, dir_fd: int) -> None:
    """Remove *name*, whatever it is, from *dir_fd*; what stays is logged."""
    removal = remove_entry(dir_fd, name)
    for entry in removal.entries:
        _log.warn("a name that is not needed any more stays", errno=entry.errno)


def _is_there(name: str, dir_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        return error.errno != errno.ENOENT
    return True
