"""A month of a busy service in seconds: what a janitor keeps to, whatever happens, at every step."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tempscope import _scope
from tempscope.janitor import Janitor, stats
from tempscope.manager import TempFileManager
from tempscope.model import Instant, ScopeRecord
from tempscope.policies import ExpireAfter, KeepLast, KeepOnFailure, SizeBudget, in_order, keep_if_any
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage
from tempscope.storages._registry import _registry
from tempscope.testing import FakeClock


HOUR, DAY = 3_600.0, 86_400.0
AT_MOST, FOR_DAYS, UP_TO = 10, 7, 256 * 1024
BUDGET = 512 * 1024
POLICIES = {
    "failures": KeepOnFailure(at_most=AT_MOST, for_=f"{FOR_DAYS}d", up_to="256KiB"),
    "newest": in_order(keep_if_any(KeepLast(5), ExpireAfter("6h")), SizeBudget("512KiB")),
}


class ScopesClock:
    """Gives scopes the time of a :class:`FakeClock`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def now(self) -> Instant:
        return self.clock.now()

    def read(self) -> Instant:
        return self.clock.now()

    def at(self, reading: Instant) -> Instant:
        return reading


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The time that scopes, and the janitor, go by."""
    clock = FakeClock()
    fake = ScopesClock(clock)
    monkeypatch.setattr(_scope, "_CLOCK", fake)
    monkeypatch.setattr(_scope, "_read_clock", fake.read)
    return clock


class JobFailed(Exception):
    """What a job of this test fails with."""


@attrs.define
class Process:
    """One process of the service, as far as files know: a storage of its own, with a lease of its own."""

    base: Path
    application: str
    storage: LocalDiskStorage = attrs.field(init=False)
    open: dict[str, tuple[TempFileManager, Path]] = attrs.Factory(dict)

    def __attrs_post_init__(self) -> None:
        self.storage = LocalDiskStorage(self.base, application=self.application, sweep_on_start=False)

    def begin(self, name: str, size: int) -> None:
        """Begin a job of so many bytes."""
        scope = TempScopes(self.storage, POLICIES[self.application], label="cut").open(name)
        path = scope.new_file()
        path.write_bytes(b"x" * size)
        self.open[name] = scope, path

    def end(self, name: str, *, fails: bool) -> None:
        """End a job, well or not."""
        scope, _ = self.open.pop(name)
        scope.close(JobFailed(name) if fails else None)

    def die(self) -> list[str]:
        """Die with all that is open, as by SIGKILL; returns the names of what was."""
        instance = self.storage._used
        if instance is not None:
            _registry.instances.pop(instance.root.identity)
            instance.let_go()
        names = list(self.open)
        for scope, _ in self.open.values():
            scope._closed = True
        self.open.clear()
        self.storage._used = None
        self.storage._areas.clear()
        self.__attrs_post_init__()
        return names


@attrs.define
class Month:
    """The service, its processes and their janitor, an hour at a time."""

    base: Path
    clock: FakeClock
    chance: random.Random
    seen: Counter[str] = attrs.Factory(Counter)
    processes: dict[str, Process] = attrs.field(init=False)
    janitors: dict[str, Janitor] = attrs.field(init=False)
    number: int = 0

    def __attrs_post_init__(self) -> None:
        # Two in one interpreter: each has a lease of its own only under a root of its own.
        self.processes = {name: Process(self.base / name, name) for name in POLICIES}
        self.janitors = {
            name: Janitor(lambda name=name: self.processes[name].storage, policy, clock=self.clock)
            for name, policy in POLICIES.items()
        }

    def hour(self, jobs: int) -> None:
        """Let an hour pass: jobs begin and end, processes die, clocks jump; then the janitors come."""
        for process in self.processes.values():
            for _ in range(jobs):
                self.clock.advance(HOUR / jobs / len(self.processes))
                self.number += 1
                process.begin(f"job {self.number}", self.chance.choice([100, 5_000, 40_000]))
                if len(process.open) > 5:
                    name = self.chance.choice(list(process.open))
                    fails = self.chance.random() < 0.3
                    process.end(name, fails=fails)
                    self.seen["failed" if fails else "ended"] += 1
            if self.chance.random() < 0.05:
                self.seen["crashed"] += len(process.die())
        self.jump()
        for name in POLICIES:
            self.sweep(name)

    def jump(self) -> None:
        """Have somebody set the clock, or start the machine again, once in a while."""
        what = self.chance.random()
        if what < 0.02:
            self.clock.step_wall(self.chance.choice([-2, 3, 48]) * HOUR)
            self.seen["stepped"] += 1
        elif what < 0.03:
            for process in self.processes.values():
                process.die()
            self.clock.reboot(600.0)
            self.seen["rebooted"] += 1

    def sweep(self, name: str) -> None:
        """Have a janitor make its pass, and look whether everything is as it must be."""
        process, janitor = self.processes[name], self.janitors[name]
        before = {record.token: record for record in retained(process)}
        orphans = [record for record in process.storage.areas() if record.state == "orphaned"]
        foretold = janitor.sweep(dry_run=True)
        report = janitor.sweep()
        assert attrs.evolve(foretold, dry_run=False) == report
        assert (report.failed, report.skipped, report.cut_short) == (0, 0, False)
        self.seen["removed"] += report.removed
        self.check_live(process)
        after = retained(process)
        told = stats(process.storage)
        assert (told.live, told.orphaned, told.trash) == (len(process.open), 0, 0)
        assert told.retained == len(after)
        for record in after:
            check_whole(record)
        if name == "failures":
            self.check_failures(before, orphans, after)
        else:
            assert sum(size(record) for record in after) <= BUDGET

    def check_live(self, process: Process) -> None:
        """A live scope's file is there, as it was written."""
        for scope, path in process.open.values():
            assert path.stat().st_size in (100, 5_000, 40_000), scope

    def check_failures(
        self, before: dict[str, ScopeRecord], orphans: list[ScopeRecord], after: list[ScopeRecord]
    ) -> None:
        """Of the failures none is too old, too many or too big together, and the newest are those kept."""
        now = self.clock.now()
        assert len(after) <= AT_MOST
        assert sum(size(record) for record in after) <= UP_TO
        assert all(record.age(now) < FOR_DAYS * DAY for record in after)
        assert all(record.outcome and record.outcome.kind in ("failed", "never_closed") for record in after)
        # Whoever was closed after one that stays, in the same boot, and fits beside it, stays too.
        kept = {record.token for record in after}
        closed = [record for record in before.values() if record.token not in kept]
        oldest = min((boot_time(record, now) for record in after), default=now.boot)
        room = UP_TO - sum(size(record) for record in after)
        for record in closed:
            newer = boot_time(record, now) > oldest
            assert not newer or size(record) > room or record.age(now) >= FOR_DAYS * DAY, record
        self.seen["evidence"] += len(orphans)


