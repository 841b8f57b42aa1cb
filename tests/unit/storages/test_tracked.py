"""Tracked paths: what this process, other living ones and dead ones track, and when nobody can tell."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tempscope.errors import BaseDirectoryError, ScopeClosedError, StorageError
from tempscope.model import TrackedPath
from tempscope.protocols import TrackedPaths
from tempscope.storages import LocalDiskStorage, MemoryStorage, _tracked, identify
from tempscope.storages._journal import Journal
from tempscope.storages._owner import UNLOCKED
from tempscope.storages._registry import _registry

from .conftest import abandon, record_of


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base directory."""
    return tmp_path / "disk"


@pytest.fixture
def storage(base: Path) -> LocalDiskStorage:
    """A storage in it."""
    return LocalDiskStorage(base)


def track(storage: LocalDiskStorage, *paths: str, by: str = "me") -> None:
    """Track paths that are not there."""
    for path in paths:
        storage.track(Path(path), "", by)


def instance_of(storage: LocalDiskStorage) -> Path:
    """Return the directory of the storage's process."""
    return storage.open_area(record_of()).directory.parent


def elsewhere(base: Path) -> list[tuple[str, str, str]]:
    """Return what is tracked by others than this process, as another storage sees it."""
    told = LocalDiskStorage(base).tracked(everywhere=True)
    return [(each.path, each.by, each.tracker) for each in told if each.tracker != "this process"]


def test_which_storages_remember(storage: LocalDiskStorage) -> None:
    """A storage on disk remembers tracked paths, one in memory does not."""
    assert isinstance(storage, TrackedPaths)
    assert not isinstance(MemoryStorage(), TrackedPaths)


def test_what_this_process_tracks(storage: LocalDiskStorage, tmp_path: Path) -> None:
    """What is tracked is told with its identity, until it is untracked; before, nothing is made."""
    storage.untrack(tmp_path / "file", "me")
    assert list(storage.tracked(everywhere=True)) == []
    assert not (tmp_path / "disk").exists()
    (tmp_path / "file").touch()
    identity = str(identify(str(tmp_path / "file")))
    storage.track(tmp_path / "file", identity, "me")
    track(storage, "/later")
    assert list(storage.tracked(everywhere=True)) == [
        TrackedPath(str(tmp_path / "file"), identity, "me", "this process"),
        TrackedPath("/later", "", "me", "this process"),
    ]
    storage.untrack(tmp_path / "file", "somebody else")
    storage.untrack(tmp_path / "file", "me")
    storage.untrack(Path("/later"), "me")
    assert list(storage.tracked(everywhere=True)) == []


def test_two_storages_of_one_process(storage: LocalDiskStorage, base: Path) -> None:
    """Storages on one root share what the process tracks, also one that was not used before."""
    track(storage, "/one")
    other = LocalDiskStorage(base)
    assert [(each.path, each.tracker) for each in other.tracked(everywhere=True)] == [
        ("/one", "this process")
    ]
    other.untrack(Path("/one"), "me")
    assert list(storage.tracked(everywhere=True)) == []


def test_what_a_dead_process_tracked(storage: LocalDiskStorage, base: Path) -> None:
    """Of a dead process what it tracked is told, and not what it registered."""
    track(storage, "/tracked")
    storage.open_area(record_of()).note_outside(Path("/registered"), "")
    abandon(storage)
    (base / f"tempscope-{os.geteuid()}" / "i-no-token").mkdir()
    assert elsewhere(base) == [("/tracked", "me", "gone")]


