"""
The life of a scope: opening, entering, closing, forking, being forgotten.

What a job does with its files is in :mod:`tempscope.manager`, on top of this.
"""

from __future__ import annotations

import itertools
import os
import threading
import warnings
from _thread import RLock
from collections.abc import Callable, Iterator
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, cast

import attrs

from tempscope import _current, _log, _open_scopes
from tempscope._clock import SystemClock
from tempscope._closing import Closing, ask
from tempscope._exits import Exit, Exits, Leaving
from tempscope._names import check_label
from tempscope._outcomes import OK, outcome_of
from tempscope.errors import (
    ConfigurationError,
    ForkedScopeError,
    PickledScopeError,
    ScopeClosedError,
    ScopeEnteredError,
    UnsupportedError,
)
from tempscope.listeners import tell
from tempscope.model import Capability, CleanupReport, Event, EventKind, Outcome, ScopeRecord
from tempscope.protocols import CleanupPolicy, Listener, StagedFile, TempArea, TempStorage
from tempscope.storages import new_token
from tempscope.units import parse_size


if TYPE_CHECKING:
    from tempscope._outside_paths import OutsidePaths
    from tempscope._temp_paths import TempPath
    from tempscope.storages._quota import Limit, Meter

__all__ = ["Scope", "check_storage"]

PREFIX = "tempscope_"
"""How unique names begin, unless somebody says otherwise."""

_getpid = os.getpid
_CLOCK = SystemClock()
_read_clock = _CLOCK.read
_starting_anew = [threading.Lock()]


