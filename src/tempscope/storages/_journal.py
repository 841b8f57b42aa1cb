"""
The journal of one instance: what a sweep must know if this process never comes back.

One line an event, appended by a single ``write(2)`` before the call that it is about returns, so
that it survives the process; it is not synced, so it need not survive a power cut (after which no
lock is held either, and areas without a line go by the instance's defaults).
Data, never code: lines are capped, checked, and ignored when torn or hostile.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator
from types import NoneType
from typing import Any, TypeGuard

import attrs

from tempscope.model import ScopeRecord
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._identity import Identity
from tempscope.storages._openat2 import make_private
from tempscope.storages._records import MAX_RECORD_BYTES, encode_object, parse_object, record_from, record_to


__all__ = [
    "JOURNAL",
    "Journal",
    "JournalContent",
    "OutsidePath",
    "encode_outside",
    "is_plain_path",
    "lines_of",
    "read_journal",
]

JOURNAL = "journal"
_REWRITTEN = "journal.new"
_REWRITE_FROM_BYTES = 64 * 1024
_MAX_JOURNAL_BYTES = 256 * 1024 * 1024
_SPOIL = b"#\n"
_FLAGS = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)


@attrs.frozen
class OutsidePath:
    """
    A registered path outside our root, as the journal tells it.

    ``identity`` is None for a path that was registered before it existed: a sweep leaves it.
    """

    path: str
    identity: Identity | None


@attrs.define
class JournalContent:
    """
    What a journal says, line by line, when read back.

    ``tracked`` is keyed by who tracks a path, and the path.
    ``unreadable`` is not "empty" or "damaged": what it says is there, and nobody may act as if not.
    """

    areas: dict[str, ScopeRecord] = attrs.Factory(dict)
    outside: dict[str, OutsidePath] = attrs.Factory(dict)
    tracked: dict[tuple[str, str], OutsidePath] = attrs.Factory(dict)
    ignored: int = 0
    unreadable: bool = False


class Journal:
    """
    Writes one instance's journal.

    Lives as long as the instance; shared by all threads of its process.
    """

    __slots__ = (
        "_areas",
        "_bytes",
        "_dir_fd",
        "_file",
        "_live_bytes",
        "_lock",
        "_paths",
        "_pending",
        "_rewriting",
        "_torn",
    )

    def __init__(self, dir_fd: int) -> None:
        self._dir_fd = dir_fd
        # Reentrant: a finaliser may append while this very thread is inside.
        self._lock = threading.RLock()
        self._areas: dict[str, bytes] = {}
        # By who tracks them; None: registered.  Thousands at once are usual here, so each is kept as its
        # path and the text of its identity, objects that the caller has already, and its line made anew.
        self._paths: dict[str | None, dict[str, str]] = {}
        self._live_bytes = 0
        self._bytes = 0
        self._rewriting = False
        self._torn = False
        self._pending: list[bytes] = []
        descriptor = Descriptor.open(JOURNAL, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=dir_fd)
        make_private(descriptor.fd)
        self._file = (descriptor, _inode_of(descriptor.fd))

    def close(self) -> None:
        """Let go of the file; what it says stays."""
        self._file[0].close()

    @property
    def intact(self) -> bool:
        """Whether the descriptor still is our file, and that has a name; anything else is not written to."""
        descriptor, inode = self._file
        try:
            return _inode_of(descriptor.fd) == inode
        except (OSError, ValueError):
            return False

    @property
    def tells_outside(self) -> bool:
        """Whether it still tells of a registered or tracked outside path."""
        return any(list(self._paths.values()))

    def drop_stale(self) -> None:
        """Forget a descriptor that somebody else closed: its number may be another file's by now."""
        descriptor, inode = self._file
        try:
            stale = _inode_of(descriptor.fd)[:2] != inode[:2]
        except (OSError, ValueError):
            stale = True
        if stale:
            descriptor.forget()

    def reopen(self, dir_fd: int) -> None:
        """Write the journal anew, in the same directory by another descriptor."""
        with self._lock:
            self.drop_stale()
            self._dir_fd = dir_fd
            self._rewrite()
        if not self.intact:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def add_area(self, name: str, record: ScopeRecord) -> None:
        """Write down that the area *name* belongs to *record*'s scope."""
        line = _line({"area": name, **record_to(record)})
        with self._lock:
            self._append(line)
            self._live_bytes += len(line) - len(self._areas.get(name, b""))
            self._areas[name] = line

    def drop_area(self, name: str) -> None:
        """Know that the area is gone; its missing directory says so to a sweep, no line is needed."""
        with self._lock:
            self._live_bytes -= len(self._areas.pop(name, b""))
            self._rewrite_if_void()

    def tells(self, path: str) -> bool:
        """Whether it tells of the registered outside *path*."""
        return path in self._paths.get(None, {})

    def add_outside(self, outside: OutsidePath) -> None:
        """Write down a registered outside path."""
        self.register(outside.path, _text_of(outside))

    def register(self, path: str, identity: str) -> None:
        """Do the same with an identity that is text already, or empty; both objects are kept as they are."""
        self._add(None, path, identity)

    def drop_outside(self, path: str) -> None:
        """
        Write down that a registered path was deleted, unregistered or kept.

        Raises:
            OSError: If it cannot be; the journal then still tells of it.
        """
        with self._lock:
            self._append_gone({"gone": path}, self._line_that_counts(None, path))
            self._forget(None, path)

    def add_tracked(self, by: str, tracked: OutsidePath) -> None:
        """Write down that *by* tracks a path: a sweep tells of it, and deletes nothing."""
        self._add(by, tracked.path, _text_of(tracked))

    def drop_tracked(self, by: str, path: str) -> None:
        """
        Write down that *by* does not track *path* any more.

        Raises:
            OSError: If it cannot be; the journal then still tells of it.
        """
        with self._lock:
            line = self._line_that_counts(by, path)
            if line is not None:
                self._append_gone({"gone": path, "by": by}, line)
                self._forget(by, path)

    def tracked(self) -> list[tuple[str, OutsidePath]]:
        """Return what is tracked now, and by whom."""
        return [
            (by, OutsidePath(path, Identity.parse(text)))
            for by, paths in list(self._paths.items())
            if by is not None
            for path, text in list(paths.items())
        ]

    def _line_that_counts(self, by: str | None, path: str) -> bytes | None:
        text = self._paths.get(by, {}).get(path)
        return None if text is None else _outside_line(by, path, text)

    def _append_gone(self, value: dict[str, str], told: bytes | None) -> None:
        try:
            self._append(_line(value))
        except OSError:
            # A full disk has room for this all the same.
            if not self._spoil(told):
                raise

    def _add(self, by: str | None, path: str, text: str) -> None:
        line = _outside_line(by, path, text)
        with self._lock:
            self._append(line)
            more = len(line) - len(self._line_that_counts(by, path) or b"")
            self._paths.setdefault(by, {})[path] = text
            self._live_bytes += more

    def _forget(self, by: str | None, path: str) -> None:
        text = self._paths.get(by, {}).pop(path, None)
        if text is not None:
            less = len(_outside_line(by, path, text))
            self._live_bytes -= less
        self._rewrite_if_void()

    def _rewrite_if_void(self) -> None:
        mostly_void = self._bytes > max(_REWRITE_FROM_BYTES, 4 * self._live_bytes)
        if mostly_void and not self._rewriting and self.intact:
            self._rewrite()

    def _append(self, line: bytes) -> None:
        descriptor = self._file[0]
        if descriptor.closed:
            raise OSError(errno.EBADF, "the journal is closed")
        # What a full disk or an interrupt left of the line before is spoiled and ended first: it may not
        # count, and not take this line with it.
        whole = _SPOIL + line if self._torn else line
        self._torn = True
        self._bytes += _write(descriptor.fd, whole)
        self._torn = False
        if self._rewriting:
            self._pending.append(line)

    def _spoil(self, line: bytes | None) -> bool:
        """Make *line* one that counts for nothing, in place; returns whether that was possible."""
        if line is None:
            return False
        try:
            with Descriptor.open(
                JOURNAL, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), dir_fd=self._dir_fd
            ) as file:
                text = b"".join(iter(lambda: os.read(file.fd, 1 << 20), b""))
                at = text.find(line)
                while at >= 0:
                    os.lseek(file.fd, at, os.SEEK_SET)
                    _write(file.fd, b"#")
                    at = text.find(line, at + 1)
        except OSError:
            return False
        return line in text

    def _rewrite(self) -> None:
        """Keep only what still counts, by writing it anew and renaming it into place."""
        self._rewriting = True
        fresh = Descriptor()
        try:
            fresh.reopen(_REWRITTEN, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=self._dir_fd)
            make_private(fresh.fd)
            self._install(fresh, _write(fresh.fd, self._lines_that_count()))
        except OSError:
            # The long journal is still right; when it has grown as much again, this is tried again.
            self._bytes = self._live_bytes
            _remove_if_there(_REWRITTEN, self._dir_fd)
        finally:
            self._rewriting = False
            self._pending.clear()
            fresh.close()

    def _lines_that_count(self) -> bytes:
        outside = (
            _outside_line(by, path, text)
            for by, paths in list(self._paths.items())
            for path, text in list(paths.items())
        )
        return b"".join(self._areas.values()) + b"".join(outside)

    def _install(self, fresh: Descriptor, size: int) -> None:
        size += self._write_pending(fresh)
        inode = _inode_of(fresh.fd)
        kept, before = Descriptor(), self._file
        kept.swap(fresh)
        # In one step, and before the rename: others look at both without the lock, and what they
        # find must have a name at any moment.
        self._file = (kept, inode)
        try:
            os.rename(_REWRITTEN, JOURNAL, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        except OSError:
            self._file = before
            raise
        self._bytes, self._torn = size, False
        self._bytes += self._write_pending(kept)

    def _write_pending(self, descriptor: Descriptor) -> int:
        """Write what a finaliser appended to the old file meanwhile; to have a line twice is harmless."""
        size = 0
        while self._pending:
            size += _write(descriptor.fd, self._pending.pop(0))
        return size


def _write(fd: int, data: bytes) -> int:
    if data and os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return len(data)


def _remove_if_there(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except OSError:
        pass


def _inode_of(fd: int) -> tuple[int, int, bool]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_nlink > 0


def _line(value: dict[str, Any]) -> bytes:
    return encode_object(value) + b"\n"


def _text_of(outside: OutsidePath) -> str:
    return "" if outside.identity is None else str(outside.identity)


def _outside_line(by: str | None, path: str, text: str) -> bytes:
    told = {"path": path, "identity": text or None}
    return _line(told | ({"kind": "outside"} if by is None else {"kind": "tracked", "by": by}))


def encode_outside(paths: Iterable[OutsidePath]) -> bytes:
    """Return the lines by which a journal tells of *paths*."""
    return b"".join(_outside_line(None, each.path, _text_of(each)) for each in paths)


def read_journal(dir_fd: int, name: str = JOURNAL) -> JournalContent:
    """
    Read the journal *name* in the directory *dir_fd*, however damaged.

    Never raises for its content; a missing journal is an empty one.
    """
    content = JournalContent()
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with Descriptor.open(name, flags, dir_fd=dir_fd) as descriptor:
            for line in lines_of(descriptor.fd):
                if not _apply(content, line):
                    content.ignored += 1
    except FileNotFoundError:
        pass
    except OSError:
        content.unreadable = True
    return content


def lines_of(fd: int) -> Iterator[bytes]:
    """
    Read the file *fd* line by line, none longer than a record; a torn one is empty.

    Raises:
        OSError: If it cannot be read whole, as it is if it is too long: its last lines count most.
    """
    rest, read = b"", 0
    while chunk := os.read(fd, 1 << 16):
        read += len(chunk)
        if read > _MAX_JOURNAL_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        # Of a line that is too long the beginning is enough to refuse it by.
        rest = rest[: MAX_RECORD_BYTES + 1]
    if rest:
        # A line without its newline is torn, even if it parses.
        yield b""


def _apply(content: JournalContent, line: bytes) -> bool:
    value = parse_object(line)
    if value is None:
        return False
    if "area" in value:
        record = record_from(value)
        if record is None or not isinstance(value["area"], str):
            return False
        content.areas[value["area"]] = record
        return True
    if "gone" in value:
        return _apply_gone(content, value["gone"], value.get("by"))
    return _apply_outside(content, value)


def _apply_gone(content: JournalContent, path: object, by: object) -> bool:
    if not isinstance(path, str) or not isinstance(by, (str, NoneType)):
        return False
    if by is None:
        content.outside.pop(path, None)
    else:
        content.tracked.pop((by, path), None)
    return True


def _apply_outside(content: JournalContent, value: dict[str, Any]) -> bool:
    path, text, kind, by = (value.get(key) for key in ("path", "identity", "kind", "by"))
    if not is_plain_path(path) or kind not in ("outside", "tracked"):
        return False
    if kind == "tracked" and not isinstance(by, str):
        return False
    identity = None
    if text is not None:
        identity = Identity.parse(text) if isinstance(text, str) else None
        if identity is None:
            return False
    if isinstance(by, str):
        content.tracked[by, path] = OutsidePath(path, identity)
    else:
        content.outside[path] = OutsidePath(path, identity)
    return True


def is_plain_path(path: object) -> TypeGuard[str]:
    """Whether *path* is an absolute path as we write them: without detours, and one that the system takes."""
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path or os.path.normpath(path) != path:
        return False
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return os.path.dirname(path) != path
