"""Publishing a directory: whoever looks at the destination sees the old or the new, whole."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.errors import ForeignPathError, NameTakenError, PathMissingError, StorageError, StorageFull
from tempscope.storages import HardlinkStorage, LocalDiskStorage, _destination, _publish, _rename
from tempscope.storages._area import LocalArea
from tempscope.storages._journal import Journal

from .conftest import as_nobody, below, in_child, interrupted_after, needs_root, record_of


@pytest.fixture
def area(tmp_path: Path) -> Iterator[LocalArea]:
    """An area with a directory in it."""
    with HardlinkStorage(tmp_path / "base") as storage:
        area = storage.open_area(record_of())
        fill(area.create_dir("tree"))
        yield area


def fill(top: Path) -> None:
    """Put something into a directory."""
    (top / "sub" / "deeper").mkdir(parents=True)
    (top / "one").write_bytes(b"one")
    (top / "sub" / "two").write_bytes(b"two")
    (top / "sub" / "deeper" / "three").write_bytes(b"three")
    (top / "sub" / "link").symlink_to("two")
    (top / "one").chmod(0o640)
    (top / "sub").chmod(0o750)
    (top / "sub" / "two").chmod(0o4751)
    (top / "sub" / "deeper").chmod(0o2755)


NAMES = ["one", "sub", "sub/deeper", "sub/deeper/three", "sub/link", "sub/two"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go."""
    place = tmp_path / "out"
    place.mkdir()
    return place


@pytest.fixture(params=["moved", "copied"])
def way(request: pytest.FixtureRequest, area: LocalArea, mocker: Any) -> str:
    """Whether the directory can be renamed to the destination, or must be copied."""
    if request.param == "copied":
        mocker.patch.object(_publish._Tree, "_move", return_value=False)
    return str(request.param)


def publish(area: LocalArea, destination: Path, **options: Any) -> Path:
    """Publish the area's directory as most do."""
    given = {"overwrite": True, "durable": True, "mode": None, "progress": None, **options}
    return area.give_out(area.directory / given.pop("name", "tree"), destination, **given)


def bits(path: Path) -> int:
    """Return the permissions of *path*."""
    return stat.S_IMODE(path.lstat().st_mode)


def fails(code: int) -> Callable[..., Any]:
    """Return a call that always fails with *code*."""

    def call(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("durable", [True, False])
def test_a_directory_leaves_whole(area, out, way, overwrite, durable):
    """A directory is published with all in it, links as links, and has left the scope."""
    assert publish(area, out / "done", overwrite=overwrite, durable=durable) == out / "done"
    assert below(out) == ["done", *(f"done/{name}" for name in NAMES)]
    assert (out / "done/sub/deeper/three").read_bytes() == b"three"
    assert os.readlink(out / "done/sub/link") == "two"
    assert os.listdir(area.directory) == []


def test_permissions_are_explicit(area, out, way):
    """
    The top has the mode asked for, else 0o777 less the umask; what is in it keeps its own, but no set-ids.
    """
    publish(area, out / "done")
    assert [bits(out / "done" / name) for name in (".", "one", "sub", "sub/two", "sub/deeper")] == [
        0o755,
        0o640,
        0o750,
        0o751,
        0o755,
    ]
    fill(area.create_dir("tree"))
    (out / "empty").mkdir(mode=0o705)
    publish(area, out / "empty")
    assert bits(out / "empty") == 0o705
    fill(area.create_dir("tree"))
    publish(area, out / "given", mode=0o7550)
    assert bits(out / "given") == 0o550


def test_files_and_directories_are_synced_before_the_rename(area, out, way, mocker):
    """Durable, every file and directory is synced, then the rename comes, then the parent is synced."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def renamed(*args: Any, **kwargs: Any) -> None:
        calls.append("rename")
        rename(*args, **kwargs)

    mocker.patch.object(os, "fsync", synced)
    mocker.patch.object(os, "rename", renamed)
    publish(area, out / "done")
    at = calls.index("rename")
    assert {"one", "two", "three", "sub", "deeper"} <= set(calls[:at])
    assert calls[at + 1 :] == ["out"]
    calls.clear()
    fill(area.create_dir("tree"))
    publish(area, out / "again", durable=False)
    assert calls == ["rename"]


def test_an_aliased_file_makes_it_a_copy(area, out, tmp_path):
    """What came in by hard link is copied, so that no file of the product is an alias of a user's file."""
    (tmp_path / "source").write_bytes(b"theirs")
    os.utime(tmp_path / "source", ns=(7, 7))
    staged = area.take_in(tmp_path / "source", "in", writable=False, progress=None)
    os.link(staged.path, area.directory / "tree" / "sub" / "alias")
    told: list[tuple[int, int]] = []
    publish(area, out / "done", progress=lambda *now: told.append(now))
    (out / "done/sub/alias").write_bytes(b"changed")
    assert (tmp_path / "source").read_bytes() == b"theirs"
    assert (tmp_path / "source").stat().st_mtime_ns == 7
    assert told[-1] == (17, 17)
    assert os.listdir(area.directory) == ["in"]
    staged.verify()


def test_links_within_the_tree_are_no_aliases(area, out):
    """A file whose names are all in the tree moves with it, and stays one file."""
    os.link(area.directory / "tree" / "one", area.directory / "tree" / "sub" / "again")
    inode = (area.directory / "tree").stat().st_ino
    publish(area, out / "done")
    assert (out / "done").stat().st_ino == inode
    assert (out / "done" / "one").samefile(out / "done" / "sub" / "again")


@pytest.mark.parametrize("durable", [True, False])
def test_links_within_the_tree_are_synced_and_lose_their_set_ids(area, out, mocker, durable):
    """P6, security rule 13: a file whose names are all in the tree moves by the rules of any other file."""
    one = area.directory / "tree" / "one"
    os.link(one, area.directory / "tree" / "sub" / "again")
    one.chmod(0o4755)
    synced, fsync = [], os.fsync
    mocker.patch.object(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino) or fsync(fd))
    publish(area, out / "done", durable=durable)
    assert bits(out / "done" / "one") == 0o755
    assert synced.count((out / "done" / "one").stat().st_ino) == durable


