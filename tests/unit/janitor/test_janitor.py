"""The janitor: what it sweeps, when, with which policy, what it survives, and what it tells."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import tempscope
from tempscope import (
    DeleteOnClose,
    ExpireAfter,
    Janitor,
    KeepAll,
    KeepLast,
    KeepOnFailure,
    LocalDiskStorage,
    MemoryStorage,
    TempScopes,
    pressure,
)
from tempscope._clock import SystemClock
from tempscope.errors import ConfigurationError
from tempscope.janitor import JanitorStatus, SweepBudget, _janitor
from tempscope.model import Event, Removal, ScopeRecord, Verdict
from tempscope.testing import FakeClock

from .test_sweep import Asked, Raising, Shelf, leave, names_in, record_of


NEVER = "30d"
SOON = timedelta(milliseconds=1)


class Passes:
    """Tells how many passes a janitor has made, and waits for the next ones."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.more = threading.Semaphore(0)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if event.kind == "swept":
            self.more.release()

    def wait(self, number: int = 1) -> None:
        """Return when so many more passes are made."""
        for _ in range(number):
            assert self.more.acquire(timeout=30)

    def forget(self) -> None:
        """Count none of the passes that were made until now."""
        while self.more.acquire(blocking=False):
            pass


@pytest.fixture
def passes() -> Passes:
    """A listener that counts."""
    return Passes()


@pytest.fixture
def started() -> Iterator[Callable[[Janitor], Janitor]]:
    """Start janitors, which are stopped when the test ends."""
    made: list[Janitor] = []

    def start(janitor: Janitor) -> Janitor:
        made.append(janitor)
        janitor.start()
        return janitor

    yield start
    for janitor in made:
        janitor.stop()


# -- what it is made of


def test_making_one_does_nothing(tmp_path: Path) -> None:
    """A new janitor touches nothing and runs nothing."""
    threads = threading.active_count()
    janitor = Janitor(tmp_path / "base")
    assert not (tmp_path / "base").exists()
    assert threading.active_count() == threads
    assert janitor.status() == JanitorStatus()
    assert "not running" in repr(janitor)


@pytest.mark.parametrize("given", [None, [None], 3, [], [3], LocalDiskStorage, [MemoryStorage], object(), {}])
def test_what_cannot_be_swept(given: Any) -> None:
    """Storages are storages, base directories, functions, or several of them; a class is none."""
    with pytest.raises(ConfigurationError, match=r"^storages cannot be"):
        Janitor(given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"interval": value}, "interval cannot be") for value in ("0s", "-1h", "soon", 5, None, True)),
        *(({"interval": timedelta(seconds=value)}, "interval cannot be") for value in (0, -1)),
        *(({"jitter": value}, "jitter cannot be") for value in (-0.1, 1.1, float("nan"), "some", True)),
        *(({"policy": value}, "policy cannot be") for value in (3, KeepAll, object())),
        *(({"budget": value}, "give a SweepBudget") for value in (3, {}, {"entries": 3}, SweepBudget)),
        *(({"listeners": value}, "listener") for value in (3, print, [3], [Passes])),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """What cannot be is refused when the janitor is made, not in its thread."""
    with pytest.raises(ConfigurationError, match=words):
        Janitor(MemoryStorage(), **options)


def test_an_injection_marker_is_noticed() -> None:
    """A marker that an unwired function received in place of a storage is refused."""
    from dependency_injector.wiring import Provide

    with pytest.raises(ConfigurationError):
        Janitor(Provide["storage"])


# -- one pass


def test_a_pass_sweeps_all_its_storages(tmp_path: Path) -> None:
    """A pass goes over every storage, base directory and function, and reports on them together."""
    for name in ("one", "two", "three"):
        leave(tmp_path / name, "left")
    janitor = Janitor(
        [LocalDiskStorage(tmp_path / "one"), tmp_path / "two", lambda: tmp_path / "three", lambda: None]
    )
    foretold = janitor.sweep(dry_run=True)
    assert (foretold.removed, foretold.dry_run, janitor.status().passes) == (3, True, 0)
    report = janitor.sweep()
    assert (report.removed, report.failed) == (3, 0)
    assert attrs.evolve(foretold, dry_run=False) == report
    assert all(names_in(tmp_path / name) == [".tempscope-root"] for name in ("one", "two", "three"))


