"""
A storage around another one, through which every call passes.

What the inner storage and its areas cannot do is not there either: which optional protocols an area
has is told by its methods, so each wrapper is made of those that the inner one has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from tempscope.model import Capability, Removal, ScopeRecord, Usage, Verdict
from tempscope.protocols import (
    CommandLease,
    GivingUp,
    HandingOver,
    OutsidePathJournal,
    Progress,
    Reserving,
    StagedFile,
    TakingOver,
    TempArea,
    TempStorage,
    UnnamedFiles,
)


__all__ = ["WrappedStorage"]


class WrappedStorage(ABC):
    """
    Hands every call on to *inner*, by way of :meth:`_call`.

    Lives as long as its test; shared by all threads as far as *inner* is.
    Closing it closes *inner*.

    Args:
        inner: Any storage.
    """

    def __new__(cls, inner: TempStorage, *_args: object, **_kwargs: object) -> Self:
        """Make one that can take over what was handed over, if *inner* can."""
        return cast("Self", super().__new__(_able(cls, inner, _OF_STORAGES)))

    def __init__(self, inner: TempStorage) -> None:
        self._inner: Any = inner

    @abstractmethod
    def _call(self, method: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Do what the call of *method* is to do; plainly that is ``function(*args, **kwargs)``."""

    @property
    def inner(self) -> TempStorage:
        """The storage that does the work."""
        return cast("TempStorage", self._inner)

    @property
    def application(self) -> str:
        """Whose scopes these are, if the inner storage says so."""
        return getattr(self._inner, "application", "")

    @property
    def limit(self) -> object:
        """What bounds all open scopes together, if the inner storage says so."""
        return getattr(self._inner, "limit", None)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the inner storage can do."""
        return cast("frozenset[Capability]", self._inner.capabilities)

    def open_area(self, record: ScopeRecord) -> TempArea:
        """Return the inner storage's new area, wrapped."""
        return _wrap(self, self._call("open_area", self._inner.open_area, (record,), {}))

    def areas(self) -> Iterable[ScopeRecord]:
        """Tell what the inner storage tells."""
        return cast("Iterable[ScopeRecord]", self._call("areas", self._inner.areas, (), {}))

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        """Have the inner storage delete or keep on what nobody holds."""
        return cast("Removal", self._call("reclaim", self._inner.reclaim, (record, verdict), {}))

    def close(self) -> None:
        """Close the inner storage."""
        self._call("close", self._inner.close, (), {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inner!r})"


class WrappedArea:
    """An area of a :class:`WrappedStorage`; lives as long as the inner one, and is shared as that is."""

    def __init__(self, calls: WrappedStorage, inner: Any) -> None:
        self._calls = calls
        self._inner = inner

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._calls._call(method, getattr(self._inner, method), args, kwargs)

    @property
    def directory(self) -> Path:
        """The inner area's directory."""
        return cast("Path", self._calls._call("directory", lambda: self._inner.directory, (), {}))

    def create_file(self, name: str) -> Path:
        """Have the inner area make a file."""
        return cast("Path", self._do("create_file", name))

    def create_dir(self, name: str) -> Path:
        """Have the inner area make a directory."""
        return cast("Path", self._do("create_dir", name))

    def take_in(self, source: Path, name: str, *, writable: bool, progress: Progress | None) -> StagedFile:
        """Have the inner area take in *source*."""
        return cast("StagedFile", self._do("take_in", source, name, writable=writable, progress=progress))

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
        """Have the inner area give out *path*."""
        options = {"overwrite": overwrite, "durable": durable, "mode": mode, "progress": progress}
        return cast("Path", self._do("give_out", path, destination, **options))

    def delete(self, path: Path) -> Removal:
        """Have the inner area delete *path*."""
        return cast("Removal", self._do("delete", path))

    def usage(self) -> Usage:
        """Return what the inner area counts."""
        return cast("Usage", self._do("usage"))

    def retain(self, record: ScopeRecord) -> ScopeRecord:
        """Have the inner area keep its files."""
        return cast("ScopeRecord", self._do("retain", record))

    def remove(self) -> Removal:
        """Remove the inner area."""
        return cast("Removal", self._do("remove"))

    def __repr__(self) -> str:
        return f"{type(self._calls).__name__}'s {self._inner!r}"


class _Reserving(WrappedArea):
    def reserve_by(self, reserve: Callable[[int], AbstractContextManager[None]]) -> None:
        self._do("reserve_by", reserve)


class _GivingUp(WrappedArea):
    def give_up(self, path: Path) -> Path:
        return cast("Path", self._do("give_up", path))


class _Journal(WrappedArea):
    def note_outside(self, path: Path, identity: str) -> None:
        self._do("note_outside", path, identity)

    def forget_outside(self, path: Path) -> None:
        self._do("forget_outside", path)


class _HandingOver(WrappedArea):
    def hand_over(self, record: ScopeRecord, outside: Mapping[str, str], staged: Sequence[StagedFile]) -> str:
        return cast("str", self._do("hand_over", record, outside, staged))


class _CommandLease(WrappedArea):
    def lease_fd(self) -> int:
        return cast("int", self._do("lease_fd"))


class _UnnamedFiles(WrappedArea):
    def unnamed_file(self, mode: str) -> IO[Any]:
        return cast("IO[Any]", self._do("unnamed_file", mode))


class _TakingOver(WrappedStorage):
    def take_over(self, token: str) -> tuple[ScopeRecord, TempArea, Mapping[str, str], Sequence[StagedFile]]:
        record, area, outside, staged = self._call("take_over", self._inner.take_over, (token,), {})
        return record, _wrap(self, area), outside, staged


_OF_AREAS: dict[type, type] = {
    GivingUp: _GivingUp,
    Reserving: _Reserving,
    OutsidePathJournal: _Journal,
    HandingOver: _HandingOver,
    CommandLease: _CommandLease,
    UnnamedFiles: _UnnamedFiles,
}
_OF_STORAGES: dict[type, type] = {TakingOver: _TakingOver}


def _wrap(calls: WrappedStorage, inner: TempArea) -> TempArea:
    return cast("TempArea", _able(WrappedArea, inner, _OF_AREAS)(calls, inner))


def _able(cls: type, inner: object, known: dict[type, type]) -> type[Any]:
    """Return *cls* with what *inner* has of the optional protocols in *known*."""
    return _mixed(cls, *(mixin for protocol, mixin in known.items() if isinstance(inner, protocol)))


@cache
def _mixed(cls: type, *mixins: type) -> type:
    if not mixins:
        return cls
    bases = (cls, *mixins) if cls is not WrappedArea else mixins
    return type(cls.__name__, bases, {"__module__": cls.__module__})
