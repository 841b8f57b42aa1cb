"""Staging a directory: file by file, links made again, and nothing left of what failed."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.errors import (
    NameTakenError,
    StagedSourceChangedError,
    StorageError,
    StorageFull,
)
from tempscope.storages import HardlinkStorage, LocalDiskStorage, _copy, _link, _replicate, _walk
from tempscope.storages._area import LocalArea
from tempscope.storages._delete import remove_entry
from tempscope.storages._openat2 import open_directory

from .conftest import as_nobody, below, in_child, needs_root, record_of


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A user's directory; that it is what it was is checked at the end."""
    top = tmp_path / "source"
    (top / "a" / "b").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "one").write_bytes(b"one" * 100)
    (top / "a" / "two").write_bytes(b"two" * 100)
    (top / "a" / "b" / "three").write_bytes(b"three" * 100)
    (top / "a" / "b" / "link").symlink_to("../two")
    (top / "outward").symlink_to("/etc/passwd")
    (top / "a" / "dangling").symlink_to("nowhere")
    (top / "one").chmod(0o440)
    (top / "a" / "b").chmod(0o555)
    for name in ("a/b", "a", "."):
        os.utime(top / name, ns=(3_000, 5_000))
    before = state(top)
    yield top
    assert state(top) == before
    (top / "a" / "b").chmod(0o755)


def state(top: Path) -> list[Any]:
    """Return all there is to know of *top* and what is below it."""
    found: list[Any] = []
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        link = os.readlink(path) if path.is_symlink() else ""
        found.append((str(path), status.st_ino, status.st_mode, status.st_mtime_ns, content, link))
    return found


@pytest.fixture
def area(tmp_path: Path) -> Iterator[LocalArea]:
    """An area that copies."""
    with LocalDiskStorage(tmp_path / "base") as storage:
        yield storage.open_area(record_of())


@pytest.fixture
def linking(tmp_path: Path) -> Iterator[LocalArea]:
    """An area that links."""
    with HardlinkStorage(tmp_path / "base") as storage:
        yield storage.open_area(record_of())


def take_in(area: LocalArea, source: Path, name: str = "in", writable: bool = False, progress: Any = None):
    """Stage as a manager does."""
    return area.take_in(source, name, writable=writable, progress=progress)


NAMES = ["a", "a/b", "a/b/link", "a/b/three", "a/dangling", "a/two", "empty", "one", "outward"]


def test_a_tree_is_linked_file_by_file(source, linking):
    """Every file is the source's inode, every directory our own, every link made again with its text."""
    staged = take_in(linking, source)
    assert (staged.method, staged.bytes_saved, staged.source) == ("hardlink", 1100, source)
    assert below(staged.path) == NAMES
    for name in ("one", "a/two", "a/b/three"):
        assert (staged.path / name).samefile(source / name)
    assert os.readlink(staged.path / "a/b/link") == "../two"
    assert os.readlink(staged.path / "outward") == "/etc/passwd"
    assert os.readlink(staged.path / "a/dangling") == "nowhere"
    assert staged.path.stat().st_ino != source.stat().st_ino
    status = (staged.path / "a" / "b").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o755, 5_000)
    staged.verify()


@pytest.mark.parametrize("writable", [True, False])
def test_a_tree_is_copied(source, area, writable):
    """A copied tree shares no inode, keeps modes and times, and can be written to by its owner."""
    told: list[tuple[int, int]] = []
    staged = take_in(area, source, writable=writable, progress=lambda *now: told.append(now))
    assert (staged.method, staged.bytes_saved) == ("copy", 0)
    assert below(staged.path) == NAMES
    assert (staged.path / "one").read_bytes() == b"one" * 100
    assert stat.S_IMODE((staged.path / "one").stat().st_mode) == 0o640
    assert not (staged.path / "one").samefile(source / "one")
    assert told == sorted(told)
    assert told[-1] == (1100, 1100)
    (staged.path / "a" / "b" / "new").write_text("new")
    staged.verify()


def test_a_linking_area_copies_a_writable_tree(source, linking):
    """Row 99: what is written to is never linked, in a tree neither."""
    staged = take_in(linking, source, writable=True)
    assert staged.method != "hardlink"
    (staged.path / "a" / "two").write_text("changed")


def test_the_threshold_counts_for_each_file(source, tmp_path):
    """Small files of a tree are copied, large ones linked; the method is the closest one."""
    with HardlinkStorage(tmp_path / "base", threshold=301) as storage:
        told: list[tuple[int, int]] = []
        staged = take_in(storage.open_area(record_of()), source, progress=lambda *now: told.append(now))
        assert (staged.method, staged.bytes_saved) == ("hardlink", 500)
        assert (staged.path / "a/b/three").samefile(source / "a/b/three")
        assert not (staged.path / "one").samefile(source / "one")
        assert told[-1] == (1100, 1100)


def test_a_reflinked_tree_says_so(source, area, mocker):
    """Where files are reflinked the tree's method is reflink, and their bytes are saved. Tested by a fake."""

    def share(reading: int, writing: int) -> bool:
        os.write(writing, os.read(reading, 10_000))
        return True

    mocker.patch.object(_link, "reflink", share)
    staged = take_in(area, source)
    assert (staged.method, staged.bytes_saved) == ("reflink", 1100)


