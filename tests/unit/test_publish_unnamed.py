"""Publishing an open file that has no name, from whatever storage it is."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tempscope.errors import (
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    StorageError,
    StorageFull,
    UnsupportedError,
)
from tempscope.model import Event
from tempscope.protocols import TempStorage
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage, MemoryStorage
from tempscope.storages._journal import read_journal
from tempscope.testing import FaultyStorage

from .faults import raising


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TempStorage]:
    """Each kind of unnamed file."""
    with LocalDiskStorage(tmp_path / "base") if request.param == "disk" else MemoryStorage() as storage:
        yield storage


@pytest.mark.parametrize("mode", ["w+b", "w+"])
def test_an_open_file_gets_a_name(storage: TempStorage, tmp_path: Path, mode: str) -> None:
    """What was written, also what is still buffered, is published; nothing stays in the scope."""
    with TempScopes(storage).open() as job, job.unnamed_file(mode) as file:
        file.write("content" if mode == "w+" else b"content")
        assert job.publish(file, tmp_path / "done", mode=0o640) == tmp_path / "done"
        assert (tmp_path / "done").read_bytes() == b"content"
        assert (tmp_path / "done").stat().st_mode & 0o777 == 0o640
        assert file.tell() == 7
        assert list(job.directory.iterdir()) == []


def test_what_is_there_stays_without_overwrite(storage: TempStorage, tmp_path: Path) -> None:
    """Without overwrite an existing file stays, and the open one can be published elsewhere."""
    (tmp_path / "done").write_text("old")
    with TempScopes(storage).open() as job, job.unnamed_file() as file:
        file.write(b"new")
        with pytest.raises(NameTakenError):
            job.publish(file, tmp_path / "done", overwrite=False)
        assert (tmp_path / "done").read_text() == "old"
        assert list(job.directory.iterdir()) == []
        assert asyncio.run(job.apublish(file, tmp_path / "done")) == tmp_path / "done"
        assert (tmp_path / "done").read_text() == "new"


def test_a_link_does_not_lead_into_the_scope(tmp_path: Path) -> None:
    """A place in the scope is refused also by a link that leads there: it does not outlive the scope."""
    with LocalDiskStorage(tmp_path / "base") as storage, TempScopes(storage).open() as job:
        (tmp_path / "link").symlink_to(job.directory)
        with job.unnamed_file() as file, pytest.raises(ForeignPathError, match="inside the scope"):
            job.publish(file, tmp_path / "link" / "done")


def test_a_place_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open file is not published where nobody can tell whether that is inside the scope."""

    def failing(really: Callable[..., Any], broken: str) -> Callable[..., Any]:
        def call(place: str, **options: Any) -> Any:
            if place.startswith(broken):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return really(place, **options)

        return call

    with (
        LocalDiskStorage(tmp_path / "base") as storage,
        TempScopes(storage).open() as job,
        job.unnamed_file() as file,
        monkeypatch.context() as patch,
    ):
        patch.setattr(os, "lstat", failing(os.lstat, str(tmp_path)))
        patch.setattr(os, "readlink", failing(os.readlink, "/proc/"))
        with pytest.raises(StorageError, match="nobody can tell whether") as caught:
            job.publish(file, tmp_path / "done")
    assert caught.value.errno == errno.EIO
    assert not (tmp_path / "done").exists()


def test_what_cannot_be_published(storage: TempStorage, tmp_path: Path) -> None:
    """A closed file, a place in the scope and a missing directory are refused; nothing stays in the scope."""
    with TempScopes(storage).open() as job:
        with job.unnamed_file() as file:
            with pytest.raises(PathMissingError):
                job.publish(file, tmp_path / "gone" / "done")
            with pytest.raises(ForeignPathError):
                job.publish(file, job.directory / "inside")
        with pytest.raises(ForeignPathError, match="is closed"):
            job.publish(file, tmp_path / "done")
        assert list(job.directory.iterdir()) == []


def test_it_is_told_and_logged(
    storage: TempStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Listeners and the log hear of an open file's publication as of any other, once it is done."""
    caplog.set_level("DEBUG", "tempscope")
    events: list[Event] = []
    with TempScopes(storage, listeners=[events.append]).open() as job, job.unnamed_file() as file:
        with pytest.raises(PathMissingError):
            job.publish(file, tmp_path / "gone" / "done")
        assert "published" not in [event.kind for event in events]
        job.publish(file, tmp_path / "done")
    assert [event.path for event in events if event.kind == "published"] == [tmp_path / "done"]
    assert [record.message for record in caplog.records].count("file published") == 1


@pytest.mark.parametrize("full", [False, True])
def test_a_copy_in_the_making_is_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, full: bool
) -> None:
    """Row 1: the journal tells of a copy while it is made; where it cannot be written that is logged only."""
    monkeypatch.setattr(os, "link", raising(OSError(errno.EXDEV, "another file system")))
    faulty = FaultyStorage(LocalDiskStorage(tmp_path / "base"))
    if full:
        faulty.fail("note_outside", StorageFull("full", errno=errno.ENOSPC))
    out, seen = tmp_path / "out", []
    out.mkdir()

    def look(done: int, total: int) -> None:
        (instance,) = (tmp_path / "base").glob("*/i-*")
        fd = os.open(instance, os.O_RDONLY)
        seen.append([list(read_journal(fd).outside), [str(path) for path in out.iterdir()]])
        os.close(fd)

    with faulty, TempScopes(faulty).open() as job, job.unnamed_file() as file:
        file.write(b"content")
        job.publish(file, out / "done", progress=look)
        ((told, present),) = seen
        assert len(present) == 1
        assert told == ([] if full else present)
        look(0, 0)
        assert seen[-1] == [[], [str(out / "done")]]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * full


def test_an_open_file_of_somebody_else_goes_out_of_memory(tmp_path: Path) -> None:
    """A storage without a journal publishes an open file of the system's too."""
    with TempScopes(MemoryStorage()).open() as job, TemporaryFile(dir=tmp_path) as file:
        file.write(b"content")
        job.publish(file, tmp_path / "done")
    assert (tmp_path / "done").read_bytes() == b"content"


def test_files_that_only_write(tmp_path: Path) -> None:
    """A file that only writes is published from the disk; from memory it is refused."""
    with (
        LocalDiskStorage(tmp_path / "base") as disk,
        TempScopes(disk).open() as job,
        job.unnamed_file("wb") as file,
    ):
        file.write(b"content")
        job.publish(file, tmp_path / "done")
        assert (tmp_path / "done").read_bytes() == b"content"
        with pytest.raises(StorageError, match="without a name"):
            job.publish(file, tmp_path / "again")
    with (
        TempScopes(MemoryStorage()).open() as job,
        job.unnamed_file("wb") as file,
        pytest.raises(UnsupportedError),
    ):
        job.publish(file, tmp_path / "done")
    assert sorted(os.listdir(tmp_path)) == ["base", "done"]
