"""The half of a path in memory that only looks: what is there, and what is in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tempscope.storages.memory._glob import glob, pattern_parts, walk
from tempscope.storages.memory._lexical import LexicalPath
from tempscope.storages.memory._node import Directory, File, Node


__all__ = ["LookingPath"]

_NOT_THERE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP])


class LookingPath(LexicalPath):
    """
    A path that can be looked at.

    Immutable; shared by everybody.
    """

    __slots__ = ()

    # -- looking

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return what ``stat`` tells of it."""
        tree = self._tree
        with tree.volume.lock:
            node = tree.existing(self._names)
            if not isinstance(node, Path):
                return tree.volume.status(node)
        return node.stat(follow_symlinks=follow_symlinks)

    def lstat(self) -> os.stat_result:
        """Return what ``stat`` tells of it, of a link itself."""
        return self.stat(follow_symlinks=False)

    def _type(self, *, follow_symlinks: bool = True) -> int:
        """Return the type bits of the mode, 0 if nothing is there."""
        tree = self._tree
        try:
            with tree.volume.lock:
                node = tree.existing(self._names)
            if isinstance(node, File):
                return stat.S_IFREG
            if isinstance(node, Directory):
                return stat.S_IFDIR
            return stat.S_IFMT(node.stat(follow_symlinks=follow_symlinks).st_mode)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return 0
            raise
        except ValueError:
            return 0

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether something is there."""
        return self._type(follow_symlinks=follow_symlinks) != 0

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a directory."""
        return self._type(follow_symlinks=follow_symlinks) == stat.S_IFDIR

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a regular file."""
        return self._type(follow_symlinks=follow_symlinks) == stat.S_IFREG

    def is_symlink(self) -> bool:
        """Return whether it is a symbolic link, which only the disk has."""
        return self._type(follow_symlinks=False) == stat.S_IFLNK

    def is_block_device(self) -> bool:
        """Return whether it is a block device."""
        return self._type() == stat.S_IFBLK

    def is_char_device(self) -> bool:
        """Return whether it is a character device."""
        return self._type() == stat.S_IFCHR

    def is_fifo(self) -> bool:
        """Return whether it is a FIFO."""
        return self._type() == stat.S_IFIFO

    def is_socket(self) -> bool:
        """Return whether it is a socket."""
        return self._type() == stat.S_IFSOCK

    def is_junction(self) -> bool:
        """Return False: junctions are made by nobody here."""
        return False

    def is_mount(self) -> bool:
        """Return whether something is mounted there, which only the disk can have."""
        with self._tree.volume.lock:
            try:
                node = self._tree.existing(self._names)
            except (OSError, ValueError):
                return False
        return isinstance(node, Path) and os.path.ismount(node)

    def samefile(self, other_path: Any) -> bool:
        """Return whether both names mean the same file."""
        other = other_path if isinstance(other_path, Path) else self.with_segments(other_path)
        return os.path.samestat(self.stat(), other.stat())

    def owner(self, *, follow_symlinks: bool = True) -> str:
        """Return the login name of the owner."""
        import pwd

        return pwd.getpwuid(self.stat(follow_symlinks=follow_symlinks).st_uid).pw_name

    def group(self, *, follow_symlinks: bool = True) -> str:
        """Return the name of the group."""
        import grp

        return grp.getgrgid(self.stat(follow_symlinks=follow_symlinks).st_gid).gr_name

    def resolve(self, strict: bool = False) -> Self:
        """Return the path without ``..`` and links; with *strict* it must be there."""
        tree = self._tree
        with tree.volume.lock:
            try:
                node: Node | Path | None = tree.existing(self._names)
            except OSError:
                if strict:
                    raise
                node = None
        if isinstance(node, Path):
            return self._known(node.resolve(strict))  # type: ignore[return-value]
        if ".." not in self._names:
            return self
        return self._known(Path(os.path.normpath(self._plain())))  # type: ignore[return-value]

    # -- listing

    def iterdir(self) -> Any:
        """Yield what is in the directory, in no promised order."""
        tree = self._tree
        with tree.volume.lock:
            names = tree.listing(self._names)
        return iter([self._at((*self._names, name)) for name in names])

    def glob(  # type: ignore[override]
        self, pattern: Any, *, case_sensitive: bool | None = None, recurse_symlinks: bool = False
    ) -> Iterator[Self]:
        """Yield what below here matches *pattern*, by the rules of the running Python."""
        parts = pattern_parts(pattern)
        if not parts:
            raise ValueError(f"Unacceptable pattern: {pattern!r}")
        return glob(self, parts, case_sensitive, recurse_symlinks)

    def rglob(  # type: ignore[override]
        self, pattern: Any, *, case_sensitive: bool | None = None, recurse_symlinks: bool = False
    ) -> Iterator[Self]:
        """Yield what anywhere below here matches *pattern*."""
        return glob(self, ["**", *pattern_parts(pattern)], case_sensitive, recurse_symlinks)

    def walk(
        self,
        top_down: bool = True,
        on_error: Callable[[OSError], object] | None = None,
        follow_symlinks: bool = False,
    ) -> Iterator[tuple[Self, list[str], list[str]]]:
        """Yield each directory from here on, with the names of directories and of other things in it."""
        return walk(self, top_down, on_error, follow_symlinks)
