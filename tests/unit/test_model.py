"""The records: frozen values of plain parts."""

from __future__ import annotations

import inspect
import json
import math
import pickle
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tempscope import model
from tempscope.model import (
    Capability,
    CleanupReport,
    Entry,
    Event,
    Instant,
    JanitorStatus,
    Outcome,
    Owner,
    OwnerStats,
    Record,
    Removal,
    ScopeRecord,
    StateStats,
    Stats,
    SweepReport,
    TrackedPath,
    Usage,
    Verdict,
)


RECORDS = [
    Instant(1.0, 2.0, "b"),
    Outcome("failed", ValueError("secret"), "ValueError: no"),
    Usage(1, 2, 3, 4),
    Verdict(True, "why", 1.0, 2.0, "t"),
    Owner(pid=1),
    ScopeRecord(
        token="t",
        opened=Instant(1.0, 2.0),
        outcome=Outcome("ok"),
        usage=Usage(1),
        directory=Path("/d"),
        owner=Owner(pid=1),
    ),
    Entry("/p", "failed", "why", 5, 6),
    Removal(removed=1, entries=(Entry("/p", "kept"),)),
    CleanupReport(scope="s", outcome=Outcome("ok"), errors=(ValueError("no"),), directory=Path("/d")),
    SweepReport(dry_run=True, live=2, seconds=0.5),
    StateStats(state="live", scopes=1, bytes=5, oldest_seconds=math.inf),
    OwnerStats(pid=1, application="a", held_by="process 1"),
    Stats(live=1, bytes=5, states=(StateStats(state="live"),), owners=(OwnerStats(),)),
    JanitorStatus(running=True, last=Instant(1.0, 2.0, "b"), last_report=SweepReport(removed=1), next_in=5.0),
    Event(kind="kept", scope="s", path=Path("/p"), removal=Removal(kept=1)),
    TrackedPath("/p", "1:2:3:", "me", "gone"),
]


