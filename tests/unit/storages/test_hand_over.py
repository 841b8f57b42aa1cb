"""What can go wrong on the way out of a process and into another: nothing is lost, and it is said."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempscope._clock import SystemClock
from tempscope.errors import HandOverError, LeaseLostError, ScopeClosedError, StorageError, StorageFull
from tempscope.model import ScopeRecord, Verdict
from tempscope.storages import _area_sharing, _hand_over, _lock, identify
from tempscope.storages._area import LocalArea
from tempscope.storages._journal import Journal, read_journal
from tempscope.storages._openat2 import open_directory
from tempscope.storages.local import LocalDiskStorage

from .conftest import below, record_of


WAITS = Verdict(True, "it was handed over", for_seconds=3600.0)


def waiting_record() -> ScopeRecord:
    """Return the record of a scope that is going to wait for an hour."""
    return record_of("job", closed=SystemClock().now(), verdict=WAITS)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file outside of the scope."""
    path = tmp_path / "outside"
    path.touch()
    return path


@pytest.fixture
def described(outside: Path) -> dict[str, str]:
    """It, as a manager tells of it."""
    return {str(outside): str(identify(str(outside)))}


@pytest.fixture
def area(storage: LocalDiskStorage, outside: Path, described: dict[str, str]) -> LocalArea:
    """An area with a file, and an outside path that its journal tells."""
    area = storage.open_area(record_of("job"))
    area.create_file("file").write_bytes(b"content")
    area.note_outside(outside, described[str(outside)])
    return area


def failing(real: Callable[..., Any], code: int, when: Callable[..., bool]) -> Callable[..., Any]:
    """Return *real*, but that it fails with *code* when *when* says so of its arguments."""

    def call(*args: Any, **options: Any) -> Any:
        if when(*args):
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    return call


def told_outside(area: LocalArea) -> list[str]:
    """Return which outside paths the journal of the area's instance tells."""
    assert area._instance is not None
    return list(read_journal(area._instance.fd).outside)


