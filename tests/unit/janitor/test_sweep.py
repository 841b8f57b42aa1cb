"""Sweeping: what it removes, keeps and leaves, whom it asks, and what it tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

import tempscope
from tempscope.errors import BaseDirectoryError, ConfigurationError, StorageError, UnsupportedError
from tempscope.janitor import Sweep, sweep
from tempscope.model import Entry, Instant, Outcome, Removal, ScopeRecord, SweepReport, Usage, Verdict
from tempscope.policies import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.storages import LocalDiskStorage, MemoryStorage, _scan
from tempscope.storages._journal import JournalContent
from tempscope.storages._registry import _registry


KEEP = Verdict(True, "its owner wanted it")
NOW = Instant(1_000_000.0, 5_000.0, "this boot")


@attrs.define
class StoppedClock:
    """Always tells the same time."""

    time: Instant = NOW

    def now(self) -> Instant:
        """Return it."""
        return self.time


def token(letter: str) -> str:
    """Return a token of one letter."""
    return letter * 26


def record_of(letter: str, state: Any = "retained", **fields: Any) -> ScopeRecord:
    """Return the record of a scope."""
    return ScopeRecord(**{"token": token(letter), "opened": NOW, "state": state, **fields})


class Shelf:
    """A storage of records alone, that does what it is asked and remembers it; not more than the protocol."""

    capabilities = frozenset[tempscope.Capability]()

    def __init__(self, *records: ScopeRecord, application: str | None = None) -> None:
        self.records = list(records)
        self.asked: list[tuple[str, Verdict]] = []
        self.answer: Callable[[ScopeRecord, Verdict], Removal] = lambda record, verdict: (
            Removal(kept=1) if verdict.keep else Removal(removed=7, removed_bytes=100)
        )
        if application is not None:
            self.application = application

    def open_area(self, record: ScopeRecord) -> Any:
        """Not needed here."""
        raise AssertionError("a sweep opens no area")

    def areas(self) -> Iterable[ScopeRecord]:
        """Tell the records."""
        return iter(self.records)

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        """Remember what was asked."""
        self.asked.append((record.token[0], verdict))
        return self.answer(record, verdict)

    def close(self) -> None:
        """Nothing to close."""


def keeps(report: SweepReport) -> list[str]:
    """Return the reasons why things were kept."""
    return [entry.reason for entry in report.entries if entry.kind == "kept"]


def run(shelf: Shelf, policy: Any = None, **options: Any) -> SweepReport:
    """Sweep at a known time."""
    return Sweep(shelf, policy, clock=StoppedClock(), **options).run()


# -- by records alone


def test_an_orphan_goes_as_its_record_says() -> None:
    """A dead owner's scope is deleted unless its record wants it kept; counts are of scopes, not of files."""
    shelf = Shelf(record_of("a", "orphaned"), record_of("b", "orphaned", never_closed=KEEP))
    report = run(shelf)
    assert shelf.asked == [("a", Verdict(False, "its owner wanted nothing kept")), ("b", KEEP)]
    assert (report.removed, report.removed_bytes, report.kept) == (1, 100, 1)
    assert [(entry.path, entry.kind, entry.bytes) for entry in report.entries] == [
        (token("a"), "removed", 100)
    ]
    assert not report.dry_run


def test_an_orphan_is_closed_when_it_is_found() -> None:
    """What was never closed counts as closed when it is found, with that outcome."""
    shelf, found = Shelf(record_of("a", "orphaned", never_closed=KEEP)), []
    shelf.answer = lambda record, verdict: found.append(record) or Removal(kept=1)  # type: ignore[func-returns-value]
    run(shelf)
    assert found[0].closed == NOW
    assert found[0].outcome == Outcome("never_closed")
    assert found[0].verdict == KEEP


def test_an_orphan_whose_time_is_over_goes() -> None:
    """What was to be kept until a time that has passed when it is found is not kept first."""
    late = Verdict(True, "until then", until=NOW.wall - 1)
    shelf = Shelf(record_of("a", "orphaned", never_closed=late))
    assert run(shelf).removed == 1
    assert shelf.asked[0][1] == Verdict(False, "it was never closed, and its time has passed")