class Scope:
    """
    One scope, from its opening to its close; :class:`~tempscope.TempFileManager` is the whole of it.

    What an empty scope does not need is not in the instance but in the class.
    """

    _area: TempArea | None = None
    _async: bool = False
    _blocks: set[TempPath] = set()  # noqa: RUF012  # stays empty: an area brings another
    _closed: bool = True
    _empty: bool = False
    _entered: bool = False
    _exits: Exits | None = None
    _generation: int = 0
    _label: str | None = None
    _label_quota: int | None = None
    _left: bool = False
    _limit: Limit | None = None
    _meter: Meter | None = None
    _listeners: tuple[Listener, ...] = ()
    _name: str | None = None
    _numbers: Iterator[int] = iter(())
    _opened_as: ScopeRecord | None = None
    _outcome: Outcome | None = None
    _outside: OutsidePaths | None = None
    _parent: Scope | None = None
    _parent_exit: int = -1
    _prefix: str = PREFIX
    _quota: int | None = None
    _report: CleanupReport | None = None
    _reserved: set[str] | None = None
    _retry: bool = False
    _scoped: dict[Any, Any] | None = None
    _sources: set[tuple[int, int]] | None = None
    _staged: list[StagedFile] | None = None
    _standalone: bool = False
    _strict: bool = False
    _token: str | None = None
    _variable: Token[Scope | None] | None = None

    @classmethod
    def _opened(
        cls,
        storage: TempStorage,
        policy: CleanupPolicy,
        name: str | None,
        *,
        label: str | None = None,
        label_quota: int | None = None,
        quota: int | str | None = None,
        strict: bool = False,
        parent: Scope | None = None,
        prefix: str = PREFIX,
    ) -> Self:
        """Open a scope for somebody who closes it; a forgotten one warns."""
        self = cls.__new__(cls)
        if name is not None:
            check_label(name, "a scope's name")
        if label is not None:
            self._label = label
        if label_quota is not None:
            self._label_quota = label_quota
        if quota is not None:
            self._quota = parse_size(quota, what="quota", bare=True)
        if strict:
            self._strict = True
        if parent is not None:
            self._parent = parent
            if parent._listeners:
                self._listeners = parent._listeners
        self._begin(storage, policy, name, prefix)
        return self

    def _begin(self, storage: TempStorage, policy: CleanupPolicy, name: str | None, prefix: str) -> None:
        if policy.may_keep and Capability.RETAIN not in storage.capabilities:
            raise UnsupportedError(
                f"{policy!r} may keep scopes, and {storage!r} cannot: choose another of the two"
            )
        self._storage = storage
        self._policy = policy
        if prefix is not PREFIX:
            self._prefix = prefix
        if name is not None:
            self._name = name
        self._lock = RLock()
        self._pid = _getpid()
        self._since = _read_clock()
        self._closed = False
        _open_scopes.note(self)

    # -- what it is

    @property
    def name(self) -> str | None:
        """The job's name, as given."""
        return self._name

    @property
    def storage(self) -> TempStorage:
        """Where the files live."""
        return self._storage

    @property
    def policy(self) -> CleanupPolicy:
        """What decides, when the scope closes."""
        return self._policy

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended; None while it runs.  Set before the first exit runs."""
        return self._outcome

    @property
    def closed(self) -> bool:
        """Whether the scope is closed; while its exits run it is not yet."""
        return self._closed

    @property
    def report(self) -> CleanupReport | None:
        """What closing did; None until it is done."""
        if self._empty and self._report is None:
            self._report = CleanupReport(scope=self._shown, outcome=self._outcome)
        return self._report

    # -- exits

    def _push_exit(self, function: Callable[[BaseException | None], Any], *, is_async: bool = False) -> None:
        """Have *function* called with the job's exception when the scope closes."""
        self._push(Leaving(function, is_async=is_async))

    def _push(self, exit_: Exit) -> int:
        with self._lock:
            self._check_usable()
            if self._exits is None:
                self._exits = Exits()
            key = self._exits.push(exit_)
        self._hold_if_alone()
        return key

    # -- children

    @property
    def _root(self) -> Scope:
        manager: Scope = self
        while manager._parent is not None:
            manager = manager._parent
        return manager

    # -- the end

    def close(self, exc: BaseException | None = None) -> CleanupReport:
        """
        Close the scope: run its exits, newest first, then delete or keep its files.

        Closing again is not an error; a second caller returns at once, with the report as far as
        it is known.

        Args:
            exc: What ended the job; None if it ended well.

        Returns:
            What was done.

        Raises:
            ConfigurationError: If *exc* is no exception; the scope is still open then.

            StagedSourceChangedError: If an input that was staged read-only was written to.

            LeftoverError: In strict mode, if something could not be removed.

            Exception: What a callback raised; several errors as :class:`~tempscope.CleanupFailed`.
                With *exc* nothing of this is raised: it stands in notes on *exc*.
        """
        return self._close(outcome_of(exc, retry=self._retry))

    def _close(self, outcome: Outcome) -> CleanupReport:
        if self._takes_end(outcome):
            return Closing(self, outcome).run()
        return self.report or CleanupReport(scope=self._shown, outcome=self._outcome)

    async def aclose(self, exc: BaseException | None = None) -> CleanupReport:
        """Close the scope without blocking the event loop; otherwise as :meth:`close`."""
        return await self._aclose(outcome_of(exc, retry=self._retry))

    async def _aclose(self, outcome: Outcome) -> CleanupReport:
        if self._takes_end(outcome):
            return await Closing(self, outcome).arun()
        return self.report or CleanupReport(scope=self._shown, outcome=self._outcome)

    def _ends_empty(self) -> bool:
        """Close at once a scope in which nothing ever happened; False if this is none."""
        if self._pid != _getpid():
            return False
        with self._lock:
            if self._has_files or self._exits or self._retry or self._outcome or self._closed:
                return False
            if self._listeners:
                # They are to hear of it.
                return False
            self._outcome = OK
            self._closed = self._empty = True
        _open_scopes.forget(self)
        if self._parent is not None:
            self._parent._drop_exit(self._parent_exit)
        return True

    def _drop_exit(self, key: int) -> None:
        if self._exits is not None:
            self._exits.discard(key)

    def _takes_end(self, outcome: Outcome) -> bool:
        """Whether this caller is the one that closes; of several one is, and in a forked child none."""
        if self._pid != _getpid():
            _log.debug("an inherited scope is left to the parent process", scope=self._shown)
            return False
        with self._lock:
            if self._outcome is not None or self._closed:
                return False
            self._outcome = outcome
            return True

    def _pending(self) -> Exits | None:
        """Return the exits while there are any; then None, and the scope is closed."""
        with self._lock:
            if self._exits:
                return self._exits
            self._closed = True
            return None

    def _closed_with(self, report: CleanupReport) -> None:
        self._report = report
        self._scoped = None
        if self._meter is not None:
            self._meter.end()
        _open_scopes.forget(self)
        if self._parent is not None:
            self._parent._drop_exit(self._parent_exit)
        _log.debug("scope closed", scope=self._shown, outcome=report.outcome.kind if report.outcome else None)

    def __enter__(self) -> Self:
        self._check_usable()
        with self._lock:
            if self._entered or self._closed:
                self._refuse_to_enter()
            self._entered = True
        self._variable = _current.enter(self)
        return self

    def _refuse_to_enter(self) -> NoReturn:
        self._check_usable()
        raise ScopeEnteredError(
            f"scope {self._shown!r} was entered before: open another one", scope=self._shown
        )

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        _current.leave(self)
        if exc is not None or not self._ends_empty():
            self._close(outcome_of(exc, retry=self._retry))
        return False

    async def __aenter__(self) -> Self:
        self.__enter__()
        self._async = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        _current.leave(self)
        if exc is not None or not self._ends_empty():
            await self._aclose(outcome_of(exc, retry=self._retry))
        return False

    def _close_at_exit(self) -> None:
        if self._standalone and not self._entered:
            self._close(outcome_of(None, retry=self._retry))
        else:
            self._close_forgotten("the process ended")

    def _close_forgotten(self, how: str) -> None:
        try:
            warnings.warn(f"{self!r} was never closed: {how}", ResourceWarning, source=self, stacklevel=3)
        finally:
            # Where warnings are errors it is closed all the same.
            self._close(Outcome("never_closed", error=how))

    def __del__(self) -> None:
        if self._closed or self._pid != _getpid():
            return
        if self._outcome is None and (self._entered or not self._standalone):
            self._close_forgotten("it was forgotten")
        _open_scopes.forget(self)

    # -- telling

    def _tell(self, kind: EventKind, **fields: Any) -> None:
        """Tell the listeners; where it is on the way of each file, ask first whether there are any."""
        if self._listeners:
            tell(self._listeners, Event(kind=kind, scope=self._shown, label=self._label, **fields))

    # -- behind the calls

    def _check_usable(self) -> None:
        if self._pid != _getpid():
            self._after_fork()
        if self._closed:
            raise ScopeClosedError(f"scope {self._shown!r} is closed", scope=self._shown)

    def _after_fork(self) -> None:
        if not self._standalone or self._entered:
            raise ForkedScopeError(
                f"scope {self._shown!r} belongs to process {self._pid}: open one in this process",
                scope=self._shown,
            )
        with _starting_anew[-1]:
            # One that the parent process closed stays closed.
            if self._pid != _getpid() and not self._closed:
                self._start_anew()

    def _start_anew(self) -> None:
        """Begin again in a forked child: what the parent made and registered stays the parent's own."""
        fresh = type(self).__new__(type(self))
        fresh._standalone = True
        fresh._begin(self._storage, self._policy, self._name, self._prefix)
        # The per-file blocks that the child inherited are not those of this beginning.
        fresh._generation = self._generation + 1
        _open_scopes.forget(fresh)
        # In one step: other threads of the child look at this object without a lock.
        self.__dict__ = dict(fresh.__dict__)
        _open_scopes.note(self)

    def _usable_area(self) -> TempArea:
        self._check_usable()
        area = self._area
        if area is None:
            area = self._open_area()
            self._hold_if_alone()
        if self._meter is not None:
            self._meter.check()
        return area

    def _area_to_empty(self) -> TempArea:
        """Return the area for a call that takes something out of it, or only looks: no quota forbids that."""
        self._check_usable()
        if self._area is None:
            self._open_area()
            self._hold_if_alone()
        assert self._area is not None
        return self._area

    def _open_area(self) -> TempArea:
        with self._lock:
            self._check_usable()
            if self._area is None:
                self._numbers, self._blocks = itertools.count(1), set()
                area = self._storage.open_area(self._record())
                self._measure_if_bounded(area)
                self._area = area
            return self._area

    def _measure_if_bounded(self, area: TempArea) -> None:
        bounded = self._quota is not None or self._label_quota is not None
        if bounded or self._parent is not None or getattr(self._storage, "limit", None) is not None:
            # Who sets no quota does not pay for importing it.
            from tempscope.storages._quota import Meter

            if limits := self._limits():
                self._meter = Meter(area, self._shown, limits)

    def _limits(self) -> list[Limit]:
        """Return what bounds this scope: its own quota, its parents', its label's and the storage's."""
        from tempscope.storages._quota import limit_of_label

        limits: list[Limit] = []
        scope: Scope | None = self
        while scope is not None:
            if scope._quota is not None:
                limits.append(scope._own_limit(scope._quota))
            scope = scope._parent
        if self._label_quota is not None:
            limits.append(limit_of_label(self._storage, self._label, self._label_quota))
        limit: Limit | None = getattr(self._storage, "limit", None)
        return limits if limit is None else [*limits, limit]

    def _own_limit(self, quota: int) -> Limit:
        from tempscope.storages._quota import Limit

        with self._lock:
            if self._limit is None:
                self._limit = Limit(f"scope {self._shown!r}", quota)
            return self._limit

    def _hold_if_alone(self) -> None:
        if self._standalone and not self._entered:
            _open_scopes.hold(self)

    @property
    def _open_paths(self) -> int:
        """How many per-file blocks are entered now."""
        return len(self._blocks)

    @property
    def _has_files(self) -> bool:
        return self._area is not None or self._outside is not None

    @property
    def _identity(self) -> str:
        # One call into C, so that racing threads get the same.
        return self._token or self.__dict__.setdefault("_token", new_token())

    @property
    def _shown(self) -> str:
        return self._name or self._token or "unnamed"

    def _record(self) -> ScopeRecord:
        """Return what is known from the beginning, and what the policy wants if nobody closes the scope."""
        if self._opened_as is None:
            record = ScopeRecord(
                token=self._identity,
                name=self._name,
                label=self._label,
                application=getattr(self._storage, "application", ""),
                parent=None if self._parent is None else self._parent._identity,
                opened=_CLOCK.at(self._since),
            )
            if self._policy.may_keep:
                record = attrs.evolve(record, never_closed=ask(self._policy, self._as_never_closed(record)))
            self._opened_as = record
        return self._opened_as

    def _as_never_closed(self, record: ScopeRecord) -> ScopeRecord:
        return attrs.evolve(record, closed=_CLOCK.now(), outcome=Outcome("never_closed"))

    def _record_at_close(self, outcome: Outcome) -> ScopeRecord:
        return attrs.evolve(self._record(), closed=_CLOCK.now(), outcome=outcome)

    def _record_now(self) -> ScopeRecord:
        area = self._area
        if area is not None:
            try:
                return attrs.evolve(self._record(), usage=area.usage(), directory=area.directory)
            except ScopeClosedError:
                # Closed while we looked.
                pass
        return self._record()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<TempFileManager {self._shown!r} {state} on {self._storage!r}>"

    def __reduce__(self) -> NoReturn:
        raise PickledScopeError(
            f"scope {self._shown!r} cannot be pickled or copied: detach() hands it over to another process",
            scope=self._shown,
        )


def check_storage(value: object) -> TempStorage:
    """
    Return *value* if it is a storage.

    Raises:
        ConfigurationError: If it is a class, or opens no areas.
    """
    if isinstance(value, type):
        raise ConfigurationError(f"storage cannot be the class {value.__name__}: write {value.__name__}()")
    if not hasattr(value, "open_area"):
        raise ConfigurationError(f"storage is {value!r}, which is no storage: it has no open_area()")
    return cast("TempStorage", value)


def _renew_lock() -> None:
    # Another thread of the parent may have held it, and none of those is here to let go.
    _starting_anew[:] = [threading.Lock()]


# A platform without fork has nothing to register.
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_renew_lock)
