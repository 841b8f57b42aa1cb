"""
One job's temporary files: :class:`TempFileManager`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

from tempscope import _current, _log, _shield
from tempscope._closing import ChildExit, CleanUp, reasons
from tempscope._exits import Callback
from tempscope._names import check_affixes, check_label, check_name, unique_name
from tempscope._outcomes import describe
from tempscope._scope import PREFIX, Scope, check_storage
from tempscope._temp_paths import TempPath
from tempscope.errors import (
    ConfigurationError,
    InvalidNameError,
    NameTakenError,
    ScopeClosedError,
    UnsupportedError,
)
from tempscope.model import CleanupReport, Usage
from tempscope.policies import DeleteOnClose, check_policy
from tempscope.protocols import CleanupPolicy, GivingUp, Progress, StagedFile, TempArea, TempStorage
from tempscope.storages import LocalDiskStorage, absolute


if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["TempFileManager"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_DEFAULT_POLICY = DeleteOnClose()
_NAME_ATTEMPTS = 1_000
_NOTHING_TO_SPARE = nullcontext()
_PLAIN_PATH = type(Path())
_STAGED_NAME_CHARACTERS = 60


class TempFileManager(Scope):
    """
    The temporary files of one job: its *scope*.

    Lives from its opening to its close, usually one ``with`` block (or ``async with``); all
    threads and tasks of the job may use it, and only who opened it closes it.
    Services receive the one of their job from a container; :class:`~tempscope.TempScopes` opens
    them.
    It can also be used alone; a manager that is made directly and never entered lives until the
    process ends.

    After a fork the child may not create in an inherited scope, and closing it there does nothing;
    a standalone manager starts anew there.

    Args:
        prefix: How unique names begin, unless a call says otherwise.

        base_dir: Where the default storage puts its root; not together with *storage*.

        storage: Where the files live; None for a :class:`~tempscope.LocalDiskStorage`.

        policy: What stays when the scope closes; None for :class:`~tempscope.DeleteOnClose`.

        name: The job's name: any text, for people and logs; it never becomes part of a path.

    Raises:
        InvalidNameError: If *prefix* or *name* cannot be one.

        ConfigurationError: If *base_dir* and *storage* are both given, or if *storage* or *policy*
            is none.

        UnsupportedError: If the policy may keep what the storage cannot.

    Not promised: that another program of the same user leaves the files alone.
    """

    def __init__(
        self,
        prefix: str = PREFIX,
        base_dir: str | os.PathLike[str] | None = None,
        *,
        storage: TempStorage | None = None,
        policy: CleanupPolicy | None = None,
        name: str | None = None,
    ) -> None:
        check_affixes(prefix, "")
        if storage is None:
            storage = LocalDiskStorage(base_dir)
        elif base_dir is not None:
            raise ConfigurationError(
                "give either base_dir or storage: the storage has a base directory of its own"
            )
        check_storage(storage)
        self._standalone = True
        name = check_label(name, "a scope's name")
        self._begin(storage, _DEFAULT_POLICY if policy is None else check_policy(policy), name, prefix)

    # -- files for one block

    def create_temp_file(
        self, suffix: str = "", prefix: str | None = None, delete: bool = True, *, name: str | None = None
    ) -> TempPath:
        """
        Return an object that makes an empty file when entered by ``with`` or ``async with``.

        The block gets the file's path; when it ends the file is deleted.
        A block that an exception leaves leaves its file to the scope if the policy may keep.

        Args:
            suffix: How the unique name ends, with its dot.

            prefix: How it begins; None for the manager's.

            delete: False to leave the file to the scope when the block ends.

            name: Exactly this name instead of a unique one.

        Raises:
            InvalidNameError: If a name cannot be one; before anything is made.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.

        Entering raises:
            NameTakenError: If *name* is in use.

            QuotaExceededError: If a quota that bounds the scope is exceeded.

            StorageFull: If there is no room.
        """
        self._check_usable()
        return TempPath(self, _make_file, self._wanted(suffix, prefix, name), delete)

    def create_temp_dir(self, prefix: str | None = None, *, name: str | None = None) -> TempPath:
        """Return an object that makes a directory when entered; otherwise as :meth:`create_temp_file`."""
        self._check_usable()
        return TempPath(self, _make_dir, self._wanted("", prefix, name), True)

    # -- files for the scope

    def new_file(
        self, suffix: str = "", prefix: str | None = None, *, name: str | None = None, create: bool = True
    ) -> Path:
        """
        Make an empty file that lives until the scope closes, and return its path.

        Args:
            suffix, prefix, name: As in :meth:`create_temp_file`.

            create: False to reserve the name only, for a program that insists on making its
                output itself; until what it made is published or kept.

        Raises:
            InvalidNameError: If a name cannot be one; before anything is made.

            NameTakenError: If *name* is in use.

            StorageFull: If there is no room.

            QuotaExceededError: If a quota that bounds the scope is exceeded.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.
        """
        wanted = self._wanted(suffix, prefix, name)
        return self._made(_make_file, wanted) if create else self._made(self._reserve, wanted)

    def new_dir(self, prefix: str | None = None, *, name: str | None = None) -> Path:
        """Make a directory that lives until the scope closes; otherwise as :meth:`new_file`."""
        return self._made(_make_dir, self._wanted("", prefix, name))

    def _wanted(self, suffix: str, prefix: str | None, name: str | None) -> tuple[str, str] | str:
        """Return the exact name, or between what a unique one stands; checked."""
        if name is not None:
            return check_name(name)
        if prefix is None:
            prefix = self._prefix
        check_affixes(prefix, suffix)
        return prefix, suffix

    def _made(self, make: Callable[[TempArea, str], Path], wanted: tuple[str, str] | str) -> Path:
        area = self._usable_area()
        if isinstance(wanted, str):
            with self._lock:
                self._check_not_reserved(wanted)
                path = make(area, wanted)
            if self._listeners:
                self._tell("created", path=path)
            return path
        prefix, suffix = wanted
        for number in itertools.islice(self._numbers, _NAME_ATTEMPTS):
            try:
                path = make(area, f"{prefix}{number}{suffix}")
            except NameTakenError:
                # The job made a file of our next name itself.
                continue
            if self._listeners:
                self._tell("created", path=path)
            return path
        raise NameTakenError(f"no free name between {prefix!r} and {suffix!r} was found", scope=self._shown)

    def _reserve(self, area: TempArea, name: str) -> Path:
        path = area.directory / name
        with self._lock:
            self._check_not_reserved(name)
            if path.is_symlink() or path.exists():
                raise self._taken(name)
            if self._reserved is None:
                self._reserved = set()
            self._reserved.add(name)
        return path

    def _check_not_reserved(self, name: str) -> None:
        if self._reserved and name in self._reserved:
            raise self._taken(name)

    def _taken(self, name: str) -> NameTakenError:
        return NameTakenError(f"the name {name!r} is taken in scope {self._shown!r}", scope=self._shown)

    def _free_name(self, path: Path) -> None:
        """Let the name of *path*, which left the scope, be used again."""
        with self._lock:
            if self._reserved:
                self._reserved.discard(path.name)

    def _delete_path(self, path: Path, generation: int, exc: BaseException | None) -> None:
        """End one per-file block; what cannot be deleted now goes with the scope."""
        area = self._area
        # After a fork, a clean-up or a new beginning the path is none of ours any more.
        if area is None or self._pid != os.getpid() or generation != self._generation:
            return
        try:
            removal = area.delete(path)
        except ScopeClosedError:
            # The scope closed before the block ended; its files went with it, or were kept.
            return
        except Exception as error:
            if exc is None:
                raise
            exc.add_note(f"tempscope: deleting a temporary file also raised {describe(error)}")
            return
        if self._listeners and removal.removed:
            self._tell("removed", path=path, removal=removal)
        if not removal.complete:
            reason = reasons(removal)
            _log.warn("a temporary file could not be deleted yet", scope=self._shown, reason=reason)
            self._tell("failed", path=path, reason=reason, removal=removal)

    # -- in and out

    def stage(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        writable: bool = False,
        progress: Progress | None = None,
    ) -> StagedFile:
        """
        Bring an outside file or directory into the scope, without a copy where the storage can.

        The path handed out is never the source's own, and the source is never harmed.
        An input that came in by hard link is checked when the scope closes, in a directory every file.
        Links in a directory are made again, not followed.

        Args:
            source: A file or directory, or a link to one.

            name: What it is called in the scope; None for the source's name, made unique.

            writable: Whether the job may write to it; it then shares nothing with the source.

            progress: Called as ``progress(done, total)``, in bytes, while copying, by the copying
                thread; what it raises ends the copy, and nothing of that stays.

        Raises:
            PathMissingError: If *source* is not there.

            StagedSourceChangedError: If *source* was written to while it was copied.

            NameTakenError: If *name* is in use.

            StorageFull: If there is no room.

            QuotaExceededError: If a quota that bounds the scope is exceeded, or would be.

            StorageError: If *source* cannot be read, is neither file nor directory, or has something
                else in it.
        """
        area = self._usable_area()
        path = _as_source(source)
        with _NOTHING_TO_SPARE if self._outside is None else self._sparing(path):
            if name is None:
                staged = self._stage_by_own_name(area, path, writable, progress)
            else:
                self._check_not_reserved(check_name(name))
                staged = area.take_in(path, name, writable=writable, progress=progress)
            with self._lock:
                self._remember_staged(staged)
        _log.debug("file staged", scope=self._shown, how=staged.method, bytes_saved=staged.bytes_saved)
        if self._listeners:
            self._tell("staged", path=staged.path, source=staged.source, reason=staged.method)
        return staged

    def _sparing(self, source: Path) -> AbstractContextManager[None]:
        """Keep a sweep from deleting *source*, which may be registered for deletion, too."""
        try:
            # What is staged is what a link leads to.
            status = source.stat()
        except OSError:
            return _NOTHING_TO_SPARE
        assert self._outside is not None
        return self._outside.sparing((status.st_dev, status.st_ino))

    def _remember_staged(self, staged: StagedFile) -> None:
        if staged.method == "hardlink":
            if self._staged is None:
                self._staged = []
            self._staged.append(staged)
        identity = getattr(staged, "identity", None) or _identity_of(staged.source)
        if identity is None:
            return
        if self._sources is None:
            self._sources = set()
        self._sources.add(identity)

    def _stage_by_own_name(
        self, area: TempArea, source: Path, writable: bool, progress: Progress | None
    ) -> StagedFile:
        name = source.name
        try:
            self._check_not_reserved(check_name(name))
            return area.take_in(source, name, writable=writable, progress=progress)
        except NameTakenError:
            pass
        except InvalidNameError:
            name = "input"
        for _ in range(_NAME_ATTEMPTS):
            try:
                unique = unique_name("", f"-{name[-_STAGED_NAME_CHARACTERS:]}", next(self._numbers))
                return area.take_in(source, unique, writable=writable, progress=progress)
            except NameTakenError:
                continue
        raise NameTakenError(f"no free name for {name!r} was found", path=source, scope=self._shown)

    def publish(
        self,
        path: str | os.PathLike[str] | IO[Any],
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = True,
        durable: bool = True,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """
        Move a finished file or directory out of the scope to its final place, atomically.

        Whoever looks at *destination* sees the old or the new one, whole.
        If it fails, it is still in the scope.
        What came in by hard link is published as a reflink or copy, so that it is no alias.

        Args:
            path: A path of this scope, or an open file of :meth:`unnamed_file`, which gets its name in
                one step where the system can, stays open, and if it is in memory must be readable.

            destination: Where it shall be; its directory exists.

            overwrite: Whether a file may be replaced by a file, an empty directory by a directory, and
                a link by either.  Nothing else is ever replaced.

            durable: Whether content and name are on the disk before the call returns.

            mode: The permissions, from 0 to 0o777; None for those of what was there, else 0o666 less
                the umask, and 0o777 less the umask for a directory.  What is in a directory keeps its
                own.

            progress: As in :meth:`stage`, where bytes have to be copied; begins anew where the first way to
                do so turns out to be none.

        Returns:
            The destination, absolute.

        Raises:
            ForeignPathError: If *path* is not in this scope, or its directory, or *destination* is in it.

            PathMissingError: If *path* or the destination's directory is not there.

            NameTakenError: If something is there and *overwrite* is False.

            StorageFull: If there is no room.

            ConfigurationError: If *mode* is no such permissions, or *path* neither path nor open file.

            StorageError: If the system refuses otherwise.
        """
        if mode is not None:
            _check_mode(mode)
        place = _absolute(destination, "destination")
        if not isinstance(path, str | os.PathLike):
            _check_open_file(path)
            from tempscope._sharing import publish_unnamed

            return publish_unnamed(
                self, path, place, overwrite=overwrite, durable=durable, mode=mode, progress=progress
            )
        ours = _as_path(path)
        published = self._area_to_empty().give_out(
            ours, place, overwrite=overwrite, durable=durable, mode=mode, progress=progress
        )
        self._free_name(ours)
        _log.debug("file published", scope=self._shown, path=published)
        self._tell("published", path=published, source=ours)
        return published

    def keep(self, path: str | os.PathLike[str]) -> Path:
        """
        Let one path out of our hands for good: no policy and no sweep will touch it again.

        Returns:
            Where it is now: a registered outside path stays in place, a path of the scope moves
            to a directory of its own.

        Raises:
            ForeignPathError: If *path* is neither.

            UnsupportedError: If the storage cannot.
        """
        self._check_usable()
        wanted = _as_path(path)
        with self._lock:
            if self._outside is not None and not self._owns(wanted):
                text = absolute(path, "path")
                if self._outside.unregister(text):
                    self._tell("kept", path=Path(text), source=Path(text), reason="by keep()")
                    return Path(text)
        area = self._area_to_empty()
        if not isinstance(area, GivingUp):
            raise UnsupportedError(
                f"{self._storage!r} cannot give up single paths: publish them instead", path=path
            )
        kept = area.give_up(wanted)
        self._free_name(wanted)
        _log.debug("path given up", scope=self._shown, path=kept)
        self._tell("kept", path=kept, source=wanted, reason="by keep()")
        return kept

    # -- outside paths and callbacks

    def register_file(self, file_path: str | os.PathLike[str]) -> None:
        """
        Have an outside file or directory deleted with the scope, whatever the policy.

        The path is made absolute now.  It is deleted only if it then still is what it was: device,
        inode and birth time are compared.  A file that was renamed over it stays, and is told.
        A path of this scope belongs to it anyway.
        In a directory the root of a storage stays, with all scopes in it, and counts as skipped.

        Args:
            file_path: A path; it need not exist yet, and then whatever is there is deleted.

        Raises:
            ForeignPathError: If it is the root of a file system.

            StorageError: If the registration cannot be written down.
        """
        self._check_usable()
        if isinstance(file_path, Path) and self._owns(file_path):
            return
        text = absolute(file_path, "path")
        path = Path(text)
        if isinstance(file_path, Path) and type(file_path) is _PLAIN_PATH and str(file_path) == text:
            # The caller's own: then its text is in memory only once.
            path = file_path
        if self._owns(path):
            return
        with self._lock:
            if self._outside is None:
                from tempscope._outside_paths import OutsidePaths

                self._outside = OutsidePaths(self._area_to_empty)
            self._outside.register(path, self._sources or ())
        self._hold_if_alone()

    def unregister_file(self, file_path: str | os.PathLike[str]) -> None:
        """
        Take a registered path back: it was moved or processed.  An unknown one is not an error.

        Raises:
            StorageError: If that cannot be written down; the path is still registered then.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.
        """
        self._check_usable()
        if isinstance(file_path, Path) and self._owns(file_path):
            return
        with self._lock:
            if self._outside is not None:
                self._outside.unregister(absolute(file_path, "path"))

    def register_cleanup_callback(
        self, fn: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """
        Have *fn* called once, when the scope closes or is cleaned up, newest first.

        Runs in the closing thread or task, never in a forked child.
        If it raises, the others still run, and closing raises its error unless the job failed.

        Args:
            fn: What to call; it must not be a coroutine function.

            args, kwargs: With what.

        Raises:
            ConfigurationError: If *fn* cannot be called, or nobody would await it.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.
        """
        _check_callback(fn)
        self._push(Callback(fn, args, kwargs))

    def register_quota_callback(self, fn: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """
        Have *fn* called when a quota that bounds this scope is exceeded: to stop a command, for example.

        Called once, in the thread that noticed: that of a call of any manager that the quota bounds,
        or of :func:`~tempscope.storages.check_quotas`.
        Of a quota on several scopes only the one that uses most, of those with callbacks, is called.
        What *fn* raises is logged.
        It is dropped when the scope closes, and never called where no quota bounds the scope.

        Args:
            fn: What to call, such as ``process.terminate``; it must be quick.

            args, kwargs: With what.

        Raises:
            ConfigurationError: If *fn* cannot be called, or nobody would await it.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.
        """
        _check_callback(fn)
        self._area_to_empty()
        if self._meter is not None:
            self._meter.callbacks.append(functools.partial(fn, *args, **kwargs))

    def bind(self, fn: Callable[_P, _R]) -> Callable[_P, _R]:
        """
        Return *fn* so that this scope is current while it runs, in whatever thread.

        Plain threads and executors do not carry the current scope over; the result may be called
        any number of times, also at once.

        Raises:
            ConfigurationError: If *fn* cannot be called.
        """
        if not callable(fn):
            raise ConfigurationError(f"bind() takes a function, and {fn!r} cannot be called")
        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def bound_coroutine(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                with _current.as_current(self):
                    return await fn(*args, **kwargs)

            return bound_coroutine  # type: ignore[return-value]  # _R is a coroutine here

        @functools.wraps(fn)
        def bound(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with _current.as_current(self):
                return fn(*args, **kwargs)

        return bound

    # -- sharing

    def unnamed_file(
        self,
        mode: str = "w+b",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """
        Open a new file that has no name, so that nothing of it can ever be left behind.

        It lives until it is closed, like any open file, also beyond the scope's end; a killed process
        leaves none.

        Args:
            mode: ``"w+b"``, ``"wb"``, ``"w+"`` or ``"w"``, as for :func:`open`.

            encoding, errors, newline: For text, as for :func:`open`.

        Returns:
            What :func:`open` returns for *mode*.

        Raises:
            ConfigurationError: If *mode* does not write a new file, or the others do not go with it.

            StorageFull: If there is no room.

            QuotaExceededError: If a quota that bounds the scope is exceeded.

            UnsupportedError: If the storage has none.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.

        Not promised: that it counts in :meth:`usage`.
        """
        from tempscope._sharing import unnamed_file

        return unnamed_file(self, mode, encoding, errors, newline)

    def popen_kwargs(
        self, *, env: Mapping[str, str] | None = None, pass_fds: Iterable[int] = ()
    ) -> dict[str, Any]:
        """
        Return arguments for :class:`subprocess.Popen` by which a command works in this scope, and holds it.

        Its temporary files go to the scope's directory.  If this process is killed, the scope's files
        stay while the command lives, or a process that it started, and a sweep removes them afterwards.
        Closing the scope removes them at once, whether or not a command still runs.

        Opens one descriptor for the scope, however often it is called; it is closed with the scope, and
        only commands that are given it have it.

        Args:
            env: The command's environment; None for this process's.

            pass_fds: Further descriptors for the command.

        Returns:
            ``env``, with ``TMPDIR``, ``TMP`` and ``TEMP`` set, and ``pass_fds``.

        Raises:
            UnsupportedError: If the storage's files are not on a disk.

            StorageError: If the descriptor cannot be opened.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.

        Not promised: anything for a command that closes descriptors it was given, as daemons do.
        """
        from tempscope._sharing import popen_kwargs

        return popen_kwargs(self, env, pass_fds)

    def detach(self, *, ttl: timedelta | str = "1h") -> str:
        """
        Close this scope here, without asking its policy, and let it wait for another process.

        Name, label, files, registered outside paths and what is known of staged inputs travel along.
        Paths of before are void: after :meth:`TempScopes.attach` the files stand under that manager's
        ``directory``.
        If nobody takes it in time, a sweep does what the policy wants for a scope that was never closed.

        Args:
            ttl: How long it waits: text such as ``"1h"``, or a timedelta.

        Returns:
            A token, 26 letters and digits, for :meth:`TempScopes.attach` on a storage of the same base
            directory, once; who has it has the files.

        Raises:
            ScopeBusyError: While children, per-file blocks, callbacks or objects of the scope are open;
                nothing has changed then.

            ConfigurationError: If *ttl* is no duration.

            UnsupportedError: If the storage cannot.

            StorageError: If the system refuses; the scope is still open then.

            ScopeClosedError, ForkedScopeError: If the scope cannot be used.

        Not promised: that it waits through a restart of the machine where the base directory does not,
        or that a :meth:`mark_retry` travels.
        """
        from tempscope._sharing import detach

        return detach(self, ttl)

    # -- looking and cleaning

    def usage(self) -> Usage:
        """Count what the scope's own files occupy now; costs a walk over them."""
        self._check_usable()
        return Usage() if self._area is None else self._area.usage()

    def mark_retry(self) -> None:
        """Say that the job will run again: the outcome will be ``"retry"``, whatever else happens."""
        self._check_usable()
        self._retry = True

    def cleanup_all(self) -> CleanupReport:
        """
        Delete everything the scope owns now, whatever the policy; the scope stays open.

        Open files and the files of children go too (children stay open), registered outside paths
        as well; callbacks run, once.

        Returns:
            What went, and what did not and why.

        Raises:
            Exception: What a callback raised; several as :class:`~tempscope.CleanupFailed`.
        """
        self._check_usable()
        return CleanUp(self).run()

    async def astage(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        writable: bool = False,
        progress: Progress | None = None,
    ) -> StagedFile:
        """
        Stage in a worker thread; otherwise as :meth:`stage`.

        A task that is cancelled ends the copying; nothing of the input is in the scope then.
        """

        def work(check: Callable[[], None]) -> StagedFile:
            check()
            return self.stage(source, name=name, writable=writable, progress=_checking(check, progress))

        return await _shield.cancellable(work, self._unstage)

    def _unstage(self, staged: StagedFile) -> None:
        """Remove an input that nobody was told of."""
        with self._lock:
            if self._staged is not None and staged in self._staged:
                self._staged.remove(staged)
        assert self._area is not None
        try:
            self._area.delete(staged.path)
        except ScopeClosedError:
            # The scope closed meanwhile, and its files went with it, or were kept.
            pass

    async def apublish(
        self,
        path: str | os.PathLike[str] | IO[Any],
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = True,
        durable: bool = True,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """
        Publish in a worker thread; otherwise as :meth:`publish`.

        A task that is cancelled ends the copying, and the file is still in the scope; what was in place
        by then stays there.
        """

        def work(check: Callable[[], None]) -> Path:
            check()
            return self.publish(
                path,
                destination,
                overwrite=overwrite,
                durable=durable,
                mode=mode,
                progress=_checking(check, progress),
            )

        return await _shield.cancellable(work, lambda published: None)

    async def acleanup_all(self) -> CleanupReport:
        """Run the callbacks here and delete in a worker thread; otherwise as :meth:`cleanup_all`."""
        self._check_usable()
        return await CleanUp(self).arun()

    @property
    def directory(self) -> Path:
        """
        The scope's private directory, made when first asked for.

        Raises:
            ScopeClosedError: If the scope is closed.

            StorageError: If it cannot be made.
        """
        return self._area_to_empty().directory

    def scope(
        self,
        name: str | None = None,
        *,
        policy: CleanupPolicy | None = None,
        quota: int | str | None = None,
    ) -> TempFileManager:
        """
        Open a scope inside this one; it closes before this one, and with it at the latest.

        Args:
            name: What it is called, as in ``TempFileManager(name=)``.

            policy: What stays of it; None for this scope's policy.

            quota: How many bytes it and its own children may use; what bounds this scope bounds
                them too.

        Raises:
            ConfigurationError: If *policy* is none, or *quota* no size.
        """
        self._check_usable()
        child = TempFileManager._opened(
            self._storage,
            self._policy if policy is None else check_policy(policy),
            name,
            label=self._label,
            label_quota=self._label_quota,
            quota=quota,
            strict=self._strict,
            parent=self,
            prefix=self._prefix,
        )
        try:
            child._parent_exit = self._push(ChildExit(weakref.ref(child)))
        except ScopeClosedError:
            # Closed by another thread just now: nobody will see the child.
            child._ends_empty()
            raise
        return child

    def _owns(self, path: Path) -> bool:
        return self._area is not None and path.is_relative_to(self._area.directory)


def _make_file(area: TempArea, name: str) -> Path:
    return area.create_file(name)


def _make_dir(area: TempArea, name: str) -> Path:
    return area.create_dir(name)


def _checking(check: Callable[[], None], progress: Progress | None) -> Progress:
    def tell(done: int, total: int) -> None:
        check()
        if progress is not None:
            progress(done, total)

    return tell


def _identity_of(source: Path) -> tuple[int, int] | None:
    try:
        # By the path, not its text, which would move a file that is in memory to the disk.
        status = source.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _as_source(source: str | os.PathLike[str]) -> Path:
    if isinstance(source, Path) and type(source) is _PLAIN_PATH:
        # The way of most, and fast: a path that is absolute is taken as it is.
        text = str(source)
        if text[0] == "/" and "\0" not in text:
            return source
    return _absolute(source, "source")


def _absolute(path: str | os.PathLike[str], what: str) -> Path:
    """Return *path* as an absolute path; one of a storage's own kind is one, and stays what it is."""
    if type(path) is str and _is_settled(path):
        return Path(path)
    plain = type(path) is _PLAIN_PATH
    if isinstance(path, Path) and (_is_settled(str(path)) if plain else path.is_absolute()):
        return path
    return Path(absolute(path, what))


def _is_settled(text: str) -> bool:
    """Whether it is absolute, and has nothing to be cut or refused: most paths are so, and this is fast."""
    return text[:1] == os.sep == "/" and ".." not in text and "\0" not in text


def _check_mode(mode: object) -> None:
    if isinstance(mode, int) and not isinstance(mode, bool) and 0 <= mode <= 0o777:
        return
    tail = f"; {mode} is {mode:#o}" if type(mode) is int and mode > 0o777 else ""
    raise ConfigurationError(f"mode cannot be {mode!r}: write it octal, from 0 to 0o777, such as 0o644{tail}")


def _check_open_file(given: object) -> None:
    if hasattr(given, "closed") and hasattr(given, "flush"):
        return
    what, hint = repr(given), "give a path of the scope, or an open file of unnamed_file()"
    if isinstance(given, TempPath):
        hint = "enter it by with, which gives the path"
    elif isinstance(getattr(given, "path", None), os.PathLike):
        what, hint = f"a {type(given).__name__}", "give its .path"
    raise ConfigurationError(f"{what} cannot be published: {hint}")


def _check_callback(fn: object) -> None:
    if not callable(fn):
        raise ConfigurationError(f"the callback {fn!r} cannot be called: give a function and its arguments")
    if inspect.iscoroutinefunction(fn):
        raise ConfigurationError(f"the callback {fn!r} is a coroutine function, which nobody would await")


def _as_path(path: str | os.PathLike[str]) -> Path:
    """Return *path* as a path; one of a storage's own kind stays what it is."""
    return path if isinstance(path, Path) else _absolute(path, "path")