def boot_time(record: ScopeRecord, now: Instant) -> float:
    """Return when *record* was closed, on the boot clock of *now*, as its policy orders it."""
    then = record.closed or record.opened
    return then.boot if then.boot_id == now.boot_id else now.boot - (now.wall - then.wall)


def size(record: ScopeRecord) -> int:
    """Return how much *record* occupies."""
    assert record.usage is not None
    return record.usage.bytes


def retained(process: Process) -> list[ScopeRecord]:
    """Return what is kept of *process*'s application."""
    return [record for record in process.storage.areas() if record.state == "retained"]


def check_whole(record: ScopeRecord) -> None:
    """A kept scope has its record and its one file, whole."""
    assert record.directory is not None
    names = sorted(os.listdir(record.directory))
    assert len(names) == 2
    assert (record.directory / names[1]).stat().st_size in (100, 5_000, 40_000)


@pytest.fixture
def month(tmp_path: Path, clock: FakeClock) -> Iterator[Month]:
    """The service at the beginning of the month."""
    month = Month(tmp_path, clock, random.Random(6))
    yield month
    for process in month.processes.values():
        process.die()


@pytest.mark.timeout(600)
def test_a_month(month: Month, full: bool, recwarn: Any) -> None:
    """Whatever happens in a month, after each pass budgets are kept, the live untouched, the newest there."""
    # Each hour of the month, or each fourth.
    for _ in range(30 * 24 if full else 30 * 6):
        month.hour(6)
        if not full:
            month.clock.advance(3 * HOUR)
    for what in ("ended", "failed", "crashed", "stepped", "rebooted", "removed", "evidence"):
        assert month.seen[what], month.seen
    assert month.number >= 2_000
    status = month.janitors["failures"].status()
    assert status.passes == (720 if full else 180)
    assert status.failures == 0
