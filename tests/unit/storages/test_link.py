"""Staging: hard link, reflink, copy, each where the one before cannot be; the source stays as it is."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import LocalDiskStorage
from tempscope.errors import (
    NameTakenError,
    PathMissingError,
    StagedSourceChangedError,
    StorageError,
    StorageFull,
)
from tempscope.storages import _copy, _link, _lock
from tempscope.storages._copy import copy_bytes, reflink
from tempscope.storages._link import Linking
from tempscope.storages._staged import StagedOnDisk

from .conftest import as_nobody, in_child, needs_root, record_of


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    """Nothing is remembered from another test."""
    for each in (_copy.LINKS, _copy.REFLINKS):
        each.clear()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """A user's file; that it is what it was is checked at the end."""
    path = tmp_path / "source.bin"
    path.write_bytes(b"theirs" * 1000)
    path.chmod(0o640)
    os.utime(path, ns=(3_000, 5_000))
    before = path.stat()
    yield path
    after = path.stat()
    assert path.read_bytes() == b"theirs" * 1000
    assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_ino,
    )


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """A scope's directory."""
    place = tmp_path / "area"
    place.mkdir(mode=0o700)
    return place


def stage(
    source: Path,
    area: Path,
    name: str = "in",
    link_from: int | None = 0,
    progress: Any = None,
    by_content: bool = False,
    at_once: bool = True,
) -> StagedOnDisk:
    """Stage as an area does."""
    linking = None if link_from is None else Linking(link_from, by_content=by_content)
    fd = os.open(area, os.O_RDONLY)
    try:
        now = _link.stage_at_once(source, fd, name, area / name, linking, reflinks=True) if at_once else None
        return now or _link.stage(source, fd, name, area / name, linking=linking, progress=progress)
    finally:
        os.close(fd)


def fails(code: int) -> Callable[..., Any]:
    """Return a call that always fails with *code*."""

    def call(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


def test_a_read_only_input_is_linked(source, area):
    """Where links are asked for, the staged file is the source's inode, and the bytes saved are told."""
    staged = stage(source, area)
    assert (staged.method, staged.bytes_saved, staged.path, staged.source) == (
        "hardlink",
        6000,
        area / "in",
        source,
    )
    assert (area / "in").stat().st_ino == source.stat().st_ino
    staged.verify()


@pytest.mark.parametrize("link_from", [None, 6001])
def test_without_links_or_below_the_threshold_it_is_copied(source, area, link_from):
    """A copy has the source's content, permissions and times, and an inode of its own; progress is told."""
    told: list[tuple[int, int]] = []
    staged = stage(source, area, link_from=link_from, progress=lambda *now: told.append(now))
    assert (staged.method, staged.bytes_saved) == ("copy", 0)
    assert (area / "in").read_bytes() == source.read_bytes()
    status = (area / "in").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_nlink) == (0o640, 5_000, 1)
    assert told[-1] == (6000, 6000)
    (area / "in").write_bytes(b"changed")
    staged.verify()


def test_a_copy_can_always_be_written_by_its_owner_and_has_no_set_id_bits(tmp_path, area):
    """Trap: copies lose or keep the wrong mode (uv #18181): permissions come along, set-id bits do not."""
    path = tmp_path / "tool"
    path.write_bytes(b"x")
    path.chmod(0o6455)
    stage(path, area, link_from=None)
    assert stat.S_IMODE((area / "in").stat().st_mode) == 0o655


def test_the_umask_takes_nothing_of_a_copys_permissions(source, area, umask):
    """A copy has the source's permissions whatever the umask."""
    umask(0o077)
    stage(source, area, link_from=None)
    assert stat.S_IMODE((area / "in").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "code",
    [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES],
)
def test_a_link_that_cannot_be_steps_down(source, area, mocker, code):
    """
    Rows 30, 31, 32: an error that says "no links here" leads to a copy, and that is told.

    Trap: EXDEV, EPERM (pex #852), EMLINK (cromwell #5043), EOPNOTSUPP, EACCES (bun #36853) fall through.
    """
    mocker.patch.object(os, "link", fails(code))
    staged = stage(source, area)
    assert staged.method == "copy"
    assert (area / "in").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOENT, PathMissingError),
        (errno.EEXIST, NameTakenError),
        (errno.ENOSPC, StorageFull),
        (errno.EIO, StorageError),
    ],
)
def test_an_error_about_the_source_or_the_room_is_raised(source, area, mocker, code, error):
    """Trap: ENOENT, EEXIST, ENOSPC raise: they are no reason to try another way."""
    mocker.patch.object(os, "link", fails(code))
    with pytest.raises(error) as caught:
        stage(source, area)
    assert caught.value.errno == code
    assert os.listdir(area) == []