def test_every_record_is_here():
    """The records below are all that there are."""
    defined = {v for v in vars(model).values() if inspect.isclass(v) and issubclass(v, Record)} - {Record}
    assert {type(record) for record in RECORDS} == defined


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_each_is_frozen_and_has_plain_parts(record):
    """A record cannot be changed, and to_dict gives what JSON can write: strictly, without NaN."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(record, attrs.fields(type(record))[0].name, 1)
    plain = record.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_what_is_in_them():
    """
    Nested records, paths and errors are told.

    An exception by type and text only, an outcome's not at all.
    """
    plain = RECORDS[5].to_dict()
    assert plain["directory"] == "/d"
    assert plain["usage"] == {"files": 1, "directories": 0, "bytes": 0, "freeable_bytes": 0}
    assert plain["outcome"] == {"kind": "ok", "error": None}
    assert RECORDS[8].to_dict()["errors"] == ["ValueError: no"]
    assert RECORDS[7].to_dict()["entries"][0]["path"] == "/p"
    assert RECORDS[10].to_dict()["oldest_seconds"] is None
    assert "secret" not in json.dumps(RECORDS[1].to_dict())


def test_a_path_in_memory_is_told_without_moving_it():
    """A path that has a text for display is told by that: asking for its own would move the file to disk."""

    class InMemory(type(Path())):
        display = "memory:/x"

        def __str__(self) -> str:
            raise AssertionError("asked for its text")

    assert CleanupReport(directory=InMemory("/x")).to_dict()["directory"] == "memory:/x"


def test_a_value_of_somebody_elses_attrs_class():
    """A value of another attrs class is told by its fields."""

    @attrs.frozen
    class Foreign:
        x: int = 1

    assert Stats(live=Foreign()).to_dict()["live"] == {"x": 1}


times = st.floats(-1e9, 1e9)


@given(times, times, times, times)
def test_time_passes_by_the_surer_clock(wall, boot, later_wall, later_boot):
    """
    Row 82: within one boot the smaller of both clocks counts; across boots wall time.

    Never less than nothing.
    """
    here, there = Instant(wall, boot, "a"), Instant(later_wall, later_boot, "a")
    assert there.seconds_since(here) == max(0.0, min(later_wall - wall, later_boot - boot))
    for other in ("b", ""):
        assert attrs.evolve(there, boot_id=other).seconds_since(here) == max(0.0, later_wall - wall)
    assert there.seconds_since(there) == 0


def record(**fields: object) -> ScopeRecord:
    """Return a record opened at 100 and closed at 200 seconds."""
    given = {
        "token": "t",
        "opened": Instant(100.0, 100.0, "a"),
        "closed": Instant(200.0, 200.0, "a"),
        **fields,
    }
    return ScopeRecord(**given)


def at(seconds: float, boot: float | None = None) -> Instant:
    """Return a moment of the same boot."""
    return Instant(seconds, seconds if boot is None else boot, "a")


def test_age_counts_from_the_end():
    """The age of a scope counts from its closing, or its opening if it was never closed."""
    assert record().age(at(250)) == 50
    assert record(closed=None).age(at(250)) == 150


@pytest.mark.parametrize(
    ("verdict", "never_closed", "now", "expired"),
    [
        (Verdict(True), None, at(1e9), False),
        (Verdict(True, for_seconds=60.0), None, at(259), False),
        (Verdict(True, for_seconds=60.0), None, at(260), True),
        (Verdict(True, for_seconds=60.0), None, at(1e9, 210), False),
        (Verdict(True, until=300.0), None, at(299), False),
        (Verdict(True, until=300.0), None, at(300), True),
        (Verdict(True, until=300.0), None, at(1e9, 210), False),
        (Verdict(True, until=300.0, for_seconds=1e9), None, at(300), True),
        (None, Verdict(True, for_seconds=60.0), at(260), True),
        (None, Verdict(True), at(1e9), False),
    ],
)
def test_expiry(verdict, never_closed, now, expired):
    """
    Row 82: what was kept for a time goes when that has passed by the surer clock.

    The owner's wish stands in for a verdict.
    """
    fields = {"verdict": verdict} if never_closed is None else {"never_closed": never_closed}
    assert record(**fields).expired(now) is expired


def test_sums():
    """Usages and removals add up; a removal is complete when nothing that should have gone is left."""
    assert Usage(1, 2, 3, 4) + Usage(1, 1, 1, 1) == Usage(2, 3, 4, 5)
    left, kept = Entry("/a", "failed"), Entry("/b", "kept")
    one = Removal(removed=1, removed_bytes=2, kept=3, entries=(kept,))
    two = Removal(removed=1, skipped=1, failed=1, entries=(left, Entry("/c", "skipped")))
    both = one + two
    assert (both.removed, both.removed_bytes, both.kept, both.skipped, both.failed) == (2, 2, 3, 1, 1)
    assert (one.complete, two.complete, Removal(skipped=1).complete) == (True, False, False)
    assert both.leftovers == two.entries
    assert CleanupReport(removed=1).complete


def test_equality_ignores_what_is_only_for_people():
    """Where a record's directory is, who owns it and who holds it make no difference between records."""
    assert record() == record(directory=Path("/d"), owner=Owner(pid=5), held_by="somebody")
    assert record() != record(label="x")
    assert Outcome("failed", ValueError()) == Outcome("failed", KeyError())
    assert [Outcome(kind).ok for kind in ("ok", "failed", "cancelled", "retry", "never_closed")] == [
        True,
        *[False] * 4,
    ]


def test_capabilities_are_words():
    """A capability is its word, and each says what it means."""
    assert all(capability == capability.value == capability.name.lower() for capability in Capability)


@pytest.mark.parametrize(
    ("wanted", "now", "kept"),
    [
        (Verdict(False), at(300), False),
        (Verdict(True, "evidence"), at(300), True),
        (Verdict(True, "evidence", until=250.0), at(300), False),
    ],
)
def test_a_scope_that_was_never_closed(wanted, now, kept):
    """
    What is found of a killed process goes by what its owner wanted.

    Unless the time for that has passed.
    """
    found = record(closed=None, never_closed=wanted).never_closed_by(now)
    assert (found.closed, found.outcome) == (now, Outcome("never_closed"))
    assert found.verdict.keep is kept
    assert record(outcome=Outcome("ok"), never_closed=wanted).never_closed_by(now).outcome == Outcome("ok")


def test_an_unknown_record_is_an_attribute_error() -> None:
    """What is no record of ours is not there."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = model.Nothing


@pytest.mark.parametrize("record", [SweepReport(removed=1), Stats(live=1), JanitorStatus(passes=1)])
def test_a_record_that_is_made_late_is_pickled_like_any_other(record: Record) -> None:
    """A record that is made when it is first asked for goes through pickle."""
    assert pickle.loads(pickle.dumps(record)) == record
