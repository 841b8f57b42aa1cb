"""Areas and storage in memory keep the storage's promises."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from tempscope.errors import (
    ForeignPathError,
    InvalidNameError,
    NameTakenError,
    ScopeClosedError,
    StorageError,
    StorageFull,
)
from tempscope.model import Usage, Verdict
from tempscope.protocols import TempArea, TempStorage
from tempscope.storages.memory import MemoryPath, MemoryStorage


GO = Verdict(keep=False)
STAY = Verdict(keep=True, reason="wanted")


def test_shapes_fit_the_protocols(storage, area):
    """The storage and its areas are what the protocols describe, for a type checker too."""
    a_storage: TempStorage = storage
    an_area: TempArea = area
    assert a_storage.capabilities
    assert an_area.directory


def test_an_empty_scope_makes_no_system_call(record):
    """A scope that is opened and closed without a file calls nothing that a tracer could see."""
    program = (
        "import os, sys\n"
        "from tempscope.model import Instant, ScopeRecord\n"
        "from tempscope.storages.memory import MemoryStorage\n"
        "record = ScopeRecord(token='a' * 26, opened=Instant(0, 0))\n"
        "events = []\n"
        "sys.addaudithook(lambda event, args: events.append(event))\n"
        "storage = MemoryStorage()\n"
        "storage.open_area(record).remove()\n"
        "storage.close()\n"
        "assert not [event for event in events if event.partition('.')[0] in ('open', 'os')], events\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_storages_share_nothing(storage, record):
    """The same name in two areas, or two storages, is two files."""
    with MemoryStorage() as other:
        same = record()
        paths = [one.open_area(same).create_file("file") for one in (storage, other)]
        paths.append(storage.open_area(record()).create_file("file"))
        for number, path in enumerate(paths):
            path.write_text(str(number))
        assert [path.read_text() for path in paths] == ["0", "1", "2"]
        assert other._volume.bytes == 1


@pytest.mark.parametrize("make", ["create_file", "create_dir"])
def test_a_name_is_made_once_and_checked_first(make, area, spill_area):
    """A taken name is refused and what has it stays; a name that cannot be one is refused before that."""
    for one in (area, spill_area):
        one.create_file("taken").write_text("content")
        if one is spill_area:
            str(one.directory / "taken")
        with pytest.raises(NameTakenError) as error:
            getattr(one, make)("taken")
        assert isinstance(error.value, FileExistsError)
        assert (one.directory / "taken").read_text() == "content"
        for name in ("", "a/b", "..", ".tempscope-x"):
            with pytest.raises(InvalidNameError):
                getattr(one, make)(name)


def test_a_name_told_to_the_disk_can_still_be_made(spill_area):
    """A name whose text was asked for before it existed is made where that text points."""
    text = str(spill_area.directory / "file")
    assert spill_area.create_file("file").stat().st_mode & 0o777 == 0o600
    assert os.path.isfile(text)
    text = str(spill_area.directory / "dir")
    spill_area.create_dir("dir")
    assert os.path.isdir(text)


def test_of_racing_makers_of_a_name_one_wins(area):
    """Of threads that make one name, one gets it and the others are told."""
    start, results = threading.Barrier(8), []

    def make() -> None:
        start.wait()
        try:
            results.append(area.create_file("one"))
        except NameTakenError as error:
            results.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, Path) for result in results) == 1


# -- deleting and counting


def tree(top: Path) -> Path:
    """Make a directory with a directory with a file, and return it."""
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(bytes(10))
    return top


def test_deleting_takes_all_below_and_counts_it(area):
    """Delete removes a file or a tree and tells what went; twice is fine, and so is what never was."""
    top = tree(area.create_dir("top"))
    beside = area.create_file("beside")
    removal = area.delete(top)
    assert (removal.removed, removal.removed_bytes, removal.complete) == (3, 10, True)
    assert area.delete(top).removed == area.delete(top / "sub").removed == 0
    assert area.delete(beside / "below").removed == 0
    assert list(area.directory.iterdir()) == [beside]
    assert area.tree.volume.bytes == 0


def test_deleting_the_areas_directory_empties_it(area, spill_area):
    """The area's own directory is emptied and stays usable, wherever things are."""
    for one in (area, spill_area):
        tree(one.create_dir("top"))
        one.create_file("file")
        if one is spill_area:
            str(one.directory / "top" / "sub" / "file")
        assert one.delete(one.directory).removed == 4
        assert list(one.directory.iterdir()) == []
        assert one.create_file("file").exists()


def test_deleting_reaches_what_is_on_the_disk(spill_area):
    """Delete removes what moved, and what a program made beside it, each counted once."""
    top = tree(spill_area.create_dir("top"))
    (top / "memory").write_text("m")
    real = Path(str(top / "sub" / "file"))
    real.with_name("beside").write_text("by a program")
    assert spill_area.delete(top).removed == 5
    assert not real.parent.parent.exists()
    told = spill_area.create_file("told")
    plain = Path(str(told))
    assert spill_area.delete(plain).removed == 1
    assert not plain.exists()
    assert spill_area.delete(told).removed == 0
    again = spill_area.create_file("told")
    again.write_text("in memory again")
    assert not plain.exists()


