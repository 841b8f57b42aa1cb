"""
The API of a transcription service: files for one block, and files that are deleted by their age.

Here the age is that of a file's last change, for what is tracked and for that only; the core ages
scopes by its own records.
What is tracked is written down, so that a later run finds what a dead one tracked.
"""

from __future__ import annotations

import math
import os
import stat
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from tempscope import _log, _shield
from tempscope.compat._cleanup_pass import CleanupPass, look_at
from tempscope.compat._default_storage import default_storage
from tempscope.compat._superseded import superseded
from tempscope.errors import ConfigurationError, ScopeEnteredError, UnsupportedError
from tempscope.manager import TempFileManager
from tempscope.model import TrackedPath
from tempscope.protocols import TempStorage, TrackedPaths
from tempscope.storages import Identity, absolute, identify, remove_outside


if TYPE_CHECKING:
    import asyncio

__all__ = ["FileCleanupManager", "TempFileContext", "temp_file_async"]

_MEBIBYTE = 1024 * 1024


class TempFileContext:
    """
    Deletes one file, or directory, when the block of its ``with`` (or ``async with``) ends.

    Lives for one block; used by one thread or task.
    The path is made absolute at once, need not exist, and belongs to the block: whatever has its
    name at the end is deleted.
    Until then it is registered with the process's default storage, so that a sweep deletes it after
    a crash, if it was there at the beginning and still is the same file.

    Args:
        file_path: Which.

        cleanup_on_error: Whether it is deleted too when the block raised, or was cancelled.

    Not promised: that a file which the system will not delete now is gone when the block ends; that
    is a warning in the log, and a sweep tries again.
    """

    def __init__(self, file_path: str | os.PathLike[str], cleanup_on_error: bool = True) -> None:
        superseded("TempFileContext", "TempFileManager.create_temp_file() or register_file()")
        self.file_path = Path(absolute(file_path, "path"))
        self.cleanup_on_error = cleanup_on_error
        self._kept = False
        self._manager: TempFileManager | None = None
        self._pid = 0

    def keep(self) -> None:
        """Let the file stay when the block ends."""
        self._kept = True

    def __enter__(self) -> Path:
        self._check_not_entered()
        self._begin()
        return self.file_path

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._end(exc)
        return False

    async def __aenter__(self) -> Path:
        self._check_not_entered()
        try:
            await _shield.complete(self._begin)
        except BaseException:
            # Cancelled: there will be no block, and so no end of it.
            self._release(None)
            raise
        return self.file_path

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        await _shield.complete(partial(self._end, exc))
        return False

    def _check_not_entered(self) -> None:
        if self._manager is not None:
            raise ScopeEnteredError(f"{self!r} is entered already: make another one", path=self.file_path)

    def _begin(self) -> None:
        manager = TempFileManager(storage=default_storage(), name="TempFileContext")
        manager.register_file(self.file_path)
        self._manager, self._pid = manager, os.getpid()

    def _end(self, exc: BaseException | None) -> None:
        if self._pid != os.getpid():
            # A forked child leaves the parent's block: the file is the parent's.
            return
        if self._kept or (exc is not None and not self.cleanup_on_error):
            self._release(exc)
        elif remove_outside(os.fspath(self.file_path), None).complete:
            _log.debug("outside path deleted", path=self.file_path)
            self._release(exc)
        else:
            self._close(exc)

    def _release(self, exc: BaseException | None) -> None:
        if self._manager is not None:
            self._manager.unregister_file(self.file_path)
            self._close(exc)

    def _close(self, exc: BaseException | None) -> None:
        manager, self._manager = self._manager, None
        assert manager is not None
        manager.close(exc)

    def __repr__(self) -> str:
        return f"TempFileContext({str(self.file_path)!r}, cleanup_on_error={self.cleanup_on_error})"


def temp_file_async(file_path: str | os.PathLike[str], cleanup_on_error: bool = True) -> TempFileContext:
    """
    Return what deletes *file_path* when the block of its ``async with`` ends; off the event loop.

    A cancelled block counts as one that raised.
    Otherwise as :class:`TempFileContext`, its arguments too.
    """
    return TempFileContext(file_path, cleanup_on_error)


