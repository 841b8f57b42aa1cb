"""What a storage on a file system hands out for a staged input."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import attrs

from tempscope._names import escape
from tempscope.errors import StagedSourceChangedError
from tempscope.model import StagedMethod
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._failure import storage_error


__all__ = ["LinkedState", "StagedOnDisk", "digest_of", "torn"]

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_SHOWN = 3


class LinkedState(NamedTuple):
    """
    What a hard-linked inode looked like when it was linked.

    The change time is left out on purpose: linking and unlinking change it.
    ``digest`` is empty where content is not compared.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int
    digest: bytes = b""

    @classmethod
    def of(cls, status: os.stat_result) -> LinkedState:
        """Return the state that *status* shows."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, stat.S_IMODE(status.st_mode)
        )

    def differences(self, now: LinkedState) -> tuple[str, ...]:
        """Return in words what differs; nothing if *now* is another inode: that one is not the source's."""
        if (self.device, self.inode) != (now.device, now.inode):
            return ()
        pairs = (
            ("size", self.size, now.size),
            ("modification time", self.mtime_ns, now.mtime_ns),
            ("mode", self.mode, now.mode),
            ("content", self.digest, now.digest),
        )
        return tuple(word for word, before, after in pairs if before != after)


@attrs.frozen(kw_only=True)
class StagedOnDisk:
    """
    An outside file or directory as it stands in a scope; see :class:`~tempscope.protocols.StagedFile`.

    Lives until the scope closes; all threads of the job may use it.
    ``linked`` is the state of each file that came in by hard link, by its path below the staged
    directory; the path of a staged file is empty.
    ``identity`` is the device and inode of what was read, where one file was.
    """

    path: Path
    source: Path
    method: StagedMethod
    bytes_saved: int = 0
    linked: Mapping[str, LinkedState] = attrs.field(factory=dict, repr=False)
    identity: tuple[int, int] | None = attrs.field(default=None, repr=False)

    def verify(self) -> None:
        """
        Check that the shared content was not written to.

        Raises:
            StagedSourceChangedError: If it was.

            StorageError: If nobody can tell.
        """
        changed = {
            name: differences
            for name, before in self.linked.items()
            if (differences := self._differences(name, before))
        }
        if not changed:
            return
        words = tuple(dict.fromkeys(word for differences in changed.values() for word in differences))
        error = StagedSourceChangedError(
            f"{escape(str(self.source))!r} was staged read-only by hard link, and its {', '.join(words)} "
            f"changed while it was{_where(list(changed))}: use stage(writable=True) for inputs that are "
            "written to",
            path=self.path,
        )
        error.changed = words
        raise error

    def _differences(self, name: str, before: LinkedState) -> tuple[str, ...]:
        # Where the job removed its own name, or put another file there, the source's own name is all there
        # is to look at.
        for top in (self.path, self.source):
            path = os.path.join(top, name) if name else os.fspath(top)
            try:
                now = LinkedState.of(os.lstat(path))
                if (now.device, now.inode) != (before.device, before.inode):
                    continue
                if before.digest:
                    now = now._replace(digest=digest_of(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise storage_error(
                    error,
                    f"nobody can tell whether the staged source {escape(str(self.source))!r} changed",
                    path=path,
                ) from error
            return before.differences(now)
        return ()


def digest_of(path: str, *, dir_fd: int | None = None) -> bytes:
    """Read the file *path*, and return what tells its content from any other."""
    import hashlib

    with Descriptor.open(path, _READ, dir_fd=dir_fd) as held, open(held.fd, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "blake2b").digest()


def torn(source: Path, words: tuple[str, ...]) -> StagedSourceChangedError:
    """Return the error for a source of which *words* changed while it was copied."""
    shown = escape(str(getattr(source, "display", source)))
    error = StagedSourceChangedError(
        f"{shown!r} was written to while being copied (its {', '.join(words)} changed), so the "
        "copy may be neither the old content nor the new: stage it when it is finished",
        path=source,
    )
    error.changed = words
    return error


def _where(names: list[str]) -> str:
    if names == [""]:
        return ""
    shown = ", ".join(repr(escape(name)) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" (in {shown}{more})"