def test_an_area_on_the_disk_is_deleted_there(spill_area):
    """When the whole area moved, delete and remove work there."""
    tree(spill_area.create_dir("top"))
    spill_area.create_file("file")
    real = Path(str(spill_area.directory))
    assert spill_area.delete(spill_area.directory / "top").removed == 3
    assert spill_area.delete(spill_area.directory).removed == 1
    assert real.is_dir()
    spill_area.remove()
    assert not real.exists()


@pytest.mark.parametrize("other", ["/etc", "../x", "..", "sub/../../x"])
def test_a_path_elsewhere_is_foreign(other, area, storage, record):
    """What is not in the area is refused, however it is spelled, and untouched."""
    area.create_file("file")
    foreign = storage.open_area(record()).create_file("file")
    for path in (Path(other), area.directory / other, foreign):
        with pytest.raises(ForeignPathError):
            area.delete(path)
    assert foreign.exists()


def test_deep_trees_are_removed(area):
    """Depth is no obstacle: five thousand levels are made, counted and removed."""
    path = area.directory
    for _ in range(5000):
        path = path / "d"
    node = area.tree.root
    for _ in range(5000):
        child = area.tree.volume.new_directory(0o700)
        node.entries["d"] = child
        node = child
    assert path.is_dir()
    assert area.usage().directories == 5000
    assert area.delete(area.directory / "d").removed == 5000
    assert area.tree.volume.files == 0


def test_usage_counts_each_file_once(spill_area):
    """Usage counts names, directories and held bytes, a hard link's once, in memory and on the disk."""
    top = tree(spill_area.create_dir("top"))
    (top / "link").hardlink_to(top / "sub" / "file")
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert spill_area.usage() == Usage(files=3, directories=2, bytes=10, freeable_bytes=10)
    str(top / "sub" / "file")
    moved = spill_area.usage()
    assert (moved.files, moved.directories) == (3, 2)


# -- ending


def test_a_removed_area_is_gone(area, storage):
    """Remove tells what went; twice is fine; then everything else is closed and every path is missing."""
    top = tree(area.create_dir("top"))
    assert area.remove().removed == 3
    assert area.remove().removed == 0
    assert not top.exists()
    assert not area.tree.volume.trees
    with pytest.raises(FileNotFoundError):
        (top.parent / "new").write_text("x")
    for action in (
        lambda: area.directory,
        lambda: area.create_file("x"),
        lambda: area.create_dir("x"),
        lambda: area.delete(top),
        lambda: area.take_in(Path("/etc/hostname"), "x", writable=False, progress=None),
        lambda: area.give_out(top, Path("/x"), overwrite=True, durable=False, mode=None, progress=None),
        lambda: area.retain(area.record),
        area.spill,
    ):
        with pytest.raises(ScopeClosedError):
            action()
    assert area.usage() == Usage()
    assert list(storage.areas()) == []


def test_a_retained_area_is_kept_in_this_process(spill_area, spilling):
    """Retain keeps all files, those on the disk too, under the record's new directory; old paths are void."""
    path, moved = spill_area.create_file("file"), spill_area.create_file("moved")
    path.write_text("content")
    moved.write_text("on the disk")
    str(moved)
    kept = spill_area.retain(attrs.evolve(spill_area.record, verdict=STAY))
    assert spill_area.retain(kept) is kept
    assert (kept.state, kept.verdict, kept.usage.files) == ("retained", STAY, 2)
    assert not path.exists()
    assert not moved.exists()
    assert (kept.directory / "file").read_text() == "content"
    assert (kept.directory / "moved").read_text() == "on the disk"
    assert Path(str(kept.directory / "file")).read_text() == "content"
    assert list(spilling.areas()) == [kept]
    with pytest.raises(ScopeClosedError, match="retained"):
        spill_area.create_file("x")
    spill_area.remove()
    assert (kept.directory / "file").exists()


def test_reclaiming_obeys_the_verdict(storage, area):
    """A kept area is kept on with the new verdict, or deleted; a second time there is nothing to do."""
    tree(area.create_dir("top"))
    kept = area.retain(area.record)
    assert storage.reclaim(kept, STAY).kept == 1
    assert [record.verdict for record in storage.areas()] == [STAY]
    removal = storage.reclaim(kept, GO)
    assert (removal.removed, removal.removed_bytes) == (3, 10)
    assert storage.reclaim(kept, GO).removed == 0
    assert list(storage.areas()) == []
    assert not kept.directory.exists()
    assert storage._volume.files == 0


def test_a_live_area_is_not_reclaimed(storage, area):
    """What an open scope holds is left alone and counted as skipped."""
    path = area.create_file("file")
    (record,) = storage.areas()
    assert record.state == "live"
    assert storage.reclaim(record, GO).skipped == 1
    assert path.exists()


