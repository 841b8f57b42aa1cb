"""What a pass may cost: budgets, how they are kept, and what dry runs make of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from tempscope import DeleteOnClose, KeepAll, KeepLast, LocalDiskStorage, SizeBudget, TempScopes, sweep
from tempscope.errors import ConfigurationError
from tempscope.janitor import Sweep, SweepBudget
from tempscope.janitor._budget import Spending
from tempscope.model import Entry, Removal
from tempscope.storages import _delete
from tempscope.storages._delete import remove_entry
from tempscope.storages._openat2 import open_directory

from .test_sweep import Asked, Shelf, abandon, leave, names_in, record_of


class Timer:
    """Tells the time that the test says, and moves on when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []
        self.says_stop = False

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        """Let the time pass."""
        self.waited.append(seconds)
        self.now += seconds
        return self.says_stop


@pytest.fixture
def timer() -> Timer:
    """A clock at 0."""
    return Timer()


def spending(timer: Timer, **budget: Any) -> Spending:
    """Return what a pass with *budget* has to spend."""
    return Spending(SweepBudget(**budget), timer=timer, wait=timer.wait)


# -- the value


def test_a_budget_takes_texts_and_numbers() -> None:
    """Durations and sizes are given as texts or, since their names have units, as numbers."""
    written = SweepBudget(entries=5, seconds="1m30s", bytes_per_second="1MiB")
    assert written == SweepBudget(entries=5, seconds=90, bytes_per_second=1 << 20)
    assert written == SweepBudget(entries=5, seconds=timedelta(seconds=90), bytes_per_second="1048576")
    assert repr(written) == "SweepBudget(entries=5, seconds='1m30s', bytes_per_second='1MiB')"
    assert eval(repr(written)) == written
    assert repr(SweepBudget()) == "SweepBudget()"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("entries", value) for value in (0, -1, 1.5, True, "5", float("nan"))),
        *(("seconds", value) for value in (0, -1, float("nan"), float("inf"), True, "soon", "0s", 10**400)),
        *(("bytes_per_second", value) for value in (0, -1, 1.5, True, "fast", "0B")),
    ],
)
def test_a_budget_that_cannot_be(key: str, value: Any) -> None:
    """Nought, negative, infinite and other values are refused, and named."""
    with pytest.raises(ConfigurationError, match=f"^{key} cannot be"):
        SweepBudget(**{key: value})


# -- keeping to it


def test_entries_are_counted(timer: Timer) -> None:
    """A pass is cut short when something is left after its last entry, not by the last entry itself."""
    spent = spending(timer, entries=2)
    for counts in (True, False, True):
        assert spent.goes_on()
        spent.spend(10, counts=counts)
    assert not spent.cut_short
    assert not spent.goes_on()
    assert spent.cut_short


def test_time_is_counted(timer: Timer) -> None:
    """A pass ends when its time is over, in the middle of a long removal if need be."""
    spent = spending(timer, seconds=10)
    assert spent.goes_on()
    timer.now = 9.9
    assert spent.pace(5)
    timer.now = 10.0
    assert not spent.pace(5)
    assert spent.cut_short
    assert not spent.goes_on()


def test_bytes_are_spread_over_time(timer: Timer) -> None:
    """A pass waits as long as freeing so many bytes shall take, and counts each byte once."""
    spent = spending(timer, bytes_per_second=100)
    assert spent.pace(200)
    assert spent.pace(100)
    spent.spend(350, counts=True)
    assert timer.waited == [2.0, 1.0, 0.5]
    timer.now = 100.0
    spent.spend(50, counts=True)
    assert len(timer.waited) == 3


def test_no_pause_goes_beyond_the_time(timer: Timer) -> None:
    """Of a budget of time and bytes, a pause lasts no longer than there is time."""
    spent = spending(timer, seconds=1, bytes_per_second=100)
    spent.spend(1_000_000, counts=True)
    assert timer.waited == [1.0]
    assert not spent.goes_on()


def test_somebody_wants_the_pass_to_end(timer: Timer) -> None:
    """Whoever stops a pass is obeyed between things, between parts, and during a pause."""
    steps: list[Callable[[Spending], bool]] = [lambda spent: spent.goes_on(), lambda spent: spent.pace(0)]
    for step in steps:
        stop = threading.Event()
        spent = Spending(stopping=stop.is_set)
        assert step(spent)
        stop.set()
        assert not step(spent)
        assert spent.cut_short
    timer.says_stop = True
    spent = spending(timer, bytes_per_second=1)
    spent.spend(1, counts=True)
    assert spent.cut_short


