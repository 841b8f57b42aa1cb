"""Whole directories in and out of a scope, and paths of other storages as sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempscope.errors import (
    BaseDirectoryError,
    ForeignPathError,
    PathMissingError,
    QuotaExceededError,
    StagedSourceChangedError,
    UnsupportedError,
)
from tempscope.manager import TempFileManager
from tempscope.protocols import TempStorage
from tempscope.scopes import TempScopes
from tempscope.storages import HardlinkStorage, LocalDiskStorage, MemoryStorage


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A user's directory."""
    top = tmp_path / "tree"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"content")
    return top


@pytest.fixture(params=["disk", "hardlink", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TempStorage]:
    """Each storage in turn."""
    makers = {
        "disk": lambda: LocalDiskStorage(tmp_path / "base"),
        "hardlink": lambda: HardlinkStorage(tmp_path / "base"),
        "memory": MemoryStorage,
    }
    with makers[request.param]() as storage:
        yield storage


def test_a_tree_goes_through(storage: TempStorage, tree: Path, tmp_path: Path) -> None:
    """A directory is staged, worked on and published as files are, wherever the scope's files live."""
    with TempScopes(storage).open() as job:
        read_only = job.stage(tree)
        assert (read_only.path / "sub" / "file").read_bytes() == b"content"
        mine = job.stage(tree, writable=True)
        assert mine.path.name != read_only.path.name
        (mine.path / "sub" / "file").write_bytes(b"changed")
        (mine.path / "new").write_bytes(b"new")
        assert job.publish(mine.path, tmp_path / "product") == tmp_path / "product"
        assert job.stage(tree, name=mine.path.name).path == mine.path
    assert (tree / "sub" / "file").read_bytes() == b"content"
    assert (tmp_path / "product" / "sub" / "file").read_bytes() == b"changed"
    assert (tmp_path / "product" / "new").read_bytes() == b"new"


def test_a_linked_tree_is_verified_when_the_scope_closes(tree: Path, tmp_path: Path) -> None:
    """Row 99: closing a scope tells of a write through any file of a hard-linked tree."""
    with (
        HardlinkStorage(tmp_path / "base") as storage,
        pytest.raises(StagedSourceChangedError, match="'sub/file'"),
        TempScopes(storage).open() as job,
    ):
        (job.stage(tree).path / "sub" / "file").write_bytes(b"changed")
    assert list((tree / "sub").iterdir()) == [tree / "sub" / "file"]


def test_a_file_in_memory_is_a_source(tmp_path: Path) -> None:
    """A path in memory is staged, and published to, without going to the disk, from scope to scope."""
    memory = MemoryStorage()
    with TempScopes(memory).open() as first, TempScopes(memory).open() as second:
        source = first.new_file(name="made")
        source.write_bytes(b"content")
        (first.new_dir(name="dir") / "file").write_bytes(b"more")
        staged = second.stage(source)
        assert (staged.source, staged.path.read_bytes()) == (source, b"content")
        assert (second.stage(first.directory / "dir").path / "file").read_bytes() == b"more"
        product = second.new_file()
        product.write_bytes(b"product")
        assert second.publish(product, first.directory / "from the second").read_bytes() == b"product"


def test_a_file_in_memory_has_no_place_on_disk(tmp_path: Path) -> None:
    """A disk takes in a path in memory if that can spill; if not, it is refused."""
    with (
        TempScopes(MemoryStorage()).open() as job,
        TempFileManager(storage=LocalDiskStorage(tmp_path / "a")) as disk,
    ):
        path = job.new_file()
        with pytest.raises(UnsupportedError):
            disk.stage(path)
    with (
        MemoryStorage(spill_to=LocalDiskStorage(tmp_path / "spill")) as memory,
        TempScopes(memory).open() as job,
        TempFileManager(storage=LocalDiskStorage(tmp_path / "a")) as disk,
    ):
        path = job.new_file()
        path.write_bytes(b"content")
        assert disk.stage(path).path.read_bytes() == b"content"


def test_bad_sources_and_destinations(storage: TempStorage, tree: Path, tmp_path: Path, monkeypatch) -> None:
    """What cannot be a source or destination is refused with a clear error, and nothing is lost."""
    monkeypatch.chdir(tmp_path)
    with TempScopes(storage).open() as job:
        for source in (tree / "missing", tree / "sub" / "file" / "below"):
            with pytest.raises(PathMissingError):
                job.stage(source)
        for odd in ("", "nul\0", Path("nul\0")):
            with pytest.raises(BaseDirectoryError):
                job.stage(odd)
        assert job.stage("tree/sub/file").source == tree / "sub" / "file"
        product = job.new_dir()
        (product / "file").write_bytes(b"result")
        for place in (job.directory / "other", product / "inside", product):
            with pytest.raises(ForeignPathError):
                job.publish(product, place)
        with pytest.raises(ForeignPathError):
            job.publish(tree, tmp_path / "out")
        assert (product / "file").read_bytes() == b"result"
    assert sorted(os.listdir(tree)) == ["sub"]


def test_a_source_under_its_own_name(tree: Path, tmp_path: Path) -> None:
    """Publishing a linked input onto its source gives a file of the same content that is no alias."""
    source = tree / "sub" / "file"
    with HardlinkStorage(tmp_path / "base") as storage, TempScopes(storage).open() as job:
        staged = job.stage(source)
        assert staged.path.samefile(source)
        job.publish(staged.path, source)
        assert source.read_bytes() == b"content"
        assert source.stat().st_nlink == 1


def test_a_linked_tree_is_verified_by_whoever_takes_it_over(tree: Path, tmp_path: Path) -> None:
    """Row 99: what is known of every linked file of a tree, its content too, goes with a scope."""
    os.utime(tree / "sub" / "file", ns=(1, 1))
    with HardlinkStorage(tmp_path / "base", verify_content=True) as storage:
        job = TempScopes(storage).open()
        job.stage(tree)
        taken = TempScopes(storage).attach(job.detach())
        (taken.directory / "tree" / "sub" / "file").write_bytes(b"CONTENT")
        os.utime(tree / "sub" / "file", ns=(1, 1))
        with pytest.raises(StagedSourceChangedError) as caught:
            taken.close()
    assert caught.value.changed == ("content",)


def test_a_tree_beyond_the_quota_leaves_nothing(tmp_path: Path, tree: Path) -> None:
    """A directory that does not fit is refused at the file that is too much, and nothing of it stays."""
    (tree / "large").write_bytes(bytes(1 << 20))
    with (
        LocalDiskStorage(tmp_path / "base") as storage,
        TempScopes(storage).open(quota="256KiB") as job,
    ):
        with pytest.raises(QuotaExceededError):
            job.stage(tree, writable=True)
        assert list(job.directory.iterdir()) == []
