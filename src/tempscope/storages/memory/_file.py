"""The raw stream over a file in memory."""

from __future__ import annotations

import errno
import io
import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from tempscope.errors import UnsupportedError
from tempscope.storages.memory._node import File
from tempscope.storages.memory._open import Mode
from tempscope.storages.memory._spill import settle_handle


if TYPE_CHECKING:
    from tempscope.storages.memory._path import MemoryPath
    from tempscope.storages.memory._tree import Names, Tree

__all__ = ["MemoryRaw"]

_SEEK_DATA = getattr(os, "SEEK_DATA", -1)
_SEEK_HOLE = getattr(os, "SEEK_HOLE", -1)


class NoDescriptorError(UnsupportedError, io.UnsupportedOperation):
    """A file that stays in memory has no descriptor."""


class MemoryRaw(io.RawIOBase):
    """
    An unbuffered open file, with a position of its own.

    Lives until it is closed; like any raw stream it may be shared between threads, which then
    share its position.
    When the file moves to disk, the stream goes on there at the same position.
    """

    def __init__(self, path: MemoryPath, tree: Tree, names: Names, node: File, meaning: Mode) -> None:
        self._path = path
        self.tree = tree
        self.names = names
        self.node = node
        self._volume = tree.volume
        self._meaning = meaning
        self._position = node.size if meaning.kind == "a" else 0
        self._prepared: io.FileIO | None = None
        self._real: io.FileIO | None = None
        if node.handles is None:
            node.handles = {}
        node.handles[id(self)] = weakref.ref(self)

    # -- what it is

    @property
    def name(self) -> MemoryPath | str:
        """The path it was opened by; its text for people where there is nowhere to spill to."""
        return self._path if self.tree.spill is not None else self._path.display

    @property
    def mode(self) -> str:
        """The mode, as an unbuffered file on disk reports it."""
        meaning = self._meaning
        if meaning.kind in "ra" or not meaning.reading:
            return meaning.raw
        return "xb+" if meaning.kind == "x" else "rb+"

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        self._check_open()
        return self._meaning.reading

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        self._check_open()
        return self._meaning.writing

    def seekable(self) -> bool:
        """Whether it has a position: always."""
        self._check_open()
        return True

    def fileno(self) -> int:
        """
        Return a descriptor, for which the file moves to disk.

        Raises:
            UnsupportedError: If there is nowhere to spill to; it is an ``io.UnsupportedOperation``.
        """
        self._check_open()
        with self._volume.lock:
            if self._real is None:
                try:
                    settle_handle(self)
                except UnsupportedError as error:
                    raise NoDescriptorError(str(error), path=error.path) from None
            assert self._real is not None
            return self._real.fileno()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"mode={self.mode!r}"
        return f"<MemoryRaw name={self.name!r} {state}>"

    # -- reading

    def readinto(self, buffer: Any, /) -> int:
        """Read into *buffer*, as much as there is."""
        self._check_reading()
        with self._volume.lock:
            real = self._real
            if real is None:
                view = memoryview(buffer).cast("B")
                piece = self._take(len(view))
                view[: len(piece)] = piece
                return len(piece)
        # Out of the lock: the disk may be slow, and a stream never comes back from it.
        return real.readinto(buffer)

    def readall(self) -> bytes:
        """Read to the end."""
        self._check_reading()
        with self._volume.lock:
            real = self._real
            if real is None:
                return bytes(self._take(self.node.size))
        return real.readall()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most *size* bytes; all if it is negative or None."""
        if size is None or size < 0:
            return self.readall()
        self._check_reading()
        with self._volume.lock:
            real = self._real
            if real is None:
                return bytes(self._take(size))
        return real.read(size)

    def _take(self, size: int) -> bytes | bytearray:
        node, start = self.node, self._position
        size = max(0, min(size, node.size - start))
        piece = node.data[start : start + size]
        if len(piece) < size:
            piece = bytes(piece).ljust(size, b"\0")
        self._position = start + size
        return piece

    # -- writing

    def write(self, data: Any, /) -> int:
        """Write all of *data*, or nothing if there is no room."""
        self._check_writing()
        view = memoryview(data).cast("B")
        with self._volume.lock:
            if self._real is None:
                start = self.node.size if self._meaning.kind == "a" else self._position
                if not view or self._grow(start + len(view)):
                    self._put(start, view)
                    return len(view)
        assert self._real is not None
        return self._real.write(view) or 0

    def _grow(self, size: int) -> bool:
        """Count the file at *size* if that is more; False if it went to disk for it."""
        node, volume = self.node, self._volume
        more = size - node.size
        if more <= 0:
            return True
        with self.tree.reserving(more):
            if volume.spill_above is not None and size > volume.spill_above and self._can_spill():
                settle_handle(self)
                return False
            if not volume.charge(more):
                raise volume.no_room(more, self.tree.shown(self.names))
        return True

    def _can_spill(self) -> bool:
        return self.tree.spill is not None and not self.tree.gone

    def _put(self, start: int, view: memoryview) -> None:
        if not view:
            return
        node = self.node
        data = _writable(node)
        end = start + len(view)
        before = node.size
        try:
            if start > len(data):
                data.extend(bytes(start - len(data)))
            data[start:end] = view
        except MemoryError as error:
            self._volume.charge(before - max(before, end))
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
        self._position, node.size = end, max(before, end)
        node.mtime = node.ctime = time.time_ns()

    def truncate(self, size: int | None = None, /) -> int:
        """Make the file *size* bytes long, or as long as the position; the position stays."""
        self._check_writing()
        with self._volume.lock:
            size = self.tell() if size is None else size
            if size < 0:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if self._real is not None or not self._grow(size):
                assert self._real is not None
                return self._real.truncate(size)
            self._cut(size)
        return size

    def _cut(self, size: int) -> None:
        node = self.node
        if size < node.size:
            self._volume.charge(size - node.size)
        if size < len(node.data):
            _writable(node)
            del node.data[size:]  # type: ignore[union-attr]
        node.size = size
        node.mtime = node.ctime = time.time_ns()

    # -- the position

    def tell(self) -> int:
        """Return the position, in bytes from the start."""
        self._check_open()
        with self._volume.lock:
            return self._position if self._real is None else self._real.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position, past the end if you like, and return it."""
        self._check_open()
        with self._volume.lock:
            if self._real is not None:
                return self._real.seek(offset, whence)
            self._position = self._target(offset, whence)
            return self._position

    def _target(self, offset: int, whence: int) -> int:
        size = self.node.size
        if whence in (_SEEK_DATA, _SEEK_HOLE) and whence >= 0:
            if not 0 <= offset < size:
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            return offset if whence == _SEEK_DATA else size
        start = {0: 0, 1: self._position, 2: size}.get(whence)
        if start is None or start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return start + offset

    # -- to the disk, and the end

    def prepare(self, text: str | None) -> None:
        """Open *text*, where the file is being written to; None takes that back."""
        if self._prepared is not None:
            self._prepared.close()
        self._prepared = None
        if text is not None:
            raw = self._meaning.raw
            self._prepared = io.FileIO(text, raw, opener=_open_as_it_is)
            self._prepared.seek(self._position)

    def switch(self) -> None:
        """Go on with what was prepared."""
        self._real, self._prepared = self._prepared, None

    def close(self) -> None:
        """Close it; twice is fine."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            with self._volume.lock:
                self._leave()

    def _leave(self) -> None:
        if self._real is not None:
            self._real.close()
            return
        node = self.node
        handles = node.handles or {}
        handles.pop(id(self), None)
        if not handles:
            node.handles = None
            if not node.links:
                self._volume.release(node)

    def _dealloc_warn(self, source: object) -> None:
        if not self.closed:
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __del__(self) -> None:
        # Nothing is set on an object whose making failed.
        if "_real" in self.__dict__:
            self._dealloc_warn(self)
            self.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_reading(self) -> None:
        self._check_open()
        if not self._meaning.reading:
            raise io.UnsupportedOperation("File not open for reading")

    def _check_writing(self) -> None:
        self._check_open()
        if not self._meaning.writing:
            raise io.UnsupportedOperation("File not open for writing")


def _writable(node: File) -> bytearray:
    data = node.data
    if isinstance(data, bytes):
        data = node.data = bytearray(data)
    return data


def _open_as_it_is(path: str, flags: int) -> int:
    return os.open(path, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC))