def test_every_linked_file_is_verified(source, linking):
    """Row 99: writing through any file of a linked tree is noticed, and the file named."""
    staged = take_in(linking, source)
    content = (source / "a/b/three").read_bytes()
    before = (source / "a/b/three").stat()
    (staged.path / "a/b/three").write_text("changed!")
    with pytest.raises(StagedSourceChangedError, match=r"in 'a/b/three'\)") as caught:
        staged.verify()
    assert caught.value.changed == ("size", "modification time")
    (source / "a/b/three").write_bytes(content)
    os.utime(source / "a/b/three", ns=(before.st_atime_ns, before.st_mtime_ns))
    staged.verify()


def test_many_changes_are_told_short(tmp_path, linking):
    """A tree in which much was changed says where, for the first of it, and how much more there is."""
    (tmp_path / "tree").mkdir()
    for name in "abcde":
        (tmp_path / "tree" / name).write_text(name)
    staged = take_in(linking, tmp_path / "tree")
    for name in "abcde":
        (staged.path / name).write_text("changed")
    with pytest.raises(StagedSourceChangedError, match=r"'., '., '.' and 2 more\)|and 2 more"):
        staged.verify()


def test_a_removed_name_is_looked_for_at_the_source(tmp_path, linking):
    """When the job removed its part of the tree, the source's own names show what was written before."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for name in ("sub/changed", "sub/left", "gone"):
        (tmp_path / "tree" / name).write_text("before")
    staged = take_in(linking, tmp_path / "tree")
    linking.delete(staged.path / "gone")
    (tmp_path / "tree" / "gone").unlink()
    staged.verify()
    (staged.path / "sub" / "changed").write_text("after it")
    linking.delete(staged.path / "sub")
    with pytest.raises(StagedSourceChangedError, match="'sub/changed'"):
        staged.verify()


def test_a_link_to_a_directory_is_followed_once(source, linking, tmp_path):
    """A link as source leads to its directory; links inside are not followed."""
    (tmp_path / "link").symlink_to(source)
    staged = take_in(linking, tmp_path / "link")
    assert staged.source == source
    assert below(staged.path) == NAMES


def test_a_source_tree_that_others_change(tmp_path, area, mocker):
    """A file of the tree that changes while it is copied is an error, and nothing of the tree stays."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "growing").write_text("x")

    def grow(reading: int, writing: int) -> bool:
        (tmp_path / "tree" / "growing").write_text("longer")
        return False

    mocker.patch.object(_link, "reflink", grow)
    with pytest.raises(StagedSourceChangedError, match="tree/growing' was written to"):
        take_in(area, tmp_path / "tree")
    assert os.listdir(area.directory) == []


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_special_files_are_refused(source, linking, tmp_path, monkeypatch, kind):
    """A pipe or socket in a tree is named, not opened and not waited for; nothing of the tree stays."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_text("x")
    if kind == "pipe":
        os.mkfifo(tmp_path / "tree" / "sub" / "odd")
    else:
        monkeypatch.chdir(tmp_path / "tree" / "sub")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("odd")
    with pytest.raises(StorageError, match="sub/odd' cannot be staged.*pipe, socket or device") as caught:
        take_in(linking, tmp_path / "tree")
    assert caught.value.errno == errno.EINVAL
    assert caught.value.path == str(tmp_path / "tree" / "sub" / "odd")
    assert os.listdir(linking.directory) == []


def test_a_name_that_is_taken_stays(source, linking):
    """What has the name stays as it is."""
    linking.create_dir("in").joinpath("mine").write_text("mine")
    with pytest.raises(NameTakenError) as caught:
        take_in(linking, source)
    assert caught.value.path == str(linking.directory / "in")
    assert below(linking.directory) == ["in", "in/mine"]


def test_a_tree_that_holds_the_scope_is_refused(tmp_path, area):
    """A directory in which the scope itself stands would be copied into itself: it is refused."""
    assert area.directory.is_dir()
    with pytest.raises(StorageError, match="the copy would be made inside of it"):
        take_in(area, tmp_path)
    assert os.listdir(area.directory) == []


def test_what_the_progress_raises_ends_it(source, linking, area):
    """Cancelled, nothing of the tree stays, whether it is linked or copied, and the name is free."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for place in (linking, area):
        with pytest.raises(KeyboardInterrupt):
            take_in(place, source, progress=stop)
        assert os.listdir(place.directory) == []
        take_in(place, source)


