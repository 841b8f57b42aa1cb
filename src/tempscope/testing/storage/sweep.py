"""Chapter 10: abandonment and sweep."""

from __future__ import annotations

from functools import partial

import attrs
import pytest

from tempscope.errors import UnsupportedError
from tempscope.model import Capability, Removal, ScopeRecord, Verdict
from tempscope.protocols import TempStorage
from tempscope.testing.storage._calls import told_by
from tempscope.testing.storage._chapter import Chapter, OpenArea, Peek, a_record
from tempscope.testing.storage._together import together


__all__ = ["Sweep"]

_DELETE = Verdict(keep=False, reason="nobody wants it")
_MANY = 8


class Sweep(Chapter):
    """
    What is told of areas, and what may be done to those that nobody holds.

    Whether a crash is survived takes a process to kill, so it is no part of this suite.
    """

    def test_10_1_live_are_told(self, storage: TempStorage, open_area: OpenArea) -> None:
        """A storage that outlives its areas tells each open one as live, and none that was removed."""
        records = [a_record(name) for name in ("first", "second", "third")]
        areas = [open_area(record) for record in records]
        for area in areas:
            area.create_file("file")
        areas[1].remove()
        if not _outlives(storage):
            # It tells what it likes, but nothing wrong.
            assert told_by(storage, records[1]) == []
            return
        told = {each.token: each for each in storage.areas()}
        assert [each.token in told for each in records] == [True, False, True]
        assert (told[records[0].token].state, told[records[0].token].name) == ("live", "first")

    def test_10_2_held_is_left_alone(self, storage: TempStorage, open_area: OpenArea) -> None:
        """
        Reclaiming what is held, or is no longer what its record said, leaves it alone and counts it as
        skipped.
        """
        record = a_record()
        area = open_area(record)
        path = area.create_file("file")
        path.write_bytes(b"content")
        if not _outlives(storage):
            with pytest.raises(UnsupportedError):
                storage.reclaim(record, _DELETE)
            return
        [told] = told_by(storage, record)
        for verdict in (_DELETE, Verdict(keep=True, reason="mine")):
            for known in (told, attrs.evolve(told, state="orphaned")):
                removal = storage.reclaim(known, verdict)
                assert (removal.removed, removal.skipped) == (0, 1)
                assert removal.leftovers[0].reason
        assert path.read_bytes() == b"content"
        area.remove()
        assert storage.reclaim(told, _DELETE).removed == 0

    def test_10_3_reclaimed_by_many(self, storage: TempStorage, open_area: OpenArea) -> None:
        """Of several callers that reclaim one scope at once, one does the work and none gets an error."""
        if not _keeps(storage):
            return
        for _ in range(5):
            kept = _retained(open_area)
            got = together([partial(storage.reclaim, kept, _DELETE)] * _MANY)
            assert [each for each in got if isinstance(each, Exception)] == []
            assert sum(isinstance(each, Removal) and each.removed > 0 for each in got) == 1
            assert told_by(storage, kept) == []

    def test_10_4_deleted(self, storage: TempStorage, open_area: OpenArea) -> None:
        """A verdict to delete removes a retained scope whole, and it is told no more."""
        if not _keeps(storage):
            return
        kept, other = _retained(open_area), _retained(open_area)
        removal = storage.reclaim(kept, _DELETE)
        assert removal.complete
        assert removal.removed >= 1
        assert kept.directory is not None and other.directory is not None
        assert not kept.directory.exists()
        assert told_by(storage, kept) == []
        assert (other.directory / "file").read_bytes() == b"content"
        assert storage.reclaim(kept, _DELETE) == Removal()

    def test_10_5_kept_on(self, storage: TempStorage, open_area: OpenArea) -> None:
        """A verdict to keep leaves a retained scope whole, and is written down with it."""
        if not _keeps(storage):
            return
        kept = _retained(open_area)
        removal = storage.reclaim(kept, Verdict(keep=True, reason="once more", for_seconds=60.0))
        assert (removal.removed, removal.kept) == (0, 1)
        [told] = told_by(storage, kept)
        assert told.state == "retained"
        assert told.verdict is not None
        assert (told.verdict.reason, told.verdict.for_seconds) == ("once more", 60.0)
        assert told.directory is not None
        assert (told.directory / "file").read_bytes() == b"content"

    def test_10_6_gone_for_a_witness(self, storage: TempStorage, open_area: OpenArea, witness: Peek) -> None:
        """What was reclaimed is gone for whoever looks past the storage."""
        if not _keeps(storage):
            return
        kept = _retained(open_area)
        assert kept.directory is not None
        assert witness(kept.directory / "file") == b"content"
        storage.reclaim(kept, _DELETE)
        assert witness(kept.directory / "file") is None


def _keeps(storage: TempStorage) -> bool:
    """Whether there is anything to sweep; clause 9.5 is about a storage that keeps nothing."""
    return Capability.RETAIN in storage.capabilities


def _outlives(storage: TempStorage) -> bool:
    return bool(storage.capabilities & {Capability.RETAIN, Capability.CRASH_SWEEP})


def _retained(open_area: OpenArea) -> ScopeRecord:
    record = a_record()
    area = open_area(record)
    area.create_file("file").write_bytes(b"content")
    return area.retain(attrs.evolve(record, closed=record.opened, verdict=Verdict(keep=True, reason="look")))
