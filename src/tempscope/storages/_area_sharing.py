"""
What an area can share: itself with another process, its lease with a command, its room.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

import attrs

from tempscope import _log
from tempscope.errors import StorageError
from tempscope.model import ScopeRecord
from tempscope.protocols import StagedFile
from tempscope.storages import _lock
from tempscope.storages._area_directory import AreaDirectory
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error
from tempscope.storages._hand_over import (
    Waiting,
    linked_in,
    outside_paths,
    put_luggage,
    remove_luggage,
    used,
)
from tempscope.storages._instance import Instance, identity_of, is_named
from tempscope.storages._journal import OutsidePath
from tempscope.storages._token import new_token
from tempscope.storages._unnamed import open_unnamed


__all__ = ["AreaSharing"]


class AreaSharing(AreaDirectory):
    """The part of an area that serves hand-over, child commands and unnamed files."""

    __slots__ = ()

    # -- hand-over

    def hand_over(self, record: ScopeRecord, outside: Mapping[str, str], staged: Sequence[StagedFile]) -> str:
        """Close the area and let its files wait, whole, under a token."""
        with self._lock, self._own_copy() as own:
            self._check_lease()
            instance = self._instance
            assert instance is not None
            if not is_named(instance.fd, self._name, self._identity):
                raise self._lost(None)
            token, paths = new_token(), outside_paths(outside)
            told = [each for each in paths if instance.journal.tells(each.path)]
            waiting = attrs.evolve(record, state="handed_over", owner=instance.owner)
            try:
                put_luggage(own.fd, waiting, paths, linked_in(self._path, staged))
                # The paths are in the scope before they leave the journal: whoever sweeps after a crash
                # in between finds them in one place, and never deletes them under a scope that waits.
                for each in told:
                    instance.journal.drop_outside(each.path)
                os.rename(self._name, f"d-{token}", src_dir_fd=instance.fd, dst_dir_fd=instance.root.fd)
                self._end("handed over", instance)
            except BaseException as error:
                self._stay(instance, own, f"d-{token}", told)
                if isinstance(error, OSError):
                    raise storage_error(
                        error, "the scope cannot be handed over", path=self._path, scope=self._label()
                    ) from error
                raise
            return token

    def _stay(self, instance: Instance, own: Descriptor, waiting: str, outside: list[OutsidePath]) -> None:
        """Be open as before; an interrupt may have come after the rename."""
        self._state = "open"
        self._storage._began(self)
        try:
            if is_named(instance.root.fd, waiting, self._identity):
                os.rename(waiting, self._name, src_dir_fd=instance.root.fd, dst_dir_fd=instance.fd)
                instance.journal.add_area(self._name, self._record)
            for each in outside:
                instance.journal.add_outside(each)
            remove_luggage(own.fd)
        except OSError as error:
            _log.warn(
                "a scope that stays could not be made as it was", scope=self._label(), errno=error.errno
            )

    def come_in(self, instance: Instance, waiting: Waiting, name: str) -> None:
        """
        Become the area of the scope that *waiting* is, in *instance* as *name*.

        Raises:
            HandOverError: If somebody else was faster.

            StorageError: If the system refuses; the scope still waits then.
        """
        with self._lock:
            try:
                instance.journal.add_area(name, self._record)
                self._rename_in(instance, waiting, name)
                for each in waiting.outside:
                    instance.journal.add_outside(each)
                # Until here the scope itself told of its paths, in a crash.
                remove_luggage(waiting.directory.fd)
                self._become(instance, waiting, name)
            except BaseException as error:
                self._go_back(instance, waiting, name)
                if isinstance(error, OSError) and not isinstance(error, StorageError):
                    raise storage_error(
                        error, "the scope cannot be taken over", path=instance.path, scope=self._label()
                    ) from error
                raise
            instance.note_opened(self)
        _log.debug("area taken over", scope=self._label(), path=self._path)

    def _rename_in(self, instance: Instance, waiting: Waiting, name: str) -> None:
        try:
            os.rename(waiting.name, name, src_dir_fd=instance.root.fd, dst_dir_fd=instance.fd)
        except FileNotFoundError as error:
            raise used(instance.root, error) from error

    def _become(self, instance: Instance, waiting: Waiting, name: str) -> None:
        self._name, self._path = name, f"{instance.path}/{name}"
        self._identity = identity_of(waiting.directory.fd)
        self._instance = instance
        self._descriptor.swap(waiting.directory)
        self._adopt(self._descriptor)
        self._storage._began(self)

    def _go_back(self, instance: Instance, waiting: Waiting, name: str) -> None:
        """Let the scope wait again, with all that it had."""
        directory = waiting.directory if self._descriptor.closed else self._descriptor
        self._storage._ended(self)
        try:
            if is_named(instance.fd, name, identity_of(directory.fd)):
                put_luggage(directory.fd, waiting.record, waiting.outside, waiting.linked)
                for each in waiting.outside:
                    instance.journal.drop_outside(each.path)
                os.rename(name, waiting.name, src_dir_fd=instance.fd, dst_dir_fd=instance.root.fd)
            instance.journal.drop_area(name)
        except OSError as error:
            _log.warn(
                "a scope could not be put back to wait; it goes with this process",
                scope=self._label(),
                errno=error.errno,
            )
        directory.close()

    # -- commands

    def lease_fd(self) -> int:
        """Return a descriptor that holds the area for whoever has a copy of it."""
        with self._lock:
            self._open()
            instance = self._instance
            assert instance is not None
            lease = instance.lent(self._name, self._identity)
            if lease is None:
                lease = self._own_copy()
                state = _lock.share(lease.fd)
                if state == "unsupported":
                    _log.warn(
                        "the file system has no locks: a command does not hold its scope", scope=self._label()
                    )
                if state == "busy":
                    raise StorageError(
                        "the scope's directory is locked by somebody else, so no command can hold it",
                        path=self._path,
                        scope=self._label(),
                    )
                instance.lend(self._name, lease, self._identity)
            return lease.fd

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
