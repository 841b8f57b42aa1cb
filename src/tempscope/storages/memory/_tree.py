"""
The names of one area: finding what they mean, making, linking, moving and removing.

As a kernel does it, with the same errors in the same order; what stands on the disk is found there.
All callers hold the volume's lock.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from stat import S_ISDIR
from typing import Any, TypeAlias, cast

from tempscope._names import MAX_NAME_BYTES
from tempscope.storages.memory._node import ON_DISK, Directory, File, Node, Volume
from tempscope.storages.memory._spill import Spill


__all__ = ["PLACE", "Found", "Names", "Tree", "failure"]

PLACE = "tempscope-memory"
"""Below this directory, which does not exist, stand the paths of a storage that cannot spill."""

_SHORT = MAX_NAME_BYTES // 4  # characters, of which none has more bytes than four

_UNBOUNDED = nullcontext()

Names: TypeAlias = tuple[str, ...]


def failure(code: int, *shown: str) -> OSError:
    """Return what a system call that fails with *code* on *shown* raises."""
    return OSError(code, os.strerror(code), *([shown[0]] if len(shown) == 1 else [shown[0], None, shown[1]]))


Found: TypeAlias = tuple[Directory | None, Node | Path | None]
"""
Where names lead: the directory that the last one is in, and what it means there.