def test_the_mode_of_a_users_own_file_stays(area, out, tmp_path):
    """Set-id bits go from the product, never from a user's file that has names in the tree."""
    (tmp_path / "source").write_bytes(b"theirs")
    (tmp_path / "source").chmod(0o4755)
    for name in ("alias", "sub/alias"):
        os.link(tmp_path / "source", area.directory / "tree" / name)
    publish(area, out / "done")
    assert bits(tmp_path / "source") == 0o4755
    assert bits(out / "done" / "alias") == bits(out / "done" / "sub" / "alias") == 0o755
    assert not (out / "done" / "alias").samefile(tmp_path / "source")


def test_a_link_is_replaced_and_its_target_untouched(area, out, way, tmp_path):
    """Row 59: a link at the destination is replaced by the directory; what it led to stays."""
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "target" / "theirs").write_text("theirs")
    (out / "done").symlink_to(tmp_path / "target")
    publish(area, out / "done")
    assert not (out / "done").is_symlink()
    assert below(out / "done") == NAMES
    assert os.listdir(tmp_path / "target") == ["theirs"]
    assert os.listdir(out) == ["done"]
    assert os.listdir(area.directory) == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_directory_in_use_is_never_replaced(area, out, way, overwrite):
    """A directory with something in it stays as it is, whatever overwrite says; the product stays ours."""
    (out / "done").mkdir(mode=0o701)
    (out / "done" / "theirs").write_text("theirs")
    with pytest.raises(StorageError, match="is never replaced" if overwrite else "overwrite is False"):
        publish(area, out / "done", overwrite=overwrite)
    assert below(out) == ["done", "done/theirs"]
    assert bits(out / "done") == 0o701
    assert below(area.directory / "tree") == NAMES
    assert bits(area.directory / "tree") == 0o700


def test_what_is_no_directory_is_not_replaced(area, out, way):
    """A file or pipe at the destination stays: a directory only takes the place of a link or a directory."""
    (out / "file").write_text("theirs")
    os.mkfifo(out / "pipe")
    for name, code in (("file", errno.ENOTDIR), ("pipe", errno.EINVAL)):
        with pytest.raises(StorageError) as caught:
            publish(area, out / name)
        assert (caught.value.errno, caught.value.path) == (code, str(out / name))
    assert below(area.directory / "tree") == NAMES


def test_without_overwriting_anything_is_in_the_way(area, out, way):
    """Without overwrite whatever is at the destination has the name: a directory, link, file or pipe."""
    (out / "empty").mkdir()
    (out / "dangling").symlink_to("nowhere")
    (out / "file").write_text("theirs")
    os.mkfifo(out / "pipe")
    for name in ("empty", "dangling", "file", "pipe"):
        with pytest.raises(NameTakenError):
            publish(area, out / name, overwrite=False)
    assert sorted(os.listdir(out)) == ["dangling", "empty", "file", "pipe"]
    assert below(area.directory / "tree") == NAMES


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_rename_flags(area, out, mocker, code):
    """Row 32: without them an empty directory claims the name; a link cannot be replaced, and stays."""
    mocker.patch.object(_rename, "_rename", fails(code))
    publish(area, out / "done", overwrite=False)
    assert below(out / "done") == NAMES
    fill(area.create_dir("tree"))
    with pytest.raises(NameTakenError):
        publish(area, out / "done", overwrite=False)
    (out / "link").symlink_to("nowhere")
    with pytest.raises(StorageError):
        publish(area, out / "link")
    assert (out / "link").is_symlink()
    mocker.patch.object(os, "rename", fails(errno.EIO))
    with pytest.raises(StorageError):
        publish(area, out / "third", overwrite=False)
    assert sorted(os.listdir(out)) == ["done", "link"]
    assert below(area.directory / "tree") == NAMES


