"""Staging and publishing on real file systems: what they can is used, what not is done without."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.images import made, run

from tempscope import HardlinkStorage, LocalDiskStorage, StorageError, TempScopes
from tempscope.storages._copy import LINKS, REFLINKS


MIB = 1 << 20


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """What could not be done on one file system is forgotten with it."""
    yield
    for each in (LINKS, REFLINKS):
        each.clear()


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    with made(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system, which cannot share blocks."""
    with made("ext4", tmp_path) as place:
        yield place


def free(place: Path) -> int:
    """Return how many bytes are free, all that is pending having been written."""
    fd = os.open(place, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    subprocess.run(["sync", "-f", place], check=True)
    status = os.statvfs(place)
    return status.f_bfree * status.f_bsize


def written(path: Path, size: int) -> Path:
    """Write *size* bytes that do not compress, to the disk."""
    with path.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
    return path


def test_inputs_share_their_blocks(sharing: Path) -> None:
    """On XFS and btrfs an input is a reflink: it takes no room, and what is written to it stays its own."""
    source = written(sharing / "source", 8 * MIB)
    content, before = source.read_bytes(), source.stat()
    with LocalDiskStorage(sharing / "base") as storage, TempScopes(storage).open() as job:
        job.new_file()
        room = free(sharing)
        for writable in (False, True):
            staged = job.stage(source, writable=writable)
            assert (staged.method, staged.bytes_saved) == ("reflink", 8 * MIB)
            assert staged.path.read_bytes() == content
        assert room - free(sharing) < MIB
        staged.path.write_bytes(b"changed")
        staged.verify()
    after = source.stat()
    assert source.read_bytes() == content
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
    )


def test_trees_share_their_blocks(sharing: Path) -> None:
    """Where links are refused, a tree is reflinked file by file, and takes no room for its content."""
    (sharing / "tree" / "sub").mkdir(parents=True)
    written(sharing / "tree" / "one", 4 * MIB)
    written(sharing / "tree" / "sub" / "two", 4 * MIB)
    with LocalDiskStorage(sharing / "base") as storage, TempScopes(storage).open() as job:
        job.new_file()
        room = free(sharing)
        staged = job.stage(sharing / "tree")
        assert (staged.method, staged.bytes_saved) == ("reflink", 8 * MIB)
        assert room - free(sharing) < MIB


def test_a_published_input_is_a_reflink(sharing: Path) -> None:
    """A hard-linked input is published as a reflink: no alias of the source, and no room either."""
    source = written(sharing / "source", 8 * MIB)
    with HardlinkStorage(sharing / "base") as storage, TempScopes(storage).open() as job:
        staged = job.stage(source)
        assert staged.method == "hardlink"
        room = free(sharing)
        product = job.publish(staged.path, sharing / "product")
        assert room - free(sharing) < MIB
    with product.open("r+b") as file:
        file.write(b"changed")
    assert not product.samefile(source)
    assert source.read_bytes()[:7] != b"changed"


def test_subvolumes_are_not_linked_but_share(tmp_path: Path) -> None:
    """Row 30: between two subvolumes of btrfs links are EXDEV on one file system, and reflinks work."""
    with made("btrfs", tmp_path) as place:
        for name in ("one", "two"):
            run("btrfs", "-q", "subvolume", "create", place / name)
        source = written(place / "one" / "source", MIB)
        with HardlinkStorage(place / "two") as storage, TempScopes(storage).open() as job:
            assert [job.stage(source).method for _ in range(2)] == ["reflink", "reflink"]
            assert LINKS


def test_a_sparse_input_stays_sparse(ext4: Path) -> None:
    """Where blocks cannot be shared, a file of holes is copied with its holes."""
    source = ext4 / "source"
    with source.open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"end")
    with LocalDiskStorage(ext4 / "base") as storage, TempScopes(storage).open() as job:
        staged = job.stage(source, writable=True)
        assert staged.method == "copy"
        assert staged.path.stat().st_size == (1 << 30) + 3
        assert staged.path.stat().st_blocks * 512 < MIB
        with staged.path.open("rb") as file:
            assert file.read(5) == b"begin"
            file.seek(1 << 30)
            assert file.read() == b"end"


def test_a_file_with_as_many_links_as_there_can_be(ext4: Path) -> None:
    """Row 31: EMLINK leads to a copy, and to nothing being remembered."""
    source = written(ext4 / "source", 100)
    (ext4 / "links").mkdir()
    for number in range(64_999):
        os.link(source, ext4 / "links" / str(number))
    with HardlinkStorage(ext4 / "base") as storage, TempScopes(storage).open() as job:
        assert job.stage(source).method == "copy"
        os.unlink(ext4 / "links" / "0")
        assert job.stage(source).method == "hardlink"


def test_an_immutable_source_is_copied(ext4: Path) -> None:
    """EPERM, for root too: an immutable file, alone or in a tree, cannot be linked: it is copied."""
    (ext4 / "tree").mkdir()
    source = written(ext4 / "tree" / "source", 100)
    run("chattr", "+i", source)
    try:
        with HardlinkStorage(ext4 / "base") as storage, TempScopes(storage).open() as job:
            for given in (source, ext4 / "tree"):
                staged = job.stage(given)
                assert staged.method == "copy"
        assert job.report is not None
        assert job.report.complete
    finally:
        run("chattr", "-i", source)
    assert source.stat().st_nlink == 1


def test_an_immutable_destination_stays(ext4: Path) -> None:
    """A destination that may not be replaced stays as it is, and the product is still in the scope."""
    destination = written(ext4 / "product", 100)
    run("chattr", "+i", destination)
    try:
        with LocalDiskStorage(ext4 / "base") as storage, TempScopes(storage).open() as job:
            path = job.new_file()
            path.write_bytes(b"new")
            with pytest.raises(StorageError, match="not permitted"):
                job.publish(path, destination)
            assert path.read_bytes() == b"new"
    finally:
        run("chattr", "-i", destination)
    assert destination.stat().st_size == 100
