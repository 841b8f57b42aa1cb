"""
Copying and moving by path, as :class:`pathlib.Path` does from Python 3.14 on, on every Python.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from tempscope.storages.memory._tree import failure


__all__ = ["Transfer"]

_BUFFER = 1 << 20


class Transfer:
    """Gives a path in memory ``copy``, ``copy_into``, ``move`` and ``move_into``."""

    __slots__ = ()

    def copy(self, target: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False) -> Path:
        """Copy the file, or directory with all in it, to *target*, and return that."""
        assert isinstance(self, Path)
        goal: Path = self._goal(target)  # type: ignore[attr-defined]
        if goal == self or self in goal.parents or (goal.exists() and self.samefile(goal)):
            raise failure(errno.EINVAL, *map(_shown, (self, goal)))
        _copy(self, goal, follow_symlinks, preserve_metadata)
        return goal

    def copy_into(self, target_dir: Any, **options: Any) -> Path:
        """Copy it into the directory *target_dir*, under its own name."""
        assert isinstance(self, Path)
        return self.copy(self._goal(target_dir) / self.name, **options)  # type: ignore[attr-defined]

    def move(self, target: Any) -> Path:
        """Move it to *target*, by copying where a rename cannot."""
        assert isinstance(self, Path)
        goal: Path = self._goal(target)  # type: ignore[attr-defined]
        try:
            return self.replace(goal)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        _copy(self, goal, False, True)
        _delete(self)
        return goal

    def move_into(self, target_dir: Any) -> Path:
        """Move it into the directory *target_dir*, under its own name."""
        assert isinstance(self, Path)
        return self.move(self._goal(target_dir) / self.name)  # type: ignore[attr-defined]


def _copy(source: Path, target: Path, follow: bool, metadata: bool) -> None:
    if source.is_symlink() and not follow:
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
        for child in source.iterdir():
            _copy(child, target / child.name, follow, metadata)
    else:
        with source.open("rb", buffering=0) as content, target.open("wb", buffering=0) as copy:
            shutil.copyfileobj(content, copy, _BUFFER)
    if metadata:
        status = source.stat()
        target.chmod(status.st_mode)
        set_times(target, status.st_atime_ns, status.st_mtime_ns)


def set_times(path: Path, accessed: int, modified: int) -> None:
    """Set the times of *path*, in nanoseconds since the epoch, where it is."""
    in_memory = getattr(path, "_set_times", None)
    if in_memory is None:
        os.utime(path, ns=(accessed, modified))
    else:
        in_memory(accessed, modified)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            _delete(child)
        path.rmdir()
    else:
        path.unlink()


def _shown(path: Path) -> str:
    return getattr(path, "display", None) or str(path)
