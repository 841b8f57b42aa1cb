"""The record in a kept scope: whole or not there, whatever stands in its place."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tempscope.storages import _record_file
from tempscope.storages._openat2 import open_directory
from tempscope.storages._record_file import RECORD, read_record, write_record

from .conftest import below, record_of


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A directory."""
    with open_directory(str(tmp_path)) as directory:
        yield directory.fd


def test_a_record_is_read_back(fd: int, tmp_path: Path) -> None:
    """A record is what was written last, in a file of mode 0600, and nothing else stays."""
    record = record_of("first")
    write_record(fd, record)
    write_record(fd, record_of("second", token=record.token))
    found = read_record(fd)
    assert found is not None
    assert found.name == "second"
    assert below(tmp_path) == [RECORD]
    assert (tmp_path / RECORD).stat().st_mode & 0o777 == 0o600


def test_nothing_to_read(fd: int, tmp_path: Path) -> None:
    """Row 14: a missing, damaged or hostile record is none; a FIFO in its place does not block."""
    assert read_record(fd) is None
    (tmp_path / RECORD).write_bytes(b'{"v":1}')
    assert read_record(fd) is None
    (tmp_path / RECORD).unlink()
    os.mkfifo(tmp_path / RECORD)
    assert read_record(fd) is None


def test_what_stands_in_its_place_is_not_written_through(fd: int, tmp_path: Path) -> None:
    """P2, security rule 10: a link or a FIFO under the record's names is replaced, never opened."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / f"{RECORD}.new").symlink_to(outside)
    os.link(outside, tmp_path / RECORD)
    write_record(fd, record_of("one"))
    assert outside.read_bytes() == b"precious"
    (tmp_path / RECORD).unlink()
    os.mkfifo(tmp_path / RECORD)
    write_record(fd, record_of("two"))
    found = read_record(fd)
    assert found is not None
    assert found.name == "two"


def test_no_room_for_it(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 29: a record that fits only in part is an error, and the one before it stays."""
    write_record(fd, record_of("before"))
    monkeypatch.setattr(_record_file.os, "write", lambda fd, data: 10)
    with pytest.raises(OSError, match="No space left") as caught:
        write_record(fd, record_of("after"))
    assert caught.value.errno == errno.ENOSPC
    assert below(tmp_path) == [RECORD]
    found = read_record(fd)
    assert found is not None
    assert found.name == "before"


def test_a_directory_in_its_place(fd: int, tmp_path: Path) -> None:
    """A directory under the name of the new record is an error, and stays."""
    (tmp_path / f"{RECORD}.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_record(fd, record_of())
    assert below(tmp_path) == [f"{RECORD}.new"]


def test_a_close_that_fails(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 28: a record whose closing fails is an error, and the one before it stays."""
    write_record(fd, record_of("before"))

    def finish(self: _record_file.Descriptor) -> None:
        self.close()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(_record_file.Descriptor, "finish", finish)
    with pytest.raises(OSError, match="Input/output error"):
        write_record(fd, record_of("after"))
    assert below(tmp_path) == [RECORD]
    found = read_record(fd)
    assert found is not None
    assert found.name == "before"


def test_a_record_under_any_umask(fd: int, tmp_path: Path, umask: Callable[[int], int]) -> None:
    """Row 93: a record has mode 0600 whatever the umask, so that who sweeps can read it."""
    umask(0o777)
    write_record(fd, record_of("one"))
    assert stat.S_IMODE((tmp_path / RECORD).stat().st_mode) == 0o600