def test_an_interrupt_after_the_claim_was_replaced(area, out, mocker):
    """An interrupt just as the rename onto the claim returned leaves the product where it is."""
    mocker.patch.object(_rename, "_rename", fails(errno.ENOSYS))
    mocker.patch.object(os, "rename", interrupted_after(os.rename))
    with pytest.raises(KeyboardInterrupt):
        publish(area, out / "done", overwrite=False)
    assert below(out / "done") == NAMES


@pytest.mark.parametrize("fate", ["filled", "replaced"])
def test_a_claim_that_is_somebodys_by_now_stays(area, out, tmp_path, mocker, fate):
    """A claimed directory that others filled or replaced is theirs; when the rename fails it stays."""
    (tmp_path / "theirs").mkdir()
    theirs = (tmp_path / "theirs").stat().st_ino
    rename = os.rename

    def late(*args: Any, **kwargs: Any) -> None:
        if fate == "filled":
            (out / "done" / "theirs").write_text("theirs")
            rename(*args, **kwargs)
        rename(tmp_path / "theirs", out / "done")
        raise OSError(errno.EIO, "broken")

    mocker.patch.object(_rename, "_rename", fails(errno.ENOSYS))
    mocker.patch.object(os, "rename", late)
    with pytest.raises(StorageError, match="is never replaced" if fate == "filled" else "broken"):
        publish(area, out / "done", overwrite=False)
    if fate == "filled":
        assert (out / "done" / "theirs").read_text() == "theirs"
    else:
        assert (out / "done").stat().st_ino == theirs
    assert below(area.directory / "tree") == NAMES


def test_what_comes_at_the_last_moment_stays(area, out, mocker):
    """Without overwrite what comes after we looked stays: the check and the renaming are one step."""
    really = _destination.rename_to_free

    def late(*args: Any) -> None:
        (out / "done").mkdir()
        really(*args)

    mocker.patch.object(_destination, "rename_to_free", late)
    with pytest.raises(NameTakenError):
        publish(area, out / "done", overwrite=False)
    assert os.listdir(out / "done") == []
    assert below(area.directory / "tree") == NAMES


def test_an_error_of_the_exclusive_rename_is_raised(area, out, mocker):
    """An error that says nothing of the flags is raised at once."""
    mocker.patch.object(_destination, "rename_to_free", fails(errno.EIO))
    with pytest.raises(StorageError) as caught:
        publish(area, out / "done", overwrite=False)
    assert caught.value.errno == errno.EIO
    assert os.listdir(out) == []


def test_something_else_in_the_links_place(area, out, mocker):
    """A file that comes in a link's place at the last moment is put back."""
    (out / "done").symlink_to("nowhere")
    really = _destination.exchange

    def late(*args: Any) -> None:
        if (out / "done").is_symlink():
            (out / "done").unlink()
            (out / "done").write_text("theirs")
        really(*args)

    mocker.patch.object(_destination, "exchange", late)
    with pytest.raises(StorageError):
        publish(area, out / "done")
    assert (out / "done").read_text() == "theirs"
    assert below(area.directory / "tree") == NAMES


def test_bad_destinations(area, out, way, tmp_path):
    """A missing parent, the scope itself, also by a link, and the tree's own inside are refused."""
    (tmp_path / "way").symlink_to(area.directory)
    for place in (out / "gone" / "done", out / "gone" / "deeper" / "done"):
        with pytest.raises(PathMissingError, match="is not there"):
            publish(area, place)
    for place in (
        area.directory / "other",
        area.directory / "tree",
        area.directory / "tree" / "sub" / "x",
        tmp_path / "way" / "x",
        tmp_path / "way" / "tree",
    ):
        with pytest.raises(ForeignPathError, match="inside the scope"):
            publish(area, place)
    with pytest.raises(PathMissingError, match="'gone' is not there"):
        publish(area, out / "done", name="gone")
    with pytest.raises(StorageError):
        publish(area, Path("/"))
    assert below(area.directory / "tree") == NAMES
    assert os.listdir(out) == []


def test_a_link_into_the_scope_without_proc(area, out, tmp_path, monkeypatch):
    """Where the system does not say what was opened, a destination is resolved by its name."""
    (tmp_path / "way").symlink_to(area.directory)
    really = os.readlink

    def without_proc(path: str, **options: Any) -> str:
        if path.startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return really(path, **options)

    monkeypatch.setattr(os, "readlink", without_proc)
    with pytest.raises(ForeignPathError, match="inside the scope"):
        publish(area, tmp_path / "way" / "x")
    publish(area, out / "done")
    assert below(out / "done") == NAMES