def test_a_name_that_is_taken(source, area):
    """What has the name stays as it is, whichever way is tried."""
    (area / "in").write_text("first")
    for link_from in (0, None):
        with pytest.raises(NameTakenError) as caught:
            stage(source, area, link_from=link_from)
        assert caught.value.path == str(area / "in")
    assert (area / "in").read_text() == "first"


def test_links_are_followed_once_and_other_things_refused(source, area, tmp_path):
    """
    Trap: symlinked and special sources (Bazel #15340).

    A link leads to its file, the rest is refused.
    """
    (tmp_path / "link").symlink_to("link2")
    (tmp_path / "link2").symlink_to(source)
    staged = stage(tmp_path / "link", area)
    assert (staged.source, staged.method) == (source, "hardlink")
    assert not (area / "in").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "null").symlink_to("/dev/null")
    expected = {"pipe": errno.EINVAL, "null": errno.EINVAL, "dangling": errno.ENOENT}
    for name, code in expected.items():
        with pytest.raises(StorageError) as caught:
            stage(tmp_path / name, area, name="other")
        assert caught.value.errno == code
    with pytest.raises(StorageError):
        stage(tmp_path / "loop", area, name="other")
    with pytest.raises(PathMissingError):
        stage(source / "below", area, name="other")
    with pytest.raises(StorageError) as caught:
        stage(tmp_path / ("n" * 300), area, name="other")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert os.listdir(area) == ["in"]


def test_a_source_swapped_between_looking_and_linking(source, area, tmp_path, mocker):
    """A source that becomes a link or a pipe after we looked is not let in, by link or by copy."""
    link = os.link
    (tmp_path / "other").write_text("x")

    def swapped(src: Path, *args: Any, **kwargs: Any) -> None:
        (tmp_path / "other").unlink()
        (tmp_path / "other").symlink_to(source)
        link(src, *args, **kwargs)

    mocker.patch.object(os, "link", swapped)
    with pytest.raises(StorageError, match="neither a file nor"):
        stage(tmp_path / "other", area, at_once=False)
    really = _link._look_at

    def look(path: Path) -> os.stat_result:
        status = really(path)
        path.unlink()
        os.mkfifo(path)
        return status

    (tmp_path / "third").write_text("x")
    mocker.patch.object(_link, "_look_at", look)
    with pytest.raises(StorageError, match="neither a file nor"):
        stage(tmp_path / "third", area, link_from=None)
    assert os.listdir(area) == []


@needs_root
def test_somebody_elses_file_is_copied(open_to_all):
    """Row 100: where the kernel forbids linking another user's file, it is copied. Security rule 12."""
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is 0: the kernel forbids no links")
    (open_to_all / "theirs").write_text("theirs")
    (open_to_all / "theirs").chmod(0o644)

    def job() -> list[Any]:
        (open_to_all / "area").mkdir()
        staged = stage(open_to_all / "theirs", open_to_all / "area")
        return [staged.method, staged.path.read_text(), os.stat(staged.path).st_uid]

    assert in_child(lambda: as_nobody(job)) == ["copy", "theirs", 65534]


@needs_root
def test_a_source_that_may_not_be_read(open_to_all):
    """An unreadable source is an error about the source: it is raised, and nothing is made."""
    (open_to_all / "theirs").write_text("theirs")
    (open_to_all / "theirs").chmod(0o600)

    def job() -> list[Any]:
        (open_to_all / "area").mkdir()
        try:
            stage(open_to_all / "theirs", open_to_all / "area")
        except StorageError as error:
            return [error.errno, os.listdir(open_to_all / "area")]
        return []

    assert in_child(lambda: as_nobody(job)) == [errno.EACCES, []]


@needs_root
def test_across_file_systems_it_is_copied_and_that_is_remembered(source, tiny_disk, mocker):
    """Row 30, row 32: EXDEV between two devices steps down, once: the next file is copied without trying."""
    link = mocker.spy(os, "link")
    assert stage(source, tiny_disk, "one").method == "copy"
    assert stage(source, tiny_disk, "two").method == "copy"
    assert link.call_count == 1
    assert source.stat().st_nlink == 1