That is a node, or nothing, or the plain path on the disk where the truth is.
The area's own directory is in no directory, and neither is what ends with ``..``: that is no name
that could be taken away.
"""


class Tree:
    """
    The names of one area.

    Lives from the scope's first file to its end; shared by all threads of the job.

    Args:
        volume: Whose bytes it counts.

        token: Names the scope.

        spill: Where files go that leave memory; None if they cannot.
    """

    __slots__ = ("_text", "gone", "on_disk", "reserve", "root", "spill", "token", "volume")

    def __init__(
        self, volume: Volume, token: str, spill: Spill | None, root: Directory | None = None
    ) -> None:
        self.volume = volume
        self.token = token
        self.spill = spill
        self.root = root or volume.root()
        self.on_disk = False
        self.gone = False
        self.reserve: Callable[[int], AbstractContextManager[None]] | None = None
        self._text: str | None = None

    # -- text

    @property
    def text(self) -> str:
        """
        The directory's absolute text, for ever the same.

        With somewhere to spill to, this is where its area over there has its directory, which is
        made now; the files stay where they are.
        """
        if self._text is None:
            with self.volume.lock:
                self._text = self._text or self._told()
        return self._text

    def _told(self) -> str:
        return self._nowhere() if self.spill is None or self.gone else self.spill.directory()

    def shown(self, names: Names) -> str:
        """Return the text of *names* for people; never makes anything."""
        return os.sep.join((self._text or self._nowhere(), *names))

    def knows(self, text: str) -> Names | None:
        """Return which of our names *text* is, if any."""
        if self._text is None or not (text + os.sep).startswith(self._text + os.sep):
            return None
        return tuple(part for part in text[len(self._text) :].split(os.sep) if part and part != ".")

    def _nowhere(self) -> str:
        return os.path.abspath(os.path.join(os.sep, PLACE, self.token))

    def real(self, names: Names) -> Path:
        """Return the plain path of *names*."""
        return Path(self.text, *names)

    def shadow(self, names: Names) -> str:
        """Return where the directory in memory that *names* mean stands on the disk too."""
        return os.path.normpath(self.real(names))

    # -- finding

    def find(self, names: Names) -> Found:
        """
        Return what *names* mean.

        Raises:
            OSError: If the way there does not exist or is no directory, as a kernel says it.
        """
        if ".." in names:
            return self._walk_back(names)
        if self.gone or self.on_disk:
            return None, self._elsewhere(names)
        parent: Any = None
        node: Any = self.root
        for name in names:
            # The first half of what _check_enter() does, without a call: every operation comes by here.
            if type(node) is not Directory or not node.mode & 0o100:
                self._check_enter(node, names)
            parent = node
            node = parent.entries.get(name)
            if node is None:
                if len(name) > _SHORT or "\0" in name:
                    self._check_component(name, names)
                if parent.shadowed and os.path.lexists(self.real(names)):
                    return None, self.real(names)
            elif node is ON_DISK:
                return None, self.real(names)
        return parent, node

    def _elsewhere(self, names: Names) -> Path:
        if self.gone:
            raise failure(errno.ENOENT, self.shown(names))
        return self.real(names)

    def _walk_back(self, names: Names) -> Found:
        """Return what *names* with ``..`` in them mean: what is left behind must be a directory."""
        inside: list[str] = []
        for name in names:
            if name != "..":
                inside.append(name)
                continue
            here = self.existing(tuple(inside))
            if not inside or (isinstance(here, Path) and here.is_symlink()):
                return None, self.real(names)
            if not (S_ISDIR(here.stat().st_mode) if isinstance(here, Path) else isinstance(here, Directory)):
                raise failure(errno.ENOTDIR, self.shown(names))
            inside.pop()
        found = self.find(tuple(inside))
        if names[-1] != "..":
            return found
        return None, self.real(names) if isinstance(found[1], Path) else found[1]

    def _check_component(self, name: str, names: Names) -> None:
        if "\0" in name:
            raise ValueError("embedded null byte")
        if len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise failure(errno.ENAMETOOLONG, self.shown(names))

    def _check_enter(self, node: object, names: Names) -> None:
        if not isinstance(node, Directory):
            raise failure(errno.ENOENT if node is None else errno.ENOTDIR, self.shown(names))
        if not node.mode & 0o100 and not self.volume.privileged:
            raise failure(errno.EACCES, self.shown(names))

    def above(self, names: Names) -> list[Directory]:
        """Return the directories from the area's own down to the one that the last of *names* is in."""
        way = [self.root]
        for name in names[:-1]:
            if name == "..":
                way.pop()
            else:
                way.append(cast("Directory", way[-1].entries[name]))
        return way

    def existing(self, names: Names) -> Node | Path:
        """Return what is at *names*; raise ``FileNotFoundError`` if nothing is."""
        node = self.find(names)[1]
        if node is None:
            raise failure(errno.ENOENT, self.shown(names))
        return node

    def listing(self, names: Names) -> list[str]:
        """Return the names in a directory, those in memory first."""
        node = self.existing(names)
        if isinstance(node, Path):
            return os.listdir(node)
        if not isinstance(node, Directory):
            raise failure(errno.ENOTDIR, self.shown(names))
        if not node.mode & 0o400 and not self.volume.privileged:
            raise failure(errno.EACCES, self.shown(names))
        inside = [name for name, child in node.entries.items() if child is not ON_DISK]
        if node.shadowed:
            known = set(inside)
            inside += [name for name in os.listdir(self.shadow(names)) if name not in known]
        return inside

    # -- making

    def reserving(self, more: int) -> AbstractContextManager[None]:
        """Return what to enter round writing *more* bytes: it raises if a quota forbids that."""
        return _UNBOUNDED if self.reserve is None else self.reserve(more)

    def make_file(self, parent: Directory | None, names: Names, mode: int) -> File:
        """Put a new empty file at *names*, which are found to mean nothing in *parent*."""
        parent = self.changing(parent, names)
        node = self.volume.new_file(mode)
        if node is None:
            raise self.volume.no_inode(self.shown(names))
        parent.entries[names[-1]] = node
        parent.mtime = parent.ctime = node.mtime
        return node

    def make_directory(self, parent: Directory | None, names: Names, mode: int) -> None:
        """Put a new empty directory at *names*, which are found to mean nothing in *parent*."""
        parent = self.changing(parent, names)
        node = self.volume.new_directory(mode)
        if node is None:
            raise self.volume.no_inode(self.shown(names))
        parent.entries[names[-1]] = node
        parent.mtime = parent.ctime = node.mtime

    def changing(self, parent: Directory | None, names: Names) -> Directory:
        """Return *parent*, in which *names* are found, if names may be changed there."""
        if parent is None:
            raise failure(errno.EBUSY, self.shown(names))
        if not parent.mode & 0o200 and not self.volume.privileged:
            raise failure(errno.EACCES, self.shown(names))
        return parent

    # -- removing

    def unlink(self, names: Names) -> None:
        """Remove the name of a file."""
        parent, node = self.find(names)
        if isinstance(node, File):
            self.drop(self.changing(parent, names), names[-1], node)
        elif node is None:
            raise failure(errno.ENOENT, self.shown(names))
        elif isinstance(node, Directory):
            raise failure(errno.EISDIR, self.shown(names))
        else:
            node.unlink()

    def drop(self, parent: Directory, name: str, node: File) -> None:
        del parent.entries[name]
        parent.mtime = parent.ctime = node.ctime = time.time_ns()
        node.links -= 1
        if not node.links and not node.handles:
            self.volume.release(node)

    def rmdir(self, names: Names) -> None:
        """Remove an empty directory."""
        parent, node = self.find(names)
        if isinstance(node, Path):
            node.rmdir()
            return
        if not isinstance(node, Directory):
            raise failure(errno.ENOENT if node is None else errno.ENOTDIR, self.shown(names))
        if names[-1:] == ("..",):
            raise failure(errno.ENOTEMPTY, self.shown(names))
        parent = self.changing(parent, names)
        if any(child is not ON_DISK for child in node.entries.values()):
            raise failure(errno.ENOTEMPTY, self.shown(names))
        if node.shadowed:
            os.rmdir(self.shadow(names))
            parent.entries[names[-1]] = ON_DISK
        else:
            del parent.entries[names[-1]]
        self.volume.release(node)
        parent.mtime = parent.ctime = time.time_ns()

    def renewed(self) -> Tree:
        """Return another tree over the same files, with the same text where it was told."""
        tree = Tree(self.volume, self.token, self.spill, self.root)
        tree.on_disk = self.on_disk
        tree._text = self._text
        return tree

    def end(self) -> None:
        """Forget everything: from now on no name means anything."""
        self.gone = True
        self.volume.trees.remove(self)