def test_special_files_are_not_published(area, out, way):
    """A pipe in the directory is named; nothing is published, and all is still ours."""
    os.mkfifo(area.directory / "tree" / "sub" / "pipe")
    with pytest.raises(StorageError, match="'tree/sub/pipe' is no file"):
        publish(area, out / "done")
    assert os.listdir(out) == []
    assert below(area.directory / "tree") == sorted([*NAMES, "sub/pipe"])


@pytest.mark.parametrize("call", ["fsync", "fchmod", "rename"])
def test_an_error_changes_nothing(area, out, way, mocker, call):
    """Row 27: when something cannot be synced or moved, all is still ours, and nothing is out there."""
    mocker.patch.object(os, call, fails(errno.EIO))
    with pytest.raises(StorageError) as caught:
        publish(area, out / "done")
    mocker.stopall()
    assert caught.value.errno == errno.EIO
    assert os.listdir(out) == []
    assert below(area.directory / "tree") == NAMES


def test_what_the_progress_raises_ends_the_copy(area, out, mocker):
    """Cancelled, nothing of a copied directory stays beside the destination, and all is still ours."""
    mocker.patch.object(_publish._Tree, "_move", return_value=False)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(area, out / "done", progress=stop)
    assert os.listdir(out) == []
    assert below(area.directory / "tree") == NAMES


@needs_root
def test_across_file_systems(area, tiny_disk):
    """Row 30: to another file system the directory is copied beside the destination, then renamed."""
    told: list[tuple[int, int]] = []
    publish(area, tiny_disk / "done", progress=lambda *now: told.append(now))
    assert below(tiny_disk) == ["done", *(f"done/{name}" for name in NAMES)]
    assert told[-1] == (11, 11)
    assert os.listdir(area.directory) == []


@needs_root
def test_a_full_disk_leaves_nothing_partial(area, tiny_disk):
    """Row 17: a directory that does not fit leaves nothing; it is still in the scope."""
    (area.directory / "tree" / "big").write_bytes(b"x" * 2_000_000)
    with pytest.raises(StorageFull, match="tmpfs"):
        publish(area, tiny_disk / "done")
    assert os.listdir(tiny_disk) == []
    assert below(area.directory / "tree") == sorted([*NAMES, "big"])


@needs_root
def test_a_mount_point_is_not_replaced(area, out):
    """A directory that something is mounted on stays."""
    (out / "mounted").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", out / "mounted"], check=True)
    try:
        with pytest.raises(StorageError):
            publish(area, out / "mounted")
        assert os.path.ismount(out / "mounted")
    finally:
        subprocess.run(["umount", "-l", out / "mounted"], check=True)
    assert below(area.directory / "tree") == NAMES


@needs_root
def test_a_directory_that_may_not_be_written_to(open_to_all):
    """A mode without write permission is no obstacle to moving a directory, as an ordinary user either."""

    def job() -> list[Any]:
        (open_to_all / "out").mkdir()
        with LocalDiskStorage(open_to_all / "base") as storage:
            area = storage.open_area(record_of())
            fill(area.create_dir("tree"))
            publish(area, open_to_all / "out" / "done", mode=0o555)
            return [bits(open_to_all / "out" / "done"), below(open_to_all / "out" / "done")]

    assert in_child(lambda: as_nobody(job)) == [0o555, NAMES]


def test_a_copy_is_in_the_journal_while_it_is_made(area, out, mocker):
    """Row 1: a sweep after a crash finds the copy that was being made beside the destination."""
    mocker.patch.object(_publish._Tree, "_move", return_value=False)
    journal = mocker.spy(Journal, "add_outside")
    dropped = mocker.spy(Journal, "drop_outside")
    publish(area, out / "done")
    assert [os.path.dirname(call.args[1].path) for call in journal.call_args_list] == [str(out)]
    assert [call.args[1] for call in dropped.call_args_list] == [
        call.args[1].path for call in journal.call_args_list
    ]


def test_a_platform_without_the_renames(area, out, mocker):
    """Where there is no renameat2, its callers are told so. Tested by a fake."""
    mocker.patch.object(_rename, "_library", return_value=None)
    publish(area, out / "done", overwrite=False)
    assert below(out / "done") == NAMES
    mocker.stopall()
    _rename._library.cache_clear()
    mocker.patch.object(_rename.sys, "platform", "sunos5")
    assert _rename._library() is None
    mocker.stopall()
    _rename._library.cache_clear()
    mocker.patch("ctypes.CDLL", side_effect=OSError("no C library"))
    assert _rename._library() is None
    mocker.stopall()
    _rename._library.cache_clear()