@needs_root
def test_two_mounts_of_one_device(source, tmp_path, area, mocker):
    """Row 30: EXDEV through a bind mount is remembered for that pair of mounts, and for no other."""
    bound = tmp_path / "bound"
    bound.mkdir()
    done = subprocess.run(["mount", "--bind", area, bound], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount --bind failed: {done.stderr.strip()}")
    link = mocker.spy(os, "link")
    try:
        assert stage(source, bound, "one").method == "copy"
        tries = link.call_count
        assert stage(source, bound, "two").method == "copy"
        assert link.call_count == tries
        assert stage(source, area, "three").method == "hardlink"
    finally:
        subprocess.run(["umount", "-l", bound], check=True)


@needs_root
def test_a_full_disk_leaves_no_partial_copy(tmp_path, tiny_disk):
    """Row 17: a copy that does not fit is an error that names the place; nothing of it stays."""
    (tmp_path / "big").write_bytes(b"x" * 2_000_000)
    with pytest.raises(StorageFull, match="tmpfs") as caught:
        stage(tmp_path / "big", tiny_disk)
    assert caught.value.path == str(tiny_disk / "in")
    assert os.listdir(tiny_disk) == []


def test_a_copy_whose_close_fails_is_no_copy(source, area, mocker):
    """Row 28: an error of closing the copy is raised, and nothing of it stays."""
    mocker.patch.object(_link.Descriptors, "finish", side_effect=OSError(errno.EDQUOT, "late"))
    with pytest.raises(StorageFull) as caught:
        stage(source, area, link_from=None)
    assert caught.value.errno == errno.EDQUOT
    assert os.listdir(area) == []


def test_what_the_progress_raises_ends_the_copy(source, area):
    """A cancelled copy leaves nothing, also if the job has removed its part of it already."""

    def stop(done: int, total: int) -> None:
        (area / "in").unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(source, area, link_from=None, progress=stop)
    assert os.listdir(area) == []


def test_a_source_that_changes_while_it_is_copied(tmp_path, area):
    """
    Trap: source changing during copy (Bazel #15340).

    A copy that may be torn is an error and does not stay.
    """
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 1000)

    def grow(done: int, total: int) -> None:
        path.write_bytes(b"y" * 2000)

    with pytest.raises(StagedSourceChangedError) as caught:
        stage(path, area, link_from=None, progress=grow)
    assert caught.value.changed == ("size", "modification time")
    assert caught.value.path == path
    assert os.listdir(area) == []


# -- reflink and copy


def test_a_reflink_shares_all_bytes(source, area, mocker):
    """
    Where the file system shares blocks, the method is reflink.

    And all bytes are saved. Tested by a fake.
    """

    def clone(target: int, request: int, origin: int) -> int:
        assert request == 0x40049409
        os.write(target, os.read(origin, 100_000))
        return 0

    mocker.patch.object(_copy.fcntl, "ioctl", clone)
    staged = stage(source, area, link_from=None)
    assert (staged.method, staged.bytes_saved) == ("reflink", 6000)
    assert (area / "in").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("code", "tries"), [(errno.EOPNOTSUPP, 1), (errno.ENOTTY, 1), (errno.EINVAL, 2), (errno.EPERM, 2)]
)
def test_what_a_device_cannot_is_tried_once(source, area, mocker, code, tries):
    """Row 32: what a file system never can is remembered; what it refused for this file is tried again."""
    ioctl = mocker.patch.object(_copy.fcntl, "ioctl", side_effect=OSError(code, "no"))
    for name in ("one", "two"):
        assert stage(source, area, name, link_from=None, at_once=False).method == "copy"
    assert ioctl.call_count == tries


def test_a_copy_is_made_once_where_reflinks_are_known_to_fail(source, area, mocker):
    """What a device cannot is not tried by making the file, and taking it away again, each time."""
    mocker.patch.object(_copy.fcntl, "ioctl", side_effect=OSError(errno.EOPNOTSUPP, "no"))
    taken_away = mocker.spy(os, "unlink")
    for name, times in (("one", 1), ("two", 1)):
        assert stage(source, area, name, link_from=None).method == "copy"
        assert taken_away.call_count == times


def test_a_reflink_asks_for_room_like_a_copy(source, tmp_path, mocker):
    """In a scope with a quota no reflink is made before there is room for it: later it may cost as much."""
    ioctl, asked = mocker.patch.object(_copy.fcntl, "ioctl", return_value=0), []

    @contextlib.contextmanager
    def reserve(size: int) -> Iterator[None]:
        asked.append((size, ioctl.call_count))
        yield

    with LocalDiskStorage(tmp_path / "base", sweep_on_start=False) as storage:
        made = storage.open_area(record_of())
        made.reserve_by(reserve)
        assert made.take_in(source, "in", writable=False, progress=None).method == "reflink"
        made.remove()
    assert asked == [(6000, 0)]


def test_a_reflink_without_room_is_raised(source, area, mocker):
    """ENOSPC of a reflink is about the room: it is raised and nothing stays."""
    mocker.patch.object(_copy.fcntl, "ioctl", side_effect=OSError(errno.ENOSPC, "no"))
    with pytest.raises(StorageFull):
        stage(source, area, link_from=None)
    assert os.listdir(area) == []


