"""Publishing a file that never had a name: one step gives it one, and nothing is overwritten by accident."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.errors import NameTakenError, PathMissingError, StorageError
from tempscope.storages._destination import Destination
from tempscope.storages._publish import publish_unnamed

from .conftest import as_nobody, in_child, needs_root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go."""
    place = tmp_path / "out"
    place.mkdir()
    return place


def unnamed(place: Path) -> int:
    """Return an open file without a name, with something in it."""
    try:
        fd = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        pytest.skip(f"the file system has no O_TMPFILE: {error.strerror}")
    os.write(fd, b"new")
    return fd


@pytest.fixture
def content(tmp_path: Path) -> Iterator[int]:
    """An open file without a name."""
    fd = unnamed(tmp_path)
    yield fd
    os.close(fd)


def publish(content: int, path: Path, overwrite: bool = True, durable: bool = True, **more: Any) -> None:
    """Publish as an area does."""
    publish_unnamed(
        content, Destination(str(path), overwrite, durable), **{"mode": None, "progress": None, **more}
    )


def test_it_gets_its_name_in_one_step(content, out, mocker):
    """Row 107, trap: a link by way of /proc, with a directory's descriptor, names the very file."""
    rename = mocker.spy(os, "rename")
    publish(content, out / "done")
    assert (out / "done").read_bytes() == b"new"
    assert (out / "done").stat().st_ino == os.fstat(content).st_ino
    assert stat.S_IMODE((out / "done").stat().st_mode) == 0o644
    assert rename.call_count == 0
    os.write(content, b"er")
    assert (out / "done").read_bytes() == b"newer"


def test_what_comes_at_the_last_moment_stays(content, out, monkeypatch):
    """Row 107: the check and the naming are one step: what comes after we looked stays without overwrite."""
    really = os.link

    def late(*args: Any, **options: Any) -> None:
        (out / "done").write_bytes(b"theirs")
        really(*args, **options)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(NameTakenError):
        publish(content, out / "done", overwrite=False)
    assert (out / "done").read_bytes() == b"theirs"


def test_without_proc_it_is_said_what_is_wrong(content, out, monkeypatch):
    """Without /proc an open file can get no name, and it is not the file that is missing."""

    def without_proc(really: Any) -> Any:
        def call(path: str, *args: Any, **options: Any) -> Any:
            if str(path).startswith("/proc/"):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return really(path, *args, **options)

        return call

    for name in ("link", "open"):
        monkeypatch.setattr(os, name, without_proc(getattr(os, name)))
    with pytest.raises(StorageError, match="without /proc nobody can give it one") as caught:
        publish(content, out / "done")
    assert caught.value.errno == errno.EOPNOTSUPP
    assert os.listdir(out) == []
    assert stat.S_IMODE(os.fstat(content).st_mode) == 0o600


def test_what_is_there_is_replaced_or_not(content, out):
    """Row 107: linking refuses what is there; with overwrite a second name takes its place by a rename."""
    (out / "done").write_bytes(b"old")
    (out / "done").chmod(0o604)
    with pytest.raises(NameTakenError):
        publish(content, out / "done", overwrite=False)
    assert (out / "done").read_bytes() == b"old"
    assert stat.S_IMODE(os.fstat(content).st_mode) == 0o600
    publish(content, out / "done", durable=False)
    assert (out / "done").read_bytes() == b"new"
    assert stat.S_IMODE((out / "done").stat().st_mode) == 0o604
    assert os.listdir(out) == ["done"]
    assert os.fstat(content).st_nlink == 1


def test_without_overwriting_a_directory_is_in_the_way(content, out):
    """Without overwrite whatever is at the destination has the name, a directory too."""
    (out / "dir").mkdir()
    with pytest.raises(NameTakenError):
        publish(content, out / "dir", overwrite=False)
    assert stat.S_IMODE(os.fstat(content).st_mode) == 0o600


def test_a_link_is_replaced(content, out, tmp_path):
    """Row 59: a link at the destination is replaced, not followed."""
    (tmp_path / "target").write_text("theirs")
    (out / "done").symlink_to(tmp_path / "target")
    publish(content, out / "done", mode=0o640)
    assert not (out / "done").is_symlink()
    assert (tmp_path / "target").read_text() == "theirs"


@needs_root
def test_across_file_systems_it_is_copied(tmp_path, tiny_disk):
    """Row 30: where a file can get no name it is copied, from its beginning, and its position stays."""
    content = unnamed(tmp_path)
    try:
        publish(content, tiny_disk / "done", overwrite=False)
        assert (tiny_disk / "done").read_bytes() == b"new"
        assert os.lseek(content, 0, os.SEEK_CUR) == 3
        assert os.listdir(tiny_disk) == ["done"]
    finally:
        os.close(content)


def test_a_file_whose_name_was_removed_is_copied(tmp_path, out):
    """A file that is unnamed because somebody removed its name gets none again: it is copied."""
    content = os.open(tmp_path / "gone", os.O_RDWR | os.O_CREAT)
    os.unlink(tmp_path / "gone")
    os.write(content, b"new")
    publish(content, out / "done")
    os.close(content)
    assert (out / "done").read_bytes() == b"new"


def test_what_cannot_be_named(content, out, tmp_path, mocker):
    """A missing directory, a file that has a name, a directory, and an error of the disk are refused."""
    with pytest.raises(PathMissingError, match="gone' is not there"):
        publish(content, out / "gone" / "done")
    named = os.open(tmp_path / "named", os.O_RDWR | os.O_CREAT)
    directory = os.open(tmp_path, os.O_RDONLY)
    for fd in (named, directory):
        with pytest.raises(StorageError, match="no file without a name"):
            publish(fd, out / "done")
        os.close(fd)
    with pytest.raises(StorageError, match="is a directory"):
        publish(content, out)
    mocker.patch.object(os, "link", side_effect=OSError(errno.EIO, "broken"))
    with pytest.raises(StorageError) as caught:
        publish(content, out / "done")
    assert caught.value.errno == errno.EIO
    assert stat.S_IMODE(os.fstat(content).st_mode) == 0o600
    assert os.listdir(out) == []


@needs_root
def test_an_ordinary_user_can(open_to_all):
    """Row 107: naming by way of /proc needs no privilege, as AT_EMPTY_PATH would."""

    def job() -> str:
        (open_to_all / "out").mkdir()
        content = unnamed(open_to_all)
        inode = os.fstat(content).st_ino
        publish(content, open_to_all / "out" / "done", overwrite=False)
        assert (open_to_all / "out" / "done").stat().st_ino == inode
        return (open_to_all / "out" / "done").read_text()

    assert in_child(lambda: as_nobody(job)) == "new"
