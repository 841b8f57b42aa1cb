"""Chapter 3: isolation of scopes."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tempscope.errors import ForeignPathError
from tempscope.model import Capability, Outcome, Removal, Usage, Verdict
from tempscope.protocols import TempStorage
from tempscope.testing.storage._calls import names_in, publish, told_by
from tempscope.testing.storage._chapter import Chapter, OpenArea, a_record


__all__ = ["Isolation"]


class Isolation(Chapter):
    """That scopes do not meet."""

    def test_3_1_nothing_before_the_first_file(self, storage: TempStorage, open_area: OpenArea) -> None:
        """An area makes nothing before its first file, and an unused one is removed without a trace."""
        home = open_area().directory.parent
        real = Capability.REAL_PATHS in storage.capabilities
        before = names_in(home) if real else []
        unused = open_area()
        assert unused.usage() == Usage()
        if real:
            assert names_in(home) == before
        assert unused.remove() == Removal()

    def test_3_2_same_name(self, open_area: OpenArea) -> None:
        """Areas never see each other's files, even of the same name."""
        first, second = open_area().create_file("name"), open_area().create_file("name")
        first.write_bytes(b"first")
        assert second.read_bytes() == b""
        second.write_bytes(b"second")
        assert first.read_bytes() == b"first"
        assert first != second

    def test_3_3_removing_one(self, open_area: OpenArea) -> None:
        """Removing one area leaves every other as it is."""
        areas = [open_area() for _ in range(3)]
        paths = [area.create_file("name") for area in areas]
        for path in paths:
            path.write_bytes(b"content")
        areas[1].remove()
        assert [path.exists() for path in paths] == [True, False, True]
        assert [paths[0].read_bytes(), paths[2].read_bytes()] == [b"content", b"content"]
        assert areas[2].create_file("another").exists()

    def test_3_4_retained_whole(self, storage: TempStorage, open_area: OpenArea) -> None:
        """
        Retaining keeps all of an area, with its record, and tells where; what cannot be retained stays
        open.
        """
        record = a_record(label="kind")
        area = open_area(record)
        (area.create_dir("dir") / "leaf").write_bytes(b"leaf")
        area.create_file("file").write_bytes(b"file")
        closing = attrs.evolve(
            record, closed=record.opened, outcome=Outcome("failed"), verdict=Verdict(keep=True, reason="look")
        )
        if Capability.RETAIN not in storage.capabilities:
            # Clause 9.5 is about this case.
            assert names_in(area.directory) == ["dir", "file"]
            return
        kept = area.retain(closing)
        assert kept.state == "retained"
        assert kept.directory is not None
        assert (kept.directory / "dir" / "leaf").read_bytes() == b"leaf"
        assert (kept.directory / "file").read_bytes() == b"file"
        [told] = told_by(storage, record)
        assert (told.state, told.label, told.closed) == ("retained", "kind", record.opened)
        assert told.outcome is not None and told.outcome.kind == "failed"
        assert told.verdict is not None and told.verdict.reason == "look"
        assert told.directory == kept.directory

    def test_3_5_foreign_paths(self, open_area: OpenArea, outside: Path) -> None:
        """A path of another area, or of nobody, raises ForeignPathError and is not touched."""
        mine, other = open_area(), open_area()
        mine.create_file("mine")
        theirs, nobodys = other.create_file("theirs"), outside / "nobodys"
        theirs.write_bytes(b"theirs")
        nobodys.write_bytes(b"nobody's")
        for path in (theirs, nobodys, other.directory, outside, mine.directory / ".." / "x"):
            with pytest.raises(ForeignPathError):
                mine.delete(path)
            with pytest.raises(ForeignPathError):
                publish(mine, path, outside / "product")
        assert (theirs.read_bytes(), nobodys.read_bytes()) == (b"theirs", b"nobody's")
        assert names_in(outside) == ["nobodys"]

    def test_3_6_old_paths(self, open_area: OpenArea) -> None:
        """A path of a removed area never means a file of a later one."""
        first = open_area()
        old = first.create_file("name")
        first.remove()
        new = open_area().create_file("name")
        new.write_bytes(b"new")
        assert new != old
        assert not old.exists()
