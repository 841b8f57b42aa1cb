"""Paths whose files are in memory."""

from __future__ import annotations

import errno
import io
import locale
import os
import time
from pathlib import Path
from typing import IO, Any, Self

from tempscope.storages.memory._file import BelowBuffer, MemoryRaw
from tempscope.storages.memory._lexical import LexicalPath
from tempscope.storages.memory._looking import LookingPath
from tempscope.storages.memory._node import Directory, File, Node
from tempscope.storages.memory._open import Mode, check_binary, parse_mode, wrap
from tempscope.storages.memory._rename import link, move
from tempscope.storages.memory._spill import settle
from tempscope.storages.memory._transfer import Transfer
from tempscope.storages.memory._tree import failure


__all__ = ["MemoryPath"]


class MemoryPath(Transfer, LookingPath):
    """
    A path whose file is in memory, until somebody needs it on the disk.

    Immutable, and valid as long as its scope; shared by everybody.
    Every public method of :class:`pathlib.Path` is served from memory.
    ``str`` and ``os.fspath``, and so ``open(path)``, commands and C libraries, move the file to its
    real place first, from which on the disk has the truth for both sides; ``Path(path)`` does the
    same.
    Without a place to spill to they raise :class:`~tempscope.UnsupportedError`, but for ``Path(path)``,
    which builds a plain path that leads nowhere.

    Not promised: symbolic links in memory. Where there is a place to spill to they are made on the
    disk, else they fail with ``EPERM``, as on a file system without them.
    """

    __slots__ = ()

    # -- reading and writing

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open the file as the built-in :func:`open` does; it stays in memory."""
        meaning = parse_mode(mode)
        if meaning.text:
            encoding = io.text_encoding(encoding)
        else:
            check_binary(buffering, encoding, errors, newline)
        tree = self._tree
        with tree.volume.lock:
            parent, node = tree.find(self._names)
            raw: Any = None
            if not isinstance(node, Path):
                kind = MemoryRaw if buffering == 0 and not meaning.text else BelowBuffer
                raw = kind(self, self._file(parent, node, meaning), meaning)
        if isinstance(node, Path):
            return node.open(mode, buffering, encoding, errors, newline)
        if buffering == 0 and not meaning.text:
            return raw  # type: ignore[no-any-return]
        return wrap(raw, mode, meaning, buffering, encoding, errors, newline)

    def _file(self, parent: Directory | None, node: Node | None, meaning: Mode) -> File:
        """Return the file that *node* is, or that is made in *parent*, for opening it so."""
        tree = self._tree
        if node is None:
            if meaning.kind == "r":
                raise failure(errno.ENOENT, self.display)
            return tree.make_file(parent, self._names, tree.volume.masked(0o666))
        if meaning.kind == "x":
            raise failure(errno.EEXIST, self.display)
        if isinstance(node, Directory):
            raise failure(errno.EISDIR, self.display)
        wanted = (0o400 if meaning.reading else 0) | (0o200 if meaning.writing else 0)
        if node.mode & wanted != wanted and not tree.volume.privileged:
            raise failure(errno.EACCES, self.display)
        if meaning.kind == "w":
            self._empty(node)
        return node

    def _empty(self, node: File) -> None:
        self._tree.volume.bytes -= node.size
        node.data, node.size = b"", 0
        node.mtime = node.ctime = time.time_ns()

    def read_bytes(self) -> bytes:
        """Return the content."""
        tree = self._tree
        with tree.volume.lock:
            parent, node = tree.find(self._names)
            if not isinstance(node, Path):
                file = self._file(parent, node, _READ)
                data = bytes(file.data)
                return data if len(data) == file.size else data.ljust(file.size, b"\0")
        return node.read_bytes()

    def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """Return the content as text."""
        encoding = io.text_encoding(encoding)
        if newline is None:
            text = self.read_bytes().decode(_codec(encoding), errors or "strict")
            return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        with self.open("r", -1, encoding, errors, newline) as file:
            return file.read()  # type: ignore[no-any-return]

    def write_bytes(self, data: Any) -> int:
        """Make *data* the content, and return its size in bytes."""
        content = data if type(data) is bytes else bytes(memoryview(data))
        tree, size = self._tree, len(content)
        volume = tree.volume
        with volume.lock:
            parent, node = tree.find(self._names)
            if isinstance(node, Path):
                place = node
            else:
                file = self._file(parent, node, _WRITE)
                with tree.reserving(size):
                    if volume.spill_above is None or size <= volume.spill_above or tree.spill is None:
                        if not volume.charge(size):
                            raise volume.no_room(size, self.display)
                        file.data, file.size = content, size
                        return size
                    place = Path(settle(tree, self._names))
        return place.write_bytes(content)

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Make *data* the content, and return how many characters that were."""
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        encoding = io.text_encoding(encoding)
        if newline in _AS_IT_IS:
            try:
                content = data.encode(_codec(encoding), errors or "strict")
            except UnicodeError:
                self.write_bytes(b"")
                raise
            self.write_bytes(content)
            return len(data)
        with self.open("w", -1, encoding, errors, newline) as file:
            return file.write(data)

    # -- changing

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file if it is not there; else set its times to now."""
        tree = self._tree
        with tree.volume.lock:
            parent, node = tree.find(self._names)
            if isinstance(node, Path):
                node.touch(mode, exist_ok)
            elif node is None:
                tree.make_file(parent, self._names, tree.volume.masked(mode))
            elif not exist_ok:
                raise failure(errno.EEXIST, self.display)
            else:
                node.mtime = node.ctime = time.time_ns()
                if isinstance(node, File):
                    node.atime = node.mtime

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the directory."""
        try:
            self._mkdir(mode)
        except FileNotFoundError:
            if not parents or not self._names:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(mode, parents=False, exist_ok=exist_ok)
        except OSError:
            if not exist_ok or not self.is_dir():
                raise

    def _mkdir(self, mode: int) -> None:
        tree = self._tree
        with tree.volume.lock:
            parent, node = tree.find(self._names)
            if isinstance(node, Path):
                os.mkdir(node, mode)
            elif node is not None:
                raise failure(errno.EEXIST, self.display)
            else:
                tree.make_directory(parent, self._names, tree.volume.masked(mode))

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Set the permissions."""
        if not follow_symlinks and os.chmod not in os.supports_follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        tree = self._tree
        with tree.volume.lock:
            node = tree.existing(self._names)
            if isinstance(node, Path):
                node.chmod(mode, follow_symlinks=follow_symlinks)
                return
            if isinstance(node, Directory) and node.shadowed:
                os.chmod(tree.shadow(self._names), mode)
            node.mode = mode & 0o7777
            node.ctime = time.time_ns()

    def _set_times(self, accessed: int, modified: int) -> None:
        with self._tree.volume.lock:
            node = self._tree.existing(self._names)
            if isinstance(node, Path):
                os.utime(node, ns=(accessed, modified))
                return
            node.mtime, node.ctime = modified, time.time_ns()
            if isinstance(node, File):
                node.atime = accessed

    def lchmod(self, mode: int) -> None:
        """Set the permissions, of a link itself."""
        self.chmod(mode, follow_symlinks=False)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the name; what has the file open keeps it."""
        tree = self._tree
        try:
            with tree.volume.lock:
                tree.unlink(self._names)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Remove the directory, which must be empty."""
        with self._tree.volume.lock:
            self._tree.rmdir(self._names)

    # -- names for one another

    def _goal(self, target: Any) -> Path:
        """Return *target* as a path, in memory if it is in this area."""
        return target if isinstance(target, LexicalPath) else self._known(Path(os.path.abspath(target)))

    def rename(self, target: Any) -> Self:
        """
        Rename it to *target*, which may be in any area of this storage, or outside.

        Raises:
            OSError: As ``rename(2)``; with ``EXDEV`` if it would leave memory and cannot.
        """
        goal = self._goal(target)
        with self._tree.volume.lock:
            here = (self._tree, self._names)
            near = isinstance(goal, MemoryPath) and goal._tree.volume is self._tree.volume
            if near and move(here, (goal._tree, goal._names)):  # type: ignore[attr-defined]
                return goal  # type: ignore[return-value]
            self._check_leaving(goal)
            os.rename(str(self), str(goal))
        return goal  # type: ignore[return-value]

    def replace(self, target: Any) -> Self:
        """Rename it to *target*, in the place of what is there."""
        return self.rename(target)

    def _check_leaving(self, goal: Path) -> None:
        """Refuse like a boundary between file systems what cannot leave memory."""
        self._tree.existing(self._names)
        if self._tree.spill is None or (isinstance(goal, MemoryPath) and goal._tree.spill is None):
            raise failure(errno.EXDEV, self.display, getattr(goal, "display", None) or str(goal))

    def hardlink_to(self, target: Any) -> None:
        """Make this a second name of the file *target*."""
        goal = self._goal(target)
        with self._tree.volume.lock:
            near = isinstance(goal, MemoryPath) and goal._tree.volume is self._tree.volume
            if near and link((goal._tree, goal._names), (self._tree, self._names)):  # type: ignore[attr-defined]
                return
            goal.lstat()
            if self._tree.spill is None or (isinstance(goal, MemoryPath) and goal._tree.spill is None):
                raise failure(errno.EXDEV, getattr(goal, "display", None) or str(goal), self.display)
            os.link(str(goal), str(self))

    def symlink_to(self, target: Any, target_is_directory: bool = False) -> None:
        """
        Make this a symbolic link to *target*, on the disk.

        What *target* means moves there too.

        Raises:
            PermissionError: If there is nowhere to spill to.
        """
        tree = self._tree
        with tree.volume.lock:
            node = tree.find(self._names)[1]
            if isinstance(node, (File, Directory)):
                raise failure(errno.EEXIST, getattr(target, "display", None) or str(target), self.display)
            if tree.spill is None:
                raise failure(errno.EPERM, getattr(target, "display", None) or str(target), self.display)
            place = str(self)
            os.fspath(self.parent / target)
            os.symlink(target, place, target_is_directory)

    def readlink(self) -> Self:
        """Return what the symbolic link points to, as a plain path."""
        tree = self._tree
        with tree.volume.lock:
            node = tree.existing(self._names)
        if not isinstance(node, Path):
            raise failure(errno.EINVAL, self.display)
        return node.readlink()  # type: ignore[return-value]


def _codec(encoding: str) -> str:
    return locale.getencoding() if encoding == "locale" else encoding


_AS_IT_IS = ("", "\n", None) if os.linesep == "\n" else ("", "\n")
_READ = parse_mode("rb")
_WRITE = parse_mode("wb")
