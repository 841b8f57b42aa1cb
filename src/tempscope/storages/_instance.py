"""
One process's presence under a root: a directory held by a kernel lock, its *lease*.

All storages of a process on one root share one instance, so ten thousand open scopes hold a
handful of descriptors.
The lease is a shared lock on the directory, taken before anything is put into it and never
released by us: it goes with the process, however that ends.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from tempscope import _log
from tempscope.errors import LeaseLostError
from tempscope.storages import _lock
from tempscope.storages._descriptor import Descriptor, close_own, identity_of, is_own
from tempscope.storages._failure import storage_error
from tempscope.storages._journal import JOURNAL, Journal
from tempscope.storages._openat2 import open_directory
from tempscope.storages._owner import OWNER, UNLOCKED, owner_of_this_process, write_owner
from tempscope.storages._reserve import with_reserve
from tempscope.storages._root import Root


if TYPE_CHECKING:
    from tempscope.storages._area_directory import AreaDirectory

__all__ = ["GONE", "Instance", "close_own", "identity_of", "is_area_name", "is_named", "is_own"]

GONE = frozenset([errno.ENOENT, errno.EBADF, errno.ENOTDIR, errno.ELOOP, errno.ESTALE])
"""What the system says when a directory, or a descriptor of it, is not there any more."""

_OPEN_AREAS = 2


class Instance:
    """
    The directory of this process under one root.

    Lives from the first file of the process to its end, or until its last storage is closed;
    shared by all threads and storages of the process.
    """

    __slots__ = (
        "_descriptor",
        "_lent",
        "_lock",
        "_names",
        "_opened_areas",
        "identity",
        "journal",
        "lost",
        "name",
        "owner",
        "path",
        "pid",
        "root",
        "strips_owner_bits",
        "token",
        "users",
    )

    def __init__(self, root: Root, token: str, descriptor: Descriptor) -> None:
        self.root = root
        self.token = token
        self.name = f"i-{token}"
        self.path = f"{root.path}/{self.name}"
        self.pid = os.getpid()
        self.identity = identity_of(descriptor.fd)
        self.lost = False
        self.users: set[int] = set()
        self.owner = owner_of_this_process()
        self._descriptor = descriptor
        self._lock = threading.RLock()
        self._names: Iterator[int] = itertools.count(1)
        self._opened_areas: deque[AreaDirectory] = deque()
        self._lent: dict[str, tuple[Descriptor, tuple[int, int]]] = {}
        self.strips_owner_bits = write_owner(descriptor.fd, self.owner)
        self.journal = Journal(descriptor.fd)

    @property
    def fd(self) -> int:
        """The instance directory's descriptor, which carries the lease."""
        return self._descriptor.fd

    def next_name(self) -> str:
        """Return a name for a new area; unique in this instance."""
        return f"a{next(self._names)}"

    # -- the lease

    def check(self) -> None:
        """
        Notice a lost lease: descriptors closed behind our back, the directory removed or replaced.

        Closed descriptors are opened and locked again if the directory still is what it was.

        Raises:
            LeaseLostError: If this directory is not ours any more; it is then never used again.

            StorageError: If the system does not say; the lease is then neither lost nor proved.
        """
        try:
            if not self.lost and self._holds():
                return
            with self._lock:
                if not self.lost and (self._holds() or self._regain()):
                    return
                if not self.lost:
                    self._give_up()
        except OSError as error:
            raise storage_error(
                error, f"nobody can tell whether {self.path!r} is still this process's", path=self.path
            ) from error
        raise LeaseLostError(f"the directory {self.path!r} was taken away from this process", path=self.path)

    def _holds(self) -> bool:
        try:
            status = os.fstat(self.fd)
            named = os.stat(self.name, dir_fd=self.root.fd, follow_symlinks=False)
        except ValueError:
            return False
        except OSError as error:
            return _gone(error)
        identity = self.identity
        return (
            (status.st_dev, status.st_ino) == identity
            and (named.st_dev, named.st_ino) == identity
            and self.journal.intact
        )

    def _regain(self) -> bool:
        """Open and lock again what is still there under our name; False if that is not ours."""
        try:
            root = open_directory(self.root.path)
            lease = open_directory(self.name, dir_fd=root.fd)
            if identity_of(root.fd) != self.root.identity or identity_of(lease.fd) != self.identity:
                return False
            if _lock.share(lease.fd) == "busy" or not is_named(root.fd, self.name, self.identity):
                return False
            self.journal.reopen(lease.fd)
        except OSError as error:
            return _gone(error)
        self._drop_stale()
        _lock.share(root.fd)
        self.root.descriptor.swap(root)
        self._descriptor.swap(lease)
        _log.warn("a lease whose descriptors were closed was taken again", token=self.token)
        return True

    def _give_up(self) -> None:
        """Never use this instance again; the next file makes another one."""
        self.lost = True
        self._drop_stale()
        _log.warn("the lease on a directory was lost", token=self.token)

    def _drop_stale(self) -> None:
        # A number that is not ours any more may be somebody else's file by now: closing it, even
        # when this object is collected, would break that.
        for area in list(self._opened_areas):
            area.release_descriptor()
        self.journal.drop_stale()
        for descriptor, identity in (
            (self._descriptor, self.identity),
            (self.root.descriptor, self.root.identity),
        ):
            if not is_own(descriptor, identity):
                descriptor.forget()

    # -- open areas

    def note_opened(self, area: AreaDirectory) -> None:
        """Keep *area*'s descriptor open for now, at the expense of those opened longest ago."""
        with self._lock:
            self._opened_areas.append(area)
            for _ in range(len(self._opened_areas) - _OPEN_AREAS):
                oldest = self._opened_areas.popleft()
                if oldest is area or not oldest.release_descriptor():
                    # In use at this moment: its turn comes again.
                    self._opened_areas.append(oldest)

    # -- leases for commands

    def lend(self, name: str, lease: Descriptor, identity: tuple[int, int]) -> None:
        """Keep *lease*, which holds the area *name*, until :meth:`take_back`."""
        self._lent[name] = (lease, identity)

    def lent(self, name: str, identity: tuple[int, int]) -> Descriptor | None:
        """Return the lease of the area *name*; None if there is none, or somebody else closed it."""
        lease, _ = self._lent.get(name, (None, None))
        if lease is None or is_own(lease, identity):
            return lease
        self.take_back(name)
        return None

    def take_back(self, name: str) -> None:
        """Close our copy of the lease of the area *name*, if there is one; commands may have theirs."""
        lease = self._lent.pop(name, None)
        if lease is not None:
            close_own(*lease)

    # -- the end

    def remove(self) -> None:
        """Let go of the lease; an instance that a sweep has nothing to do for is removed at once."""
        self.lost = True
        try:
            if self._holds() and not self.journal.tells_outside:
                self._remove_if_empty(with_reserve(partial(os.listdir, self.fd)))
        except OSError as error:
            _log.warn("an instance directory stays for the sweep", token=self.token, errno=error.errno)
        self.let_go()

    def _remove_if_empty(self, names: list[str]) -> None:
        if not set(names) <= {JOURNAL, OWNER, UNLOCKED}:
            # A scope that could not be removed, or is to be kept: the journal says which.
            return
        for name in names:
            os.unlink(name, dir_fd=self.fd)
        # What a crash here leaves, a directory without a lock, any sweep removes.
        os.rmdir(self.name, dir_fd=self.root.fd)

    def let_go(self) -> None:
        """Close our copies of the descriptors; never unlock, never delete."""
        self.lost = True
        self._drop_stale()
        for name in list(self._lent):
            self.take_back(name)
        self.journal.close()
        self._descriptor.close()
        self.root.close()

    def __repr__(self) -> str:
        return f"<Instance {self.path!r} of process {self.pid}>"


def _gone(error: OSError) -> bool:
    """Return False if *error* says that what was ours is not there; raise any other, which says nothing."""
    if error.errno not in GONE:
        raise error
    return False


def is_area_name(name: str) -> bool:
    """Return whether *name* is one that :meth:`Instance.next_name` gives."""
    return name[:1] == "a" and len(name) < 20 and name[1:].isascii() and name[1:].isdigit()


def is_named(dir_fd: int, name: str, identity: tuple[int, int]) -> bool:
    """Return whether *name* in the directory *dir_fd* is the inode with *identity*."""
    try:
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == identity