def test_trash_and_what_stands_alone() -> None:
    """Trash goes, what was given up stays, and what waits to be taken over stays until its time is over."""
    minute_ago = Instant(NOW.wall - 60, NOW.boot - 60, "this boot")
    shelf = Shelf(
        record_of("a", "trash"),
        record_of("b", "given_up"),
        record_of("c", "handed_over", closed=minute_ago, verdict=Verdict(True, for_seconds=61)),
        record_of("d", "handed_over", closed=minute_ago, verdict=Verdict(True, for_seconds=60)),
        record_of(
            "e", "handed_over", closed=minute_ago, verdict=Verdict(True, for_seconds=60), never_closed=KEEP
        ),
        record_of("f", "live"),
    )
    report = run(shelf)
    assert [(letter, verdict.keep) for letter, verdict in shelf.asked] == [
        ("a", False),
        ("d", False),
        ("e", True),
    ]
    assert report.live == 1
    assert keeps(report) == [
        "it was given up by keep(), so it is nobody's to remove",
        "it waits to be taken over",
    ]


@pytest.mark.parametrize(
    ("verdict", "goes"),
    [
        (Verdict(True, "for ever"), False),
        (None, False),
        (Verdict(True, until=NOW.wall + 1), False),
        (Verdict(True, until=NOW.wall), True),
        (Verdict(True, for_seconds=61), False),
        (Verdict(True, for_seconds=60), True),
    ],
)
def test_what_was_kept_goes_when_its_time_has_passed(verdict: Verdict | None, goes: bool) -> None:
    """Without a policy a retained scope goes when its recorded time has passed, and not before."""
    closed = Instant(NOW.wall - 60, NOW.boot - 60, "this boot")
    shelf = Shelf(record_of("a", closed=closed, verdict=verdict))
    report = run(shelf)
    assert (report.removed, report.kept) == (goes, not goes)
    assert [verdict.reason for _, verdict in shelf.asked] == ["its time has passed"] * goes


def test_a_clock_that_was_set_forward_makes_nothing_old() -> None:
    """Row 82: within one boot the slower of both clocks tells a scope's age; across boots wall time."""
    closed = Instant(NOW.wall - 30 * 86_400, NOW.boot - 60, "this boot")
    kept = record_of("a", closed=closed, verdict=Verdict(True, for_seconds=3_600))
    assert run(Shelf(kept)).kept == 1
    assert run(Shelf(attrs.evolve(kept, closed=attrs.evolve(closed, boot_id="another")))).removed == 1


# -- with a policy


class Asked:
    """A policy that deletes what it is told to, and remembers what it was asked about."""

    may_keep = True

    def __init__(self, *delete: str) -> None:
        self.delete = delete
        self.kept: list[str] = []
        self.times: list[Instant] = []

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Not needed here."""
        raise AssertionError("a sweep asks select()")

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Decide."""
        self.kept += [record.token[0] for record in kept]
        self.times.append(now)
        return [
            Verdict(record.token[0] not in self.delete, f"policy on {record.token[0]}") for record in kept
        ]


def test_a_policy_is_asked_only_about_its_own() -> None:
    """A policy decides about its own application's retained scopes; others go by their records."""
    old = Verdict(True, until=NOW.wall - 1)
    shelf = Shelf(
        record_of("a", application="mine"),
        record_of("b", application="mine", verdict=old),
        record_of("c", application="mine"),
        record_of("d", application="theirs"),
        record_of("e", application="theirs", verdict=old),
        record_of("f", application=""),
        application="mine",
    )
    policy = Asked("c")
    report = run(shelf, policy)
    assert policy.kept == ["a", "b", "c"]
    assert policy.times == [NOW]
    assert [(letter, verdict.reason) for letter, verdict in shelf.asked] == [
        ("c", "policy on c"),
        ("e", "its time has passed"),
    ]
    assert keeps(report) == [
        "policy on a",
        "policy on b",
        "its record says no more",
        "its record says no more",
    ]