def test_storages_are_asked_for_at_each_pass(tmp_path: Path) -> None:
    """A function is called anew for each pass, so that what it gives may change."""
    leave(tmp_path / "one", "left")
    leave(tmp_path / "two", "left")
    places = iter([tmp_path / "one", LocalDiskStorage(tmp_path / "two")])
    janitor = Janitor(lambda: next(places))
    assert [janitor.sweep().removed, janitor.sweep().removed] == [1, 1]
    report = janitor.sweep()
    assert (report.removed, report.failed) == (0, 1)
    assert "StopIteration" in report.entries[0].reason


def test_the_policy_decides_about_its_own(tmp_path: Path) -> None:
    """A policy, or what a function returns as one, decides about the storage's own application's scopes."""
    leave(tmp_path, "a", "b", "c", application="mine", policy=KeepAll())
    leave(tmp_path, "d", "e", application="theirs", policy=KeepAll())
    storage = LocalDiskStorage(tmp_path, application="mine")
    policies = iter([KeepLast(2), KeepLast(1)])
    janitor = Janitor(storage, lambda: next(policies))
    assert [janitor.sweep().removed, janitor.sweep().removed] == [1, 1]
    assert Janitor(storage, KeepLast(1)).sweep().kept == 3


@pytest.mark.parametrize("policy", [None, DeleteOnClose(), lambda: None, DeleteOnClose])
def test_a_policy_that_keeps_nothing_does_not_delete_evidence(tmp_path: Path, policy: Any) -> None:
    """With a policy that never keeps, what others kept goes by its own record, as without a policy."""
    leave(tmp_path, "kept", application="mine", policy=KeepAll())
    policy = policy if policy is not DeleteOnClose else DeleteOnClose().__class__()
    janitor = Janitor(LocalDiskStorage(tmp_path, application="mine"), policy)
    for _ in range(2):
        report = janitor.sweep()
        assert (report.removed, report.kept) == (0, 1)


def test_a_pass_minds_its_budget(tmp_path: Path) -> None:
    """A budget holds for all storages of a pass together; the next pass goes on."""
    leave(tmp_path / "one", "a", "b")
    leave(tmp_path / "two", "c", "d")
    janitor = Janitor([tmp_path / "one", tmp_path / "two"], budget=SweepBudget(entries=3))
    first, second = janitor.sweep(), janitor.sweep()
    assert [(report.removed, report.cut_short) for report in (first, second)] == [(3, True), (1, False)]


