"""Publishing an open file that has no name, from whatever storage it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempscope.errors import (
    ForeignPathError,
    NameTakenError,
    PathMissingError,
    StorageError,
    UnsupportedError,
)
from tempscope.protocols import TempStorage
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage, MemoryStorage


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