def test_closing_the_storage_removes_everything(disk, record, tmp_path):
    """Close removes live and kept areas, on the disk too; twice is fine; then no area opens."""
    storage = MemoryStorage(spill_to=disk)
    kept, live = storage.open_area(record()), storage.open_area(record())
    for area in (kept, live):
        str(area.create_file("file"))
    kept.retain(kept.record)
    storage.close()
    storage.close()
    assert list(storage.areas()) == []
    assert list((tmp_path / "disk").glob("tempscope-*/i-*/a*")) == []
    with pytest.raises(ScopeClosedError):
        storage.open_area(record())
    assert live.remove().removed == 0


def test_a_storage_shows_how_it_was_made(disk):
    """Repr tells the limits and where it spills to."""
    assert repr(MemoryStorage()) == "MemoryStorage()"
    assert repr(MemoryStorage(max_files=3, spill_to=disk)).startswith("MemoryStorage(max_files=3, spill_to=")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_threads(storage, area):
    """A lock that a thread of the parent holds at the fork does not block the child, which has a copy."""
    path = area.create_file("file")
    path.write_text("content")
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with storage._volume.lock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if path.read_text() == "content" else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- in


def test_staging_copies_with_mode_and_times(area, tmp_path):
    """take_in gives a copy with the source's mode and times; the source stays as it is; verify passes."""
    source = tmp_path / "source"
    source.write_bytes(b"content")
    source.chmod(0o440)
    os.utime(source, ns=(10**18, 10**18))
    before = source.stat()
    seen = []
    staged = area.take_in(source, "in", writable=False, progress=lambda *now: seen.append(now))
    assert (staged.method, staged.source, staged.bytes_saved, staged.verify()) == ("copy", source, 0, None)
    assert staged.path == area.directory / "in"
    assert (staged.path.read_bytes(), staged.path.stat().st_mode & 0o777) == (b"content", 0o440)
    assert staged.path.stat().st_mtime_ns == 10**18
    assert seen == [(7, 7)]
    writable = area.take_in(source, "out", writable=True, progress=None).path
    writable.write_bytes(b"changed")
    assert writable.stat().st_mode & 0o777 == 0o640
    after = source.stat()
    assert (source.read_bytes(), after.st_mode, after.st_mtime_ns) == (
        b"content",
        before.st_mode,
        before.st_mtime_ns,
    )


def test_staging_a_tree(area, tmp_path, spill_area):
    """A directory comes in with all in it; its links only where there is a disk to make them on."""
    top = tree(tmp_path / "top")
    (top / "sub").chmod(0o550)
    seen = []
    staged = area.take_in(top, "in", writable=False, progress=lambda *now: seen.append(now)).path
    assert (staged / "sub" / "file").read_bytes() == bytes(10)
    assert (staged / "sub").stat().st_mode & 0o777 == 0o550
    assert (staged / "sub").stat().st_mtime_ns == (top / "sub").stat().st_mtime_ns
    assert seen == [(10, 10)]
    assert (
        area.take_in(top, "writable", writable=True, progress=None).path.joinpath("sub").stat().st_mode
        & 0o700
        == 0o700
    )
    (top / "link").symlink_to("sub/file")
    with pytest.raises(StorageError):
        area.take_in(top, "linked", writable=False, progress=None)
    assert not (area.directory / "linked").exists()
    linked = spill_area.take_in(top, "linked", writable=False, progress=None).path
    assert (linked / "link").read_bytes() == bytes(10)
    assert os.readlink(linked / "link") == "sub/file"


def test_staging_from_another_scope_stays_in_memory(area, storage, record):
    """A file of another scope in memory is staged without leaving it."""
    source = storage.open_area(record()).create_file("file")
    source.write_bytes(b"content")
    assert area.take_in(source, "in", writable=False, progress=None).path.read_bytes() == b"content"


def test_staging_refuses_and_leaves_nothing(area, tmp_path, record):
    """Missing, taken, special, too large and cancelled: the error says which, and nothing of a copy stays."""
    source = tmp_path / "source"
    source.write_bytes(bytes(100))
    area.create_file("taken").write_text("content")
    os.mkfifo(tmp_path / "fifo")

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(FileNotFoundError, match="cannot be staged"):
        area.take_in(tmp_path / "missing", "in", writable=False, progress=None)
    with pytest.raises(NameTakenError):
        area.take_in(source, "taken", writable=False, progress=None)
    with pytest.raises(StorageError, match="neither a file nor a directory"):
        area.take_in(tmp_path / "fifo", "in", writable=False, progress=None)
    with pytest.raises(KeyboardInterrupt):
        area.take_in(source, "in", writable=False, progress=cancel)
    with MemoryStorage(max_bytes=10) as small:
        tight = small.open_area(record())
        with pytest.raises(StorageFull):
            tight.take_in(source, "in", writable=False, progress=None)
        assert small._volume.files == small._volume.bytes == 0
    assert [path.name for path in area.directory.iterdir()] == ["taken"]
    assert (area.directory / "taken").read_text() == "content"


def test_paths_say_what_they_are(area):
    """What an area hands out are paths in memory."""
    assert (
        type(area.create_file("file")) is type(area.create_dir("dir")) is type(area.directory) is MemoryPath
    )
