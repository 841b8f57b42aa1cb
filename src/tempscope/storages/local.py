"""
Temporary files on a file system: on disk, or on a RAM disk.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from tempscope import _log
from tempscope._clock import SystemClock
from tempscope.errors import BaseDirectoryError, LeaseLostError, ScopeClosedError, StorageError
from tempscope.model import Capability, Removal, ScopeRecord
from tempscope.protocols import StagedFile
from tempscope.storages._base import absolute
from tempscope.storages._token import new_token


if TYPE_CHECKING:
    from tempscope.model import TrackedPath, Verdict
    from tempscope.storages._area import LocalArea
    from tempscope.storages._area_directory import AreaDirectory
    from tempscope.storages._background import BackgroundRemoval
    from tempscope.storages._descriptor import Descriptor
    from tempscope.storages._instance import Instance
    from tempscope.storages._link import Linking
    from tempscope.storages._quota import Limit
    from tempscope.storages._scan import DiskSweep

__all__ = ["LocalDiskStorage", "RamDiskStorage", "default_application"]

_RAM_DISK = "/dev/shm"


def default_application() -> str:
    """Return the main program's file name, by which its scopes are told from other programs'."""
    main = sys.argv[0] if sys.argv else ""
    if main in ("-c", "-m", "-", ""):
        return "python"
    name = os.path.basename(main)
    return os.path.basename(os.path.dirname(main)) or name if name == "__main__.py" else name


_loading = threading.RLock()


@cache
def _load() -> None:
    """
    Import what does the work, when some is to be done, and what closing needs with it.

    Closing must do without a file descriptor.  Nobody forks meanwhile: the child would wait for ever
    for the other thread to go on importing.
    """
    with _loading:
        for name in ("_area", "_hand_over", "_registry", "_scan", "_start_sweep", "_tracked"):
            import_module(f"tempscope.storages.{name}")


# A platform without fork has nothing to register.
getattr(os, "register_at_fork", lambda **_: None)(
    before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
)


class LocalDiskStorage:
    """
    Keeps temporary files under ``<base_dir>/tempscope-<uid>/``, crash-proof.

    Lives as long as the process needs it; shared by all its threads.
    Constructing one touches nothing; the first file makes the directories and takes the lease.
    Storages on one root in one process share one lease.

    Args:
        base_dir: The parent of our root, made if it is missing; None for ``TEMPSCOPE_BASE_DIR``,
            else the system's temporary directory, asked for at the first file.

        application: Whose scopes these are; a sweep asks a policy only about its own
            application's.  None for the main program's file name.

        sweep_on_start: Whether the first file of the process also removes, for a short while,
            what dead processes left.

        background_removal: Whether a closing scope only renames its directory away and a thread
            removes it; :meth:`close` waits for that.

        trust_locks: Whether file locks are to be believed on a network or unknown file system.

        max_bytes: How many bytes the open scopes of this storage may use together: bytes, or text
            such as ``"10GiB"``; None is no limit.
            What policies keep does not count, nor do other processes; managers see to it, not areas.

    Raises:
        BaseDirectoryError: If *base_dir* cannot be a path.

        ConfigurationError: If *max_bytes* is no size.

    Not promised: anything against other programs of the same user, who can do to these files
    whatever they like.
    """

    _capabilities = frozenset(
        [
            Capability.REAL_PATHS,
            Capability.RETAIN,
            Capability.CRASH_SWEEP,
            Capability.GIVE_UP,
            Capability.OUTSIDE_PATHS,
            Capability.HAND_OVER,
            Capability.COMMAND_LEASE,
            Capability.UNNAMED_FILES,
        ]
    )
    _linking: Linking | None = None

    def __init__(
        self,
        base_dir: str | os.PathLike[str] | None = None,
        *,
        application: str | None = None,
        sweep_on_start: bool = True,
        background_removal: bool = False,
        trust_locks: bool = False,
        max_bytes: int | str | None = None,
    ) -> None:
        self._base_dir = None if base_dir is None else absolute(base_dir, "base directory")
        self._application = application if application is not None else default_application()
        self._sweep_on_start = sweep_on_start
        self._background_removal = background_removal
        self._trust_locks = trust_locks
        self._limit = None if max_bytes is None else _limit_of(self, max_bytes)
        self._lock = threading.RLock()
        self._areas: set[AreaDirectory] = set()
        self._used: Instance | None = None
        self._pid = os.getpid()
        self._background: BackgroundRemoval | None = None
        self._leave: Callable[[int], None] | None = None
        self._closed = False

    @property
    def application(self) -> str:
        """Whose scopes these are."""
        return self._application

    @property
    def limit(self) -> Limit | None:
        """What bounds all its open scopes together; None for nothing."""
        return self._limit

    @property
    def base_dir(self) -> Path | None:
        """The parent of our root as given; None for what the environment names."""
        return None if self._base_dir is None else Path(self._base_dir)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this storage can do."""
        return self._capabilities

    def open_area(self, record: ScopeRecord) -> LocalArea:
        """Return an area for *record*'s scope; nothing is made before its first file."""
        if self._closed:
            raise self._is_closed(record.name)
        _load()
        from tempscope.storages._area import LocalArea

        return LocalArea(self, record)

    def _is_closed(self, scope: str | None = None) -> ScopeClosedError:
        return ScopeClosedError(f"{self!r} is closed: open another storage", scope=scope)

    def take_over(self, token: str) -> tuple[ScopeRecord, LocalArea, Mapping[str, str], Sequence[StagedFile]]:
        """Give the scope that waits under *token* to this process; of any number of callers one gets it."""
        if self._closed:
            raise self._is_closed()
        _load()
        from tempscope.storages._hand_over import check_token

        check_token(token)
        try:
            return self._take_over(self._instance(), token)
        except LeaseLostError:
            # Nothing of it was in what was lost: another instance will do.
            return self._take_over(self._instance(), token)

    def _take_over(
        self, instance: Instance, token: str
    ) -> tuple[ScopeRecord, LocalArea, Mapping[str, str], Sequence[StagedFile]]:
        from tempscope.storages._area import LocalArea
        from tempscope.storages._failure import storage_error
        from tempscope.storages._hand_over import find_waiting

        instance.check()
        try:
            waiting = find_waiting(instance.root, token, SystemClock().now())
        except OSError as error:
            raise storage_error(error, "the scope cannot be taken over", path=instance.root.path) from error
        with waiting.directory:
            record = attrs.evolve(
                waiting.record, state="live", closed=None, verdict=None, application=self._application
            )
            area, name = LocalArea(self, record), instance.next_name()
            outside = {each.path: str(each.identity or "") for each in waiting.outside}
            staged = waiting.staged(f"{instance.path}/{name}")
            area.come_in(instance, waiting, name)
        return record, area, outside, staged

    def areas(self) -> Iterable[ScopeRecord]:
        """Tell all scopes under our root, of every process and application."""
        _load()
        from tempscope.storages._scan import scan

        return scan(self._base_dir, trust_locks=self._trust_locks)

    def survey(self) -> Iterable[ScopeRecord]:
        """Tell all scopes under our root with what they occupy, and who holds them."""
        _load()
        from tempscope.storages._scan import survey

        return survey(self._base_dir, trust_locks=self._trust_locks)

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        """Delete, or keep on, an area that no living owner holds."""
        with self.sweeping() as sweep:
            return sweep.reclaim(record, verdict)

    def sweeping(self) -> DiskSweep:
        """Look over our root to take back what dead processes left; living ones are only counted."""
        _load()
        from tempscope.storages._scan import DiskSweep

        return DiskSweep(self._base_dir, trust_locks=self._trust_locks)

    def track(self, path: Path, identity: str, by: str) -> None:
        """Write *path* into the journal as one that *by* tracks."""
        _load()
        from tempscope.storages._failure import storage_error
        from tempscope.storages._identity import Identity
        from tempscope.storages._journal import OutsidePath

        known = Identity.parse(identity) if identity else None
        try:
            self._leased().journal.add_tracked(by, OutsidePath(os.fspath(path), known))
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise storage_error(error, "the path cannot be tracked", path=os.fspath(path)) from error

    def _leased(self) -> Instance:
        """Return this process's instance, another one if its lease was lost, which goes on tracking."""
        instance = self._instance()
        try:
            instance.check()
        except LeaseLostError:
            lost, instance = instance, self._instance()
            for by, each in lost.journal.tracked():
                instance.journal.add_tracked(by, each)
        return instance

    def _instance_here(self) -> Instance | None:
        """Return this process's instance if there is one, whichever storage of the process made it."""
        instance = self._used
        if instance is not None and instance.pid == os.getpid():
            return instance
        _load()
        from tempscope.storages._registry import instance_here

        return instance_here(self._base_dir)

    def untrack(self, path: Path, by: str) -> None:
        """Take *path* out of the journal, as far as *by* is concerned."""
        try:
            instance = self._instance_here()
            if instance is not None:
                instance.check()
                instance.journal.drop_tracked(by, os.fspath(path))
        except (OSError, ValueError) as error:
            _log.warn("a path could not be taken out of the journal", error=type(error).__name__)

    def tracked(self, *, everywhere: bool = False) -> Iterable[TrackedPath]:
        """Tell what this process tracks, and then what the others under our root do or did."""
        from tempscope.model import TrackedPath

        instance = self._instance_here()
        if instance is not None:
            for by, each in instance.journal.tracked():
                yield TrackedPath(each.path, str(each.identity or ""), by, "this process")
        if everywhere:
            from tempscope.storages._tracked import tracked_elsewhere

            own = None if instance is None else instance.name
            yield from tracked_elsewhere(self._base_dir, own, trust_locks=self._trust_locks)

    def close(self) -> None:
        """Remove the open areas, wait for background removals, and let go of the lease."""
        self._after_fork()
        self._closed = True
        # Every step may be interrupted, and is finished by the next call.
        for area in list(self._areas):
            area.remove()
            self._areas.discard(area)
        if self._background is not None:
            self._background.wait()
        if self._leave is not None:
            self._leave(id(self))
        self._used = None

    def _after_fork(self) -> None:
        """In a forked child: own nothing of what was inherited, and no lock that nobody would release."""
        pid = os.getpid()
        if self._pid != pid:
            self._lock = threading.RLock()
            self._areas = set()
            self._used = None
            self._background = None
            self._pid = pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self._base_dir is None else repr(self._base_dir)})"

    # -- for its areas

    def _instance(self) -> Instance:
        """Return this process's instance under our root, made at the first call."""
        instance = self._used
        if instance is not None and instance.pid == os.getpid() and not instance.lost:
            return instance
        _load()
        from tempscope.storages._registry import instance_for, leave_all

        self._after_fork()
        with self._lock:
            if self._closed:
                raise self._is_closed()
            self._leave = leave_all
            instance = self._used
            if instance is not None and not instance.lost:
                return instance
            instance, made = instance_for(self._base_dir, id(self))
            self._used = instance
        if made and self._sweep_on_start:
            from tempscope.storages._start_sweep import sweep_at_start

            sweep_at_start(self._base_dir, trust_locks=self._trust_locks)
        return instance

    def _began(self, area: AreaDirectory) -> None:
        self._areas.add(area)

    def _ended(self, area: AreaDirectory) -> None:
        self._areas.discard(area)

    def _discard(
        self,
        instance: Instance,
        name: str,
        identity: tuple[int, int],
        held: Descriptor,
        likely: Sequence[str],
    ) -> Removal:
        """Remove an area of *instance* if it still is what it was: at once, or by a rename and a thread."""
        from tempscope.storages._background import BackgroundRemoval
        from tempscope.storages._instance import is_named

        if not self._background_removal or not is_named(instance.fd, name, identity):
            return _remove_now(instance, name, identity, held, likely)
        trash = f"t-{new_token()}"
        try:
            os.rename(name, trash, src_dir_fd=instance.fd, dst_dir_fd=instance.root.fd)
        except OSError:
            # A full or read-only disk may refuse the rename; removing needs no room.
            return _remove_now(instance, name, identity, held, likely)
        held.close()
        with self._lock:
            if self._background is None:
                self._background = BackgroundRemoval()
        self._background.put(instance.root, trash)
        return Removal()


