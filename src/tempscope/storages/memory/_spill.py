"""
Moving what is in memory to its real place on the disk, for good.

Each step leaves one truth: a file is in memory or on the disk, never on both, and a failure half way
leaves what did not move where it was.
All callers hold the volume's lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tempscope._names import RESERVED_PREFIX, escape
from tempscope.errors import StorageError, UnsupportedError
from tempscope.model import ScopeRecord
from tempscope.protocols import TempArea, TempStorage
from tempscope.storages._failure import storage_error
from tempscope.storages.memory._node import ON_DISK, Directory, File, Volume


if TYPE_CHECKING:
    from tempscope.storages.memory._file import Stream
    from tempscope.storages.memory._tree import Names, Tree

__all__ = ["Spill", "no_place", "settle", "settle_handle", "settle_large"]

_CREATE = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Spill:
    """
    Where the files of one scope go that leave memory: an area of another storage.

    Lives as long as the scope's area; the other area is opened when first needed.
    """

    __slots__ = ("_record", "_storage", "area")

    def __init__(self, storage: TempStorage, record: ScopeRecord) -> None:
        self._storage = storage
        self._record = record
        self.area: TempArea | None = None

    def directory(self) -> str:
        """Return the directory over there, made when first asked for."""
        self.area = self.area or self._storage.open_area(self._record)
        return os.fspath(self.area.directory)


def no_place(shown: str) -> UnsupportedError:
    """Return the error for a path that cannot leave memory."""
    return UnsupportedError(
        f"{shown!r} is in memory only, so no other program can open it: use the path's own methods "
        "(open, read_bytes, ...), or give MemoryStorage(spill_to=LocalDiskStorage()) a place to move it to",
        path=shown,
    )


def settle(tree: Tree, names: Names) -> str:
    """
    Have the truth about *names* on the disk from now on, and return its text there.

    A directory moves with all in it.
    Of what is not there yet the parents are made on the disk, and the name itself is the disk's, so
    that what a program writes there is seen.

    Raises:
        UnsupportedError: If there is nowhere to spill to.

        StorageError: If the disk refuses; what did not move is still in memory.
    """
    if tree.spill is None:
        raise no_place(tree.shown(names))
    text = os.path.join(tree.text, *names)
    if tree.gone or tree.on_disk:
        return text
    names = _without_back(tree, names)
    if not names:
        _move_directory(tree, tree.root, ())
        tree.on_disk = True
        return text
    here, depth = tree.root, 1
    _shadow(tree, here, ())
    while depth < len(names) and isinstance(child := here.entries.get(names[depth - 1]), Directory):
        here = child
        _shadow(tree, here, names[:depth])
        depth += 1
    _settle_entry(tree, here, names[:depth])
    return text


def _settle_entry(tree: Tree, parent: Directory, names: Names) -> None:
    child = parent.entries.get(names[-1])
    if isinstance(child, File):
        _move_file(child, tree, parent, names)
        return
    if isinstance(child, Directory):
        _move_directory(tree, child, names)
    parent.entries[names[-1]] = ON_DISK


def settle_handle(handle: Stream) -> None:
    """
    Have the file that *handle* has open on the disk from now on, whatever its name is now.

    Raises:
        UnsupportedError: If there is nowhere to spill to.

        StorageError: If the disk refuses.
    """
    tree, node = handle.tree, handle.node
    if tree.spill is None or tree.gone:
        raise no_place(tree.shown(handle.names))
    for owner, parent, names in _names_of(node, tree):
        _shadow(owner, parent, names[:-1])
        _move_file(node, owner, parent, names)
        return
    beside = os.path.join(tree.text, f"{RESERVED_PREFIX}unnamed-{node.number}")
    _write_out(node, beside)
    os.unlink(beside)
    _forget(node, tree)


def settle_large(volume: Volume, at_least: int) -> int:
    """
    Have all files of *at_least* so many bytes on the disk from now on, the largest first.

    Takes the volume's lock for one file at a time.

    Returns:
        How many bytes left memory.

    Raises:
        StorageError: If the disk refuses; what did not move is still in memory.
    """
    with volume.lock:
        found = [each for tree in volume.trees for each in _files_of(tree) if each[1].size >= at_least]
    moved = 0
    for tree, node, names in sorted(found, key=lambda each: each[1].size, reverse=True):
        with volume.lock:
            before = volume.bytes
            if not tree.gone and _at(tree, names) is node:
                settle(tree, names)
            moved += before - volume.bytes
    return moved


def _files_of(tree: Tree) -> Iterator[tuple[Tree, File, Names]]:
    waiting: list[tuple[Directory, Names]] = [(tree.root, ())]
    while waiting:
        directory, path = waiting.pop()
        for name, child in directory.entries.items():
            if isinstance(child, Directory):
                waiting.append((child, (*path, name)))
            elif isinstance(child, File):
                yield tree, child, (*path, name)


def _at(tree: Tree, names: Names) -> object:
    here: object = tree.root
    for name in names:
        here = here.entries.get(name) if isinstance(here, Directory) else None
    return here


def _without_back(tree: Tree, names: Names) -> Names:
    """Return *names* without ``..``; what they lead through is made on the disk, as their text needs it."""
    inside: list[str] = []
    for name in names:
        if name == ".." and inside:
            _pave(tree, tuple(inside))
            inside.pop()
        else:
            inside.append(name)
    return tuple(inside)


def _pave(tree: Tree, names: Names) -> None:
    here: object = tree.root
    for depth, name in enumerate(("", *names)):
        here = here.entries.get(name) if depth and isinstance(here, Directory) else here
        if isinstance(here, Directory):
            _shadow(tree, here, names[:depth])


def _shadow(tree: Tree, directory: Directory, names: Names) -> None:
    """Have *directory* on the disk too; what is in it stays in memory."""
    if directory.shadowed:
        return
    text = os.path.join(tree.text, *names)
    try:
        if names and not os.path.isdir(text):
            os.mkdir(text, 0o700)
        # Whoever may not write to it may still have one of its files move.
        os.chmod(text, directory.mode | 0o300)
    except OSError as error:
        raise _not_moved(error, text) from error
    directory.shadowed = True


def _move_directory(tree: Tree, directory: Directory, names: Names) -> None:
    waiting = [(directory, names)]
    met = []
    while waiting:
        here, path = waiting.pop()
        _shadow(tree, here, path)
        met.append((here, path))
        for name, child in list(here.entries.items()):
            if isinstance(child, Directory):
                waiting.append((child, (*path, name)))
            elif isinstance(child, File):
                _move_file(child, tree, here, (*path, name))
    for here, path in reversed(met):
        _dress(os.path.join(tree.text, *path), here.mode, here.mtime, here.mtime)
        here.entries.clear()
    tree.volume.files -= len(met) if names else len(met) - 1


def _move_file(node: File, tree: Tree, parent: Directory, names: Names) -> None:
    """Move the file that *names* mean, of whose parents all are on the disk, with its other names."""
    text = os.path.join(tree.text, *names)
    entries = [(tree, parent, names)]
    if node.links > 1:
        entries += [entry for entry in _names_of(node, tree) if entry[1:] != (parent, names)]
    _write_out(node, text)
    try:
        for owner, directory, other in entries[1:]:
            _shadow(owner, directory, other[:-1])
            _link(text, os.path.join(owner.text, *other))
    except BaseException:
        for handle in node.opened():
            handle.prepare(None)
        for owner, _, other in entries:
            _discard(os.path.join(owner.text, *other))
        raise
    for _, directory, other in entries:
        directory.entries[other[-1]] = ON_DISK
    _forget(node, tree)


def _link(text: str, other: str) -> None:
    try:
        _discard(other)
        os.link(text, other)
    except OSError as error:
        raise _not_moved(error, other) from error


def _discard(text: str) -> None:
    if os.path.lexists(text):
        os.unlink(text)


def _forget(node: File, tree: Tree) -> None:
    for handle in node.opened():
        handle.switch()
    node.handles = None
    tree.volume.release(node)


def _names_of(node: File, first: Tree) -> Iterator[tuple[Tree, Directory, Names]]:
    """Yield all names of *node* with their directories: in its own tree, then in the others."""
    left = node.links
    for tree in [first, *(tree for tree in first.volume.trees if tree is not first)]:
        waiting: list[tuple[Directory, Names]] = [(tree.root, ())]
        while waiting and left:
            directory, path = waiting.pop()
            for name, child in list(directory.entries.items()):
                if isinstance(child, Directory):
                    waiting.append((child, (*path, name)))
                elif child is node:
                    left -= 1
                    yield tree, directory, (*path, name)


def _write_out(node: File, text: str) -> None:
    """Write *node* to *text*, with its mode and times, and have its handles ready to switch."""
    try:
        fd = _create(text)
    except OSError as error:
        raise _not_moved(error, text) from error
    try:
        with open(fd, "wb", buffering=0) as file:
            rest = memoryview(node.data)
            while rest:
                rest = rest[file.write(rest) :]
            del rest
            file.truncate(node.size)
        for handle in node.opened():
            handle.prepare(text)
        _dress(text, node.mode, node.atime, node.mtime)
    except BaseException as error:
        for handle in node.opened():
            handle.prepare(None)
        os.unlink(text)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise _not_moved(error, text) from error
        raise


def _dress(text: str, mode: int, accessed: int, modified: int) -> None:
    try:
        os.utime(text, ns=(accessed, modified))
        os.chmod(text, mode)
    except OSError as error:
        raise _not_moved(error, text) from error


def _create(text: str) -> int:
    try:
        return os.open(text, _CREATE, 0o600)
    except FileExistsError:
        # A program made that name while it was ours in memory: ours is the one people have paths of.
        os.unlink(text)
        return os.open(text, _CREATE, 0o600)


def _not_moved(error: OSError, text: str) -> OSError:
    return storage_error(error, f"{escape(text)!r} cannot be moved from memory to disk", path=text)
