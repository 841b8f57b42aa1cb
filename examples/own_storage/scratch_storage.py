"""
A storage of somebody else's: the scratch directory that a batch system gives each of its jobs.

Such a directory (``SLURM_TMPDIR``, ``PBS_JOBDIR``, ...) belongs to one job, and the batch system
removes it when the job is over, however it ended.
So there is nothing for a sweep to find here, nothing can be kept, and no lease is needed: real paths
are all that this storage declares.
Results go to another file system, so publishing is always a copy.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from tempscope import (
    Capability,
    Entry,
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    Progress,
    Removal,
    ScopeClosedError,
    ScopeRecord,
    StorageError,
    StorageFull,
    UnsupportedError,
    Usage,
    Verdict,
)
from tempscope.model import StagedMethod
from tempscope.storages import check_name, new_token


_FULL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EMLINK])
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_BUFFER = 1 << 20


class ScratchStorage:
    """
    Keeps temporary files in *directory*, which somebody else removes in the end.

    Lives as long as the job; shared by all its threads.

    Args:
        directory: The job's scratch directory; it is there already.
    """

    capabilities = frozenset([Capability.REAL_PATHS])

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory).absolute()
        self._areas: set[ScratchArea] = set()
        self._lock = threading.RLock()
        self._closed = False

    def open_area(self, record: ScopeRecord) -> ScratchArea:
        """Return a new area; its directory is made at its first file."""
        with self._lock:
            if self._closed:
                raise ScopeClosedError(f"{self!r} is closed", scope=record.name)
            area = ScratchArea(self._directory / f"scope-{record.token}", record, self._areas.discard)
            self._areas.add(area)
            return area

    def areas(self) -> Iterable[ScopeRecord]:
        """Tell nothing: the batch system sweeps."""
        return ()

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        """Refuse: nothing outlives its scope here."""
        raise UnsupportedError(f"{self!r} keeps nothing, so there is nothing to reclaim")

    def close(self) -> None:
        """Remove the areas that are still open."""
        with self._lock:
            self._closed = True
            areas = list(self._areas)
        for area in areas:
            area.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ScratchStorage({str(self._directory)!r})"


@attrs.frozen
class Copied:
    """A staged file: always a copy, which cannot harm its source."""

    path: Path
    source: Path
    method: StagedMethod = "copy"
    bytes_saved: int = 0

    def verify(self) -> None:
        """Pass."""


class ScratchArea:
    """One scope's directory; lives from its opening to its removal, shared by the scope's threads."""

    def __init__(self, home: Path, record: ScopeRecord, forget: Callable[[ScratchArea], None]) -> None:
        self._home = home
        self._scope = record.name or record.token
        self._forget = forget
        self._lock = threading.RLock()
        self._made = False
        self._removed = False

    @property
    def directory(self) -> Path:
        """The directory, made when first asked for."""
        with self._lock:
            self._check_open()
            if not self._made:
                _make_private(self._home)
                self._made = True
            return self._home

    def create_file(self, name: str) -> Path:
        """Make a new empty file, mode 0600."""
        check_name(name)
        with self._lock:
            path = self.directory / name
            with _told(path):
                fd = os.open(path, _NEW, 0o600)
                try:
                    # The umask may have taken bits away that its owner needs.
                    os.fchmod(fd, 0o600)
                finally:
                    os.close(fd)
            return path

    def create_dir(self, name: str) -> Path:
        """Make a new empty directory, mode 0700."""
        check_name(name)
        with self._lock:
            path = self.directory / name
            _make_private(path)
            return path

    def take_in(self, source: Path, name: str, *, writable: bool, progress: Progress | None) -> Copied:
        """Copy a file in, with its mode and times; directories are refused."""
        path = self.create_file(name)
        try:
            with _told(source):
                status = _regular(source)
                _copy(source, path, progress)
                os.chmod(path, stat.S_IMODE(status.st_mode) & 0o777 | 0o600)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        except BaseException:
            path.unlink()
            raise
        return Copied(path, source)

    def give_out(
        self,
        path: Path,
        destination: Path,
        *,
        overwrite: bool,
        durable: bool,
        mode: int | None,
        progress: Progress | None,
    ) -> Path:
        """Copy a file beside its destination, put it there in one step, and delete it here."""
        self._check_mine(path)
        if destination.absolute().is_relative_to(self._home):
            raise ForeignPathError(f"{str(destination)!r} is in the scope itself", path=destination)
        with _told(path):
            _regular(path)
        beside = destination.with_name(f".{new_token()}")
        with _told(destination):
            # Made with 0o666, from which the kernel takes the umask.
            os.close(os.open(beside, _NEW, 0o666))
            try:
                _copy(path, beside, progress, durable=durable)
                mode = _present_mode(destination) if mode is None else mode
                if mode is not None:
                    os.chmod(beside, mode & 0o777)
                _install(beside, destination, overwrite)
            finally:
                beside.unlink(missing_ok=True)
            if durable:
                _sync(destination.parent)
        self.delete(path)
        return destination

    def delete(self, path: Path) -> Removal:
        """Remove *path* and all below it; links are removed, never followed."""
        with self._lock:
            if path == self._home:
                self._check_open()
                children = list(self._home.iterdir()) if self._made else []
                return sum(map(_remove, children), Removal())
            self._check_mine(path)
            return _remove(path)

    def usage(self) -> Usage:
        """Count allocated bytes, each inode once."""
        with self._lock:
            return _measure(self._home) if self._made and not self._removed else Usage()

    def retain(self, record: ScopeRecord) -> ScopeRecord:
        """Refuse: the batch system removes it all."""
        self._check_open()
        raise UnsupportedError("a batch job's scratch directory keeps nothing", scope=self._scope)

    def remove(self) -> Removal:
        """Remove the directory with all in it."""
        with self._lock:
            if self._removed:
                return Removal()
            self._removed = True
            self._forget(self)
            return _remove(self._home) if self._made else Removal()

    def _check_open(self) -> None:
        if self._removed:
            raise ScopeClosedError("the scope is closed, its files are removed", scope=self._scope)

    def _check_mine(self, path: Path) -> None:
        """Refuse what is not below our directory, or only by way of a link."""
        self._check_open()
        mine = path.is_relative_to(self._home) and path != self._home and ".." not in path.parts
        if not mine or os.path.realpath(path.parent) != os.path.join(
            os.path.realpath(self._home), *path.parent.relative_to(self._home).parts
        ):
            raise ForeignPathError(f"{str(path)!r} is not in this scope ({str(self._home)!r})", path=path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system says about *path* into tempscope's errors."""
    try:
        yield
    except StorageError:
        raise
    except FileExistsError as error:
        raise NameTakenError(f"{str(path)!r} is there already", path=path, cause=error) from error
    except FileNotFoundError as error:
        raise PathMissingError(f"{str(path)!r} is missing", path=path, cause=error) from error
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else StorageError
        raise kind(f"{str(path)!r}: {error.strerror}", path=path, cause=error) from error