def test_what_cannot_leave_stays_whole(
    area: LocalArea, root: Path, outside: Path, described: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed step of leaving, files, journal and area are as before, and nothing else is there."""
    steps: list[tuple[Any, str, Callable[..., Any]]] = [
        (_hand_over, "write_whole", failing(_hand_over.write_whole, errno.ENOSPC, lambda *_: True)),
        (Journal, "drop_outside", failing(Journal.drop_outside, errno.EIO, lambda *_: True)),
        (os, "rename", failing(os.rename, errno.EIO, lambda _, to: to.startswith("d-"))),
    ]
    for owner, name, replacement in steps:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, replacement)
            with pytest.raises(StorageError, match="cannot be handed over") as caught:
                area.hand_over(waiting_record(), described, ())
        assert isinstance(caught.value, StorageFull) is (name == "write_whole")
        assert below(area.directory) == ["file"]
        assert told_outside(area) == [str(outside)]
        assert area.create_file("more").exists()
        area.delete(area.directory / "more")
        assert not list(root.glob("d-*"))
    token = area.hand_over(waiting_record(), described, ())
    assert told_outside(area) == []
    assert below(root / f"d-{token}") == [".tempscope-outside", ".tempscope-record", "file"]


def test_an_interrupt_after_the_rename_takes_it_back(
    area: LocalArea, root: Path, outside: Path, described: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt at the end of leaving undoes all of it: the area is open and told by the journal."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalArea, "_forget_descriptor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        area.hand_over(waiting_record(), described, ())
    monkeypatch.undo()
    assert not list(root.glob("d-*"))
    assert below(area.directory) == ["file"]
    assert told_outside(area) == [str(outside)]
    assert area.record.token in [record.token for record in area._storage.areas()]
    assert area.remove().complete


def test_what_cannot_be_taken_back_is_told(
    area: LocalArea,
    root: Path,
    described: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When the way back fails too, the error is the first one, and the rest is logged."""
    monkeypatch.setattr(os, "rename", failing(os.rename, errno.EIO, lambda _, to: to.startswith("d-")))
    monkeypatch.setattr(Journal, "add_outside", failing(Journal.add_outside, errno.ENOSPC, lambda *_: True))
    with pytest.raises(StorageError, match="cannot be handed over") as caught:
        area.hand_over(waiting_record(), described, ())
    assert caught.value.errno == errno.EIO
    assert caplog.messages == ["a scope that stays could not be made as it was"]
    assert (area.directory / "file").exists()


def test_an_area_that_was_taken_away_is_not_handed_over(area: LocalArea, root: Path) -> None:
    """Row 46: what stands in the place of the area is never handed over."""
    home = area.directory
    moved = home.parent / "moved"
    home.rename(moved)
    home.mkdir()
    (home / "foreign").touch()
    with pytest.raises(LeaseLostError):
        area.hand_over(waiting_record(), {}, ())
    assert not list(root.glob("d-*"))
    assert below(home) == ["foreign"]


def test_what_cannot_come_in_waits_on(
    storage: LocalDiskStorage,
    area: LocalArea,
    root: Path,
    outside: Path,
    described: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a failed step of coming in, the scope waits as before, whole, and can still be taken."""
    token = area.hand_over(waiting_record(), described, ())
    before = below(root / f"d-{token}")
    (instance,) = root.glob("i-*")
    gone = failing(os.unlink, errno.EIO, lambda name: name == ".tempscope-outside")
    steps: list[tuple[Any, str, Callable[..., Any]]] = [
        (_hand_over, "open_subdirectory", failing(lambda *_: None, errno.EMFILE, lambda *_: True)),
        (os, "open", failing(os.open, errno.EMFILE, lambda name, *_: name == ".tempscope-staged")),
        (Journal, "add_area", failing(Journal.add_area, errno.ENOSPC, lambda *_: True)),
        (os, "rename", failing(os.rename, errno.EIO, lambda name, _: name.startswith("d-"))),
        (Journal, "add_outside", failing(Journal.add_outside, errno.ENOSPC, lambda *_: True)),
        (os, "unlink", gone),
        (_area_sharing, "identity_of", _twice(_area_sharing.identity_of)),
    ]
    for owner, name, replacement in steps:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, replacement)
            with pytest.raises(StorageError, match="cannot be taken over"):
                storage.take_over(token)
        assert below(root / f"d-{token}") == before, name
        assert not list(instance.glob("a*/*"))
        assert told_outside(area) == []
    _, taken, known, _ = storage.take_over(token)
    assert known == described
    assert told_outside(area) == [str(outside)]
    assert below(taken.directory) == ["file"]


def _twice(real: Callable[[int], tuple[int, int]]) -> Callable[[int], tuple[int, int]]:
    """Return *real*, but that its first call fails."""
    calls: list[int] = []

    def call(fd: int) -> tuple[int, int]:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd)

    return call


def test_what_cannot_go_back_goes_with_the_process(
    storage: LocalDiskStorage,
    area: LocalArea,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When coming in fails and going back too, that is logged; a sweep after this process finds the files."""
    token = area.hand_over(waiting_record(), {}, ())
    monkeypatch.setattr(_area_sharing, "remove_luggage", failing(lambda *_: None, errno.EIO, lambda *_: True))
    monkeypatch.setattr(os, "rename", failing(os.rename, errno.EIO, lambda _, to: to.startswith("d-")))
    with pytest.raises(StorageError, match="cannot be taken over"):
        storage.take_over(token)
    assert caplog.messages == ["a scope could not be put back to wait; it goes with this process"]
    assert [path.name for path in root.glob("i-*/a*/file")] == ["file"]


def test_a_fresh_instance_takes_over_when_the_lease_was_lost(
    storage: LocalDiskStorage, area: LocalArea, root: Path
) -> None:
    """A lost lease is noticed before anything is taken; another instance takes the scope."""
    token = area.hand_over(waiting_record(), {}, ())
    (instance,) = root.glob("i-*")
    shutil.rmtree(instance)
    _, taken, _, _ = storage.take_over(token)
    assert taken.directory.parent != instance
    assert below(taken.directory) == ["file"]


def test_what_cannot_be_read_is_not_taken(storage: LocalDiskStorage, area: LocalArea, root: Path) -> None:
    """A list of outside paths that cannot be read is not an empty one."""
    token = area.hand_over(waiting_record(), {}, ())
    (root / f"d-{token}" / ".tempscope-outside").symlink_to("record")
    with pytest.raises(HandOverError, match="cannot be read"):
        storage.take_over(token)
    assert (root / f"d-{token}" / "file").exists()


def test_what_lies_in_a_waiting_scope(storage: LocalDiskStorage, area: LocalArea, root: Path) -> None:
    """What lies under our reserved names was written by us, whole, and is private."""
    token = area.hand_over(waiting_record(), {"/registered": ""}, ())
    for name in (".tempscope-record", ".tempscope-outside"):
        file = root / f"d-{token}" / name
        assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads((root / f"d-{token}" / ".tempscope-outside").read_text()) == {
        "path": "/registered",
        "identity": None,
        "kind": "outside",
    }
    assert storage.take_over(token)[2] == {"/registered": ""}


def test_a_command_cannot_hold_what_a_sweeper_holds(area: LocalArea, root: Path) -> None:
    """A lease that could not be taken is not given to a command."""
    with open_directory(str(area.directory)) as sweeper:
        assert _lock.seize(sweeper.fd) == "held"
        with pytest.raises(StorageError, match="locked by somebody else"):
            area.lease_fd()
    assert area.lease_fd() == area.lease_fd()


def test_where_there_are_no_locks_a_command_works_all_the_same(
    area: LocalArea, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a file system without locks no sweep deletes anything, so nothing is to be held; it is said once."""
    monkeypatch.setattr(_lock, "share", lambda fd: "unsupported")
    assert os.path.samestat(os.fstat(area.lease_fd()), area.directory.stat())
    area.lease_fd()
    assert caplog.messages == ["the file system has no locks: a command does not hold its scope"]


def test_a_closed_area_has_no_lease(area: LocalArea) -> None:
    """After the end there is no descriptor, and none is made."""
    area.lease_fd()
    area.remove()
    with pytest.raises(ScopeClosedError):
        area.lease_fd()
    with pytest.raises(ScopeClosedError):
        area.unnamed_file("w+b")