def test_a_look_takes_no_time(timer: Timer) -> None:
    """A dry run minds entries alone: it frees nothing, and names what there is time for another day."""
    spent = Spending(
        SweepBudget(entries=1, seconds=1, bytes_per_second=1), only_looks=True, timer=timer, wait=timer.wait
    )
    timer.now = 1_000.0
    assert spent.goes_on()
    spent.spend(1_000, counts=True)
    assert timer.waited == []
    assert not spent.goes_on()


def test_the_plain_wait_waits() -> None:
    """Without anybody who could stop it a pass simply sleeps."""
    spent = Spending(SweepBudget(bytes_per_second=1_000_000))
    spent.spend(1_000, counts=True)
    assert not spent.cut_short


# -- a pass of it


def test_a_pass_ends_with_its_entries() -> None:
    """A pass deals with as many things as it may, says that it was cut short, and the next goes on."""
    shelf = Shelf(*(record_of(letter, "orphaned") for letter in "abcde"))
    report = Sweep(shelf, spending=Spending(SweepBudget(entries=2))).run()
    assert (report.removed, report.cut_short) == (2, True)
    assert [letter for letter, _ in shelf.asked] == ["a", "b"]
    del shelf.records[:2]
    report = Sweep(shelf, spending=Spending(SweepBudget(entries=3))).run()
    assert (report.removed, report.cut_short) == (3, False)


def test_what_fails_costs_nothing() -> None:
    """Things that cannot be removed do not use up the budget of those behind them."""
    shelf = Shelf(*(record_of(letter, "orphaned") for letter in "abc"))
    shelf.answer = lambda record, verdict: (
        Removal(removed=1) if record.token[0] == "c" else Removal(failed=1, entries=(Entry("x", "failed"),))
    )
    report = Sweep(shelf, spending=Spending(SweepBudget(entries=1))).run()
    assert (report.removed, report.failed, report.cut_short) == (1, 2, False)


def test_a_policy_is_not_asked_about_a_part() -> None:
    """A pass that was cut short before all was looked at asks no policy: it would see a part only."""
    shelf = Shelf(record_of("c"), record_of("a", "orphaned"), record_of("b", "orphaned"))
    policy = Asked()
    report = Sweep(shelf, policy, spending=Spending(SweepBudget(entries=1))).run()
    assert (report.removed, report.kept, report.cut_short) == (1, 0, True)
    assert policy.kept == []
    report = Sweep(shelf, DeleteOnClose(), spending=Spending(SweepBudget(entries=3))).run()
    assert (report.removed, report.cut_short) == (3, False)


def test_what_waits_for_the_policy_ends_with_the_budget_too() -> None:
    """Deletions that a policy decided, and trash that waited for it, are put off like others."""
    keep = attrs.evolve(record_of("a", "orphaned"), never_closed=KeepAll().at_close(record_of("a")))
    shelf = Shelf(keep, record_of("t", "trash"), record_of("b"), record_of("c"))
    report = Sweep(shelf, KeepLast(1, per="application"), spending=Spending(SweepBudget(entries=1))).run()
    assert len(shelf.asked) == 1
    assert report.cut_short


@pytest.mark.parametrize("policy", [None, KeepLast(1, per="application"), SizeBudget("6KiB"), KeepAll()])
@pytest.mark.parametrize("entries", [1, 2, 3, 5, 100])
def test_a_dry_run_foretells_a_pass_with_a_budget(tmp_path: Path, policy: Any, entries: int) -> None:
    """With a policy and a budget, too, a dry run and the sweep after it name the same."""
    storage = LocalDiskStorage(tmp_path, application="mine", sweep_on_start=False)
    for number in range(3):
        with TempScopes(storage, KeepAll()).open(f"kept {number}") as scope:
            scope.new_file().write_bytes(b"x" * 4096)
    storage.close()
    leave(tmp_path, "one", "two", policy=KeepAll())
    leave(tmp_path, "three", "four")
    storage = LocalDiskStorage(tmp_path, application="mine")
    budget = SweepBudget(entries=entries, seconds=60, bytes_per_second="1GiB")
    for _ in range(12):
        before = sorted(tmp_path.rglob("*"))
        foretold = sweep(storage, policy=policy, dry_run=True, budget=budget)
        assert sorted(tmp_path.rglob("*")) == before
        done = sweep(storage, policy=policy, budget=budget)
        assert attrs.evolve(foretold, dry_run=False) == done
        if not done.cut_short:
            break
    assert not done.cut_short
    assert not [name for name in names_in(tmp_path) if name[:2] in ("i-", "t-")]