def test_a_platform_without_ioctl_shares_nothing(tmp_path, mocker):
    """Without the call there are no reflinks, and that is no error."""
    mocker.patch.object(_copy, "fcntl", None)
    assert reflink(0, 0) is False


@pytest.mark.parametrize("kernel", ["copies", "cannot", "is missing"])
def test_bytes_are_copied_by_the_kernel_or_by_hand(source, tmp_path, mocker, monkeypatch, kernel):
    """Row 29: all bytes arrive, in the kernel or in pieces, also when writes are short."""
    if kernel == "cannot":
        mocker.patch.object(os, "copy_file_range", fails(errno.EXDEV))
    if kernel == "is missing":
        monkeypatch.delattr(os, "copy_file_range")
    write = os.write
    mocker.patch.object(os, "write", lambda fd, data: write(fd, data[:7]))
    with source.open("rb") as reading, (tmp_path / "copy").open("wb") as writing:
        assert copy_bytes(reading.fileno(), writing.fileno()) == 6000
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_files_that_the_kernel_makes_up_are_read(tmp_path):
    """A file of no size but with content, as in /proc, is copied with its content."""
    with open("/proc/self/status", "rb") as reading, (tmp_path / "copy").open("wb") as writing:
        copy_bytes(reading.fileno(), writing.fileno())
    assert (tmp_path / "copy").read_bytes().startswith(b"Name:")


def test_an_error_of_copying_is_raised(source, tmp_path, mocker):
    """An error that is no capability's is raised at once."""
    mocker.patch.object(os, "copy_file_range", fails(errno.EIO))
    with (
        source.open("rb") as reading,
        (tmp_path / "copy").open("wb") as writing,
        pytest.raises(OSError, match="Errno") as caught,
    ):
        copy_bytes(reading.fileno(), writing.fileno())
    assert caught.value.errno == errno.EIO


# -- verifying


@pytest.fixture
def linked(tmp_path: Path, area: Path) -> StagedOnDisk:
    """A file staged by hard link, whose source may change."""
    path = tmp_path / "changing"
    path.write_text("before")
    path.chmod(0o600)
    os.utime(path, ns=(1, 1))
    return stage(path, area)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: (path.write_text("longer than before"), os.utime(path, ns=(1, 1))), ("size",)),
        (lambda path: path.write_text("bEfore"), ("modification time",)),
        (lambda path: os.utime(path, ns=(1, 2)), ("modification time",)),
        (lambda path: path.chmod(0o644), ("mode",)),
        (lambda path: os.truncate(path, 0), ("size", "modification time")),
    ],
)
def test_writing_through_the_staged_name_is_noticed(linked, change, words):
    """
    Row 99, trap: alias mutation (uv #15700).

    Writing, truncating, chmod and utime through a link are detected.
    """
    linked.verify()
    change(linked.path)
    with pytest.raises(StagedSourceChangedError, match="was staged read-only by hard link") as caught:
        linked.verify()
    assert caught.value.changed == words


def test_harmless_changes_raise_no_alarm(linked, tmp_path):
    """
    Trap: detection by ctime (Bazel #27226).

    More links, an atomic save of the source, or its removal are harmless.
    """
    os.link(linked.path, tmp_path / "another")
    linked.verify()
    (tmp_path / "new").write_text("saved")
    (tmp_path / "new").rename(linked.source)
    linked.verify()
    linked.path.unlink()
    linked.verify()
    linked.source.unlink()
    linked.verify()


def test_a_change_is_noticed_after_the_job_removed_its_name(linked):
    """When the staged name is gone, the source's own name still shows what was written."""
    linked.path.write_text("something else")
    linked.path.unlink()
    with pytest.raises(StagedSourceChangedError):
        linked.verify()


def test_a_change_is_noticed_after_the_job_put_another_file_in_its_place(linked, tmp_path):
    """Writing through the alias and then saving atomically over it hides nothing: the source shows it."""
    linked.path.write_text("something else")
    (tmp_path / "new").write_text("saved")
    (tmp_path / "new").rename(linked.path)
    with pytest.raises(StagedSourceChangedError):
        linked.verify()


def test_an_empty_file_is_copied_as_one(tmp_path):
    """Nothing to copy is no error and no endless loop."""
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as reading, (tmp_path / "copy").open("wb") as writing:
        assert copy_bytes(reading.fileno(), writing.fileno()) == 0


@pytest.mark.parametrize("module", [_copy, _lock])
def test_a_platform_without_fcntl(module, mocker):
    """Where there is no fcntl, the modules that use it can be imported all the same. Tested by a fake."""
    mocker.patch.dict(sys.modules, fcntl=None)
    spec = importlib.util.spec_from_file_location("without_fcntl", module.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again.fcntl is None