def test_passes_never_overlap() -> None:
    """A pass that is asked for while one goes on waits for it."""
    inside, most, go = [], [], threading.Event()

    class Slow(Shelf):
        def areas(self) -> Any:
            inside.append(1)
            most.append(len(inside))
            go.wait(0.05)
            inside.pop()
            return iter(())

    janitor = Janitor(Slow())
    threads = [threading.Thread(target=janitor.sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert janitor.status().passes == 4


# -- what it survives


def test_a_failing_policy(passes: Passes, caplog: pytest.LogCaptureFixture) -> None:
    """Row 86: what a failing policy should have decided is kept, the rest goes, and listeners hear of it."""
    shelf = Shelf(record_of("a"), record_of("b", "orphaned"))
    janitor = Janitor(shelf, Raising(), listeners=[passes])
    report = janitor.sweep()
    assert (report.removed, report.kept, report.failed) == (1, 1, 1)
    assert [event.kind for event in passes.events] == ["swept", "failed"]
    assert passes.events[1].removal == report
    assert janitor.status().failures == 1


def test_no_policy_to_be_had(caplog: pytest.LogCaptureFixture) -> None:
    """If the function that gives the policy fails, the records decide alone, and that is told."""
    shelf = Shelf(record_of("a"), record_of("b", "orphaned"))

    def broken() -> Any:
        raise ZeroDivisionError("by nought")

    for policy, words in ((broken, "by nought"), (lambda: 3, "policy cannot be 3")):
        report = Janitor(shelf, policy).sweep()
        assert (report.removed, report.kept, report.failed) == (1, 1, 1)
        assert words in report.entries[0].reason
    assert "a janitor got no policy" in caplog.text


class Wild(Asked):
    """A policy that answers anything but what it was asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def select(self, kept: Any, now: Any) -> Any:
        """Answer."""
        return self.answer


@pytest.mark.parametrize(
    "answer", [[None], [Verdict(False, token="somebody else's")], [], None, [Verdict(False)] * 2, 3]
)
def test_a_policy_that_answers_nonsense(answer: Any) -> None:
    """Verdicts of the wrong shape, number or about what was not offered delete nothing."""
    shelf = Shelf(record_of("a"))
    report = Janitor(shelf, Wild(answer)).sweep()
    assert (report.removed, report.kept, report.failed) == (0, 1, 1)
    assert shelf.asked == []


def test_a_failing_storage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A storage that fails stands in the report, by name; those behind it are swept."""

    class Broken(Shelf):
        def areas(self) -> Any:
            raise ZeroDivisionError("by nought")

        def __repr__(self) -> str:
            return "Broken()"

    leave(tmp_path, "left")
    (tmp_path / "file").touch()
    report = Janitor([Broken(), lambda: 3, tmp_path / "file", tmp_path]).sweep()
    assert (report.removed, report.failed) == (1, 3)
    assert report.entries[1].path == "Broken()"
    assert "ZeroDivisionError: by nought" in report.entries[1].reason
    assert "a janitor needs a storage" in report.entries[0].reason
    assert caplog.text.count("a janitor could not sweep a storage") == 3


def test_a_storage_that_fails_at_one_thing() -> None:
    """Whatever reclaiming one thing raises, the next is dealt with."""
    shelf = Shelf(record_of("a", "orphaned"), record_of("b", "orphaned"))

    def answer(record: ScopeRecord, verdict: Verdict) -> Removal:
        return Removal(removed=1 // (record.token[0] == "b"))

    shelf.answer = answer
    report = Janitor(shelf).sweep()
    assert (report.removed, report.failed) == (1, 1)


def test_a_storage_that_vanishes(tmp_path: Path) -> None:
    """A base directory that is gone has nothing to sweep, and is not made; when it is back it is swept."""
    leave(tmp_path / "base", "left")
    janitor = Janitor(tmp_path / "base")
    (tmp_path / "base").rename(tmp_path / "away")
    report = janitor.sweep()
    assert (report.removed, report.failed) == (0, 0)
    assert not (tmp_path / "base").exists()
    (tmp_path / "away").rename(tmp_path / "base")
    assert janitor.sweep().removed == 1


def test_a_retained_directory_deleted_by_hand(tmp_path: Path) -> None:
    """Evidence that somebody deleted by hand is simply gone: no pass fails, no count remembers it."""
    leave(tmp_path, "a", "b", application="mine", policy=KeepAll())
    storage = LocalDiskStorage(tmp_path, application="mine")
    janitor = Janitor(storage, KeepLast(2))
    assert janitor.sweep().kept == 2
    kept = [record for record in storage.areas() if record.state == "retained"]
    assert kept[0].directory is not None
    for path in (*kept[0].directory.iterdir(), kept[0].directory):
        path.rmdir() if path.is_dir() else path.unlink()
    report = janitor.sweep()
    assert (report.kept, report.failed, report.skipped) == (1, 0, 0)


def test_a_retained_directory_deleted_by_hand_meanwhile(tmp_path: Path) -> None:
    """Evidence that goes by other hands between the decision and the deed counts for nothing."""
    leave(tmp_path, "a", application="mine", policy=KeepAll())
    storage = LocalDiskStorage(tmp_path, application="mine")
    tempscope.sweep(storage)

    class Deleting(Asked):
        def select(self, kept: Any, now: Any) -> list[Verdict]:
            """Delete by hand first."""
            for record in kept:
                for path in (*record.directory.iterdir(), record.directory):
                    path.rmdir() if path.is_dir() else path.unlink()
            return [Verdict(False, "gone") for _ in kept]

    report = Janitor(storage, Deleting()).sweep()
    assert (report.removed, report.failed, report.skipped) == (0, 0, 0)


def test_clocks_that_jump() -> None:
    """Row 82: a clock set forward makes nothing old, set back it postpones; across boots wall time counts."""
    day = 86_400.0
    clock = FakeClock()
    shelf = Shelf(
        record_of("a", opened=clock.now(), closed=clock.now(), verdict=Verdict(True, for_seconds=day))
    )
    janitor = Janitor(shelf, clock=clock)
    for jump in (30 * day, -60 * day, 400 * day):
        clock.step_wall(jump)
        assert (janitor.sweep().removed, janitor.status().seconds) == (0, 0.0)
    clock.step_wall(-370 * day)
    clock.advance(day - 1)
    assert janitor.sweep().removed == 0
    clock.advance(1)
    assert janitor.sweep().removed == 1
    shelf.records = [record_of("b", closed=clock.now(), verdict=Verdict(True, for_seconds=day))]
    clock.reboot(day - 1)
    assert janitor.sweep().removed == 0
    clock.step_wall(1)
    assert janitor.sweep().removed == 1


@pytest.mark.parametrize("wall", [-(2.0**31), 0.0, 15_000_000_000.0])
def test_the_times_of_files_mean_nothing(tmp_path: Path, wall: float) -> None:
    """Rows 84, 88: however old or new its files say they are, a scope's age is its record's."""
    leave(tmp_path, "kept", application="mine", policy=ExpireAfter("1h"))
    storage = LocalDiskStorage(tmp_path, application="mine")
    janitor = Janitor(storage, ExpireAfter("1h"))
    assert janitor.sweep().kept == 1
    for path in tmp_path.rglob("*"):
        os.utime(path, (wall, wall))
    assert (janitor.sweep().kept, janitor.sweep().removed) == (1, 0)
    clock = FakeClock(wall=SystemClock().now().wall + 3_600.0)
    assert Janitor(storage, ExpireAfter("1h"), clock=clock).sweep().removed == 1


# -- by itself


def test_it_sweeps_at_the_start_and_then_on(
    tmp_path: Path, passes: Passes, started: Callable[[Janitor], Janitor]
) -> None:
    """A started janitor makes a pass at once, and then one after each interval, until it is stopped."""
    leave(tmp_path, "left")
    janitor = started(Janitor(tmp_path, interval=SOON, listeners=[passes]))
    passes.wait()
    assert names_in(tmp_path) == [".tempscope-root"]
    leave(tmp_path, "left later")
    passes.forget()
    # The first of them may have begun before.
    passes.wait(2)
    assert names_in(tmp_path) == [".tempscope-root"]
    assert janitor.status().running
    janitor.stop()
    done = janitor.status()
    assert not done.running
    assert (done.removed, done.next_in) == (2, None)
    assert done.passes == len([event for event in passes.events if event.kind == "swept"])
    assert "tempscope-janitor" not in {thread.name for thread in threading.enumerate()}


def test_starting_and_stopping_twice(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """Starting what runs and stopping what does not are no errors; what was stopped can be started again."""
    janitor = Janitor(MemoryStorage(), interval=NEVER, listeners=[passes])
    janitor.stop()
    started(janitor)
    janitor.start()
    passes.wait()
    assert threading.active_count() == len(threading.enumerate())
    assert [thread.name for thread in threading.enumerate()].count("tempscope-janitor") == 1
    janitor.stop()
    janitor.stop()
    janitor.start()
    passes.wait()
    assert janitor.status().passes == 2


def test_when_the_next_pass_comes(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """The wait is the interval, more or less by the jitter; the status tells what is left of it."""
    for number, wait in ((0.0, 90.0), (0.5, 100.0), (1.0, 110.0)):
        janitor = Janitor(
            MemoryStorage(), interval="100s", random=lambda number=number: number, listeners=[passes]
        )
        assert janitor._wait() == pytest.approx(wait)
    started(janitor)
    passes.wait()
    while (left := janitor.status().next_in) is None:
        threading.Event().wait(0.001)
    assert 100 < left <= 110


def test_a_broken_source_of_chance(caplog: pytest.LogCaptureFixture) -> None:
    """A janitor whose jitter fails goes on by the plain interval."""
    assert Janitor(MemoryStorage(), interval="100s", random=lambda: 1 / 0)._wait() == 100.0
    assert "goes on without jitter" in caplog.text


def test_one_pass_only(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """With the interval "off" there is a pass at the start, and no other by itself."""
    janitor = started(Janitor(MemoryStorage(), interval="off", listeners=[passes]))
    passes.wait()
    while janitor.status().running:
        threading.Event().wait(0.001)
    assert janitor.status().next_in is None
    janitor.start()
    passes.wait()


def test_a_slow_pass_does_not_pile_up(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """Row 87: a pass that takes longer than the interval is followed by one pass, not by those it missed."""
    going, go_on = threading.Semaphore(0), threading.Event()

    class Slow(Shelf):
        def areas(self) -> Any:
            going.release()
            assert go_on.wait(30)
            return iter(())

    janitor = started(Janitor(Slow(), interval=SOON, listeners=[passes]))
    assert going.acquire(timeout=30)
    assert janitor.status().sweeping
    # Many intervals long, nothing else begins.
    assert not going.acquire(timeout=0.05)
    janitor.stop(0.001)
    go_on.set()
    janitor.stop()
    assert len(passes.events) == 1


def test_the_loop_lives(passes: Passes, started: Callable[[Janitor], Janitor], caplog: Any) -> None:
    """Row 86: whatever a pass raises, a listener, a policy, a clock, the next one comes."""
    times = iter([ZeroDivisionError, SystemExit])

    class Clock(FakeClock):
        def now(self) -> Any:
            for error in times:
                raise error("broken")
            return super().now()

    def broken(event: Event) -> None:
        raise ZeroDivisionError("by nought")

    started(
        Janitor(Shelf(record_of("a")), Raising(), interval=SOON, listeners=[broken, passes], clock=Clock())
    )
    passes.wait(3)
    assert caplog.text.count("a janitor's pass was given up") == 2
    assert "a listener failed" in caplog.text


@pytest.mark.parametrize("seconds", ["1ms", timedelta(milliseconds=1), 0.001, "0", 0])
def test_how_long_stopping_waits(started: Callable[[Janitor], Janitor], seconds: Any) -> None:
    """The wait for the pass at hand is a number of seconds, text, or a timedelta."""
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Shelf):
        def areas(self) -> Any:
            reached.set()
            assert go_on.wait(30)
            return iter(())

    janitor = started(Janitor(Slow(), interval=NEVER))
    assert reached.wait(30)
    janitor.stop(seconds)
    assert janitor.status().sweeping
    assert not janitor.status().running
    go_on.set()


@pytest.mark.parametrize("seconds", [-1, "soon", True, float("inf"), object()])
def test_what_is_no_wait_for_stopping(started: Callable[[Janitor], Janitor], seconds: Any) -> None:
    """What is no duration is refused, and the janitor goes on."""
    janitor = started(Janitor(MemoryStorage(), interval=NEVER))
    with pytest.raises(ConfigurationError, match="seconds cannot be"):
        janitor.stop(seconds)
    assert janitor.status().running


def test_stopping_cuts_a_pass_short(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """A pass that is going on when its janitor is stopped ends after the thing at hand."""
    reached, go_on = threading.Event(), threading.Event()
    shelf = Shelf(*(record_of(letter, "orphaned") for letter in "abc"))

    def answer(record: ScopeRecord, verdict: Verdict) -> Removal:
        reached.set()
        assert go_on.wait(30)
        return Removal(removed=1)

    shelf.answer = answer
    janitor = started(Janitor(shelf, interval=NEVER, listeners=[passes]))
    assert reached.wait(30)
    janitor.stop(0)
    go_on.set()
    janitor.stop()
    report = janitor.status().last_report
    assert report is not None
    assert (report.removed, report.cut_short) == (1, True)


def test_stopping_ends_a_pause(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """A pass that pauses for its rate of bytes ends at once when its janitor is stopped."""
    shelf, reached = Shelf(record_of("a", "orphaned"), record_of("b", "orphaned")), threading.Event()
    shelf.answer = lambda record, verdict: reached.set() or Removal(removed=1, removed_bytes=1_000_000)  # type: ignore[func-returns-value]
    janitor = started(Janitor(shelf, budget=SweepBudget(bytes_per_second=1), listeners=[passes]))
    assert reached.wait(30)
    janitor.stop()
    assert janitor.status().removed == 1


def test_a_janitor_stops_itself(started: Callable[[Janitor], Janitor]) -> None:
    """A listener may stop the janitor that called it."""
    done = threading.Event()

    def stop(event: Event) -> None:
        janitor.stop()
        done.set()

    janitor = Janitor(MemoryStorage(), interval=SOON, listeners=[stop])
    started(janitor)
    assert done.wait(30)
    janitor.stop()
    assert janitor.status().passes == 1


def test_a_listener_may_use_the_janitor() -> None:
    """A listener may ask the janitor that called it for its status, and for a pass."""
    told: list[JanitorStatus] = []

    def ask(event: Event) -> None:
        told.append(janitor.status())
        if len(told) == 1:
            janitor.sweep()

    janitor = Janitor(MemoryStorage(), listeners=[ask])
    janitor.sweep()
    assert [(status.passes, status.sweeping) for status in told] == [(1, False), (2, False)]


class Asking(Asked):
    """A policy that does something with the janitor that asks it."""

    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__()
        self.ask = ask

    def select(self, kept: Any, now: Any) -> list[Verdict]:
        """Do it, and let everything go."""
        self.ask()
        return [Verdict(False, "it may go") for _ in kept]


def test_a_policy_cannot_have_another_pass(caplog: pytest.LogCaptureFixture) -> None:
    """A policy that asks its janitor for a pass inside the pass gets an error, is told, and keeps all."""
    janitor = Janitor(Shelf(record_of("a")), Asking(lambda: janitor.sweep(dry_run=True)))
    for _ in range(2):
        report = janitor.sweep()
        assert (report.removed, report.kept, report.failed) == (0, 1, 1)
        assert "RuntimeError: a pass cannot be made inside another one" in report.entries[0].reason
    assert janitor.status().passes == 2


def test_a_policy_may_use_the_janitor() -> None:
    """A policy may ask for the status, and stop a janitor whose own thread waits for this very pass."""
    told: list[JanitorStatus] = []

    def ask() -> None:
        if not told:
            janitor.start()
            told.append(janitor.status())
            janitor.stop()
            told.append(janitor.status())

    janitor = Janitor(Shelf(record_of("a")), Asking(ask), interval=NEVER)
    assert janitor.sweep().removed == 1
    assert [(status.running, status.sweeping) for status in told] == [(True, True), (False, True)]
    janitor.stop()


@pytest.mark.parametrize("chance", [0.5, float("inf")])
def test_an_interval_longer_than_a_thread_can_wait(
    passes: Passes, started: Callable[[Janitor], Janitor], chance: float
) -> None:
    """Of an interval of centuries, or a jitter without bounds, a janitor waits as long as can be waited."""
    janitor = Janitor(
        MemoryStorage(), interval=timedelta(days=146_000), random=lambda: chance, listeners=[passes]
    )
    assert janitor._wait() == threading.TIMEOUT_MAX
    started(janitor)
    passes.wait()
    while (thread := janitor._here().thread) is None or (thread.is_alive() and not janitor._here().due):
        threading.Event().wait(0.001)
    assert janitor.status().running


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, starting raises, and the janitor is as it was."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    janitor = Janitor(MemoryStorage())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            janitor.start()
    assert not janitor.status().running
    with janitor:
        assert janitor.status().running


def test_as_a_block(passes: Passes) -> None:
    """A janitor runs as long as its ``with`` block, however that ends."""
    janitor = Janitor(MemoryStorage(), interval=NEVER, listeners=[passes])
    with pytest.raises(ZeroDivisionError), janitor as inside:
        assert inside is janitor
        passes.wait()
        assert "running" in repr(janitor)
        raise ZeroDivisionError
    assert not janitor.status().running


def test_the_end_of_the_process_waits_a_little(passes: Passes, started: Callable[[Janitor], Janitor]) -> None:
    """At exit running janitors are stopped, so that none is in the middle of something."""
    janitor = started(Janitor(MemoryStorage(), interval=NEVER, listeners=[passes]))
    passes.wait()
    _janitor._stop_all()
    assert not janitor.status().running


def test_a_process_ends_under_a_janitor(program: Callable[..., Any]) -> None:
    """A program that ends while its janitor sweeps in a tight loop ends well and silently."""
    done = program(
        """
        from datetime import timedelta
        from tempscope import Janitor, LocalDiskStorage, TempScopes
        storage = LocalDiskStorage(base)
        janitor = Janitor(storage, interval=timedelta(milliseconds=1), jitter=0)
        janitor.start()
        with TempScopes(storage).open() as scope:
            scope.new_file()
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- forks


def in_child(job: Callable[[], bool]) -> bool:
    """Run *job* in a forked child; return what it returned."""
    pid = os.fork()
    if not pid:
        answer = 2
        try:
            answer = int(not job())
        finally:
            os._exit(answer)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_takes_no_janitor_along(
    tmp_path: Path, passes: Passes, started: Callable[[Janitor], Janitor]
) -> None:
    """In a forked child a janitor stands still, also one that was in a pass; started there, it works."""
    inside, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow(Shelf):
        def areas(self) -> Any:
            if os.getpid() == parent:
                inside.set()
                assert go_on.wait(30)
            return iter(())

    janitor = started(Janitor([Slow(), tmp_path], interval=NEVER))
    assert inside.wait(30)

    def job() -> bool:
        fresh = janitor.status() == JanitorStatus()
        leave(tmp_path, "left")
        swept = janitor.sweep().removed == 1
        janitor.stop()
        leave(tmp_path, "left again")
        janitor.start()
        running = janitor.status().running
        while janitor.status().passes < 2:
            threading.Event().wait(0.001)
        janitor.stop()
        return fresh and swept and running and names_in(tmp_path) == [".tempscope-root"]

    try:
        assert in_child(job)
    finally:
        go_on.set()
    assert janitor.status().running
    janitor.stop()
    assert janitor.status().passes == 1


# -- on an event loop


async def _serve_on_asyncio(janitor: Janitor, passes: Passes, *, cancels: int) -> None:
    task = asyncio.create_task(janitor.serve())
    await asyncio.to_thread(passes.wait, 2)
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not janitor.status().running


@pytest.mark.parametrize("cancels", [1, 2, 3])
def test_serving_on_asyncio(passes: Passes, cancels: int) -> None:
    """A task that serves makes passes until it is cancelled, once or more; then none is going on."""
    janitor = Janitor(MemoryStorage(), interval=SOON, listeners=[passes])
    asyncio.run(_serve_on_asyncio(janitor, passes, cancels=cancels))


def test_serving_on_trio(passes: Passes) -> None:
    """The same under trio."""
    janitor = Janitor(MemoryStorage(), interval=SOON, listeners=[passes])

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(janitor.serve)
            await trio.to_thread.run_sync(passes.wait, 2)
            nursery.cancel_scope.cancel()
        assert not janitor.status().running

    trio.run(main)


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)])
def test_the_async_twins(tmp_path: Path, passes: Passes, run: Any) -> None:
    """A pass, a block and a stop do not hold up the event loop they are awaited on."""
    leave(tmp_path, "left")
    janitor = Janitor(tmp_path, interval=NEVER, listeners=[passes])

    async def main() -> None:
        assert (await janitor.asweep(dry_run=True)).removed == 1
        assert (await janitor.asweep()).removed == 1
        async with janitor as inside:
            assert inside is janitor
            assert janitor.status().running
        assert not janitor.status().running
        await janitor.astop()

    run(main())


# -- what it tells


def test_what_the_status_tells(tmp_path: Path) -> None:
    """The status adds up what the passes of this process did, and has the last one's report."""
    clock = FakeClock()
    janitor = Janitor(LocalDiskStorage(tmp_path, application="mine"), KeepOnFailure(), clock=clock)
    leave(tmp_path, "a", "b", application="mine")
    first = janitor.sweep()
    clock.advance(60)
    second = janitor.sweep()
    status = janitor.status()
    assert (status.passes, status.removed, status.removed_bytes) == (2, 2, first.removed_bytes)
    assert first.removed_bytes > 0
    assert (status.last, status.last_report) == (clock.now(), second)
    told = status.to_dict()
    assert told["last_report"]["entries"] == []
    assert told["running"] is False


# -- quotas and pressure


def test_a_pass_looks_after_quotas(tmp_path: Path) -> None:
    """A pass, but no dry one, notices that a scope which makes no calls is over its quota."""
    told: list[str] = []
    with (
        LocalDiskStorage(tmp_path) as storage,
        TempScopes(storage).open("too much", quota="64KiB") as manager,
    ):
        manager.register_quota_callback(lambda: told.append("too much"))
        manager.new_file().write_bytes(bytes(1 << 20))
        janitor = Janitor(storage)
        janitor.sweep(dry_run=True)
        assert told == []
        janitor.sweep()
        assert told == ["too much"]


def test_a_quota_callback_may_use_the_janitor(tmp_path: Path) -> None:
    """What is called for an exceeded quota may ask the janitor that noticed for its status, and a pass."""
    told: list[JanitorStatus] = []
    with (
        LocalDiskStorage(tmp_path) as storage,
        TempScopes(storage).open("too much", quota="64KiB") as manager,
    ):
        manager.new_file().write_bytes(bytes(1 << 20))
        janitor = Janitor(storage)
        manager.register_quota_callback(lambda: told.append(janitor.status()))
        manager.register_quota_callback(janitor.sweep)
        janitor.sweep()
    assert [(status.passes, status.sweeping) for status in told] == [(1, False)]
    assert janitor.status().passes == 2


@pytest.mark.parametrize("short", [True, False])
def test_memory_pressure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    """When memory is short, and only then, RAM disks are swept first, and memory spills."""
    asked: list[str] = []

    class Noted(LocalDiskStorage):
        def sweeping(self) -> Any:
            asked.append("RAM disk" if self.base_dir == Path("/dev/shm") else "disk")
            return super().sweeping()

    monkeypatch.setattr(_janitor, "is_memory_pressure", lambda: short)
    monkeypatch.setattr(pressure, "is_memory_pressure", lambda: short)
    with (
        LocalDiskStorage(tmp_path) as disk,
        MemoryStorage(spill_to=disk) as memory,
        TempScopes(memory).open() as manager,
    ):
        path = manager.new_file()
        path.write_bytes(bytes(1 << 20))
        Janitor([Noted(tmp_path / "other"), Noted("/dev/shm"), memory]).sweep()
        assert asked == (["RAM disk", "disk"] if short else ["disk", "RAM disk"])
        assert len(list(tmp_path.rglob(path.name))) == short