def test_sizes_are_known_before_a_budget_is_asked(tmp_path: Path) -> None:
    """Orphans that want to stay are measured before the policy decides, so that a budget counts them."""
    storage = LocalDiskStorage(tmp_path, application="mine", sweep_on_start=False)
    scopes = TempScopes(storage, SizeBudget("64KiB"))
    for size in (32, 32, 32):
        scope = scopes.open()
        scope.new_file().write_bytes(b"x" * size * 1024)
        scope._closed = True
    abandon(storage)
    report = sweep(LocalDiskStorage(tmp_path, application="mine"), policy=SizeBudget("64KiB"))
    assert (report.removed, report.kept) == (1, 2)


# -- long removals


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have a removal ask after each ten entries."""
    monkeypatch.setattr(_delete, "PART", 10)
    return 10


def tree(path: Path, directories: int, files: int) -> None:
    """Make a tree of so many directories with so many files each."""
    for number in range(directories):
        (path / f"d{number}").mkdir(parents=True)
        for each in range(files):
            (path / f"d{number}" / f"f{each}").write_bytes(b"x")


def remove(path: Path, pace: Any) -> Removal:
    """Remove *path* at a pace."""
    with open_directory(os.fspath(path.parent)) as parent:
        return remove_entry(parent.fd, path.name, pace=pace)


def test_a_removal_asks_after_each_part(tmp_path: Path, parts: int) -> None:
    """A removal that may go on is complete, and has told each byte that it freed before its last part."""
    tree(tmp_path / "tree", 5, 25)
    told: list[int] = []
    removal = remove(tmp_path / "tree", lambda freed: told.append(freed) or True)
    assert (removal.removed, removal.complete) == (131, True)
    assert len(told) >= 12
    assert 0 < sum(told) <= removal.removed_bytes
    assert not (tmp_path / "tree").exists()


def test_a_removal_that_is_told_to_stop(tmp_path: Path, parts: int) -> None:
    """A removal that is to stop does so within a part, says so in one entry, and can be gone on with."""
    tree(tmp_path / "tree", 2, 25)
    answers = iter([True, False])
    removal = remove(tmp_path / "tree", lambda freed: next(answers))
    assert 10 <= removal.removed <= 30
    assert (removal.skipped, removal.failed) == (1, 0)
    assert removal.entries[0].reason == "it was put off; removing again goes on"
    assert remove(tmp_path / "tree", lambda freed: True).complete
    assert not (tmp_path / "tree").exists()


def test_a_huge_scope_is_put_off_in_the_middle(tmp_path: Path, parts: int, timer: Timer) -> None:
    """A kept scope of which a pass removed a part counts as skipped, is trash, and goes next time."""
    storage = LocalDiskStorage(tmp_path, application="mine")
    with TempScopes(storage, KeepAll()).open() as scope:
        tree(scope.directory, 4, 25)
    storage.close()
    answers = iter([False, True])
    spent = Spending(stopping=lambda: next(answers, True))
    report = Sweep(storage, DeleteOnClose(), spending=spent).run()
    assert (report.removed, report.skipped, report.cut_short) == (0, 1, True)
    assert report.removed_bytes > 0
    assert [name[:2] for name in names_in(tmp_path)] == [".t", "t-"]
    assert sweep(storage).removed == 1
    assert names_in(tmp_path) == [".tempscope-root"]


def test_an_owner_whose_scope_is_put_off_stays(tmp_path: Path, parts: int) -> None:
    """A dead owner's directory is not touched while a part of a scope is still in it."""
    storage = LocalDiskStorage(tmp_path, application="mine", sweep_on_start=False)
    scope = TempScopes(storage).open()
    tree(scope.directory, 4, 25)
    scope._closed = True
    abandon(storage)
    answers = iter([False, True])
    report = Sweep(storage, spending=Spending(stopping=lambda: next(answers, True))).run()
    assert (report.removed, report.cut_short) == (0, True)
    assert [name[:2] for name in names_in(tmp_path)] == [".t", "i-"]
    assert sweep(storage).removed == 1


def test_what_cannot_go_out_of_sight_goes_in_one_piece(
    tmp_path: Path, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk refuses the rename into trash a retained scope is removed whole, without a pause."""
    storage = LocalDiskStorage(tmp_path, application="mine")
    with TempScopes(storage, KeepAll()).open() as scope:
        tree(scope.directory, 4, 25)
    storage.close()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "no room")

    monkeypatch.setattr("tempscope.storages._reclaim.os.rename", refuse)
    answers = iter([False, True])
    report = Sweep(storage, DeleteOnClose(), spending=Spending(stopping=lambda: next(answers, True))).run()
    assert (report.removed, report.skipped) == (1, 0)
    assert names_in(tmp_path) == [".tempscope-root"]
