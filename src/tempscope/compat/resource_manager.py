"""
The API of a packet-capture masking tool: inputs by hard link, and one call that cleans up.

Everything a :class:`ResourceManager` makes stands in a scope, so a sweep takes back what a crash
leaves.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from tempscope import _log
from tempscope._names import MAX_NAME_BYTES, check_affixes, check_name, escape
from tempscope.compat._superseded import superseded
from tempscope.errors import InvalidNameError, StorageError
from tempscope.manager import TempFileManager
from tempscope.pressure import is_memory_pressure
from tempscope.protocols import TempStorage
from tempscope.storages import HardlinkStorage, absolute


__all__ = ["LARGE_FILE_THRESHOLD_MB", "Purpose", "ResourceManager"]

LARGE_FILE_THRESHOLD_MB = 100
"""From which size on an input is linked, in MiB (1,048,576 bytes)."""

Purpose: TypeAlias = Literal["pipeline", "stage", "test"]

_MEBIBYTE = 1024 * 1024
_SHORTENED = 60


class ResourceManager:
    """
    The temporary files and callbacks of one application.

    Lives as long as you like; all threads may use it.
    :meth:`cleanup` deletes what it owns and begins anew; what is left when the process ends is
    deleted then.
    After a fork the child begins anew, and deletes nothing of the parent's.

    Args:
        app: The application, with whose name and the purpose its directories' names begin:
            ``<app>_pipeline_``, ``<app>_stage_``, ``<app>_test_``.

        storage: Where its files live; None for a :class:`~tempscope.HardlinkStorage` at the
            process's default place.

    Raises:
        InvalidNameError: If *app* cannot be in a file's name.
    """

    LARGE_FILE_THRESHOLD_MB: ClassVar[float] = LARGE_FILE_THRESHOLD_MB

    def __init__(self, app: str = "tempscope", *, storage: TempStorage | None = None) -> None:
        superseded("ResourceManager", "TempScopes on a HardlinkStorage")
        check_affixes(f"{check_name(app)}_pipeline_", "")
        self.app = app
        self._storage = HardlinkStorage() if storage is None else storage
        self._inputs: set[str] = set()
        # The last one is in use; lists are changed in one step, so no lock is needed.
        self._managers = [self._begun()]

    @property
    def _manager(self) -> TempFileManager:
        return self._managers[-1]

    def _begun(self) -> TempFileManager:
        return TempFileManager(f"{self.app}_", storage=self._storage, name=self.app)

    # -- what goes at the end

    def register_temp_file(self, path: str | os.PathLike[str]) -> None:
        """
        Have *path*, a file or directory, deleted by :meth:`cleanup`.

        An input that :meth:`optimize_large_file_access` returned as it is stays, and the log says so.

        Raises:
            ForeignPathError: If it is the root of a file system.

            StorageError: If the registration cannot be written down.
        """
        superseded("register_temp_file()", "TempFileManager.register_file()")
        text = absolute(path, "path")
        if text in self._inputs:
            _log.warn("an input was registered as a temporary file; it stays")
            return
        self._manager.register_file(path)

    def register_cleanup_callback(self, fn: Callable[[], object]) -> None:
        """
        Have *fn* called once by :meth:`cleanup`, the newest first, before the files go.

        Raises:
            ConfigurationError: If it cannot be called, or nobody would await it.
        """
        superseded("register_cleanup_callback()", "TempFileManager.register_cleanup_callback()")
        self._manager.register_cleanup_callback(fn)

    def cleanup(self) -> None:
        """
        Delete all that was made and registered, and call the callbacks; then begin anew.

        All of it is done, whatever goes wrong.

        Raises:
            StagedSourceChangedError: If an input that was linked read-only was written to.

            Exception: What a callback raised; several errors as :class:`~tempscope.CleanupFailed`.
        """
        superseded("cleanup()", "the end of the job's scope")
        self._managers.append(self._begun())
        self._inputs.clear()
        self._managers.pop(0).close()

    def is_memory_pressure(self) -> bool:
        """Return whether memory is running short, in this process's control group or on the machine."""
        superseded("is_memory_pressure()", "tempscope.is_memory_pressure()")
        return is_memory_pressure()

    def should_cleanup_early(self) -> bool:
        """Return whether to call :meth:`cleanup` now, and not at the end: memory is running short."""
        superseded("should_cleanup_early()", "tempscope.is_memory_pressure()")
        return is_memory_pressure()

    def leftovers(self) -> list[Path]:
        """Tell what was made or registered and is still there: after :meth:`cleanup`, nothing."""
        if self._manager._area is None and self._manager._outside is None:
            return []
        made = sorted(self._manager.directory.iterdir())
        registered = [] if self._manager._outside is None else list(self._manager._outside.described())
        return [*made, *(Path(path) for path in registered if os.path.lexists(path))]

    # -- inputs

    def optimize_large_file_access(self, input_path: str | os.PathLike[str]) -> Path:
        """
        Return a link to a large input, and a smaller one as it is.

        Large is more than ``LARGE_FILE_THRESHOLD_MB``, in MiB.

        Raises:
            PathMissingError: If the input is not there.

            StorageError: If it cannot be linked or copied.
        """
        superseded("optimize_large_file_access()", "TempFileManager.stage() with HardlinkStorage(threshold=)")
        path = Path(absolute(input_path, "input"))
        status = path.stat() if path.exists() else None
        if status is None or not stat.S_ISREG(status.st_mode):
            # Says what is wrong with it.
            return self._linked(path, writable=False)
        if status.st_size > self.LARGE_FILE_THRESHOLD_MB * _MEBIBYTE:
            return self._linked(path, writable=False)
        self._inputs.add(os.fspath(path))
        return path

    def create_temp_hardlink(self, input_path: str | os.PathLike[str], *, writable: bool = False) -> Path:
        """
        Bring an input in as ``input_<name>`` in a directory of its own, without a copy where possible.

        Where no link can be made, as to another device, it is a reflink or a copy.
        The path of the source is never returned, and the source never deleted.

        Args:
            input_path: A file, or a link to one.

            writable: Whether it will be written to; then it is no link.  A link that was written to
                is told by :meth:`cleanup`.

        Raises:
            PathMissingError: If the input is not there.

            StorageFull: If there is no room for a copy.

            StorageError: If it cannot be read, or is no file.
        """
        superseded("create_temp_hardlink()", "TempFileManager.stage()")
        return self._linked(Path(absolute(input_path, "input")), writable=writable)

    def _linked(self, source: Path, *, writable: bool) -> Path:
        if source.is_dir():
            raise StorageError(
                f"{escape(str(source))!r} is a directory, and an input is a file; "
                "TempFileManager.stage() brings in directories",
                path=source,
                errno=errno.EISDIR,
            )
        staged = self._manager.stage(source, writable=writable)
        directory = self._manager.new_dir(f"{self.app}_stage_")
        return staged.path.rename(directory / _input_name(source.name))

    # -- directories

    def create_temp_directory(self, purpose: Purpose = "stage") -> Path:
        """Make a directory whose name begins with ``<app>_<purpose>_``; it goes with :meth:`cleanup`."""
        superseded("create_temp_directory()", "TempFileManager.new_dir()")
        if purpose not in ("pipeline", "stage", "test"):
            raise InvalidNameError(f"there is no purpose {purpose!r}: it is pipeline, stage or test")
        return self._manager.new_dir(f"{self.app}_{purpose}_")

    def cleanup_temp_directory(self, path: str | os.PathLike[str]) -> None:
        """
        Remove a directory of this application if it is empty.

        Any other is left alone, and the log says why.
        """
        superseded("cleanup_temp_directory()", "the end of the job's scope")
        text = absolute(path, "path")
        if not os.path.basename(text).startswith(f"{self.app}_"):
            _log.warn(
                "a directory was left alone: it does not carry the application's prefix", prefix=self.app
            )
            return
        try:
            os.rmdir(text)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warn("a directory was left alone", reason=error.strerror)


def _input_name(name: str) -> str:
    # A name that is as long as names can be has no room for a prefix.
    return f"input_{name if len(os.fsencode(name)) <= MAX_NAME_BYTES - 6 else name[-_SHORTENED:]}"
