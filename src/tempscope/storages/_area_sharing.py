"""
What an area can share: itself with another process, its lease with a command, its room with files
that have no name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import attrs

from tempscope import _log
from tempscope.errors import StorageError
from tempscope.model import ScopeRecord
from tempscope.storages import _lock
from tempscope.storages._area_directory import AreaDirectory
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._hand_over import OUTSIDE, Waiting, move_in, put_outside
from tempscope.storages._identity import Identity
from tempscope.storages._instance import Instance, identity_of, is_named
from tempscope.storages._journal import OutsidePath
from tempscope.storages._openat2 import open_directory
from tempscope.storages._record_file import RECORD, write_record
from tempscope.storages._token import new_token
from tempscope.storages._unnamed import open_unnamed


if TYPE_CHECKING:
    from tempscope.storages.local import LocalDiskStorage

__all__ = ["AreaSharing"]


class AreaSharing(AreaDirectory):
    """The part of an area that serves hand-over, child commands and unnamed files."""

    __slots__ = ("_lease",)

    def __init__(self, storage: LocalDiskStorage, record: ScopeRecord) -> None:
        super().__init__(storage, record)
        self._lease = Descriptor()

    # -- hand-over

    def hand_over(self, record: ScopeRecord, outside: Mapping[str, str]) -> str:
        """Close the area and let its files wait, whole, under a token."""
        with self._lock, self._own_copy() as own:
            self._check_lease()
            instance = self._instance
            assert instance is not None
            if not is_named(instance.fd, self._name, self._identity):
                raise self._lost(None)
            waiting = attrs.evolve(record, state="handed_over", owner=instance.owner)
            paths = [OutsidePath(path, Identity.parse(identity)) for path, identity in outside.items()]
            try:
                token = self._move_out(instance, own, waiting, paths)
            except OSError as error:
                self._stay(instance, own, paths)
                raise storage_error(
                    error, "the scope cannot be handed over", path=self._path, scope=self._label()
                ) from error
            self._end("handed over", instance)
            return token

    def _move_out(
        self, instance: Instance, own: Descriptor, record: ScopeRecord, outside: list[OutsidePath]
    ) -> str:
        token = new_token()
        write_record(own.fd, record)
        # The paths are in the scope before they leave the journal: whoever sweeps after a crash in
        # between finds them in one place, and never deletes them under a scope that waits.
        put_outside(own.fd, outside)
        for each in outside:
            instance.journal.drop_outside(each.path)
        os.rename(self._name, f"d-{token}", src_dir_fd=instance.fd, dst_dir_fd=instance.root.fd)
        return token

    def _stay(self, instance: Instance, own: Descriptor, outside: list[OutsidePath]) -> None:
        for each in outside:
            try:
                instance.journal.add_outside(each)
            except OSError as error:
                _log.warn("a path could not be put back into the journal", errno=error.errno)
        _remove_own_files(own.fd)

    def come_in(self, instance: Instance, waiting: Waiting) -> None:
        """Become the area of the scope that *waiting* is; it is locked by us."""
        name = instance.next_name()
        with self._lock:
            try:
                instance.journal.add_area(name, self._record)
                for each in waiting.outside.values():
                    instance.journal.add_outside(each)
                move_in(instance, waiting, name)
            except OSError as error:
                instance.journal.drop_area(name)
                raise storage_error(
                    error, "the scope cannot be taken over", path=instance.path, scope=self._label()
                ) from error
            except BaseException:
                instance.journal.drop_area(name)
                raise
            self._storage._began(self)
            self._name, self._path = name, f"{instance.path}/{name}"
            self._identity = identity_of(waiting.directory.fd)
            self._instance = instance
            self._adopt(open_directory(".", dir_fd=waiting.directory.fd))
            _remove_own_files(self._descriptor.fd)
            instance.note_opened(self)
        _log.debug("area taken over", scope=self._label(), path=self._path)

    # -- commands

    def lease_fd(self) -> int:
        """Return a descriptor that holds the area for whoever has a copy of it."""
        with self._lock:
            if self._lease.closed:
                own = self._own_copy()
                if _lock.share(own.fd) != "held":
                    raise StorageError("the scope's directory cannot be locked for a command", path=self._path)
                self._lease = own
            return self._lease.fd

    # -- unnamed files

    def unnamed_file(self, mode: str) -> IO[Any]:
        """Return an open file without a name, on the area's file system."""
        with self._lock:
            own = self._own_copy()
        with own:
            try:
                return open_unnamed(own.fd, mode)
            except OSError as error:
                raise storage_error(
                    error, "no unnamed file can be made", path=self._path, scope=self._label()
                ) from error


def _remove_own_files(dir_fd: int) -> None:
    """Remove what lay in the scope only while it waited."""
    for name in (OUTSIDE, RECORD):
        try:
            os.unlink(name, dir_fd=dir_fd)
        except OSError:
            # It goes with the scope.
            continue