def _limit_of(storage: LocalDiskStorage, max_bytes: int | str) -> Limit:
    # Who sets no limit does not pay for importing it.
    from tempscope.storages._quota import limit_of_storage

    return limit_of_storage(storage, max_bytes)


def _remove_now(
    instance: Instance, name: str, identity: tuple[int, int], held: Descriptor, likely: Sequence[str]
) -> Removal:
    from tempscope.storages._delete import remove_entry

    removal = remove_entry(
        instance.fd, name, expected=identity, held=None if held.closed else held, likely=likely
    )
    if removal == Removal():
        _log.warn("a scope's directory was removed by somebody else", token=instance.token)
    return removal


class RamDiskStorage(LocalDiskStorage):
    """
    A :class:`LocalDiskStorage` on the RAM disk (``/dev/shm``): real paths, held in memory.

    What is stored there counts as memory of the machine, and of the control group.

    Lives as long as the process needs it; shared by all its threads.

    Args:
        application, sweep_on_start, background_removal, trust_locks, max_bytes: As for
            :class:`LocalDiskStorage`.

    Raises:
        BaseDirectoryError: If the system has no RAM disk.
    """

    def __init__(
        self,
        *,
        application: str | None = None,
        sweep_on_start: bool = True,
        background_removal: bool = False,
        trust_locks: bool = False,
        max_bytes: int | str | None = None,
    ) -> None:
        if not os.path.isdir(_RAM_DISK):
            raise BaseDirectoryError(
                f"this system has no RAM disk at {_RAM_DISK}: use LocalDiskStorage or MemoryStorage",
                path=_RAM_DISK,
            )
        super().__init__(
            _RAM_DISK,
            application=application,
            sweep_on_start=sweep_on_start,
            background_removal=background_removal,
            trust_locks=trust_locks,
            max_bytes=max_bytes,
        )

    def __repr__(self) -> str:
        return "RamDiskStorage()"