def test_a_policy_is_asked_about_orphans_that_want_to_stay() -> None:
    """Orphans that their records want kept count with the retained ones, and trash that holds them waits."""
    shelf = Shelf(
        record_of("a", "orphaned", never_closed=KEEP, application="mine"),
        record_of("b", "orphaned", never_closed=KEEP, application="mine"),
        record_of("c", "orphaned", never_closed=KEEP, application="theirs"),
        record_of("t", "trash"),
        record_of("u", "trash"),
        record_of("d", application="mine"),
        application="mine",
    )
    policy = Asked("b", "d")
    run(shelf, policy)
    assert policy.kept == ["a", "b", "d"]
    assert [(letter, verdict.keep) for letter, verdict in shelf.asked] == [
        ("c", True),
        ("u", False),
        ("a", True),
        ("b", False),
        ("d", False),
        ("t", False),
    ]
    assert shelf.asked[2][1] == KEEP


def test_a_storage_without_an_application() -> None:
    """On a storage that knows no applications all retained scopes are the policy's."""
    policy = Asked()
    run(Shelf(record_of("a", application="whose")), policy)
    assert policy.kept == ["a"]


class Raising(Asked):
    """A policy that fails."""

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Fail."""
        raise ZeroDivisionError("by nought")


class Short(Asked):
    """A policy that gives too few verdicts."""

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Give none."""
        return []


@pytest.mark.parametrize(
    ("policy", "words"), [(Raising(), "ZeroDivisionError: by nought"), (Short(), "gave 0 verdicts about 1")]
)
def test_a_policy_that_fails(policy: Any, words: str, caplog: pytest.LogCaptureFixture) -> None:
    """Row 86: what a failing policy should have decided is kept; that is told, and the rest goes on."""
    shelf = Shelf(record_of("a"), record_of("b", "orphaned"))
    shelf.records[0] = attrs.evolve(shelf.records[0], verdict=Verdict(True, until=0.0))
    report = run(shelf, policy)
    assert (report.failed, report.kept, report.removed) == (1, 1, 1)
    assert words in report.entries[1].reason
    assert "a sweep could not remove all that should go" in caplog.text


# -- what comes of it


def test_a_refusal_is_told_and_the_rest_goes() -> None:
    """P4: an error about one thing stands in the report, with its number, and the sweep goes on."""
    shelf = Shelf(record_of("a", "orphaned"), record_of("b", "orphaned"), record_of("c", "orphaned"))

    def answer(record: ScopeRecord, verdict: Verdict) -> Removal:
        if record.token[0] == "a":
            raise StorageError("no", errno=5)
        if record.token[0] == "b":
            raise UnsupportedError("never")
        return Removal(removed=1)

    shelf.answer = answer
    report = run(shelf)
    assert (report.removed, report.failed) == (1, 2)
    assert [(entry.kind, entry.reason, entry.errno) for entry in report.entries] == [
        ("failed", "no", 5),
        ("failed", "never", None),
        ("removed", "its owner wanted nothing kept", None),
    ]


def test_half_a_removal_is_no_removed_scope() -> None:
    """A scope of which something stays counts as failed or skipped, not as removed."""
    shelf = Shelf(record_of("a", "orphaned"))
    shelf.answer = lambda record, verdict: Removal(removed=5, removed_bytes=50, failed=1)
    report = run(shelf)
    assert (report.removed, report.removed_bytes, report.failed) == (0, 50, 1)


def test_what_went_with_a_scope_is_counted_too() -> None:
    """Things that the storage names, such as registered outside paths, count beside the scope itself."""
    shelf, path = Shelf(record_of("a", "orphaned"), record_of("b", "trash")), Entry("/p", "removed", bytes=5)
    shelf.answer = lambda record, verdict: (
        Removal(removed=4, removed_bytes=15, entries=(path,))
        if record.token[0] == "a"
        else Removal(removed=1, removed_bytes=5, skipped=1, entries=(path,))
    )
    report = run(shelf)
    assert (report.removed, report.removed_bytes, report.skipped) == (3, 20, 1)
    assert [(entry.path, entry.bytes) for entry in report.entries] == [("/p", 5), (token("a"), 10), ("/p", 5)]


def test_what_others_did_meanwhile_is_nothing() -> None:
    """Row 40: what is gone by the time we act counts for nothing."""
    shelf = Shelf(record_of("a", "orphaned"))
    shelf.answer = lambda record, verdict: Removal()
    assert run(shelf) == SweepReport()


