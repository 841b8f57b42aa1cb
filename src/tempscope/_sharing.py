"""
What a scope shares: itself with another process, its directory with a command, and open files.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from tempscope import _log
from tempscope._clock import SystemClock
from tempscope._closing import ChildExit
from tempscope._exits import Callback
from tempscope._outcomes import outcome_of
from tempscope._outside_paths import OutsidePaths
from tempscope.errors import (
    ConfigurationError,
    ForeignPathError,
    ScopeBusyError,
    ScopeClosedError,
    UnsupportedError,
)
from tempscope.model import CleanupReport, ScopeRecord, Verdict
from tempscope.protocols import (
    CommandLease,
    HandingOver,
    OutsidePathJournal,
    Progress,
    StagedFile,
    TempArea,
    UnnamedFiles,
)
from tempscope.storages._destination import Destination, Home
from tempscope.storages._journal import OutsidePath
from tempscope.storages._publish import publish_unnamed as name_open_file


if TYPE_CHECKING:
    from datetime import timedelta

    from tempscope._scope import Scope
    from tempscope.manager import TempFileManager

__all__ = ["detach", "popen_kwargs", "publish_unnamed", "take_up", "unnamed_file"]

_CLOCK = SystemClock()
_DIRECTORY_VARIABLES = ("TMPDIR", "TMP", "TEMP")
_MODE_LETTERS = frozenset("wbt+")


# -- hand-over


def detach(scope: Scope, ttl: timedelta | str) -> str:
    """Let *scope* wait for another process, and close it here; returns its token."""
    # Imported where it is used: few scopes are handed over, and every program imports this module.
    from tempscope.units import parse_duration

    seconds = parse_duration(ttl, what="ttl")
    with scope._lock:
        scope._check_usable()
        _refuse_if_busy(scope)
        area = scope._area_to_empty()
        if not isinstance(area, HandingOver):
            raise UnsupportedError(f"{scope._storage!r} cannot hand scopes over: work in one process")
        waits = Verdict(True, "it was handed over and not taken in its time", for_seconds=seconds)
        record = attrs.evolve(scope._record(), closed=_CLOCK.now(), verdict=waits)
        outside = {}
        if scope._outside is not None:
            scope._outside.drop(scope._sources or ())
            outside = scope._outside.described()
        try:
            token = area.hand_over(record, outside, scope._staged or ())
        except BaseException:
            if _has_left(area):
                # An interrupt came when all was done: nobody has the token, but the scope does wait.
                _leave(scope)
            raise
        _leave(scope)
    _log.debug("scope handed over", scope=scope._shown, seconds=seconds)
    return token


def _leave(scope: Scope) -> None:
    scope._outcome, scope._closed = outcome_of(None, retry=scope._retry), True
    scope._closed_with(CleanupReport(scope=scope._shown, outcome=scope._outcome))


def _has_left(area: TempArea) -> bool:
    try:
        _ = area.directory
    except ScopeClosedError:
        return True
    return False


def _refuse_if_busy(scope: Scope) -> None:
    if scope._outcome is not None:
        raise ScopeClosedError(
            f"scope {scope._shown!r} is closing, so it cannot be handed over", scope=scope._shown
        )
    what = ""
    for exit_ in scope._exits or ():
        if isinstance(exit_, ChildExit):
            what = "its children are open: close them"
        elif isinstance(exit_, Callback):
            what = "callbacks are registered: they cannot run in another process"
        else:
            what = "objects were made that end with it: make them in the process that takes it over"
    if scope._open_paths:
        what = "blocks of create_temp_file or create_temp_dir are open: leave them"
    if what:
        raise ScopeBusyError(f"scope {scope._shown!r} cannot be handed over while {what}", scope=scope._shown)


def take_up(
    scope: Scope,
    record: ScopeRecord,
    area: TempArea,
    outside: Mapping[str, str],
    staged: Sequence[StagedFile],
) -> None:
    """Have *scope*, which was just opened, go on as the one that another process handed over."""
    registered = OutsidePaths(scope._area_to_empty)
    registered.take_up(area, outside)
    known = {inode for each in staged if (inode := _inode_of(each)) is not None}
    scope._name, scope._label, scope._token = record.name, record.label, record.token
    scope._opened_as = record
    # Beyond the numbers that its names have already, which nobody counted.
    scope._numbers, scope._blocks = itertools.count(int.from_bytes(os.urandom(4)) // 2), set()
    scope._outside, scope._staged, scope._sources = registered, list(staged), known
    scope._measure_if_bounded(area)
    scope._area = area
    _log.debug("scope taken over", scope=scope._shown)


def _inode_of(staged: StagedFile) -> tuple[int, int] | None:
    try:
        status = staged.source.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


# -- commands


def popen_kwargs(scope: Scope, env: Mapping[str, str] | None, pass_fds: Iterable[int]) -> dict[str, Any]:
    """Return what a command needs to work in *scope* and to hold it."""
    area = scope._usable_area()
    if not isinstance(area, CommandLease):
        raise UnsupportedError(
            f"{scope._storage!r} has no lease that a command could hold: start it without popen_kwargs()"
        )
    lease, directory = area.lease_fd(), os.fspath(area.directory)
    environment = {**(os.environ if env is None else env), **dict.fromkeys(_DIRECTORY_VARIABLES, directory)}
    return {"env": environment, "pass_fds": (*pass_fds, lease)}


# -- unnamed files


def unnamed_file(
    scope: Scope, mode: str, encoding: str | None, errors: str | None, newline: str | None
) -> IO[Any]:
    """Return a new open file without a name in *scope*."""
    if not isinstance(mode, str) or not _is_for_a_new_file(mode):
        raise ConfigurationError(
            f"unnamed_file cannot open with mode {mode!r}: a new file is written, so 'w+b', 'w+', 'wb' or 'w'"
        )
    binary = "b" in mode
    if binary and (encoding, errors, newline) != (None, None, None):
        raise ConfigurationError(
            f"unnamed_file takes encoding, errors and newline for text, not with mode {mode!r}"
        )
    area = scope._usable_area()
    if not isinstance(area, UnnamedFiles):
        raise UnsupportedError(
            f"{scope._storage!r} has no unnamed files: use new_file() or create_temp_file()"
        )
    file = area.unnamed_file("w+b" if "+" in mode else "wb")
    _log.debug("unnamed file made", scope=scope._shown)
    if binary:
        return file
    try:
        text = io.TextIOWrapper(file, io.text_encoding(encoding, 3), errors, newline)
        text.mode = mode  # type: ignore[misc]  # read-only for type checkers; open() sets it too
    except (LookupError, TypeError, ValueError) as error:
        file.close()
        raise ConfigurationError(f"unnamed_file cannot open text so: {error}") from error
    return text


def publish_unnamed(
    scope: TempFileManager,
    file: IO[Any],
    destination: Path,
    *,
    overwrite: bool,
    durable: bool,
    mode: int | None,
    progress: Progress | None,
) -> Path:
    """Give *file*, which is open and has no name, one at *destination*."""
    if file.closed:
        raise ForeignPathError("the file is closed, so nothing is left that could be published")
    file.flush()
    below = getattr(file, "buffer", file)
    if isinstance(getattr(below, "raw", below), io.FileIO):
        place = Destination(
            os.fspath(destination),
            overwrite,
            durable,
            _journal_of(scope),
            home=_home_of(scope),
            scope=scope._shown,
        )
        name_open_file(below.fileno(), place, mode=mode, progress=progress)
        _log.debug("file published", scope=scope._shown, path=destination)
        scope._tell("published", path=destination)
        return destination
    # No file of the system's: one with a name takes its content.
    if not below.readable():
        raise UnsupportedError("a file in memory that only writes cannot be published: open it with 'w+b'")
    path = scope.new_file()
    try:
        _copy_whole(below, path)
        return scope.publish(
            path, destination, overwrite=overwrite, durable=durable, mode=mode, progress=progress
        )
    except BaseException:
        # Not by what asks for quotas: that would hide what went wrong.
        scope._area_to_empty().delete(path)
        raise


def _copy_whole(file: IO[bytes], path: Path) -> None:
    """Write all of *file* to *path*; *file* stands where it stood."""
    position = file.tell()
    try:
        file.seek(0)
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    finally:
        file.seek(position)


def _home_of(scope: Scope) -> Home | None:
    directory = scope._area_to_empty().directory
    # A path in memory as the destination was refused, or moved to the disk, before.
    return Home(os.fspath(directory)) if type(directory) is type(Path()) else None


def _journal_of(scope: Scope) -> _AreaJournal | None:
    area = scope._area_to_empty()
    return _AreaJournal(area) if isinstance(area, OutsidePathJournal) else None


@attrs.frozen
class _AreaJournal:
    """What an area remembers for the sweep, as a destination tells it."""

    area: OutsidePathJournal

    def add_outside(self, outside: OutsidePath) -> None:
        self.area.note_outside(Path(outside.path), "")

    def drop_outside(self, path: str) -> None:
        self.area.forget_outside(Path(path))


def _is_for_a_new_file(mode: str) -> bool:
    letters = set(mode)
    return (
        "w" in letters
        and letters <= _MODE_LETTERS
        and len(letters) == len(mode)
        and not {"b", "t"} <= letters
    )
