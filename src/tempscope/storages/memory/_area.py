"""One scope's files in memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from tempscope._names import RESERVED_PREFIX, check_name, escape
from tempscope.errors import (
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    ScopeClosedError,
    StorageError,
    UnsupportedError,
)
from tempscope.model import Capability, Removal, ScopeRecord, Usage
from tempscope.protocols import Progress, StagedFile, TempArea
from tempscope.storages._failure import storage_error
from tempscope.storages.memory._file import BelowBuffer
from tempscope.storages.memory._give_out import give_out, move_out
from tempscope.storages.memory._open import parse_mode, wrap
from tempscope.storages.memory._path import MemoryPath
from tempscope.storages.memory._remove import discard, measure, remove
from tempscope.storages.memory._spill import settle
from tempscope.storages.memory._take_in import StagedInMemory, take_in
from tempscope.storages.memory._tree import Names, Tree


if TYPE_CHECKING:
    from tempscope.storages.memory._storage import MemoryStorage

__all__ = ["MemoryArea"]

_NOTHING = Removal()


class MemoryArea:
    """
    The files of one scope; see :class:`~tempscope.protocols.TempArea`.

    Lives from the scope's first file to its close; all threads of the job may use it.
    """

    __slots__ = ("_record", "_state", "_storage", "tree")

    def __init__(self, storage: MemoryStorage, record: ScopeRecord, tree: Tree) -> None:
        self._storage = storage
        self._record = record
        self.tree = tree
        self._state = "open"

    @property
    def record(self) -> ScopeRecord:
        """The scope's record, with the directory where its files are."""
        return attrs.evolve(self._record, directory=MemoryPath.of(self.tree, ()))

    @property
    def directory(self) -> Path:
        """The directory in which the files stand; it is in memory."""
        self._check_open()
        return MemoryPath.of(self.tree, ())

    def _check_open(self) -> None:
        if self._state != "open":
            raise ScopeClosedError(
                f"the scope is closed: its files were {self._state}",
                scope=self._label(),
            )

    def _label(self) -> str:
        return self._record.name or self._record.token

    # -- making

    def create_file(self, name: str) -> Path:
        """Make a new empty file of exactly that name, mode 0600."""
        return self._create(name, directory=False)

    def create_dir(self, name: str) -> Path:
        """Make a new empty directory of exactly that name, mode 0700."""
        return self._create(name, directory=True)

    def _create(self, name: str, *, directory: bool) -> Path:
        check_name(name)
        tree, names = self.tree, (name,)
        with tree.volume.lock:
            self._check_open()
            try:
                parent, node = tree.find(names)
                if isinstance(node, Path):
                    self._create_on_disk(name, directory)
                elif node is not None:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                elif directory:
                    tree.make_directory(parent, names, 0o700)
                else:
                    tree.make_file(parent, names, 0o600)
            except StorageError:
                raise
            except FileExistsError as error:
                raise NameTakenError(
                    f"the name {escape(name)!r} is taken in this scope", path=tree.shown(names), cause=error
                ) from error
            except OSError as error:
                raise storage_error(
                    error, f"{escape(name)!r} cannot be made", path=tree.shown(names), scope=self._label()
                ) from error
        return MemoryPath.of(tree, names)

    def _create_on_disk(self, name: str, directory: bool) -> None:
        area = self._spilled()
        area.create_dir(name) if directory else area.create_file(name)

    def _spilled(self) -> TempArea:
        assert self.tree.spill is not None and self.tree.spill.area is not None
        return self.tree.spill.area

    # -- in and out

    def take_in(self, source: Path, name: str, *, writable: bool, progress: Progress | None) -> StagedFile:
        """Copy an outside file or directory into memory."""
        check_name(name)
        self._check_open()
        target = MemoryPath.of(self.tree, (name,))
        take_in(source, target, writable=writable, progress=progress)
        return StagedInMemory(path=target, source=source)

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
        """Write a finished file or directory to its final place, atomically, and let go of it here."""
        self._check_open()
        names = self._names_of(path)
        if not names:
            raise ForeignPathError(
                f"{escape(self.tree.shown(()))!r} is the scope's own directory, which ends with it: "
                "name what is in it, or a new_dir()",
                path=path,
                scope=self._label(),
            )
        options: Any = {"overwrite": overwrite, "durable": durable, "mode": mode, "progress": progress}
        if isinstance(destination, MemoryPath):
            return self._give_to_memory(names, destination, overwrite, mode)
        target = os.path.abspath(destination)
        if self.tree.knows(target) is not None:
            raise ForeignPathError(
                f"{escape(target)!r} is inside the scope: publish to a place that outlives it",
                path=destination,
                scope=self._label(),
            )
        with self.tree.volume.lock:
            found = self._find(names)
        if isinstance(found, Path):
            self._spilled().give_out(found, Path(target), **options)
        else:
            give_out(MemoryPath.of(self.tree, names), target, scope=self._label(), **options)
            with self.tree.volume.lock:
                remove(self.tree, names)
        return Path(target)

    def _find(self, names: Names) -> Any:
        try:
            return self.tree.existing(names)
        except (FileNotFoundError, NotADirectoryError) as error:
            shown = self.tree.shown(names)
            raise PathMissingError(
                f"{escape(shown)!r} is not there, so it cannot be published", path=shown, cause=error
            ) from error

    def _give_to_memory(
        self, names: Names, destination: MemoryPath, overwrite: bool, mode: int | None
    ) -> Path:
        """Move to another scope's area."""
        tree, target = self.tree, destination._tree
        if target is tree:
            raise ForeignPathError(
                f"{destination.display!r} is inside the scope: publish to a place that outlives it",
                path=destination,
                scope=self._label(),
            )
        # In one order for all: two jobs of two storages may publish to each other.
        first, second = sorted((tree.volume, target.volume), key=id)
        with first.lock, second.lock:
            self._find(names)
            path = MemoryPath.of(tree, names)
            move_out(path, destination, overwrite=overwrite, mode=mode, scope=self._label())
        return destination

    def reserve_by(self, reserve: Callable[[int], AbstractContextManager[None]]) -> None:
        """Ask *reserve* before a file grows."""
        self.tree.reserve = reserve

    # -- looking and deleting

    def delete(self, path: Path) -> Removal:
        """Remove *path* and all below it; missing is fine."""
        tree = self.tree
        with tree.volume.lock:
            self._check_open()
            return remove(tree, self._names_of(path))

    def _names_of(self, path: Path) -> Names:
        """Return which of our names *path* is; it does not move for that."""
        if isinstance(path, MemoryPath):
            names = path._names if path._tree is self.tree else None
        else:
            names = self.tree.knows(os.fspath(path))
        if names is None or ".." in names:
            shown = getattr(path, "display", None) or str(path)
            raise ForeignPathError(
                f"{escape(shown)!r} is not in this scope, whose directory is {escape(self.tree.shown(()))!r}",
                path=path,
                scope=self._label(),
            )
        return names

    def usage(self) -> Usage:
        """Count what the files occupy, in memory and on the disk."""
        with self.tree.volume.lock:
            return measure(self.tree) if self._state == "open" else Usage()

    def spill(self) -> TempArea:
        """
        Move everything to the disk and return the area over there; this one stays usable.

        Raises:
            UnsupportedError: If there is nowhere to spill to.
        """
        with self.tree.volume.lock:
            self._check_open()
            settle(self.tree, ())
            return self._spilled()

    # -- sharing

    def hand_over(self, record: ScopeRecord, outside: Mapping[str, str], staged: Sequence[StagedFile]) -> str:
        """Move everything to the disk, close the area, and let its files wait there under a token."""
        with self.tree.volume.lock:
            token: str = self._moved(Capability.HAND_OVER, "handed over").hand_over(record, outside, staged)
            self._state = "handed over"
            self._storage._forget(self)
            self.tree.end()
            return token

    def lease_fd(self) -> int:
        """Move everything to the disk; return a descriptor that holds the area there."""
        with self.tree.volume.lock:
            lease: int = self._moved(Capability.COMMAND_LEASE, "held by a command").lease_fd()
            return lease

    def _moved(self, capability: Capability, what: str) -> Any:
        self._check_open()
        if capability not in self._storage.capabilities:
            raise UnsupportedError(
                f"the scope is in memory, so it cannot be {what}: "
                "give MemoryStorage(spill_to=LocalDiskStorage()) a place to move it to",
                scope=self._label(),
            )
        return self.spill()

    def unnamed_file(self, mode: str) -> IO[Any]:
        """Return an open file without a name, in memory like any other."""
        tree, meaning = self.tree, parse_mode(mode)
        with tree.volume.lock:
            self._check_open()
            node = tree.volume.new_file(0o600)
            if node is None:
                raise tree.volume.no_inode("an unnamed file")
            node.links = 0
            # What it is called in messages, and on the disk for the moment in which it moves there.
            names = (f"{RESERVED_PREFIX}unnamed-{node.number}",)
            raw = BelowBuffer(MemoryPath.of(tree, names), node, meaning)
        return wrap(raw, mode, meaning, -1, None, None, None)

    # -- closing

    def retain(self, record: ScopeRecord) -> ScopeRecord:
        """Close the area and keep its files in this process's memory; paths of them are void."""
        with self.tree.volume.lock:
            if self._state == "retained":
                return self._record
            self._check_open()
            kept = attrs.evolve(record, state="retained", usage=measure(self.tree))
            self._state = "retained"
            self._record = self._storage._retain(self, kept)
            return self._record

    def remove(self) -> Removal:
        """Close the area and remove all that is in it."""
        with self.tree.volume.lock:
            if self._state != "open":
                return _NOTHING
            self._state = "removed"
            self._storage._forget(self)
            return discard(self.tree)
