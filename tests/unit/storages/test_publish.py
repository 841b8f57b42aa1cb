"""Publishing: whoever looks at the destination sees the old file or the new, whole."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.errors import NameTakenError, PathMissingError, StorageError, StorageFull
from tempscope.storages import _destination, _publish
from tempscope.storages._destination import Destination
from tempscope.storages._journal import Journal, read_journal

from .conftest import as_nobody, in_child, interrupted_after, needs_root


@pytest.fixture
def area(tmp_path: Path) -> Iterator[int]:
    """A scope's directory, open, with one file in it."""
    place = tmp_path / "area"
    place.mkdir(mode=0o700)
    (place / "f").write_bytes(b"new")
    (place / "f").chmod(0o600)
    fd = os.open(place, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go."""
    place = tmp_path / "out"
    place.mkdir()
    return place


@pytest.fixture
def bound(tmp_path: Path, out: Path) -> Iterator[Path]:
    """The results' directory once more, through a bind mount: the same device, and yet EXDEV."""
    place = tmp_path / "bound"
    place.mkdir()
    done = subprocess.run(["mount", "--bind", out, place], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount --bind failed: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def publish(area: int, destination: Path, **options: Any) -> None:
    """Publish the area's file as most do."""
    given = {"overwrite": True, "durable": True, "journal": None, **options}
    place = Destination(str(destination), given["overwrite"], given["durable"], given["journal"])
    moving = {"mode": options.get("mode"), "progress": options.get("progress")}
    _publish.publish(area, options.get("name", "f"), place, **moving)


def mode_for(path: Path, mode: int | None) -> int:
    """Return the mode that a file published as *path* gets."""
    with Destination(str(path), True, True) as place:
        bits = place.mode_for(mode)
    assert place.fd == -1, "a number that may be somebody else's by now"
    return bits


def failing(*codes: int) -> Callable[..., Any]:
    """Return a call that fails with each of *codes* in turn."""
    errors = [OSError(code, os.strerror(code)) for code in codes]

    def call(*args: Any, **kwargs: Any) -> Any:
        raise errors.pop(0) if len(errors) > 1 else errors[0]

    return call


def test_a_file_moves_and_leaves_its_old_name(area, out):
    """A finished file moves to its destination whole, and its name in the scope is gone."""
    inode = os.stat("f", dir_fd=area).st_ino
    publish(area, out / "done")
    assert (out / "done").read_bytes() == b"new"
    assert (out / "done").stat().st_ino == inode
    assert os.listdir(area) == []
    assert os.listdir(out) == ["done"]


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("across", [True, False])
def test_the_order_is_sync_rename_sync(area, out, mocker, durable, across):
    """
    Content is synced before the rename and the directory after it; not durable, nothing is synced.

    Trap: rename without fsync (renameio), directory fsync needed too (atomicwrites #15). Row 27.
    P6.
    """
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        calls.append("sync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def renamed(*args: Any, **kwargs: Any) -> None:
        if across and kwargs["src_dir_fd"] == area:
            raise OSError(errno.EXDEV, "another file system")
        calls.append("rename")
        rename(*args, **kwargs)

    mocker.patch.object(os, "fsync", synced)
    mocker.patch.object(os, "rename", renamed)
    publish(area, out / "done", durable=durable)
    if durable and across:
        calls.remove("sync file")  # of the file that could not be moved
    assert calls == (["sync file", "rename", "sync directory"] if durable else ["rename"])
    assert (out / "done").read_bytes() == b"new"


def test_an_existing_file_is_replaced_or_not(area, out):
    """With overwrite the new content takes the old one's place; without, the old stays and nothing moved."""
    (out / "done").write_bytes(b"old")
    with pytest.raises(NameTakenError, match="overwrite is False") as caught:
        publish(area, out / "done", overwrite=False)
    assert caught.value.path == str(out / "done")
    assert (out / "done").read_bytes() == b"old"
    assert os.listdir(area) == ["f"]
    assert stat.S_IMODE(os.stat("f", dir_fd=area).st_mode) == 0o600
    publish(area, out / "done")
    assert (out / "done").read_bytes() == b"new"
    assert os.listdir(area) == []


def test_of_two_publishers_one_gets_the_name(tmp_path, out):
    """overwrite=False is race-free: of threads that publish to one name at once exactly one succeeds."""
    threads, rounds = 4, 20
    barrier = threading.Barrier(threads, timeout=30)
    won: list[tuple[int, int]] = []
    place = tmp_path / "many"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)

    def run(me: int) -> None:
        for number in range(rounds):
            (place / f"{me}-{number}").write_text(f"{me}")
            barrier.wait()
            try:
                publish(fd, out / str(number), overwrite=False, durable=False, name=f"{me}-{number}")
                won.append((number, me))
            except NameTakenError:
                pass

    workers = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.close(fd)
    assert sorted(number for number, _ in won) == list(range(rounds))
    assert all((out / str(number)).read_text() == str(me) for number, me in won)


def test_a_link_at_the_destination_is_replaced(area, out, tmp_path):
    """Row 59: a link at the destination is replaced, not followed; what it led to stays."""
    (tmp_path / "target").write_bytes(b"theirs")
    (tmp_path / "target").chmod(0o640)
    (out / "done").symlink_to(tmp_path / "target")
    publish(area, out / "done")
    assert not (out / "done").is_symlink()
    assert (out / "done").read_bytes() == b"new"
    assert (tmp_path / "target").read_bytes() == b"theirs"
    assert stat.S_IMODE((out / "done").stat().st_mode) == 0o644


@pytest.mark.parametrize("mode", [None, 0o644])
def test_what_is_no_file_is_not_replaced(area, out, mode):
    """Trap: a special target, /dev/null unlinked as root (ccache #564): a device, pipe or directory stays."""
    os.mkfifo(out / "pipe")
    (out / "dir").mkdir()
    for name, code in (("pipe", errno.EINVAL), ("dir", errno.EISDIR)):
        with pytest.raises(StorageError) as caught:
            publish(area, out / name, mode=mode)
        assert (caught.value.errno, caught.value.path) == (code, str(out / name))
    with pytest.raises(StorageError, match="is a device"):
        mode_for(Path("/dev/null"), mode)
    assert os.listdir(area) == ["f"]


def test_without_overwriting_anything_is_in_the_way(area, out):
    """Without overwrite a directory, pipe or file at the destination is a name that is taken."""
    (out / "dir").mkdir()
    os.mkfifo(out / "pipe")
    (out / "file").write_text("theirs")
    for name in ("dir", "pipe", "file"):
        with pytest.raises(NameTakenError, match="overwrite is False") as caught:
            publish(area, out / name, overwrite=False)
        assert caught.value.path == str(out / name)
    assert sorted(os.listdir(out)) == ["dir", "file", "pipe"]
    assert os.listdir(area) == ["f"]


def test_what_is_no_file_is_not_published(area, tmp_path, out):
    """
    A pipe or link in the scope is no finished file.

    It is refused, never waited for or followed.
    """
    os.mkfifo(tmp_path / "area" / "pipe")
    (tmp_path / "area" / "link").symlink_to("f")
    for name in ("pipe", "link"):
        with pytest.raises(StorageError, match=f"{name}' is (no file|a link)"):
            publish(area, out / "done", name=name)
    with pytest.raises(PathMissingError, match="'gone' is not there"):
        publish(area, out / "done", name="gone")
    assert os.listdir(out) == []


@pytest.mark.parametrize("durable", [True, False])
def test_a_missing_directory_is_named(area, out, durable):
    """A destination whose directory is not there, or is a file, is refused with that directory's name."""
    (out / "file").write_text("")
    for parent in ("gone", "file"):
        with pytest.raises(PathMissingError, match=f"{parent}' is not there"):
            publish(area, out / parent / "done", durable=durable)
    assert os.listdir(area) == ["f"]


def test_the_mode_is_the_one_asked_for_or_that_was_there_or_the_umasks(area, out, mocker):
    """Security rule 13: mode, else the replaced file's, else 0o666 less the umask; never set-id bits."""
    path = out / "done"

    def job() -> list[int]:
        os.umask(0o027)
        fresh = mode_for(path, None)
        (out / "done").write_text("")
        (out / "done").chmod(0o4751)
        return [fresh, mode_for(path, None), mode_for(path, 0o6640)]

    assert in_child(job) == [0o640, 0o751, 0o640]
    publish(area, out / "done")
    assert stat.S_IMODE((out / "done").stat().st_mode) == 0o751
    mocker.patch("builtins.open", side_effect=OSError(errno.EACCES, "no"))
    assert mode_for(out / "other", None) == 0o644


def test_a_kernel_that_does_not_tell_its_umask(tmp_path, mocker):
    """Where the status has no umask, the usual one counts. Tested by a fake."""
    (tmp_path / "status").write_text("Name:\tx\n")
    really = open
    mocker.patch("builtins.open", lambda path, **kw: really(tmp_path / "status", **kw))
    assert mode_for(tmp_path / "none", None) == 0o644


def test_a_file_of_several_names_is_copied(area, tmp_path, out):
    """
    A hard-linked staged input is copied.

    The product is no alias, the source keeps content, mode and time.
    """
    source = tmp_path / "source"
    os.link("f", source, src_dir_fd=area)
    source.chmod(0o400)
    os.utime(source, ns=(7, 7))
    publish(area, out / "done", mode=0o664)
    (out / "done").write_bytes(b"changed")
    assert source.read_bytes() == b"new"
    assert (stat.S_IMODE(source.stat().st_mode), source.stat().st_mtime_ns) == (0o400, 7)
    assert source.stat().st_nlink == 1
    assert stat.S_IMODE((out / "done").stat().st_mode) == 0o664
    assert os.listdir(out) == ["done"]
    assert os.listdir(area) == []


@needs_root
@pytest.mark.parametrize("overwrite", [True, False])
def test_across_a_bind_mount_of_the_same_device(area, bound, out, overwrite):
    """Row 30: EXDEV between mounts of one device leads to a copy; the device number predicts nothing."""
    assert os.stat(bound).st_dev == os.fstat(area).st_dev
    publish(area, bound / "done", overwrite=overwrite)
    assert (out / "done").read_bytes() == b"new"
    assert os.listdir(out) == ["done"]
    assert os.listdir(area) == []


@needs_root
def test_across_file_systems(area, tiny_disk):
    """Row 30: publishing to another file system copies, with the mode; progress is told. Trap: fatomic #2."""
    told: list[tuple[int, int]] = []
    publish(area, tiny_disk / "done", mode=0o604, progress=lambda done, total: told.append((done, total)))
    assert (tiny_disk / "done").read_bytes() == b"new"
    assert stat.S_IMODE((tiny_disk / "done").stat().st_mode) == 0o604
    assert told == [(3, 3)]
    with pytest.raises(NameTakenError):
        os.close(os.open("g", os.O_CREAT, dir_fd=area))
        publish(area, tiny_disk / "done", overwrite=False, name="g")
    assert os.listdir(tiny_disk) == ["done"]


@needs_root
def test_a_full_disk_leaves_nothing_partial(area, tmp_path, tiny_disk):
    """
    Row 17: on a full file system the old content stays, nothing partial is there, and the file is still ours.

    Row 29: nothing short is ever published. Trap: partial copy left after ENOSPC (nextflow #4755).
    """
    (tmp_path / "area" / "f").write_bytes(b"x" * 2_000_000)
    (tiny_disk / "done").write_bytes(b"old")
    with pytest.raises(StorageFull, match="tmpfs") as caught:
        publish(area, tiny_disk / "done")
    assert caught.value.errno == errno.ENOSPC
    assert (tiny_disk / "done").read_bytes() == b"old"
    assert os.listdir(tiny_disk) == ["done"]
    assert os.stat("f", dir_fd=area).st_size == 2_000_000


@pytest.mark.parametrize("call", ["fsync", "rename", "fchmod"])
def test_an_error_before_the_rename_changes_nothing(area, out, mocker, call):
    """Row 27: when content cannot be synced, or the rename fails, the old file and ours are as before."""
    (out / "done").write_bytes(b"old")
    mocker.patch.object(os, call, failing(errno.EIO))
    with pytest.raises(StorageError) as caught:
        publish(area, out / "done")
    mocker.stopall()
    assert caught.value.errno == errno.EIO
    assert (out / "done").read_bytes() == b"old"
    assert os.listdir(out) == ["done"]
    assert os.listdir(area) == ["f"]


def test_an_error_of_closing_the_copy_fails_the_publication(area, out, tmp_path, mocker):
    """Row 28: when closing the copy fails, as with delayed allocation, nothing is published."""
    os.link("f", tmp_path / "source", src_dir_fd=area)
    mocker.patch.object(_publish.Descriptor, "finish", side_effect=OSError(errno.ENOSPC, "late"))
    with pytest.raises(StorageFull):
        publish(area, out / "done")
    assert os.listdir(out) == []
    assert sorted(os.listdir(area)) == ["f"]


def test_a_directory_that_cannot_be_synced(area, out, mocker):
    """File systems without syncing of directories are fine; an input/output error there is raised."""
    fsync = os.fsync
    codes = [errno.EINVAL, errno.EIO]

    def synced(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(codes[0], "no")
        fsync(fd)

    mocker.patch.object(os, "fsync", synced)
    publish(area, out / "done")
    del codes[0]
    os.close(os.open("f", os.O_CREAT, dir_fd=area))
    with pytest.raises(StorageError) as caught:
        publish(area, out / "done")
    assert caught.value.errno == errno.EIO


def test_what_the_progress_raises_ends_the_copy(area, out, tmp_path):
    """An exception of the progress callback comes out as itself; nothing of the copy stays."""
    os.link("f", tmp_path / "source", src_dir_fd=area)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(area, out / "done", progress=stop)
    assert os.listdir(out) == []
    assert os.listdir(area) == ["f"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_links(area, out, mocker, taken):
    """
    Row 32: without hard links.

    Overwrite=False claims the name exclusively and then replaces its own claim.
    """
    if taken:
        (out / "done").write_bytes(b"old")
    mocker.patch.object(os, "link", failing(errno.EPERM))
    if taken:
        with pytest.raises(NameTakenError):
            publish(area, out / "done", overwrite=False)
        assert (out / "done").read_bytes() == b"old"
        assert os.listdir(area) == ["f"]
    else:
        publish(area, out / "done", overwrite=False)
        assert (out / "done").read_bytes() == b"new"
        assert os.listdir(area) == []


def test_a_claim_that_cannot_be_replaced_goes(area, out, mocker):
    """A claimed name is given back when the rename onto it fails."""
    mocker.patch.object(os, "link", failing(errno.EPERM))
    mocker.patch.object(os, "rename", failing(errno.EIO))
    with pytest.raises(StorageError):
        publish(area, out / "done", overwrite=False)
    assert os.listdir(out) == []


def test_an_interrupt_after_the_claim_was_replaced(area, out, mocker):
    """An interrupt just as the rename onto the claim returned leaves the product where it is."""
    mocker.patch.object(os, "link", failing(errno.EPERM))
    mocker.patch.object(os, "rename", interrupted_after(os.rename))
    with pytest.raises(KeyboardInterrupt):
        publish(area, out / "done", overwrite=False)
    assert (out / "done").read_bytes() == b"new"


@pytest.mark.parametrize("fate", ["filled", "replaced", "removed"])
def test_a_claim_that_is_somebodys_by_now_stays(area, out, tmp_path, mocker, caplog, fate):
    """A claim that others wrote to or replaced is theirs; when the rename onto it fails it stays."""
    (tmp_path / "theirs").write_text("")
    theirs = (tmp_path / "theirs").stat().st_ino
    rename = os.rename

    def late(*args: Any, **kwargs: Any) -> None:
        if fate == "filled":
            (out / "done").write_text("theirs")
        elif fate == "replaced":
            rename(tmp_path / "theirs", out / "done")
        else:
            (out / "done").unlink()
        raise OSError(errno.EIO, "broken")

    mocker.patch.object(os, "link", failing(errno.EPERM))
    mocker.patch.object(os, "rename", late)
    with pytest.raises(StorageError) as caught:
        publish(area, out / "done", overwrite=False)
    assert caught.value.errno == errno.EIO
    if fate == "filled":
        assert (out / "done").read_text() == "theirs"
    elif fate == "replaced":
        assert (out / "done").stat().st_ino == theirs
    assert [record.levelname for record in caplog.records] == ["WARNING"] * (fate == "removed")
    assert os.listdir(area) == ["f"]


def test_an_old_name_that_stays_fails_nothing(area, out, mocker, caplog):
    """
    Once the product is in place, its old name that cannot be removed is only a warning.

    The scope's end removes it.
    """
    mocker.patch.object(os, "unlink", failing(errno.EIO))
    publish(area, out / "done", overwrite=False)
    assert (out / "done").read_bytes() == b"new"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@needs_root
def test_a_directory_that_may_not_be_read(open_to_all):
    """
    Not durable, a directory that may be written but not read will do.

    Durable, that is said before anything moves.
    """

    def job() -> list[Any]:
        (open_to_all / "area").mkdir()
        (open_to_all / "out").mkdir()
        (open_to_all / "area" / "f").write_text("new")
        (open_to_all / "out").chmod(0o300)
        fd = os.open(open_to_all / "area", os.O_RDONLY)
        try:
            publish(fd, open_to_all / "out" / "done")
        except StorageError as error:
            refused = [error.errno, os.listdir(fd)]
        publish(fd, open_to_all / "out" / "done", durable=False)
        return [refused, (open_to_all / "out" / "done").read_text()]

    assert in_child(lambda: as_nobody(job)) == [[errno.EACCES, ["f"]], "new"]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[Journal, int]]:
    """A journal, and the directory it is in."""
    (tmp_path / "instance").mkdir()
    fd = os.open(tmp_path / "instance", os.O_RDONLY)
    journal = Journal(fd)
    yield journal, fd
    journal.close()
    os.close(fd)


def test_a_copy_in_the_making_is_in_the_journal(area, out, tmp_path, journal):
    """Row 1: while a copy is being made beside the destination the journal tells of it; afterwards not."""
    os.link("f", tmp_path / "source", src_dir_fd=area)
    seen: list[tuple[list[str], list[str]]] = []

    def look(done: int, total: int) -> None:
        seen.append((list(read_journal(journal[1]).outside), [str(p) for p in out.iterdir()]))

    publish(area, out / "done", progress=look, journal=journal[0])
    ((told, present),) = seen
    assert told == present
    assert len(told) == 1
    assert read_journal(journal[1]).outside == {}


def test_a_journal_that_cannot_be_written_stops_no_publication(area, out, tmp_path, journal, mocker, caplog):
    """A full disk of ours does not keep a file from getting to another one: that is logged."""
    os.link("f", tmp_path / "source", src_dir_fd=area)
    mocker.patch.object(Journal, "_append", side_effect=OSError(errno.ENOSPC, "full"))
    caplog.set_level("DEBUG", "tempscope")
    publish(area, out / "done", journal=journal[0])
    assert (out / "done").read_bytes() == b"new"
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]


def test_a_copy_that_shares_its_blocks(area, out, tmp_path, mocker):
    """Where the file system shares blocks, a published copy is a reflink. Tested by a fake."""
    os.link("f", tmp_path / "source", src_dir_fd=area)
    mocker.patch.object(
        _publish, "reflink", lambda source, target: os.write(target, os.read(source, 100)) > 0
    )
    publish(area, out / "done")
    assert (out / "done").read_bytes() == b"new"


def test_a_copy_that_somebody_removes(area, out, tmp_path):
    """When the copy beside the destination is taken away, that is an error, and the file is still ours."""
    os.link("f", tmp_path / "source", src_dir_fd=area)

    def take_away(done: int, total: int) -> None:
        for path in out.iterdir():
            path.unlink()

    with pytest.raises(PathMissingError):
        publish(area, out / "done", progress=take_away)
    assert os.listdir(area) == ["f"]


def test_a_copy_that_cannot_be_removed_stays_in_the_journal(area, out, tmp_path, journal, monkeypatch):
    """Row 16: what stays beside the destination is still told of, so that a sweep removes it."""
    os.link("f", tmp_path / "source", src_dir_fd=area)
    monkeypatch.setattr(_destination, "remove_quietly", lambda name, dir_fd: None)

    def refuse(done: int, total: int) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        publish(area, out / "done", progress=refuse, journal=journal[0])

    (left,) = out.iterdir()
    assert list(read_journal(journal[1]).outside) == [str(left)]