class FileCleanupManager:
    """
    Deletes tracked files when they were not changed for a time.

    Lives as long as you like; all threads may use it.
    It keeps nothing of its own: what is tracked stands in the storage's journal, under the name of
    *base_temp_dir*.
    So managers of one directory in one process share what they track, and the next run finds what
    this one tracked, also after a crash.  Files of a manager are not deleted at exit.

    Every operation on files that is awaited runs off the event loop, and cannot be cut short.

    Args:
        base_temp_dir: Below it, files that nobody tracks are told, and empty directories removed.  It
            need not exist.

        default_ttl_hours: After how many hours without a change a tracked file goes.

        cleanup_interval_minutes: How many minutes there are between two periodic clean-ups.

        storage: Whose journal remembers the paths; None for the process's default.

    Raises:
        ConfigurationError: If a number is none, or too small.

        UnsupportedError: If the storage cannot remember tracked paths.
    """

    def __init__(
        self,
        base_temp_dir: str | os.PathLike[str],
        default_ttl_hours: float = 24,
        cleanup_interval_minutes: float = 30,
        *,
        storage: TempStorage | None = None,
    ) -> None:
        superseded("FileCleanupManager", "TempScopes with the policy ExpireAfter, and a Janitor")
        self.base_temp_dir = Path(absolute(base_temp_dir, "base directory"))
        self.default_ttl_hours = _hours(default_ttl_hours, "default_ttl_hours")
        self.cleanup_interval_minutes = cleanup_interval_minutes
        if not _is_number(cleanup_interval_minutes) or cleanup_interval_minutes <= 0:
            raise ConfigurationError(
                f"cleanup_interval_minutes cannot be {cleanup_interval_minutes!r}: it must be above 0"
            )
        found = default_storage() if storage is None else storage
        if not isinstance(found, TrackedPaths):
            raise UnsupportedError(f"{found!r} cannot remember tracked paths: use a storage on disk")
        self._storage: TrackedPaths = found
        self._by = os.fspath(self.base_temp_dir)
        self._task: asyncio.Task[None] | None = None
        self._pid = os.getpid()

    # -- tracking

    def track_file(self, path: str | os.PathLike[str]) -> None:
        """
        Have *path* deleted when it was not changed for a time; tracking it again is no error.

        Written down before the call returns: one write, on this thread.

        Args:
            path: A file, or a directory, whose age is that of the newest thing in it; it need not exist
                yet, and then only this process deletes it, unless a clean-up meets it meanwhile.

        Raises:
            StorageError: If it cannot be written down.
        """
        superseded("track_file()", "TempFileManager.register_file(), or new_file() in a scope")
        self._track(absolute(path, "path"))

    def _track(self, path: str) -> None:
        self._storage.track(Path(path), str(identify(path) or ""), self._by)
        _log.debug("path tracked", path=path)

    def untrack_file(self, path: str | os.PathLike[str]) -> None:
        """Hands off *path*: it was moved or processed.  An unknown one is not an error."""
        superseded("untrack_file()", "TempFileManager.unregister_file() or keep()")
        self._untrack(absolute(path, "path"))

    def _untrack(self, path: str) -> None:
        self._storage.untrack(Path(path), self._by)

    def _tracked(self) -> list[TrackedPath]:
        return [each for each in self._storage.tracked() if each.by == self._by]

    # -- cleaning

    async def cleanup_file(self, path: str | os.PathLike[str]) -> bool:
        """
        Delete one file now, tracked or not, and track it no more.

        Returns:
            Whether it was deleted; False for one that is not there, and for a directory.
        """
        superseded("cleanup_file()", "the end of a scope, or TempFileManager.create_temp_file()")
        return await _shield.complete(partial(self._remove_file, absolute(path, "path")))

    def _remove_file(self, path: str) -> bool:
        if _is_directory(path):
            _log.warn("a directory was given to cleanup_file(): cleanup_directory() deletes those")
            return False
        removal = remove_outside(path, None)
        if not removal.complete:
            _log.warn("a file could not be deleted", reason=removal.leftovers[0].reason)
            return False
        self._untrack(path)
        return bool(removal.removed)

    async def cleanup_directory(self, path: str | os.PathLike[str], recursive: bool = True) -> bool:
        """
        Delete a directory now, and track no more what was in it.

        Args:
            path: Which; one that is not there is fine.

            recursive: False to delete it only if it is empty.

        Returns:
            Whether it is gone; False for something that is no directory.
        """
        superseded("cleanup_directory()", "the end of a scope, or TempFileManager.create_temp_dir()")
        return await _shield.complete(partial(self._remove_directory, absolute(path, "path"), recursive))

    def _remove_directory(self, path: str, recursive: bool) -> bool:
        gone = not os.path.lexists(path) or (_is_directory(path) and self._removed(path, recursive))
        for each in self._tracked():
            if f"{each.path}/".startswith(f"{path}/") and not os.path.lexists(each.path):
                self._untrack(each.path)
        if not gone:
            _log.warn("a directory could not be deleted, or is none", recursive=recursive)
        return gone

    def _removed(self, path: str, recursive: bool) -> bool:
        if recursive:
            return remove_outside(path, None).complete
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True

    async def cleanup_old_files(
        self, max_age_hours: float | None = None, *, adopt: bool = False
    ) -> dict[str, Any]:
        """
        Delete what was not changed for a time, of all that this process tracks, or a dead one did.

        A path goes only if it still is what was tracked.
        What another living process tracks or registered stays.
        Directories that this leaves empty go too, and empty ones below the base directory that are
        as old.  One failure does not stop the rest.

        Args:
            max_age_hours: How many hours; None for ``default_ttl_hours``.

            adopt: Whether to delete by age also the files below the base directory that nobody
                tracks.

        Returns:
            ``removed_count``, ``removed_size_bytes``, ``removed_size_mb`` (of 1,048,576 bytes),
            ``errors`` (how many), ``tracked_files_remaining``; and ``untracked_count``,
            ``untracked_files`` and ``skipped``: how many files below the base directory nobody
            tracks, the first hundred of them, and why the first hundred paths were left alone.

        Raises:
            ConfigurationError: If *max_age_hours* is no such number.
        """
        superseded("cleanup_old_files()", "sweep(), with the policy ExpireAfter")
        hours = _hours(self.default_ttl_hours if max_age_hours is None else max_age_hours, "max_age_hours")
        return await _shield.complete(partial(self._clean, hours, adopt))

    def _clean(self, hours: float, adopt: bool) -> dict[str, Any]:
        done = CleanupPass(self._storage, self._by, hours, adopt=adopt)
        done.run()
        if done.errors:
            _log.warn("a clean-up by age met errors", errors=done.errors)
        return {
            "removed_count": done.removed,
            "removed_size_bytes": done.removed_bytes,
            "removed_size_mb": round(done.removed_bytes / _MEBIBYTE, 2),
            "errors": done.errors,
            "tracked_files_remaining": len(self._tracked()),
            "untracked_count": done.untracked,
            "untracked_files": done.untracked_paths,
            "skipped": done.skipped,
        }

    async def cleanup_all_tracked(self) -> int:
        """Delete all that this process tracks, however young; return how many that were."""
        superseded("cleanup_all_tracked()", "TempFileManager.cleanup_all()")
        return await _shield.complete(self._remove_all)

    def _remove_all(self) -> int:
        count = 0
        for each in self._tracked():
            removal = remove_outside(each.path, Identity.parse(each.identity))
            if removal.complete:
                self._untrack(each.path)
                count += bool(removal.removed)
            else:
                _log.warn("a tracked path was not deleted", reason=removal.leftovers[0].reason)
        return count

    # -- again and again

    def start_periodic_cleanup(self) -> None:
        """
        Clean up after each ``cleanup_interval_minutes``, in a task of the running event loop.

        Starting twice is not an error.
        Not promised: that it goes on in another event loop, or in a forked process.

        Raises:
            ConfigurationError: If no event loop runs in this thread.
        """
        superseded("start_periodic_cleanup()", "Janitor.start()")
        import asyncio

        if self._is_periodic():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise ConfigurationError(
                "start_periodic_cleanup() needs a running asyncio event loop: call it in a coroutine"
            ) from error
        self._task, self._pid = loop.create_task(self._clean_again_and_again()), os.getpid()

    async def _clean_again_and_again(self) -> None:
        import asyncio

        while True:
            await asyncio.sleep(self.cleanup_interval_minutes * 60)
            try:
                await _shield.complete(partial(self._clean, self.default_ttl_hours, False))
            except Exception as error:
                _log.warn("a periodic clean-up failed", error=type(error).__name__)

    async def stop_periodic_cleanup(self) -> None:
        """
        End it; a clean-up that runs is finished first.  Stopping what does not run is not an error.

        Raises:
            ConfigurationError: If it runs in another event loop.
        """
        superseded("stop_periodic_cleanup()", "Janitor.astop()")
        import asyncio

        task = self._task
        if not self._is_periodic() or task is None:
            return
        if task.get_loop() is not asyncio.get_running_loop():
            raise ConfigurationError("the periodic clean-up runs in another event loop: stop it there")
        task.cancel()
        await asyncio.wait([task])
        self._task = None

    def _is_periodic(self) -> bool:
        task = self._task
        if task is None or self._pid != os.getpid():
            return False
        # A loop that was thrown away with its tasks leaves them undone for ever.
        return not task.done() and not task.get_loop().is_closed()

    def get_stats(self) -> dict[str, Any]:
        """
        Tell what this process tracks; looks at each file.

        Returns:
            ``tracked_files``, ``total_size_bytes``, ``total_size_mb``, ``periodic_cleanup_running``,
            ``default_ttl_hours`` and ``cleanup_interval_minutes``.
        """
        superseded("get_stats()", "TempScopes.active() or TempFileManager.usage()")
        tracked = self._tracked()
        size = sum(_size_of(each.path) for each in tracked)
        return {
            "tracked_files": len(tracked),
            "total_size_bytes": size,
            "total_size_mb": round(size / _MEBIBYTE, 2),
            "periodic_cleanup_running": self._is_periodic(),
            "default_ttl_hours": self.default_ttl_hours,
            "cleanup_interval_minutes": self.cleanup_interval_minutes,
        }


def _size_of(path: str) -> int:
    try:
        seen = look_at(path)
    except OSError:
        return 0
    return 0 if seen is None else seen.size


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _hours(value: object, name: str) -> float:
    if not _is_number(value) or cast("float", value) < 0:
        raise ConfigurationError(f"{name} cannot be {value!r}: it must be a number of hours, 0 or more")
    return cast("float", value)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