def test_only_looking() -> None:
    """A dry run of a plain storage asks it nothing, and tells what it would ask."""
    shelf = Shelf(
        record_of("a", "orphaned", usage=Usage(files=1, bytes=10, freeable_bytes=5)),
        record_of("b", "orphaned", never_closed=KEEP),
        record_of("c", "trash"),
    )
    report = run(shelf, dry_run=True)
    assert shelf.asked == []
    assert (report.removed, report.removed_bytes, report.kept) == (2, 5, 1)
    assert report.dry_run
    assert [entry.kind for entry in report.entries] == ["removed", "kept", "removed"]


def test_how_long_it_took() -> None:
    """The report tells how long the sweep took, by the clock that it was given."""

    class Ticking(StoppedClock):
        def now(self) -> Instant:
            self.time = attrs.evolve(self.time, wall=self.time.wall + 2, boot=self.time.boot + 2)
            return self.time

    assert Sweep(Shelf(), clock=Ticking()).run().seconds == 2


# -- on a disk


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base directory."""
    return tmp_path / "base"


def abandon(storage: LocalDiskStorage) -> None:
    """Leave behind what *storage* has open, as a process does that dies."""
    instance = storage._used
    assert instance is not None
    _registry.instances.pop(instance.root.identity)
    instance.let_go()
    storage._used = None
    storage._areas.clear()


def leave(base: Path, *names: str, application: str = "mine", policy: Any = None) -> None:
    """Leave scopes of a dead process behind."""
    storage = LocalDiskStorage(base, application=application, sweep_on_start=False)
    for name in names:
        scope = tempscope.TempScopes(storage, policy or DeleteOnClose()).open(name)
        scope.new_file().write_bytes(b"content")
        # It must not close when it is collected.
        scope._closed = True
    abandon(storage)


def names_in(base: Path) -> list[str]:
    """Return what is in the root."""
    return sorted(os.listdir(base / f"tempscope-{os.geteuid()}"))


def test_a_base_directory(base: Path) -> None:
    """A sweep takes a base directory, as text or path, or a storage; sweeping again finds nothing to do."""
    for given in (base, str(base), LocalDiskStorage(base)):
        leave(base, "one", "two")
        report = sweep(given)
        assert (report.removed, report.failed, report.skipped, report.live) == (2, 0, 0, 0)
        assert sweep(given).entries == ()
        assert names_in(base) == [".tempscope-root"]


def test_the_environments_base_directory(own_base_dir: Path) -> None:
    """Given None, a sweep takes the base directory that the environment names."""
    leave(own_base_dir, "one")
    assert sweep(None).removed == 1


def test_nothing_to_sweep(base: Path) -> None:
    """A base directory without a root, or none at all, has nothing to sweep, and none is made."""
    assert sweep(base) == SweepReport()
    assert not base.exists()


def test_only_a_broken_root_raises(base: Path) -> None:
    """A root that cannot be ours is an error before anything is touched."""
    base.mkdir()
    (base / f"tempscope-{os.geteuid()}").mkdir(mode=0o755)
    with pytest.raises(BaseDirectoryError, match="open to others"):
        sweep(base)


@pytest.mark.parametrize("given", [3, object(), ["/tmp"]])
def test_what_is_no_storage(given: Any) -> None:
    """What is no storage and no base directory is refused, as is a policy or a budget that is none."""
    with pytest.raises(ConfigurationError, match="a storage or a base directory"):
        sweep(given)
    with pytest.raises(ConfigurationError, match="a policy such as"):
        sweep(MemoryStorage(), policy=given)
    with pytest.raises(ConfigurationError, match=r"budget cannot be .*give a SweepBudget"):
        sweep(MemoryStorage(), budget=given)


def test_memory_has_nothing_to_sweep() -> None:
    """On a storage that keeps nothing beyond a process, a sweep counts the living scopes."""
    with MemoryStorage() as storage, tempscope.TempScopes(storage).open() as scope:
        scope.new_file()
        report = sweep(storage)
        assert (report.removed, report.live) == (0, 1)


def test_two_applications_on_one_root(base: Path) -> None:
    """Trap: two applications with different policies on one root never lose each other's evidence."""
    leave(base, "mine 1", "mine 2", application="mine", policy=KeepAll())
    leave(base, "theirs 1", "theirs 2", application="theirs", policy=KeepAll())
    strict = sweep(LocalDiskStorage(base, application="mine"), policy=DeleteOnClose())
    assert (strict.removed, strict.kept) == (2, 2)
    kept = [record.name for record in LocalDiskStorage(base).areas()]
    assert sorted(filter(None, kept)) == ["theirs 1", "theirs 2"]
    assert sweep(LocalDiskStorage(base, application="theirs"), policy=KeepAll()).kept == 2


