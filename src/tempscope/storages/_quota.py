"""
Limits on what scopes may use, and meters that tell how much they do.

What goes through our own calls is counted before it is written.
What others write, such as a command that the job started, is seen when a scope's area is measured
again: that costs a walk over it, so a call does it only when the file system lost as much free room
as the limit still has, or when twenty times as long has passed as the last walk took.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tempscope import _log
from tempscope._names import escape
from tempscope.errors import QuotaExceededError, TempscopeError
from tempscope.protocols import Reserving, TempArea, TempStorage
from tempscope.storages._deleted import DeletedFiles
from tempscope.storages._failure import mount_of
from tempscope.units import format_size, parse_size


__all__ = ["Limit", "Meter", "check_quotas", "limit_of_label", "limit_of_storage"]

_SHARE = 20
_CHEAP = 0.001
_locks = [threading.RLock()]
_limits: weakref.WeakSet[Limit] = weakref.WeakSet()
_labels: weakref.WeakValueDictionary[tuple[int, str | None, int], Limit] = weakref.WeakValueDictionary()
_deleted = DeletedFiles()


class Limit:
    """
    How many bytes some open scopes may use together, and how many they do.

    Lives as long as a scope or storage that it bounds; shared by all threads of the process.

    Args:
        whose: Whose limit it is, for the error.

        max_bytes: How many bytes the scopes may use.
    """

    __slots__ = (
        "__weakref__",
        "_enough",
        "_gap",
        "_known",
        "_meters",
        "_quiet",
        "_storage",
        "max_bytes",
        "used",
        "whose",
    )

    def __init__(self, whose: str, max_bytes: int, storage: TempStorage | None = None) -> None:
        self.whose = whose
        self.max_bytes = max_bytes
        self.used = 0
        # Its number is in a key, so it must live as long.
        self._storage = storage
        self._meters: weakref.WeakSet[Meter] = weakref.WeakSet()
        self._gap = self._quiet = 0.0
        self._enough = self._known = 0
        with _locks[-1]:
            _limits.add(self)

    @property
    def exceeded(self) -> bool:
        """Whether more is used than may be, as far as is known."""
        return self.used > self.max_bytes

    def add(self, meter: Meter) -> None:
        """Count what *meter* tells from now on."""
        with _locks[-1]:
            self._meters.add(meter)

    def drop(self, meter: Meter) -> None:
        """Do not count *meter* any more, which tells nothing by now."""
        with _locks[-1]:
            self._meters.discard(meter)

    def meters(self) -> list[Meter]:
        """Return the meters of what it bounds."""
        with _locks[-1]:
            return list(self._meters)

    def refresh(self, free: int, now: float) -> None:
        """Measure if there is reason to; *free* is how much room the file system has, -1 if unknown."""
        if self.exceeded or (now >= self._gap and (now >= self._quiet or 0 <= free < self._enough)):
            self.measure(free)

    def measure(self, free: int = -1) -> None:
        """Measure all that it bounds."""
        begun = monotonic()
        for meter in self.meters():
            meter.measure()
        cost = monotonic() - begun
        self._gap = begun + cost * (2 if cost > _CHEAP else 1)
        self._quiet = begun + cost * (_SHARE + 1)
        if free >= 0:
            self._explain(free)

    def _explain(self, free: int) -> None:
        """Look for files without a name if room went that no file with one has taken."""
        left = self.max_bytes - self.used
        if not self._known:
            self._known = free + self.used
        if self._known - free - self.used > left >= 0 and _deleted.look():
            self.count_deleted()
            self._known = free + self.used
        self._enough = free - (self.max_bytes - self.used)

    def count_deleted(self) -> None:
        """Count what files occupy that have no name any more but are held open."""
        for meter in self.meters():
            meter.count_deleted(_deleted)

    def verify(self) -> bool:
        """Return whether it is exceeded by what is really there now."""
        if self.exceeded and _deleted:
            _deleted.look(at_once=True)
            self.count_deleted()
        return self.exceeded

    def tell(self) -> None:
        """Call what the scope that uses most, of those that have something to call, wants called."""
        with _locks[-1]:
            told = max((m for m in self._meters if m.callbacks), key=lambda m: m.used, default=None)
            callbacks = told.callbacks if told is not None else []
            if told is not None:
                told.callbacks = []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                _log.warn("a quota callback failed", scope=told and told.scope, error=type(error).__name__)

    def error(self, meter: Meter, more: int = 0) -> QuotaExceededError:
        """Return the error for *meter*'s scope, which wants *more* bytes."""
        path, mount, kind = meter.place()
        where = f", in {kind} on {escape(mount)!r}" if mount else f", in {kind}" if kind else ""
        used, limit = format_size(self.used), format_size(self.max_bytes)
        wanted = f" and {format_size(more)} more would be written" if more else ""
        error = QuotaExceededError(
            f"scope {meter.scope!r}: the quota of {self.whose} is {limit}; {used} are used{wanted}{where}: "
            "delete or publish files, or raise the quota",
            path=path or None,
            scope=meter.scope,
        )
        error.limit, error.used, error.wanted_bytes = self.max_bytes, self.used, more or None
        error.mount, error.mount_kind = mount or None, kind or None
        return error

    def start_anew(self) -> None:
        """In a forked child: nothing that was inherited counts."""
        for meter in self.meters():
            meter.forget()
        self._meters.clear()
        self.used = 0