@pytest.mark.parametrize("why", ["held", "no lock", "unsure", "replaced"])
def test_who_is_not_known_to_be_gone(
    storage: LocalDiskStorage, base: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds a lock, has none, or cannot be judged is alive; what it registered is in use as well."""
    track(storage, "/tracked")
    storage.open_area(record_of()).note_outside(Path("/registered"), "")
    instance = instance_of(storage)
    if why == "held":
        # As seen by a process that has no instance of its own.
        _registry.instances.clear()
    else:
        abandon(storage)
    if why == "no lock":
        (instance / UNLOCKED).touch()
    elif why == "unsure":
        monkeypatch.setattr(_tracked._lock, "seize", lambda fd: "unsupported")
    elif why == "replaced":
        monkeypatch.setattr(_tracked, "is_named", lambda *_: False)
    assert elsewhere(base) == [("/tracked", "me", "alive"), ("/registered", "", "alive")]


def test_a_living_process_whose_journal_cannot_be_read(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it holds, which is an error; of a dead one nothing is known, which is none."""
    instance = instance_of(storage)
    abandon(storage)
    (instance / "journal").unlink()
    (instance / "journal").mkdir()
    assert elsewhere(base) == []
    monkeypatch.setattr(_tracked._lock, "seize", lambda fd: "busy")
    with pytest.raises(StorageError, match="nothing is known not to be in use"):
        elsewhere(base)


def test_instances_that_cannot_be_opened(
    storage: LocalDiskStorage, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is gone or no directory says nothing; one that cannot be opened may hold anything."""
    instance = instance_of(storage)
    abandon(storage)
    shutil.rmtree(instance)
    instance.touch()
    assert elsewhere(base) == []

    def refuse(code: int) -> None:
        def opened(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(_tracked, "open_subdirectory", opened)

    refuse(errno.ENOENT)
    assert elsewhere(base) == []
    refuse(errno.EXDEV)
    with pytest.raises(StorageError, match="cannot be read"):
        elsewhere(base)


def test_when_the_journal_takes_no_more(storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracking that cannot be written down is an error; untracking that cannot is a warning."""
    track(storage, "/tracked")
    writing, code = os.write, [errno.ENOSPC]

    def refuse(fd: int, data: bytes) -> int:
        if code and b'"by"' in data:
            raise OSError(code[0], os.strerror(code[0]))
        return writing(fd, data)

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StorageError) as caught:
        track(storage, "/more")
    assert caught.value.errno == errno.ENOSPC
    # Its line is spoiled in place, which takes no room.
    storage.untrack(Path("/tracked"), "me")
    assert list(storage.tracked()) == []
    code.clear()
    track(storage, "/tracked")
    code.append(errno.EIO)
    monkeypatch.setattr(Journal, "_spoil", lambda *_: False)
    storage.untrack(Path("/tracked"), "me")
    assert [each.path for each in storage.tracked()] == ["/tracked"]


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    """Where no root can be, tracking says so, and untracking, which would find nothing, does not."""
    (tmp_path / "file").touch()
    storage = LocalDiskStorage(tmp_path / "file")
    with pytest.raises(BaseDirectoryError):
        track(storage, "/tracked")
    storage.untrack(Path("/tracked"), "me")


def test_a_closed_storage_tracks_no_more(storage: LocalDiskStorage, base: Path) -> None:
    """Tracking on a closed storage is an error, as opening a scope is; what it tracked is told."""
    track(storage, "/tracked")
    storage.close()
    with pytest.raises(ScopeClosedError):
        track(storage, "/tracked")
    assert list(storage.tracked()) == []
    assert elsewhere(base) == [("/tracked", "me", "gone")]


def test_a_lost_lease_goes_on_tracking(storage: LocalDiskStorage, base: Path) -> None:
    """When somebody removes the process's directory, the next one tells of all that is tracked."""
    track(storage, "/one", by="me")
    track(storage, "/two", by="you")
    shutil.rmtree(instance_of(storage))
    track(storage, "/three", by="me")
    assert {(each.path, each.by) for each in storage.tracked()} == {
        ("/one", "me"),
        ("/two", "you"),
        ("/three", "me"),
    }
    abandon(storage)
    assert len(elsewhere(base)) == 3
