"""
Sweeping again and again: :class:`Janitor`.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import attrs

from tempscope import _log, _shield
from tempscope._clock import SystemClock
from tempscope._markers import refuse_marker
from tempscope._names import escape
from tempscope.errors import ConfigurationError
from tempscope.janitor._budget import Spending, SweepBudget, check_budget
from tempscope.janitor._place import is_place, storage_at, takes_memory
from tempscope.janitor._sweep import Sweep
from tempscope.listeners import check_listeners, tell
from tempscope.model import Entry, Event, JanitorStatus, Removal, SweepReport
from tempscope.policies import check_policy
from tempscope.pressure import is_memory_pressure, relieve_memory
from tempscope.protocols import CleanupPolicy, Clock, Listener, TempStorage
from tempscope.storages import check_quotas
from tempscope.units import check_fraction, parse_duration


if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Janitor"]

Source: TypeAlias = TempStorage | str | os.PathLike[str] | Callable[[], Any]
"""A storage, a base directory, or something that returns one when it is called."""

PolicySource: TypeAlias = CleanupPolicy | Callable[[], Any] | None

_OFF = "off"
_EXIT_SECONDS = 2.0
_running: weakref.WeakSet[Janitor] = weakref.WeakSet()


@attrs.define(eq=False)
class _Here:
    """What a janitor has, and has done, in one process."""

    pid: int = attrs.field(factory=os.getpid)
    passing: threading.Lock = attrs.field(factory=threading.Lock)
    changing: threading.RLock = attrs.field(factory=threading.RLock)
    stop: threading.Event = attrs.field(factory=threading.Event)
    thread: threading.Thread | None = None
    sweeper: int | None = None
    due: float | None = None
    status: JanitorStatus = attrs.field(factory=JanitorStatus)

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive() and not self.stop.is_set()

    @property
    def in_pass(self) -> bool:
        """Whether this thread is in the middle of a pass: who calls is something that the pass called."""
        return self.sweeper == threading.get_ident()


class Janitor:
    """
    Sweeps storages again and again, from :meth:`start` to :meth:`stop`.

    Lives as long as the application, usually as a container's singleton; shared by all threads.
    Constructing one does nothing.
    Any number may run at once, in any number of processes, on the same storages; passes of one janitor
    never overlap.
    A fork takes no threads along: in the child a janitor stands still until it is started there.

    Each pass also measures the scopes of this process that a quota bounds, and tells whoever wants to
    know that one is exceeded.
    When memory is running short it begins with RAM disks, and moves to disk what is in memory, as far
    as the storages can.

    What fails in a pass, a storage, a policy, a listener, is logged and stands in the report; the rest
    of the pass is done, and the next one comes.
    It is not the only one that cleans up: each process sweeps when it starts, and what a pass does not
    get to, any other does.

    Args:
        storages: What to sweep: a storage, the base directory of one, something that returns either
            when it is called (it is called anew for each pass, so an override is seen), or several of
            these.

        policy: Decides about the retained scopes of the storages' own application, or something that
            returns such a policy, called anew for each pass.  With None, or a policy that never keeps
            anything, retained scopes go by what their own records say: that nothing is to be kept *from
            now on* says nothing about what was kept on purpose before.

        interval: How long to wait between the end of a pass and the next one: text such as ``"30m"`` or
            a timedelta; ``"off"`` for only one pass when started.

        jitter: By which part of the interval the wait varies at random in either direction, so that
            many janitors do not all come at once; from 0 to 1.

        budget: What one pass may cost; None for whatever it takes.

        listeners: Are told of each pass (``"swept"``), and of one that failed in something
            (``"failed"``).

        clock: Tells the age of things.

        random: Returns a number from 0 to 1, for the jitter.

    Raises:
        ConfigurationError: If an argument cannot be what it should.
    """

    def __init__(
        self,
        storages: Source | Iterable[Source],
        policy: PolicySource = None,
        *,
        interval: timedelta | str = "30m",
        jitter: float = 0.1,
        budget: SweepBudget | None = None,
        listeners: Iterable[Listener] = (),
        clock: Clock | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        refuse_marker(storages, "storages")
        self._storages = _check_storages(storages)
        self._policy = _check_policy(policy)
        self._interval = None if interval == _OFF else parse_duration(interval, what="interval")
        self._jitter = check_fraction(jitter, what="jitter")
        self._budget = check_budget(budget)
        self._listeners = check_listeners(listeners)
        self._clock = clock or SystemClock()
        self._random = random
        self._in: dict[int, _Here] = {}

    def sweep(self, *, dry_run: bool = False) -> SweepReport:
        """
        Make one pass now, in this thread; one that is going on is waited for.

        Args:
            dry_run: Whether only to tell what would be done; such a pass is not counted, and listeners
                do not hear of it.

        Returns:
            What was done in all storages together, and what failed.

        Raises:
            RuntimeError: If something that a pass of this janitor calls, such as its policy, asks for
                another one.
        """
        return self._pass(self._here(), dry_run=dry_run)

    async def asweep(self, *, dry_run: bool = False) -> SweepReport:
        """Make one pass in a worker thread; otherwise as :meth:`sweep`."""
        return await _shield.complete(partial(self.sweep, dry_run=dry_run))

    def start(self) -> None:
        """
        Make a pass now, and then one every interval, in a daemon thread.

        Starting what runs is not an error.

        Raises:
            RuntimeError: If the system gives no thread.
        """
        here = self._here()
        with here.changing:
            if here.running:
                return
            # The one before may still be at the end of its pass; it keeps its own event.
            here.stop = threading.Event()
            thread = threading.Thread(
                target=self._work, args=(here, here.stop), name="tempscope-janitor", daemon=True
            )
            thread.start()
            here.thread = thread
        _running.add(self)

    def stop(self, seconds: timedelta | str | float | None = None) -> None:
        """
        Make no more passes by itself; one that is going on ends after the thing at hand.

        Stopping what does not run is not an error; it can be started again.
        Something that a pass calls, such as the policy, does not wait for that end.

        Args:
            seconds: How long to wait for that end: a number, text such as ``"3s"``, or a timedelta;
                None for as long as it takes.

        Raises:
            ConfigurationError: If *seconds* is no duration; nothing is stopped then.
        """
        wait = None if seconds is None else parse_duration(seconds, what="seconds", bare="s", minimum=0)
        here = self._here()
        with here.changing:
            here.stop.set()
            thread = here.thread
        # What waits for this thread cannot be waited for in it.
        if thread is not None and thread is not threading.current_thread() and not here.in_pass:
            thread.join(wait)

    async def astop(self) -> None:
        """Stop without blocking the event loop; otherwise as :meth:`stop`."""
        await _shield.complete(self.stop)

    async def serve(self) -> None:
        """
        Run until the task that awaits this is cancelled: the janitor's life as that task's.

        The passes are made in the janitor's own thread, so the event loop is never held up; when the
        task is cancelled the pass at hand ends as by :meth:`stop`.
        """
        self.start()
        try:
            await _shield.sleep_forever()
        finally:
            await self.astop()

    def status(self) -> JanitorStatus:
        """Tell what it is doing in this process, and has done."""
        here = self._here()
        due = here.due
        return attrs.evolve(
            here.status,
            running=here.running,
            sweeping=here.passing.locked(),
            next_in=max(0.0, due - time.monotonic()) if here.running and due is not None else None,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.astop()

    def __repr__(self) -> str:
        return f"<Janitor {'running' if self._here().running else 'not running'} on {self._storages!r}>"

    # -- the loop

    def _here(self) -> _Here:
        """Return what there is in this process; threads and locks of the one it was forked from are not."""
        # One call into C, so that racing threads get the same.
        return self._in.get(os.getpid()) or self._in.setdefault(os.getpid(), _Here())

    def _work(self, here: _Here, stop: threading.Event) -> None:
        while True:
            try:
                self._pass(here, stop=stop)
            except BaseException as error:
                # Nobody is there to catch it, and the next pass may go well.
                _log.warn("a janitor's pass was given up", error=type(error).__name__)
            if self._interval is None:
                stop.set()
            wait = self._wait()
            here.due = time.monotonic() + wait
            if stop.wait(wait):
                return

    def _wait(self) -> float:
        interval = self._interval or 0.0
        try:
            interval = max(0.0, interval * (1.0 + self._jitter * (2.0 * self._random() - 1.0)))
        except Exception as error:
            _log.warn("a janitor goes on without jitter", error=type(error).__name__)
        # More, about 292 years, is an error to those who wait.
        return min(interval, threading.TIMEOUT_MAX)

    # -- one pass

    def _pass(
        self, here: _Here, *, dry_run: bool = False, stop: threading.Event | None = None
    ) -> SweepReport:
        report = self._alone(here, dry_run, stop)
        # Not under the lock: who is called may want to ask for something.
        if not dry_run:
            check_quotas()
        if self._listeners and not dry_run:
            tell(self._listeners, Event(kind="swept", removal=report))
            if report.failed:
                tell(self._listeners, Event(kind="failed", removal=report))
        return report

    def _alone(self, here: _Here, dry_run: bool, stop: threading.Event | None) -> SweepReport:
        if here.in_pass:
            raise RuntimeError(
                "a pass cannot be made inside another one of the same janitor: ask for it in a listener, "
                "which is told when the pass is over"
            )
        with here.passing:
            try:
                here.sweeper = threading.get_ident()
                return self._sweep_all(here, dry_run, stop)
            finally:
                here.sweeper = None

    def _sweep_all(self, here: _Here, dry_run: bool, stop: threading.Event | None) -> SweepReport:
        begun = self._clock.now()
        spending = Spending(self._budget, only_looks=dry_run)
        if stop is not None:
            spending.stopping, spending.wait = stop.is_set, stop.wait
        policy, report = self._policy_now()
        storages, failed = self._storages_now()
        report = _together(report, failed)
        if is_memory_pressure():
            storages.sort(key=takes_memory, reverse=True)
        for storage in storages:
            report = _together(report, self._sweep_one(storage, policy, spending))
        if not dry_run:
            relieve_memory(storages)
        report = attrs.evolve(
            report,
            dry_run=dry_run,
            cut_short=spending.cut_short,
            seconds=self._clock.now().seconds_since(begun),
        )
        if not dry_run:
            before = here.status
            here.status = attrs.evolve(
                before,
                passes=before.passes + 1,
                failures=before.failures + bool(report.failed),
                removed=before.removed + report.removed,
                removed_bytes=before.removed_bytes + report.removed_bytes,
                seconds=before.seconds + report.seconds,
                last=begun,
                last_report=report,
            )
        return report

    def _policy_now(self) -> tuple[CleanupPolicy | None, SweepReport]:
        """Return the policy of this pass, and what failed on the way to it: then the records decide alone."""
        try:
            policy: Any = self._policy
            if _is_source(policy):
                policy = policy()
            if policy is None or not check_policy(policy).may_keep:
                return None, SweepReport()
            return policy, SweepReport()
        except Exception as error:
            _log.warn("a janitor got no policy", error=type(error).__name__)
            return None, _failed(self._policy, f"there is no policy: {_words(error)}")

    def _storages_now(self) -> tuple[list[TempStorage], SweepReport]:
        """Return the storages of this pass, and what failed on the way to them."""
        found: list[TempStorage] = []
        report = SweepReport()
        for source in self._storages:
            try:
                place: Any = source
                found.append(storage_at(place() if _is_source(place) else place, "a janitor"))
            except Exception as error:
                report = _together(report, _not_swept(source, error))
        return found, report

    def _sweep_one(
        self, storage: TempStorage, policy: CleanupPolicy | None, spending: Spending
    ) -> SweepReport:
        try:
            dry_run = spending.only_looks
            return Sweep(storage, policy, dry_run=dry_run, clock=self._clock, spending=spending).run()
        except Exception as error:
            return _not_swept(storage, error)


def _together(one: SweepReport, other: SweepReport) -> SweepReport:
    both = Removal.__add__(one, other)
    return SweepReport(**attrs.asdict(both, recurse=False), live=one.live + other.live)


def _not_swept(what: object, error: Exception) -> SweepReport:
    _log.warn("a janitor could not sweep a storage", error=type(error).__name__)
    return _failed(what, f"it could not be swept: {_words(error)}", getattr(error, "errno", None))


def _failed(what: object, reason: str, code: int | None = None) -> SweepReport:
    return SweepReport(failed=1, entries=(Entry(escape(repr(what)), "failed", reason, code),))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _is_source(given: object) -> bool:
    """Return whether *given* is to be called; a storage or policy that happens to be callable is not."""
    return (
        callable(given) and not isinstance(given, type) and not (is_place(given) or hasattr(given, "select"))
    )


def _names_storage(given: object) -> bool:
    # A sweep takes None for the usual place; what runs for ever does not take it by mistake.
    return given is not None and (is_place(given) or _is_source(given))


def _check_storages(given: Any) -> tuple[Source, ...]:
    if _names_storage(given):
        return (given,)
    several = tuple(given) if isinstance(given, Iterable) else ()
    if not several or not all(map(_names_storage, several)):
        raise ConfigurationError(
            f"storages cannot be {given!r}: give a storage, a base directory, something that returns one, "
            "or several of these"
        )
    return several


def _check_policy(given: PolicySource) -> PolicySource:
    return given if given is None or _is_source(given) else check_policy(given)


def _stop_all() -> None:
    """Stop the janitors of this process when it ends: they are not to hold up its last breath."""
    for janitor in list(_running):
        janitor.stop(_EXIT_SECONDS)


atexit.register(_stop_all)
