"""Copying bytes: holes stay holes, whatever the kernel offers; what cannot be done is remembered by mount."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.storages import _copy
from tempscope.storages._copy import Unable, copy_bytes

from .conftest import needs_root


MIB = 1 << 20


def sparse(path: Path, *pieces: tuple[int, bytes], size: int) -> Path:
    """Write a file that has only *pieces*, at their places, and holes otherwise."""
    with path.open("wb") as file:
        for start, content in pieces:
            file.seek(start)
            file.write(content)
        file.truncate(size)
        os.fsync(file.fileno())
    return path


def copied(source: Path, target: Path, progress: Any = None) -> int:
    """Copy as staging does."""
    with source.open("rb") as reading, target.open("wb") as writing:
        done = copy_bytes(reading.fileno(), writing.fileno(), progress)
        os.fsync(writing.fileno())
        return done


def blocks(path: Path) -> int:
    """Return how many bytes are allocated."""
    return path.stat().st_blocks * 512


SHAPES: dict[str, tuple[list[tuple[int, bytes]], int]] = {
    "only a hole": ([], 8 * MIB),
    "a hole first": ([(4 * MIB, b"x" * MIB)], 5 * MIB),
    "a hole last": ([(0, b"x" * MIB)], 8 * MIB),
    "holes between": ([(0, b"a" * MIB), (3 * MIB, b"b" * MIB), (6 * MIB, b"c" * 4096)], 8 * MIB + 5),
    "no hole": ([(0, os.urandom(MIB))], MIB),
    "one byte": ([(0, b"x")], 1),
}


def fails(code: int) -> Callable[..., Any]:
    """Return a call that always fails with *code*."""

    def call(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("kernel", ["copies", "cannot"])
@pytest.mark.parametrize("shape", SHAPES)
def test_holes_stay_holes(tmp_path, mocker, shape, kernel):
    """The copy has the same content and no more blocks; the last thing told is all of it."""
    pieces, size = SHAPES[shape]
    source = sparse(tmp_path / "source", *pieces, size=size)
    if kernel == "cannot":
        mocker.patch.object(os, "copy_file_range", fails(errno.EXDEV))
    told: list[tuple[int, int]] = []
    assert copied(source, tmp_path / "copy", lambda *now: told.append(now)) == size
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert blocks(tmp_path / "copy") <= blocks(source) + 8192
    assert told == sorted(told)
    assert told[-1] == (size, size)


def test_a_kernel_that_refuses_half_way(tmp_path, mocker):
    """Row 32: where the kernel copies some and then refuses, the rest is read and written."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * MIB))
    really, calls = os.copy_file_range, []

    def some(reading: int, writing: int, count: int) -> int:
        calls.append(count)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "no more")
        return really(reading, writing, MIB)

    mocker.patch.object(os, "copy_file_range", some)
    assert copied(source, tmp_path / "copy") == 3 * MIB
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_tells_no_holes(tmp_path, monkeypatch, code):
    """Row 32: where holes are not told, all is copied; an error of the disk is raised."""
    source = sparse(tmp_path / "source", (0, b"x"), size=MIB)
    seek = os.lseek

    def lseek(fd: int, where: int, how: int) -> int:
        if how == os.SEEK_DATA:
            raise OSError(code, os.strerror(code))
        return seek(fd, where, how)

    monkeypatch.setattr(os, "lseek", lseek)
    if code == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            copied(source, tmp_path / "copy")
        return
    assert copied(source, tmp_path / "copy") == MIB
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_platform_without_holes(tmp_path, monkeypatch):
    """Where the platform knows no holes all is copied. Tested by a fake."""
    monkeypatch.setattr(_copy, "_SEEK_DATA", None)
    source = sparse(tmp_path / "source", (0, b"x"), size=MIB)
    assert copied(source, tmp_path / "copy") == MIB


def test_a_file_that_shrinks_is_not_waited_for(tmp_path, mocker):
    """A file from which somebody takes its end while it is copied ends the copy; staging then says so."""
    source = sparse(tmp_path / "source", (0, b"x" * MIB), (40 * MIB, b"y" * MIB), size=64 * MIB)

    def shrink(done: int, total: int) -> None:
        os.truncate(source, MIB)

    assert copied(source, tmp_path / "copy", shrink) == 64 * MIB


# -- what cannot be done


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two open directories on one mount."""
    fds = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fds.append(os.open(tmp_path / name, os.O_RDONLY))
    yield fds[0], fds[1]
    for fd in fds:
        os.close(fd)


def test_only_what_says_so_of_all_files_is_remembered(two):
    """An error that may be this file's own is forgotten; one about the mounts is kept until cleared."""
    ways, device = Unable(), os.fstat(two[0]).st_dev
    ways.note(*two, errno.EPERM)
    assert not ways
    assert not ways.suspects(device, device)
    assert not ways.knows(*two)
    ways.note(*two, errno.EOPNOTSUPP)
    assert ways
    assert ways.suspects(device, device)
    assert ways.knows(*two)
    ways.clear()
    assert not ways.knows(*two)


@needs_root
def test_a_pair_of_mounts_is_remembered_not_a_pair_of_devices(tmp_path, two):
    """Row 30: what fails into a bind mount does not fail elsewhere on the same device."""
    bound = tmp_path / "bound"
    bound.mkdir()
    done = subprocess.run(
        ["mount", "--bind", tmp_path / "two", bound], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mount --bind failed: {done.stderr.strip()}")
    try:
        other = os.open(bound, os.O_RDONLY)
        try:
            assert os.fstat(other).st_dev == os.fstat(two[1]).st_dev
            ways = Unable()
            ways.note(two[0], other, errno.EXDEV)
            assert ways.knows(two[0], other)
            assert not ways.knows(*two)
            assert not ways.knows(other, two[0])
        finally:
            os.close(other)
    finally:
        subprocess.run(["umount", "-l", bound], check=True)


def test_a_device_number_that_another_file_system_got_is_asked_again(tmp_path, monkeypatch):
    """What a file system cannot do is not held against the next one that gets its device number."""
    with (tmp_path / "source").open("wb") as source, (tmp_path / "target").open("wb") as target:
        unable = _copy.Unable()
        unable.note(source.fileno(), target.fileno(), errno.EOPNOTSUPP)
        assert unable.knows(source.fileno(), target.fileno())
        monkeypatch.setattr(_copy, "_systems", lambda *_: (1, 2))
        assert not unable.knows(source.fileno(), target.fileno())


def test_who_is_told_is_told_often(tmp_path, mocker):
    """With progress the kernel is asked for 16 MiB at once, so that cancelling is soon; without for 64."""
    (tmp_path / "source").write_bytes(b"x")
    asked = mocker.spy(os, "copy_file_range")
    for progress, most in ((lambda done, total: None, 16 * MIB), (None, 64 * MIB)):
        asked.reset_mock()
        copied(tmp_path / "source", tmp_path / "target", progress)
        assert {call.args[2] for call in asked.call_args_list} == {most}
