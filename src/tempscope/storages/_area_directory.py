"""
The directory behind one scope's area: made at the first file, held open while it is in use.

Every operation is relative to the area's own descriptor, so that a link put in the place of the
area, or of anything above it, leads nowhere.
A few descriptors are kept open for the areas used last; the others are opened again by name and
recognised by their inode.
What is not what it was is never acted on.
"""

from __future__ import annotations

import errno
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tempscope import _log
from tempscope._names import escape
from tempscope.errors import ForkedScopeError, LeaseLostError, ScopeClosedError, StorageError
from tempscope.model import Removal, ScopeRecord
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._instance import GONE, Instance, close_own, identity_of, is_own
from tempscope.storages._openat2 import open_directory
from tempscope.storages._reserve import fill
from tempscope.storages._root import make_directory


if TYPE_CHECKING:
    from tempscope.storages.local import LocalDiskStorage

__all__ = ["AreaDirectory"]

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class AreaDirectory(ABC):
    """
    One scope's directory: where it is, what it is, and the descriptor by which it is used.

    Lives from the scope's first file to its close; all threads of the job may use it, one at a
    time inside its lock.
    """

    __slots__ = (
        "_create",
        "_descriptor",
        "_home",
        "_identity",
        "_instance",
        "_likely",
        "_lock",
        "_name",
        "_path",
        "_record",
        "_reserve",
        "_state",
        "_storage",
    )

    def __init__(self, storage: LocalDiskStorage, record: ScopeRecord) -> None:
        self._storage = storage
        self._record = record
        # Reentrant: a signal handler of the application may come in while this thread is inside.
        self._lock = threading.RLock()
        self._state = "open"
        self._instance: Instance | None = None
        self._name = ""
        self._path = ""
        self._home: Path | None = None
        self._identity = (0, 0)
        self._descriptor = Descriptor()
        # What is probably all there is in it; None once that is too much to remember.
        self._likely: tuple[str, ...] | None = ()
        self._create: Callable[[str], int] | None = None
        self._reserve: Callable[[int], AbstractContextManager[None]] | None = None

    @abstractmethod
    def remove(self) -> Removal:
        """Close the area and remove all that is in it; the storage calls it when it closes."""

    def _came_back(self, error: OSError) -> bool:
        """Look what is wrong if our directory seems to be missing; True if it is there again."""
        if error.errno not in GONE:
            return False
        self._check_lease()
        if self._is_open_here():
            return False
        self._forget_descriptor()
        self._reopen()
        return True

    def _open(self) -> Callable[[str], int]:
        """Have the directory open; the caller holds the lock."""
        if self._state != "open":
            raise self._is_closed()
        if self._instance is None:
            self._make()
        elif self._create is None:
            self._reopen()
        create = self._create
        if create is None:
            # Forked, or our descriptors closed, since the lines above.
            self._check_lease()
            raise self._lost(None)
        return create

    def _make(self) -> None:
        try:
            self._make_in(self._storage._instance())
        except LeaseLostError:
            # Nothing of ours was in what was lost: another instance will do.
            self._make_in(self._storage._instance())

    def _make_in(self, instance: Instance) -> None:
        instance.check()
        name = instance.next_name()
        try:
            instance.journal.add_area(name, self._record)
            # The umask may have changed since the instance was made; here it shows at no cost.
            descriptor, identity, instance.strips_owner_bits = make_directory(instance.fd, name)
        except (OSError, ValueError) as error:
            instance.journal.drop_area(name)
            instance.check()
            raise self._not_made(error, instance) from error
        self._storage._began(self)
        self._name, self._path = name, f"{instance.path}/{name}"
        self._identity = identity
        self._instance = instance
        self._adopt(descriptor)
        instance.note_opened(self)
        _log.debug("area made", scope=self._label(), path=self._path)

    def _not_made(self, error: OSError | ValueError, instance: Instance) -> StorageError:
        known = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        return storage_error(
            known, "the scope's directory cannot be made", path=instance.path, scope=self._label()
        )

    def _adopt(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._create = partial(os.open, flags=_CREATE, mode=0o600, dir_fd=descriptor.fd)

    def _reopen(self) -> None:
        self._check_lease()
        instance = self._instance
        assert instance is not None
        try:
            descriptor = open_directory(self._name, dir_fd=instance.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise self._lost(error) from error
            raise storage_error(
                error, "the scope's directory cannot be opened", path=self._path, scope=self._label()
            ) from error
        if identity_of(descriptor.fd) != self._identity:
            descriptor.close()
            raise self._lost(None)
        self._adopt(descriptor)
        instance.note_opened(self)

    def _check_lease(self) -> None:
        """Make sure that the directory is still ours; the caller holds the lock."""
        instance = self._instance
        assert instance is not None
        if instance.pid != os.getpid():
            raise ForkedScopeError(
                f"scope {self._label()!r} belongs to process {instance.pid}: open one in this process",
                scope=self._label(),
            )
        instance.check()

    def _is_open_here(self) -> bool:
        """Whether the descriptor is our directory, and that is still there."""
        try:
            status = os.fstat(self._descriptor.fd)
        except (OSError, ValueError):
            return False
        if (status.st_dev, status.st_ino) != self._identity:
            return False
        if not status.st_nlink:
            raise self._lost(None)
        return True

    def _own_copy(self) -> Descriptor:
        """Return another descriptor of the directory, for one call; the caller holds the lock."""
        self._open()
        if not self._is_open_here():
            self._forget_descriptor()
            self._reopen()
        try:
            return open_directory(".", dir_fd=self._descriptor.fd)
        except OSError as error:
            raise storage_error(
                error, "the scope's directory cannot be opened", path=self._path, scope=self._label()
            ) from error

    def _path_of(self, name: str) -> Path:
        """Return the path of *name*; all but the first are joined, which costs half of parsing a text."""
        if self._home is not None:
            return self._home / name
        path = Path(f"{self._path}/{name}")
        self._home = path.parent
        return path

    def _let_go(self) -> Descriptor:
        """Return the descriptor of the directory for somebody else to close; a closed one if it has none."""
        self._create = None
        held = Descriptor()
        held.swap(self._descriptor)
        if not is_own(held, self._identity):
            held.forget()
        return held

    def _forget_descriptor(self) -> None:
        self._create = None
        close_own(self._descriptor, self._identity)

    def release_descriptor(self) -> bool:
        """Close the directory for now, unless another thread is using it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._forget_descriptor()
        finally:
            self._lock.release()
        return True

    def _end(self, state: str, instance: Instance) -> None:
        self._state = state
        self._forget_descriptor()
        instance.take_back(self._name)
        if not instance.lost:
            instance.journal.drop_area(self._name)
            fill(instance.fd)
        self._storage._ended(self)
        _log.debug("area ended", scope=self._label(), path=self._path, how=state)

    def _label(self) -> str:
        return self._record.name or self._record.token

    def _failed(self, error: OSError, name: str, verb: str) -> StorageError:
        return storage_error(
            error, f"{escape(name)!r} cannot be {verb}", path=f"{self._path}/{name}", scope=self._label()
        )

    def _is_closed(self) -> ScopeClosedError:
        return ScopeClosedError(f"the scope is closed: its files were {self._state}", scope=self._label())

    def _lost(self, error: BaseException | None) -> LeaseLostError:
        return LeaseLostError(
            f"the scope's directory {escape(self._path)!r} was removed or replaced by somebody else",
            path=self._path,
            errno=errno.ESTALE,
            scope=self._label(),
            cause=error,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path or 'not made yet'!r} {self._state}>"
