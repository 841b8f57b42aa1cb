"""Chapter 9: what is declared works, and what is not declared is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempscope._clock import SystemClock
from tempscope.errors import (
    ForeignPathError,
    HandOverError,
    PathMissingError,
    ScopeClosedError,
    StagedSourceChangedError,
    UnsupportedError,
)
from tempscope.model import Capability, Removal, Verdict
from tempscope.protocols import TempArea, TempStorage
from tempscope.storages import identify
from tempscope.testing.storage._calls import names_in, stage, told_by
from tempscope.testing.storage._chapter import Chapter, OpenArea, a_record


__all__ = ["Capabilities"]

_READ = "import sys; sys.stdout.write(open(sys.argv[1]).read())"


class Capabilities(Chapter):
    """Both sides of every capability."""

    def test_9_1_constant(self, storage: TempStorage, open_area: OpenArea) -> None:
        """What a storage can do is a frozen set of Capability, and the same over its life."""
        before = storage.capabilities
        assert isinstance(before, frozenset)
        assert all(isinstance(each, Capability) for each in before)
        area = open_area()
        area.create_file("file")
        assert storage.capabilities == before
        area.remove()
        storage.close()
        assert storage.capabilities == before

    def test_9_2_real_paths(self, storage: TempStorage, area: TempArea) -> None:
        """
        With REAL_PATHS another program can open a path by its text; without, asking for that text is
        refused.
        """
        path = area.create_file("file")
        path.write_bytes(b"content")
        if Capability.REAL_PATHS not in storage.capabilities:
            with pytest.raises(UnsupportedError):
                os.fspath(path)
            return
        command = [sys.executable, "-c", _READ, os.fspath(path)]
        assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"content"
        assert os.path.isdir(area.directory)

    def test_9_3_hard_links(self, storage: TempStorage, open_area: OpenArea, area: TempArea) -> None:
        """
        With HARD_LINKS a read-only input becomes a link, and verify tells of writes; without, it is no
        alias.
        """
        source = open_area().create_file("source")
        source.write_bytes(b"content")
        linked = stage(area, source, writable=False)
        if Capability.HARD_LINKS in storage.capabilities:
            assert linked.method == "hardlink"
            assert linked.path.samefile(source)
            linked.verify()
            linked.path.write_bytes(b"changed by the job")
            with pytest.raises(StagedSourceChangedError):
                linked.verify()
        else:
            assert linked.method != "hardlink"
            linked.path.chmod(0o600)
            linked.path.write_bytes(b"changed by the job")
            assert source.read_bytes() == b"content"

    def test_9_4_crash_sweep(self, storage: TempStorage, open_area: OpenArea) -> None:
        """
        With CRASH_SWEEP an area's record tells, while it is open, what its owner wants if it is never
        closed.
        """
        wanted = Verdict(keep=True, reason="look into it", for_seconds=60.0)
        record = a_record("crashing", label="kind", application="suite", never_closed=wanted)
        open_area(record).create_file("file")
        if Capability.CRASH_SWEEP in storage.capabilities:
            [told] = told_by(storage, record)
            assert (told.name, told.label, told.application) == ("crashing", "kind", "suite")
            assert told.never_closed == wanted
            assert told.opened == record.opened

    def test_9_5_retain(self, storage: TempStorage, open_area: OpenArea) -> None:
        """Without RETAIN retaining raises UnsupportedError, and the area stays open and whole."""
        record = a_record()
        area = open_area(record)
        path = area.create_file("file")
        path.write_bytes(b"content")
        if Capability.RETAIN in storage.capabilities:
            assert area.retain(record).state == "retained"
            return
        with pytest.raises(UnsupportedError):
            area.retain(record)
        assert path.read_bytes() == b"content"
        assert area.create_file("another").exists()
        with pytest.raises(UnsupportedError):
            storage.reclaim(a_record(), Verdict(keep=False))

    def test_9_6_give_up(self, storage: TempStorage, area: TempArea) -> None:
        """
        With GIVE_UP a path leaves the area for good, and outlives area and storage; without, it is refused.
        """
        path = area.create_file("file")
        path.write_bytes(b"content")
        if Capability.GIVE_UP not in storage.capabilities:
            _check_refused(area, "give_up", path)
            assert path.read_bytes() == b"content"
            return
        give_up: Callable[[Path], Path] = getattr(area, "give_up")  # noqa: B009 # an optional method
        with pytest.raises(PathMissingError):
            give_up(area.directory / "missing")
        with pytest.raises(ForeignPathError):
            give_up(area.directory.parent / "foreign")
        given = give_up(path)
        assert names_in(area.directory) == []
        assert given != path
        area.remove()
        storage.close()
        assert given.read_bytes() == b"content"
        given.unlink()
        given.parent.rmdir()

    def test_9_7_outside_paths(self, storage: TempStorage, area: TempArea, outside: Path) -> None:
        """
        With OUTSIDE_PATHS paths are noted and taken back, and the storage does not touch them; without,
        refused.
        """
        path = outside / "registered"
        path.write_bytes(b"outside")
        identity = str(identify(str(path)) or "")
        if Capability.OUTSIDE_PATHS not in storage.capabilities:
            _check_refused(area, "note_outside", path, identity)
            _check_refused(area, "forget_outside", path)
            return
        journal: Any = area
        journal.note_outside(path, identity)
        journal.note_outside(path, identity)
        journal.note_outside(outside / "later", "")
        journal.forget_outside(path)
        journal.forget_outside(path)
        journal.forget_outside(outside / "later")
        area.remove()
        assert path.read_bytes() == b"outside"

    def test_9_8_hand_over(self, storage: TempStorage, open_area: OpenArea) -> None:
        """With HAND_OVER one taker gets the scope whole, for its token and once; without, it is refused."""
        waits = Verdict(keep=True, reason="handed over", for_seconds=3600.0)
        record = a_record(closed=SystemClock().now(), verdict=waits)
        area = open_area(record)
        area.create_file("file").write_bytes(b"content")
        if Capability.HAND_OVER not in storage.capabilities:
            _check_refused(area, "hand_over", record, {}, ())
            _check_refused(storage, "take_over", "token")
            return
        ends: Any = (area, storage)
        token = ends[0].hand_over(record, {"/outside/path": ""}, ())
        with pytest.raises(ScopeClosedError):
            area.create_file("another")
        with pytest.raises(HandOverError):
            ends[1].take_over(f"{token}x")
        told, taken, outside_paths, staged = ends[1].take_over(token)
        assert (told.name, told.state, told.closed) == (record.name, "live", None)
        assert list(staged) == []
        assert (taken.directory / "file").read_bytes() == b"content"
        assert list(outside_paths) == ["/outside/path"]
        with pytest.raises(HandOverError):
            ends[1].take_over(token)
        taken.create_file("another")
        assert taken.remove() != Removal()

    def test_9_9_command_lease(self, storage: TempStorage, area: TempArea) -> None:
        """
        With COMMAND_LEASE an area has one descriptor that holds it, closed with it; without, it is refused.
        """
        area.create_file("file")
        if Capability.COMMAND_LEASE not in storage.capabilities:
            _check_refused(area, "lease_fd")
            return
        lease: Any = area
        fd = lease.lease_fd()
        assert lease.lease_fd() == fd
        held = _open_at(fd)
        assert held is not None
        area.remove()
        with pytest.raises(ScopeClosedError):
            lease.lease_fd()
        # The number may be somebody else's by now.
        assert _open_at(fd) != held

    def test_9_10_unnamed_files(self, storage: TempStorage, area: TempArea) -> None:
        """
        With UNNAMED_FILES a file without a name is written and read, and listed nowhere; without, refused.
        """
        if Capability.UNNAMED_FILES not in storage.capabilities:
            _check_refused(area, "unnamed_file", "w+b")
            return
        maker: Any = area
        with maker.unnamed_file("w+b") as file:
            file.write(b"content")
            file.seek(0)
            assert file.read() == b"content"
            assert names_in(area.directory) == []
        assert names_in(area.directory) == []


def _open_at(fd: int) -> tuple[int, int] | None:
    """Return what the descriptor *fd* is open at, or None."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_refused(owner: object, method: str, *args: object) -> None:
    """Check that what is not declared is not there, or raises UnsupportedError."""
    with pytest.raises(UnsupportedError):
        getattr(owner, method, _absent)(*args)


def _absent(*_args: object) -> None:
    raise UnsupportedError("there is no such method")