def test_a_base_directory_goes_by_this_program(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a base directory, a policy is asked about the running program's scopes."""
    monkeypatch.setattr("sys.argv", ["/srv/worker.py"])
    leave(base, "mine", application="worker.py", policy=KeepAll())
    leave(base, "theirs", application="other.py", policy=KeepAll())
    assert sweep(base).kept == 2
    report = sweep(base, policy=DeleteOnClose())
    assert (report.removed, report.kept) == (1, 1)


def test_one_sweep_is_enough(base: Path) -> None:
    """P3: one sweep with a policy settles orphans that want to stay, their instance, and older evidence."""
    leave(base, "old", policy=KeepOnFailure())
    assert sweep(LocalDiskStorage(base, application="mine")).kept == 1
    leave(base, "new 1", "new 2", policy=KeepOnFailure())
    report = sweep(LocalDiskStorage(base, application="mine"), policy=KeepOnFailure(at_most=2))
    assert (report.removed, report.kept, report.failed, report.skipped) == (1, 2, 0, 0)
    assert [name[:2] for name in names_in(base)] == [".t", "k-", "k-"]
    assert sweep(LocalDiskStorage(base, application="mine"), policy=KeepOnFailure(at_most=2)).removed == 0


@pytest.mark.parametrize("policy", [None, DeleteOnClose(), KeepAll(), KeepOnFailure(at_most=1)])
def test_a_dry_run_tells_what_a_real_one_does(base: Path, policy: Any) -> None:
    """Row 109: a dry run lists exactly what a real run then acts on, and changes nothing."""
    leave(base, "one", "two", policy=KeepOnFailure())
    sweep(LocalDiskStorage(base, application="mine"))
    leave(base, "three", policy=KeepOnFailure())
    leave(base, "four")
    storage = LocalDiskStorage(base, application="mine")
    before = sorted(base.rglob("*"))
    foretold = sweep(storage, policy=policy, dry_run=True)
    assert sorted(base.rglob("*")) == before
    done = sweep(storage, policy=policy)
    assert foretold.dry_run
    assert attrs.evolve(foretold, dry_run=False) == done


def test_the_front_page_has_it() -> None:
    """``tempscope.sweep`` is this function."""
    assert tempscope.sweep is sweep


@pytest.mark.parametrize("names", [("kept",), ()])
def test_an_instance_whose_journal_cannot_be_read_is_left_alone(base: Path, names: tuple[str, ...]) -> None:
    """Row 16: what an unreadable journal would say is not known, so nothing of its owner's goes."""
    leave(base, "one", policy=KeepAll())
    (instance,) = (path for path in next(base.iterdir()).iterdir() if path.name.startswith("i-"))
    if not names:
        (instance / "a1" / "tempscope_1").unlink()
        (instance / "a1").rmdir()
    (instance / "journal").unlink()
    (instance / "journal").mkdir()

    report = sweep(base)

    assert report.failed == 1
    assert "cannot be read" in report.entries[0].reason
    assert instance.exists()
    assert (instance / "a1").exists() == bool(names)


def test_a_journal_that_cannot_be_read_for_a_moment(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 16: a journal that could not be read when it mattered is told, though it can be read again then."""
    leave(base, "one", policy=KeepAll())
    real, unreadable = _scan.read_journal, [True]

    def flickering(fd: int) -> JournalContent:
        return attrs.evolve(real(fd), unreadable=bool(unreadable and unreadable.pop()))

    monkeypatch.setattr(_scan, "read_journal", flickering)
    report = sweep(base)
    assert (report.failed, report.kept) == (1, 0)
    assert "cannot be read" in report.entries[0].reason
    assert sweep(base).kept == 1
