"""Hard links: read-only inputs cost nothing, from a size on, and are never written to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tempscope.errors import ConfigurationError, StagedSourceChangedError, StorageError
from tempscope.model import Capability
from tempscope.storages.hardlink import HardlinkStorage
from tempscope.storages.local import LocalDiskStorage

from .conftest import record_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A user's own file of 100 bytes."""
    path = tmp_path / "source"
    path.write_bytes(bytes(100))
    return path


def test_a_read_only_input_is_a_second_name(tmp_path: Path, source: Path) -> None:
    """Row 98: a read-only input is the same inode under another name; its removal leaves the source."""
    before = source.stat()
    with HardlinkStorage(tmp_path / "base") as storage:
        area = storage.open_area(record_of())
        staged = area.take_in(source, "input", writable=False, progress=None)
        assert staged.method == "hardlink"
        assert staged.path != source
        assert os.path.samefile(staged.path, source)
        staged.verify()
        area.remove()
    after = source.stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
    )
    assert source.read_bytes() == bytes(100)


def test_a_writable_input_is_never_linked(tmp_path: Path, source: Path) -> None:
    """Row 99: an input that is written to is another inode."""
    with HardlinkStorage(tmp_path / "base") as storage:
        staged = storage.open_area(record_of()).take_in(source, "input", writable=True, progress=None)
        assert staged.method != "hardlink"
        staged.path.write_bytes(b"changed")
    assert source.read_bytes() == bytes(100)


def test_writing_through_a_link_is_noticed(tmp_path: Path, source: Path) -> None:
    """Row 99: writing through a linked input changes the source, and verifying says so."""
    with HardlinkStorage(tmp_path / "base") as storage:
        staged = storage.open_area(record_of()).take_in(source, "input", writable=False, progress=None)
        staged.path.write_bytes(b"changed")
        with pytest.raises(StagedSourceChangedError, match="size"):
            staged.verify()


def test_small_inputs_are_copied(tmp_path: Path, source: Path) -> None:
    """Below the threshold an input is copied, from it on linked."""
    for threshold, method in (("101B", False), (100, True)):
        with HardlinkStorage(tmp_path / "base", threshold=threshold) as storage:
            staged = storage.open_area(record_of()).take_in(source, "input", writable=False, progress=None)
            assert (staged.method == "hardlink") is method
            assert storage.threshold == int(str(threshold).rstrip("B"))


def test_what_it_says_of_itself() -> None:
    """It declares hard links, links everything by default, and refuses a threshold that is no size."""
    storage = HardlinkStorage(application="mine")
    assert storage.capabilities == LocalDiskStorage().capabilities | {Capability.HARD_LINKS}
    assert storage.threshold == 0
    assert storage.application == "mine"
    with pytest.raises(ConfigurationError, match="threshold"):
        HardlinkStorage(threshold="much")


def test_a_source_that_cannot_be_looked_at(tmp_path: Path, source: Path, mocker: MockerFixture) -> None:
    """Row 16: where nobody can tell whether the source changed, verifying says that in an error of ours."""
    with HardlinkStorage(tmp_path / "base") as storage:
        staged = storage.open_area(record_of()).take_in(source, "input", writable=False, progress=None)
        mocker.patch("os.lstat", side_effect=OSError(errno.EIO, "no"))
        with pytest.raises(StorageError, match="nobody can tell whether the staged source") as caught:
            staged.verify()
        assert caught.value.errno == errno.EIO
        mocker.stopall()
