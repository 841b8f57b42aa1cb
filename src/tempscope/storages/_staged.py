"""What a storage on a file system hands out for a staged input."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs

from tempscope._names import escape
from tempscope.errors import StagedSourceChangedError
from tempscope.model import StagedMethod
from tempscope.storages._failure import storage_error


__all__ = ["LinkedState", "StagedOnDisk"]


@attrs.frozen
class LinkedState:
    """
    What a hard-linked inode looked like when it was linked.

    The change time is left out on purpose: linking and unlinking change it.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int

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
        )
        return tuple(word for word, before, after in pairs if before != after)


@attrs.frozen(kw_only=True)
class StagedOnDisk:
    """
    An outside file as it stands in a scope; see :class:`~tempscope.protocols.StagedFile`.

    Lives until the scope closes; all threads of the job may use it.
    """

    path: Path
    source: Path
    method: StagedMethod
    bytes_saved: int = 0
    linked: LinkedState | None = attrs.field(default=None, repr=False)

    def verify(self) -> None:
        """
        Check that the shared content was not written to.

        Raises:
            StagedSourceChangedError: If it was.

            StorageError: If nobody can tell.
        """
        # Where the job removed its own name, the source's own name is all there is to look at.
        now = self._state(self.path) or self._state(self.source)
        changed = self.linked.differences(now) if self.linked and now else ()
        if not changed:
            return
        error = StagedSourceChangedError(
            f"{escape(str(self.source))!r} was staged read-only by hard link, and its {', '.join(changed)} "
            "changed while it was: use stage(writable=True) for inputs that are written to",
            path=self.path,
        )
        error.changed = changed
        raise error

    def _state(self, path: Path) -> LinkedState | None:
        """Return what *path* is now; None if nothing is there, or nothing was linked."""
        if self.linked is None:
            return None
        try:
            return LinkedState.of(os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(
                error,
                f"nobody can tell whether the staged source {escape(str(self.source))!r} changed",
                path=os.fspath(path),
            ) from error
