"""Storages that do what the real ones do only on a bad day, or only what they must."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from tempscope.errors import (
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    ScopeClosedError,
    UnsupportedError,
)
from tempscope.model import Capability, Entry, Outcome, Removal, ScopeRecord, StagedMethod, Usage, Verdict
from tempscope.protocols import Progress, StagedFile, TempArea, TempStorage
from tempscope.storages import check_name


PATIENCE = 30.0
"""Seconds after which a test that waits for another thread gives up."""


@attrs.define(eq=False)
class Hooks:
    """What a :class:`HookedStorage` does before each call of its areas; raising replaces the call."""

    before: dict[str, Callable[..., object]] = attrs.Factory(dict)
    calls: list[str] = attrs.Factory(list)
    opened: list[ScopeRecord] = attrs.Factory(list)


class HookedStorage:
    """A storage whose areas can be made to fail, to wait, or to answer something else."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.hooks = Hooks()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def open_area(self, record: ScopeRecord) -> Any:
        self.hooks.opened.append(record)
        if "open_area" in self.hooks.before:
            self.hooks.before["open_area"](record)
        return HookedArea(self.inner.open_area(record), self.hooks)


class HookedArea:
    """An area of a :class:`HookedStorage`."""

    def __init__(self, inner: Any, hooks: Hooks) -> None:
        self._inner = inner
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._hooks.calls.append(name)
            before = self._hooks.before.get(name)
            answer = None if before is None else before(*args, **kwargs)
            return value(*args, **kwargs) if answer is None else answer

        return call


class Gate:
    """Holds a thread up: it says that it has arrived, and waits to be let through."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._open = threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.arrived.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"

    def open(self) -> None:
        self._open.set()


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises *error*."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


def leaving_behind(path: str = "odd", reason: str = "it is in use") -> Callable[..., Removal]:
    """Return a function that answers as if one thing could not be removed."""
    return lambda *_: Removal(failed=1, entries=(Entry(path, "failed", reason, 16),))


@attrs.frozen
class Copied:
    """A staged file of :class:`PlainStorage`."""

    path: Path
    source: Path
    method: StagedMethod = "copy"
    bytes_saved: int = 0

    def verify(self) -> None:
        """Pass: a copy harms nobody."""


class PlainStorage:
    """A third party's storage: a plain directory for each scope, and no method that is not required."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._closed = False

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset([Capability.REAL_PATHS])

    def open_area(self, record: ScopeRecord) -> TempArea:
        if self._closed:
            raise ScopeClosedError("this storage is closed")
        return PlainArea(self._root / record.token)

    def areas(self) -> Iterable[ScopeRecord]:
        return ()

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        raise UnsupportedError("nothing outlives its area here")

    def close(self) -> None:
        self._closed = True


class PlainArea:
    """An area of a :class:`PlainStorage`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._removed = False

    @property
    def directory(self) -> Path:
        if self._removed:
            raise ScopeClosedError("this area is removed")
        self._directory.mkdir(mode=0o700, exist_ok=True)
        return self._directory

    def create_file(self, name: str) -> Path:
        path = self.directory / check_name(name)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError as error:
            raise NameTakenError(f"{name!r} is taken", path=path, cause=error) from error
        return path

    def create_dir(self, name: str) -> Path:
        path = self.directory / check_name(name)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise NameTakenError(f"{name!r} is taken", path=path, cause=error) from error
        return path

    def take_in(self, source: Path, name: str, *, writable: bool, progress: Progress | None) -> StagedFile:
        if not source.is_file():
            raise PathMissingError(f"{str(source)!r} is no file", path=source)
        path = self.create_file(name)
        shutil.copyfile(source, path)
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
        if path.parent != self.directory:
            raise ForeignPathError(f"{str(path)!r} is not in this area", path=path)
        return path.replace(destination)

    def delete(self, path: Path) -> Removal:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return Removal(removed=1)

    def usage(self) -> Usage:
        sizes = [each.stat().st_size for each in self.directory.iterdir()]
        return Usage(files=len(sizes), bytes=sum(sizes))

    def retain(self, record: ScopeRecord) -> ScopeRecord:
        raise UnsupportedError("nothing is retained here")

    def remove(self) -> Removal:
        if self._removed or not self._directory.exists():
            self._removed = True
            return Removal()
        files = len(list(self._directory.iterdir()))
        shutil.rmtree(self._directory)
        self._removed = True
        return Removal(removed=files)


def plain(root: Path) -> TempStorage:
    """Return a :class:`PlainStorage`; that it is a storage is checked here, by the type checker."""
    return PlainStorage(root)


@attrs.frozen
class Keeping:
    """A policy that keeps what ended in one of the ways given; ``asked`` has the records it saw."""

    on: tuple[str, ...] = ("failed",)
    asked: list[ScopeRecord] = attrs.field(factory=list, eq=False, repr=False)
    may_keep: bool = True

    def at_close(self, record: ScopeRecord) -> Verdict:
        self.asked.append(record)
        kind = (record.outcome or Outcome("never_closed")).kind
        return Verdict(keep=kind in self.on, reason=f"it ended as {kind}")

    def select(self, kept: Any, now: Any) -> list[Verdict]:
        return [self.at_close(record) for record in kept]