class Meter:
    """
    What one scope's files use, and what bounds them.

    Lives from the scope's first file to its close; shared by all threads of the job.

    Args:
        area: The scope's.

        scope: Its name, for errors.

        limits: What bounds it.
    """

    __slots__ = (
        "__weakref__",
        "_area",
        "_changes",
        "_deleted",
        "_in_memory",
        "_measured",
        "_path",
        "_pending",
        "callbacks",
        "limits",
        "scope",
        "used",
    )

    def __init__(self, area: TempArea, scope: str, limits: Sequence[Limit]) -> None:
        self._area: TempArea | None = area
        self.scope = scope
        self.limits = limits
        self.used = 0
        self.callbacks: list[Callable[[], object]] = []
        self._measured = self._deleted = self._pending = self._changes = 0
        self._path, self._in_memory = "", False
        if isinstance(area, Reserving):
            area.reserve_by(self.reserve)
        for limit in limits:
            limit.add(self)

    # -- asking

    def check(self) -> None:
        """
        Make sure that no limit is exceeded, as far as a bounded effort tells.

        Raises:
            QuotaExceededError: If one is; who wanted to be called was called.
        """
        now, free = monotonic(), self.free()
        for limit in self.limits:
            limit.refresh(free, now)
            if limit.exceeded and limit.verify():
                error = limit.error(self)
                limit.tell()
                raise error

    @contextmanager
    def reserve(self, more: int) -> Iterator[None]:
        """
        Count *more* bytes now, for a ``with`` block that writes them; if it fails they are not counted.

        Raises:
            QuotaExceededError: If a limit would be exceeded; nothing was counted.
        """
        refused = self._take(more)
        if refused is not None:
            refused.measure()
            refused.verify()
            refused = self._take(more)
        if refused is not None:
            raise refused.error(self, more)
        written = 0
        try:
            yield
            written = more
        finally:
            with _locks[-1]:
                self._pending -= more
                self._measured += written
                self._changes += 1
                self._count(written - more)

    def _take(self, more: int) -> Limit | None:
        """Count *more* as pending; return the limit that it would exceed instead, if any."""
        with _locks[-1]:
            for limit in self.limits:
                if limit.used + more > limit.max_bytes:
                    return limit
            self._pending += more
            self._changes += 1
            self._count(more)
            return None

    # -- measuring

    def measure(self) -> None:
        """Count what the files occupy now, unless something is just being written through us."""
        area, changes = self._area, self._changes
        if area is None or self._pending:
            return
        try:
            found = area.usage().freeable_bytes
        except (OSError, TempscopeError):
            return
        with _locks[-1]:
            if self._area is not None and self._changes == changes:
                self._count(found - self._measured)
                self._measured = found

    def count_deleted(self, deleted: DeletedFiles) -> None:
        """Count what files of ours in *deleted* occupy."""
        found = deleted.below(self._directory()) if self._directory() else 0
        with _locks[-1]:
            if self._area is not None:
                self._count(found - self._deleted)
                self._deleted = found

    def _count(self, more: int) -> None:
        if self._area is not None:
            self.used += more
            for limit in self.limits:
                limit.used += more

    # -- where

    def _directory(self) -> str:
        """Return the scope's directory on a file system; empty where there is none, or none yet."""
        if not self._path:
            path = getattr(getattr(self._area, "record", None), "directory", None)
            # The text of a path in memory would move it to disk.
            self._path = str(path) if type(path) is _PLAIN else ""
            self._in_memory = path is not None and not self._path
        return self._path

    def place(self) -> tuple[str, str, str]:
        """Return the scope's directory, the mount that it is on, and the kind of that; empty if unknown."""
        path = self._directory()
        if path:
            return (path, *mount_of(path))
        return "", "", "memory" if self._in_memory else ""

    def free(self) -> int:
        """Return how many bytes its file system has free, -1 if unknown."""
        path = self._directory()
        try:
            status = os.statvfs(path) if path else None
        except (OSError, AttributeError):
            return -1
        return status.f_bfree * status.f_frsize if status is not None else -1

    # -- the end

    def end(self) -> None:
        """Count nothing any more: the scope's files are gone, or are a policy's by now."""
        with _locks[-1]:
            self._count(-self.used)
            for limit in self.limits:
                limit.drop(self)
            self.forget()

    def forget(self) -> None:
        """Let go of the area and of what bounded it."""
        self._area = None
        self.limits = ()
        self.callbacks = []


_PLAIN = type(Path())


def limit_of_label(storage: TempStorage, label: str | None, max_bytes: int) -> Limit:
    """Return the limit on all open scopes of one label, storage and quota."""
    key = (id(storage), label, max_bytes)
    with _locks[-1]:
        limit = _labels.get(key)
        if limit is None:
            whose = "all scopes without a label" if label is None else f"all scopes of label {label!r}"
            limit = _labels[key] = Limit(whose, max_bytes, storage)
        return limit


def limit_of_storage(storage: TempStorage, max_bytes: int | str) -> Limit:
    """Return the limit on all open scopes of *storage*."""
    return Limit(f"{type(storage).__name__}", parse_size(max_bytes, what="max_bytes", bare=True))


def check_quotas() -> list[QuotaExceededError]:
    """
    Measure all scopes of this process that a quota bounds; call who wants to be called.

    For whoever looks after a process from time to time; raises nothing.

    Returns:
        An error for each quota that is exceeded.
    """
    with _locks[-1]:
        limits = [limit for limit in _limits if limit.meters()]
    if not limits:
        return []
    _deleted.look(at_once=True)
    errors = []
    for limit in limits:
        limit.measure()
        limit.count_deleted()
        largest = max(limit.meters(), key=lambda meter: meter.used, default=None)
        if limit.exceeded and largest is not None:
            errors.append(limit.error(largest))
            limit.tell()
    return errors


def _start_anew() -> None:
    # Another thread of the parent may have held it, and none of those is here to let go.
    _locks[:] = [threading.RLock()]
    for limit in list(_limits):
        limit.start_anew()


# A platform without fork has nothing to register.
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_start_anew)