@needs_root
def test_a_full_disk_leaves_nothing(tmp_path, tiny_disk):
    """Row 17: a tree that does not fit is an error that names the file system; nothing of it stays."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "tree" / "sub" / str(number)).write_bytes(bytes(range(256)) * 2000)
    with LocalDiskStorage(tiny_disk) as storage:
        area = storage.open_area(record_of())
        with pytest.raises(StorageFull, match="tmpfs"):
            take_in(area, tmp_path / "tree")
        assert os.listdir(area.directory) == []
        (tmp_path / "many").mkdir()
        for number in range(60):
            (tmp_path / "many" / str(number)).touch()
        with pytest.raises(StorageFull, match="tmpfs"):
            take_in(area, tmp_path / "many")
        assert os.listdir(area.directory) == []


@needs_root
def test_a_tree_across_file_systems(source, tiny_disk):
    """Row 30: between two file systems every file of a tree is copied."""
    with HardlinkStorage(tiny_disk) as storage:
        staged = take_in(storage.open_area(record_of()), source)
        assert staged.method == "copy"
        assert below(staged.path) == NAMES


@needs_root
def test_a_directory_that_may_not_be_read(open_to_all):
    """A part of the tree that cannot be read is an error about the source, which it names."""
    (open_to_all / "tree" / "secret").mkdir(parents=True)
    (open_to_all / "tree" / "secret").chmod(0o700)

    def job() -> list[Any]:
        with LocalDiskStorage(open_to_all / "base") as storage:
            area = storage.open_area(record_of())
            try:
                take_in(area, open_to_all / "tree")
            except StorageError as error:
                return [error.errno, error.path, os.listdir(area.directory)]
            return []

    assert in_child(lambda: as_nobody(job)) == [errno.EACCES, str(open_to_all / "tree" / "secret"), []]


@needs_root
def test_a_strangers_tree_is_copied(open_to_all, tmp_path):
    """Row 100: where the kernel forbids linking another's files, a tree of them is copied, and is ours."""
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is 0: the kernel forbids no links")
    (open_to_all / "tree").mkdir()
    (open_to_all / "tree" / "theirs").write_text("theirs")

    def job() -> list[Any]:
        with HardlinkStorage(open_to_all / "base") as storage:
            staged = take_in(storage.open_area(record_of()), open_to_all / "tree")
            return [staged.method, (staged.path / "theirs").stat().st_uid]

    assert in_child(lambda: as_nobody(job)) == ["copy", 65534]


def test_a_deep_tree(tmp_path, area):
    """A tree deeper than recursion and path lengths allow comes in whole, and can be verified."""
    top = tmp_path / "deep"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("dir", dir_fd=fd)
        deeper = os.open("dir", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("leaf", os.O_CREAT, dir_fd=fd))
    os.close(fd)
    staged = take_in(area, top)
    assert area.usage().directories == 1_501
    assert area.usage().files == 1
    staged.verify()
    assert area.delete(staged.path).removed == 1_502
    # pytest's own deleter could not.
    with open_directory(str(tmp_path)) as place:
        assert remove_entry(place.fd, "deep").removed == 1_502


def test_a_directory_moved_meanwhile(tmp_path, area, mocker):
    """A directory of the source that is moved while we are in it stops the staging; nothing of it stays."""
    (tmp_path / "tree" / "sub" / "deeper").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    really = _walk.open_directory

    def up(name: str, **options: Any) -> Any:
        if name == "..":
            (tmp_path / "tree" / "sub" / "deeper").rename(tmp_path / "elsewhere" / "deeper")
        return really(name, **options)

    mocker.patch.object(_walk, "open_directory", up)
    with pytest.raises(StorageError, match="moved meanwhile") as caught:
        take_in(area, tmp_path / "tree")
    assert caught.value.errno == errno.ESTALE
    assert os.listdir(area.directory) == []


def test_a_copy_moved_meanwhile(source, area, tmp_path, mocker):
    """If somebody moves what is being made in the scope, that is an error."""
    really = _replicate.open_directory

    def up(name: str, **options: Any) -> Any:
        for found in area.directory.rglob("b"):
            found.rename(tmp_path / "stolen")
        return really(name, **options)

    mocker.patch.object(_replicate, "open_directory", up)
    with pytest.raises(StorageError, match="moved meanwhile"):
        take_in(area, source)
    assert os.listdir(area.directory) == []


def test_content_is_compared_where_asked_for(tmp_path):
    """With verify_content, a change that leaves size, time and mode as they were is noticed too."""
    (tmp_path / "tree").mkdir()
    for name in ("file", "tree/file"):
        (tmp_path / name).write_text("before")
        os.utime(tmp_path / name, ns=(1, 1))
    for by_content in (False, True):
        with HardlinkStorage(tmp_path / "base", verify_content=by_content) as storage:
            area = storage.open_area(record_of())
            for name, changed in (("file", "file"), ("tree", "tree/file")):
                staged = take_in(area, tmp_path / name, name=name)
                staged.verify()
                (area.directory / changed).write_text("bEfore")
                os.utime(tmp_path / changed, ns=(1, 1))
                if by_content:
                    with pytest.raises(StagedSourceChangedError) as caught:
                        staged.verify()
                    assert caught.value.changed == ("content",)
                else:
                    staged.verify()
                (tmp_path / changed).write_text("before")
                os.utime(tmp_path / changed, ns=(1, 1))


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    """What could not be done is forgotten before and after."""
    for each in (_copy.LINKS, _copy.REFLINKS):
        each.clear()
    yield
    for each in (_copy.LINKS, _copy.REFLINKS):
        each.clear()