def _make_private(path: Path) -> None:
    with _told(path):
        path.mkdir(0o700)
        path.chmod(0o700)


def _regular(path: Path) -> os.stat_result:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"{str(path)!r} is no file, and only files are copied here", path=path)
    return status


def _copy(source: Path, target: Path, progress: Progress | None, *, durable: bool = False) -> None:
    with open(source, "rb") as content, open(target, "r+b", buffering=0) as copy:
        total, done = os.fstat(content.fileno()).st_size, 0
        while piece := content.read(_BUFFER):
            rest = memoryview(piece)
            while rest:
                rest = rest[copy.write(rest) :]
            done += len(piece)
            if progress is not None:
                progress(done, max(done, total))
        if durable:
            os.fsync(copy.fileno())


def _present_mode(destination: Path) -> int | None:
    try:
        mode = destination.lstat().st_mode
    except FileNotFoundError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else None


def _install(beside: Path, destination: Path, overwrite: bool) -> None:
    if overwrite:
        beside.replace(destination)
    else:
        # Fails in one step if something is there, which a check before a rename cannot.
        os.link(beside, destination, follow_symlinks=False)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: Path) -> Removal:
    """Remove *path* and all below it, from the leaves up; links are not followed."""
    below = [] if path.is_symlink() else os.walk(path, topdown=False)
    inside = [os.path.join(top, name) for top, directories, files in below for name in [*files, *directories]]
    return sum(map(_remove_one, [*inside, str(path)]), Removal())


def _remove_one(path: str) -> Removal:
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rmdir(path)
        else:
            os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return Removal()
    except OSError as error:
        return Removal(failed=1, entries=(Entry(path, "failed", str(error), error.errno),))
    return Removal(removed=1)


def _measure(home: Path) -> Usage:
    usage, seen = Usage(), set[int]()
    for top, directories, files in os.walk(home):
        for name in [*directories, *files]:
            status = os.lstat(os.path.join(top, name))
            size = 0 if status.st_ino in seen else status.st_blocks * 512
            seen.add(status.st_ino)
            is_directory = stat.S_ISDIR(status.st_mode)
            usage += Usage(int(not is_directory), int(is_directory), size, size)
    return usage
