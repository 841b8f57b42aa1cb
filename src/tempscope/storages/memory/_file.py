"""The raw stream over a file in memory."""

from __future__ import annotations

import errno
import io
import os
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, SupportsIndex

from tempscope.errors import UnsupportedError
from tempscope.storages.memory._node import File
from tempscope.storages.memory._open import Mode
from tempscope.storages.memory._spill import settle_handle


if TYPE_CHECKING:
    from tempscope.storages.memory._path import MemoryPath
    from tempscope.storages.memory._tree import Names, Tree

    class _Half(io.RawIOBase):
        """Comes with the two classes below."""

    class _InC(io.RawIOBase):
        """Is another class."""

else:
    _Half, _InC = object, io.BytesIO

__all__ = ["BelowBuffer", "MemoryRaw", "Stream"]

_SLOTS = ("_meaning", "_path", "_position", "_volume", "node")
_SEEK_DATA = getattr(os, "SEEK_DATA", -1)
_SEEK_HOLE = getattr(os, "SEEK_HOLE", -1)


class NoDescriptorError(UnsupportedError, io.UnsupportedOperation):
    """A file that stays in memory has no descriptor."""


class Stream(_Half):
    """
    What the two kinds of open files below have in common: all but their base classes.

    Lives until it is closed; like any raw stream it may be shared between threads, which then
    share its position.
    When the file moves to disk, the stream goes on there at the same position.
    """

    __slots__ = ()

    # Set on an instance only when its file moves to disk: opening a file is to be cheap.
    _prepared: io.FileIO | None = None
    _real: io.FileIO | None = None

    def __init__(self, path: MemoryPath, node: File, meaning: Mode) -> None:
        self._path = path
        self._meaning = meaning
        self._volume = path._tree.volume
        self._position = node.size if meaning.kind == "a" else 0
        self.node = node
        handles = node.handles
        if handles is None:
            handles = node.handles = {}
        handles[id(self)] = weakref.ref(self)

    # -- what it is

    @property
    def tree(self) -> Tree:
        """The area in which it was opened."""
        return self._path._tree

    @property
    def names(self) -> Names:
        """The names by which it was opened."""
        return self._path._names

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
        return f"<{type(self).__name__} name={self.name!r} {state}>"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object: open the file again over there")

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
        if self.closed or not self._meaning.reading:
            self._check_reading()
        with self._volume.lock:
            real = self._real
            if real is None:
                node, start = self.node, self._position
                if not start and type(node.data) is bytes and len(node.data) == node.size:
                    # What was written once, and is read at once: nothing is copied.
                    self._position = node.size
                    return node.data
                return bytes(self._take(node.size))
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
        self._position = start + size
        piece = node.data[start : start + size]
        return piece if len(piece) == size else bytes(piece).ljust(size, b"\0")

    # -- writing

    def write(self, data: Any, /) -> int:
        """Write all of *data*, or nothing if there is no room."""
        if self.closed or not self._meaning.writing:
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
        end = start + len(view)
        if not node.data and not start:
            # Most files are written once, and read as they are.
            node.data = bytes(view)
        else:
            self._put_into(_writable(node), start, view)
        self._position = end
        node.size = max(node.size, end)
        node.mtime = node.ctime = time.time_ns()

    def _put_into(self, data: bytearray, start: int, view: memoryview) -> None:
        end = start + len(view)
        try:
            if start > len(data):
                data.extend(bytes(start - len(data)))
            data[start:end] = view
        except MemoryError as error:
            before = self.node.size
            self._volume.charge(before - max(before, end))
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error

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
        if self.closed:
            self._check_open()
        real = self._real
        return self._position if real is None else real.tell()

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
        super().close()
        with self._volume.lock:
            if self._real is not None:
                self._real.close()
                return
            node = self.node
            handles = node.handles or {}
            if handles.pop(id(self), None) is None or handles:
                # It left memory meanwhile, or somebody else has it open.
                return
            node.handles = None
            self._volume.closed(node)

    def _dealloc_warn(self, source: object) -> None:
        # Asked for by a wrapper that is forgotten, too, if it is not closed.
        warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __del__(self) -> None:
        # Nothing is set on an object whose making failed.
        if not self.closed and hasattr(self, "node"):
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


class MemoryRaw(Stream, io.RawIOBase):
    """An unbuffered open file, as its user has it."""

    __slots__ = _SLOTS

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


class _Absent:
    """What a base class has and a file has not."""

    def __get__(self, stream: object, kind: type) -> Any:
        raise AttributeError("a file in memory has no such attribute")


class BelowBuffer(Stream, _InC):
    """
    An open file below one of the standard library's wrappers, which asks it only for what it may do.

    Its base class :class:`io.BytesIO`, whose own buffer stands empty, answers that without running any
    Python, and a wrapper asks for it many times a file.
    """

    __slots__ = _SLOTS

    readline = io.IOBase.readline
    readlines = io.IOBase.readlines
    writelines = io.IOBase.writelines
    __next__ = io.IOBase.__next__
    detach = getbuffer = getvalue = read1 = readinto1 = _Absent()


io.RawIOBase.register(BelowBuffer)


def _writable(node: File) -> bytearray:
    data = node.data
    if isinstance(data, bytes):
        data = node.data = bytearray(data)
    return data


def _open_as_it_is(path: str, flags: int) -> int:
    return os.open(path, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC))
