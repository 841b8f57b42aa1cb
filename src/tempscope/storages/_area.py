"""
One scope's area on disk: what :class:`~tempscope.protocols.TempArea` promises, done to a directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import attrs

from tempscope import _log
from tempscope._names import check_name, escape
from tempscope.errors import (
    ForeignPathError,
    LeaseLostError,
    PathMissingError,
    StorageError,
)
from tempscope.model import Entry, Removal, ScopeRecord, Usage
from tempscope.protocols import Progress, StagedFile
from tempscope.storages._area_sharing import AreaSharing
from tempscope.storages._delete import remove_contents, remove_entry
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._destination import Destination, Home
from tempscope.storages._failure import storage_error
from tempscope.storages._identity import Identity
from tempscope.storages._instance import Instance, is_named
from tempscope.storages._link import stage, stage_at_once
from tempscope.storages._measure import measure, measure_kept
from tempscope.storages._openat2 import open_subdirectory
from tempscope.storages._publish import publish
from tempscope.storages._record_file import write_record
from tempscope.storages._reserve import with_reserve
from tempscope.storages._root import make_private_directory
from tempscope.storages._token import new_token


__all__ = ["LocalArea"]

_FEW = 4
_ONE_REMOVED = Removal(removed=1)
_NOTHING = Removal()
_NO_NAMES = ("", ".", "..")
_close = os.close


class LocalArea(AreaSharing):
    """
    The directory of one scope; see :class:`~tempscope.protocols.TempArea`.

    Lives from the scope's first file to its close; all threads of the job may use it.
    """

    __slots__ = ()

    # -- making

    @property
    def record(self) -> ScopeRecord:
        """The scope's record, with its directory where one was made."""
        return attrs.evolve(self._record, directory=Path(self._path)) if self._path else self._record

    @property
    def directory(self) -> Path:
        """The area's directory, made when first asked for."""
        with self._lock:
            self._open()
            return Path(self._path)

    def create_file(self, name: str) -> Path:
        """Make a new empty file of exactly that name, mode 0600."""
        check_name(name)
        with self._lock:
            create = self._create or self._open()
            try:
                # One call into C from open to close: no signal handler can lose the descriptor.
                any(map(_close, map(create, (name,))))
                if self._instance.strips_owner_bits:  # type: ignore[union-attr]
                    os.chmod(name, 0o600, dir_fd=self._descriptor.fd)
            except OSError as error:
                self._once_more(error, name, lambda: any(map(_close, map(self._open(), (name,)))))
            likely = self._likely
            if likely is not None:
                self._likely = (*likely, name) if len(likely) < _FEW else None
            return self._path_of(name)

    def create_dir(self, name: str) -> Path:
        """Make a new empty directory of exactly that name, mode 0700."""
        check_name(name)
        with self._lock:
            self._open()
            try:
                self._make_directory(name)
            except OSError as error:
                self._once_more(error, name, lambda: self._make_directory(name))
            return self._path_of(name)

    def _make_directory(self, name: str) -> None:
        self._open()
        if self._instance.strips_owner_bits:  # type: ignore[union-attr]
            make_private_directory(self._descriptor.fd, name).close()
        else:
            os.mkdir(name, 0o700, dir_fd=self._descriptor.fd)

    def _once_more(self, error: OSError, name: str, make: Callable[[], object]) -> None:
        """After *error*: make it again if only our descriptors were closed; else raise what is wrong."""
        try:
            if not self._came_back(error):
                raise self._failed(error, name, "made") from error
            make()
        except StorageError:
            raise
        except OSError as again:
            raise self._failed(again, name, "made") from again

    # -- in and out

    def take_in(self, source: Path, name: str, *, writable: bool, progress: Progress | None) -> StagedFile:
        """Bring an outside file or directory in by hard link, reflink or copy, whichever this storage can."""
        check_name(name)
        linking = None if writable else self._storage._linking
        with self._lock:
            self._open()
            path = self._path_of(name)
            staged = stage_at_once(
                source, self._descriptor.fd, name, path, linking, reflinks=self._reserve is None
            )
            if staged is not None:
                return staged
            own = self._own_copy()
        try:
            with own:
                staged = stage(
                    source, own.fd, name, path, linking=linking, progress=progress, reserve=self._reserve
                )
        except OSError as error:
            if self._state != "open":
                raise self._is_closed() from error
            raise
        if self._state != "open":
            # Another thread closed the scope, and what was made is gone, or kept under another name.
            raise self._is_closed()
        return staged

    def reserve_by(self, reserve: Callable[[int], AbstractContextManager[None]]) -> None:
        """Ask *reserve* before a copy is written."""
        self._reserve = reserve

    def give_out(
        self,
        path: Path,
        destination: Path,
        *,
        overwrite: bool,
        durable: bool,
        mode: int | None,
        progress: Progress | None,
    ) -> Path:
        """Move a finished file or directory to its final place, atomically."""
        parent = self._parent_of(path)
        with parent as (fd, name):
            assert self._instance is not None
            place = Destination(
                os.fspath(destination),
                overwrite,
                durable,
                self._instance.journal,
                home=Home(self._path, parent.area_fd),
                scope=self._label(),
            )
            publish(fd, name, place, mode=mode, progress=progress)
        return destination

    def give_up(self, path: Path) -> Path:
        """Move *path* to a directory of its own, which no policy and no sweep touches."""
        with self._parent_of(path) as (fd, name):
            self._check_lease()
            instance = self._instance
            assert instance is not None
            home = f"f-{new_token()}"
            try:
                with make_private_directory(instance.root.fd, home) as directory:
                    self._move_home(instance, home, directory, fd, name)
            except OSError as error:
                raise storage_error(
                    error, f"{escape(name)!r} cannot be kept", path=os.fspath(path), scope=self._label()
                ) from error
            return Path(instance.root.path, home, name)

    def _move_home(self, instance: Instance, home: str, directory: Descriptor, fd: int, name: str) -> None:
        try:
            os.rename(name, name, src_dir_fd=fd, dst_dir_fd=directory.fd)
        except OSError:
            # Empty: rmdir is all that may ever be done to what was given up.
            os.rmdir(home, dir_fd=instance.root.fd)
            raise

    # -- looking and deleting

    def delete(self, path: Path) -> Removal:
        """Remove *path* and all below it; missing is fine."""
        text = os.fspath(path)
        with self._lock:
            if self._state != "open":
                raise self._is_closed()
            own, _, name = text.rpartition("/")
            if own == self._path and name not in _NO_NAMES:
                if self._create is None:
                    self._open()
                removal = self._unlink(name)
                if removal is not None:
                    return removal
                # A whole directory may take long: without the lock, which every call of the job needs.
                parent = _Parent(with_reserve(self._own_copy), name)
            elif text == self._path and text:
                parent = _Parent(self._own_copy(), "")
            else:
                parent = None
        try:
            parent = parent or self._parent_of(path)
        except PathMissingError:
            return _NOTHING
        with parent as (fd, name):
            return remove_entry(fd, name) if name else remove_contents(fd)

    def _unlink(self, name: str) -> Removal | None:
        """Remove the file *name*; None if it takes more than that."""
        try:
            os.unlink(name, dir_fd=self._descriptor.fd)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            self._came_back(error)
            return None
        return _ONE_REMOVED

    def _parent_of(self, path: Path) -> _Parent:
        """Open the directory that *path* stands in, going down from the area without following links."""
        text = os.fspath(path)
        with self._lock:
            self._open()
            own, _, name = text.rpartition("/")
            names = [name] if own == self._path and name not in _NO_NAMES else self._names_below(path)
            current = area = self._own_copy()
        for name in names[:-1]:
            try:
                current = open_subdirectory(current.fd, name)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                    raise ForeignPathError(
                        f"{escape(text)!r} leads out of this scope through {escape(name)!r}",
                        path=path,
                        cause=error,
                    ) from error
                raise self._failed(error, text, "reached") from error
        return _Parent(current, names[-1], area)

    def _names_below(self, path: Path) -> list[str]:
        text, prefix = os.fspath(path), f"{self._path}/"
        names = [part for part in text[len(prefix) :].split("/") if part not in ("", ".")]
        if not text.startswith(prefix) or not names or ".." in names:
            raise self._foreign(path)
        return names

    def _foreign(self, path: Path) -> ForeignPathError:
        text = os.fspath(path)
        what = f"is not in this scope, whose directory is {escape(self._path)!r}"
        if text == self._path:
            what = "is the scope's own directory, which ends with it: name what is in it, or a new_dir()"
        return ForeignPathError(f"{escape(text)!r} {what}", path=path, scope=self._label())

    def usage(self) -> Usage:
        """Count what the area occupies now."""
        with self._lock:
            if self._instance is None or self._state != "open":
                return Usage()
            current = self._own_copy()
        with current:
            return measure(current.fd)

    # -- outside paths

    def note_outside(self, path: Path, identity: str) -> None:
        """Write *path* into the journal, for the sweep after a crash."""
        known = identity if Identity.parse(identity) else ""
        with self._lock:
            self._open()
            self._check_lease()
            assert self._instance is not None
            try:
                self._instance.journal.register(os.fspath(path), known)
            except OSError as error:
                raise storage_error(
                    error, "the path cannot be registered", path=os.fspath(path), scope=self._label()
                ) from error

    def forget_outside(self, path: Path) -> None:
        """Take *path* out of the journal; a lost one, which is nobody's any more, is left alone."""
        instance = self._instance
        if instance is None or instance.pid != os.getpid():
            return
        try:
            instance.check()
            instance.journal.drop_outside(os.fspath(path))
        except LeaseLostError as error:
            _log.warn("a path could not be taken out of the journal", error=type(error).__name__)
        except OSError as error:
            # With the line a sweep would delete what is still what was registered.
            raise storage_error(
                error, "the path cannot be unregistered", path=os.fspath(path), scope=self._label()
            ) from error

    # -- closing

    def retain(self, record: ScopeRecord) -> ScopeRecord:
        """Close the area and keep its files under a name that no process needs to hold."""
        with self._lock:
            if self._state == "retained":
                return self._record
            try:
                with with_reserve(self._own_copy) as own:
                    instance, kept = self._move_to_kept(own, record)
            except LeaseLostError:
                raise
            except OSError as error:
                if self._instance is not None:
                    self._leave_to_sweep(self._instance, record)
                raise storage_error(
                    error, "the scope cannot be kept where it should be", path=self._path, scope=self._label()
                ) from error
            self._record = kept
            self._end("retained", instance)
            return kept

    def _move_to_kept(self, own: Descriptor, record: ScopeRecord) -> tuple[Instance, ScopeRecord]:
        self._check_lease()
        instance = self._instance
        assert instance is not None
        if not is_named(instance.fd, self._name, self._identity):
            raise self._lost(None)
        name = f"k-{record.token}"
        kept = attrs.evolve(record, state="retained", owner=instance.owner, usage=measure_kept(own.fd))
        with_reserve(partial(write_record, own.fd, kept))
        os.rename(self._name, name, src_dir_fd=instance.fd, dst_dir_fd=instance.root.fd)
        return instance, attrs.evolve(kept, directory=Path(instance.root.path, name))

    def _leave_to_sweep(self, instance: Instance, record: ScopeRecord) -> None:
        """Write into the journal that whoever sweeps this instance shall keep the area."""
        wanted = attrs.evolve(record, never_closed=record.verdict or record.never_closed)
        try:
            instance.journal.add_area(self._name, wanted)
        except OSError as error:
            _log.warn("a scope's verdict could not be written down", scope=self._label(), errno=error.errno)
        # Closing the storage must not remove what is to be kept.
        self._storage._ended(self)

    def remove(self) -> Removal:
        """Close the area and remove all that is in it."""
        instance = self._instance
        if instance is not None and instance.pid != os.getpid():
            # Before any lock: a thread of the parent may have held it when we were forked.
            _log.debug("an inherited area is left to the parent process", scope=self._label())
            return _NOTHING
        with self._lock:
            instance = self._instance
            if self._state != "open":
                if instance is not None and self in self._storage._areas:
                    # An interrupt cut the end short.
                    self._end(self._state, instance)
                return _NOTHING
            if instance is None:
                self._state = "removed"
                return _NOTHING
            try:
                removal = self._remove_from(instance)
            except OSError as error:
                removal = Removal(failed=1, entries=(Entry(self._path, "failed", str(error), error.errno),))
            self._end("removed", instance)
            return removal

    def _remove_from(self, instance: Instance) -> Removal:
        try:
            instance.check()
        except LeaseLostError as error:
            return Removal(skipped=1, entries=(Entry(self._path, "skipped", str(error), error.errno),))
        removal = self._storage._discard(
            instance, self._name, self._identity, self._let_go(), self._likely or ()
        )
        if removal.failed:
            # Out of reach of whoever still writes by name, and of this process's lifetime.
            self._move_to_trash(instance)
        return removal

    def _move_to_trash(self, instance: Instance) -> None:
        try:
            os.rename(self._name, f"t-{new_token()}", src_dir_fd=instance.fd, dst_dir_fd=instance.root.fd)
        except OSError as error:
            _log.debug("leftovers stay in place", errno=error.errno)


class _Parent:
    """An open directory and a name in it, for one ``with``; maybe the area's directory above it, too."""

    __slots__ = ("_area", "_descriptor", "_name")

    def __init__(self, descriptor: Descriptor, name: str, area: Descriptor | None = None) -> None:
        self._descriptor = descriptor
        self._name = name
        self._area = area or descriptor

    @property
    def area_fd(self) -> int:
        """The area's directory."""
        return self._area.fd

    def __enter__(self) -> tuple[int, str]:
        return self._descriptor.fd, self._name

    def __exit__(self, *_: object) -> None:
        self._descriptor.close()
        self._area.close()
