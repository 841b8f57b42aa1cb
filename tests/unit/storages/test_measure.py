"""Counting what a tree occupies: allocated bytes, each inode once."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.model import Usage
from tempscope.storages import _measure
from tempscope.storages._measure import measure

from .conftest import as_nobody, in_child, needs_root


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """An empty directory, open."""
    (tmp_path / "top").mkdir()
    fd = os.open(tmp_path / "top", os.O_RDONLY)
    yield fd
    os.close(fd)
    # pytest's own removal of old directories gives up on deep trees.
    subprocess.run(["rm", "-rf", tmp_path / "top"], check=True)


def test_files_directories_and_bytes(tmp_path, top):
    """Files, links and directories below are counted, with the bytes that are really allocated."""
    assert measure(top) == Usage()
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    (tmp_path / "top" / "a" / "f").write_bytes(b"x" * 10_000)
    (tmp_path / "top" / "link").symlink_to("/")
    usage = measure(top)
    blocks = (tmp_path / "top" / "a").stat().st_blocks + (tmp_path / "top" / "a" / "b").stat().st_blocks
    assert (usage.files, usage.directories) == (2, 2)
    assert usage.bytes == usage.freeable_bytes == 12_288 + 512 * blocks


def test_sparse_and_linked_files_count_what_they_hold(tmp_path, top):
    """Trap: sparse and hard-linked files double counted: 2 GB of hole is nothing, an inode counts once."""
    with (tmp_path / "top" / "sparse").open("wb") as file:
        file.truncate(2 << 30)
    assert measure(top).bytes < 100_000
    (tmp_path / "top" / "one").write_bytes(b"x" * 4_096)
    os.link(tmp_path / "top" / "one", tmp_path / "top" / "two")
    usage = measure(top)
    assert (usage.files, usage.bytes - usage.freeable_bytes) == (3, 0)
    assert 4_096 <= usage.bytes < 100_000
    os.link(tmp_path / "top" / "one", tmp_path / "outside")
    usage = measure(top)
    assert usage.bytes - usage.freeable_bytes == 4_096


def test_any_depth_in_a_handful_of_descriptors(tmp_path, top, mocker):
    """Row 94: however deep, counting needs a handful of descriptors, and leaves none open."""
    fd = os.dup(top)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before, most, scandir = len(os.listdir("/proc/self/fd")), [0], os.scandir

    def counting(fd: int) -> Any:
        most[0] = max(most[0], len(os.listdir("/proc/self/fd")))
        return scandir(fd)

    mocker.patch.object(os, "scandir", counting)
    assert measure(top).directories == 3_000
    assert most[0] - before <= 6
    assert len(os.listdir("/proc/self/fd")) == before


@needs_root
def test_a_mount_is_not_entered(tmp_path, top):
    """Security rule 7: what is mounted inside is not ours and does not count."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_text("x")
    (tmp_path / "top" / "mount").mkdir()
    done = subprocess.run(
        ["mount", "--bind", tmp_path / "other", tmp_path / "top" / "mount"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"mount --bind failed: {done.stderr.strip()}")
    try:
        assert measure(top) == Usage()
    finally:
        subprocess.run(["umount", "-l", tmp_path / "top" / "mount"], check=True)


@needs_root
def test_what_cannot_be_entered_or_left_is_no_error(open_to_all):
    """Row 95: a directory that may not be entered, or only read, is counted as far as it can be."""

    def job() -> list[int]:
        top = open_to_all / "top"
        for name, mode in (("closed", 0o000), ("readable", 0o400)):
            (top / name / "in").mkdir(parents=True)
            (top / name / "in" / "f").write_text("x")
            (top / name).chmod(mode)
        (top / "f").write_text("x")
        fd = os.open(top, os.O_RDONLY)
        usage = measure(fd)
        return [usage.files, usage.directories]

    # From a directory that may only be read there is no way up either: what was not looked at does not count.
    files, directories = in_child(lambda: as_nobody(job))
    assert files == 1
    assert directories <= 1


def test_entries_that_vanish_do_not_count(tmp_path, top, mocker):
    """Row 26: what vanishes while we look is not counted, and no error."""
    for name in ("a", "b"):
        (tmp_path / "top" / name).mkdir()
        (tmp_path / "top" / name / "f").write_text("x")
    really, codes = _measure.open_subdirectory, [errno.ENOENT]

    def hooked(fd: int, name: str) -> Any:
        if codes:
            raise OSError(codes.pop(), "gone")
        return really(fd, name)

    mocker.patch.object(_measure, "open_subdirectory", hooked)
    assert measure(top).files == 1


def test_an_entry_of_unknown_kind(tmp_path, top, mocker):
    """What the system does not tell about does not count."""
    (tmp_path / "top" / "f").write_text("x")
    entry = mocker.Mock()
    entry.is_dir.side_effect = OSError(errno.EIO, "no")
    listing = mocker.MagicMock()
    listing.__enter__.return_value = [entry]
    mocker.patch.object(os, "scandir", return_value=listing)
    assert measure(top) == Usage()


def test_a_tree_that_moves_is_counted_in_part(tmp_path, top, mocker):
    """When the way up leads elsewhere counting ends: what is there is not ours."""
    (tmp_path / "top" / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "f").write_text("x")
    really, moves = _measure.open_directory, [1]

    def hooked(name: str, *, dir_fd: int) -> Any:
        if moves:
            moves.pop()
            (tmp_path / "top" / "a" / "b" / "c").rename(tmp_path / "away" / "c")
        return really(name, dir_fd=dir_fd)

    mocker.patch.object(_measure, "open_directory", hooked)
    assert measure(top).files == 0


def test_a_way_up_that_cannot_be_opened(tmp_path, top, mocker):
    """Row 16: an error on the way up ends the counting, and is no error of the caller's."""
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    mocker.patch.object(_measure, "open_directory", side_effect=OSError(errno.EACCES, "no"))
    assert measure(top).directories == 2
