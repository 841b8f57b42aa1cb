"""One scope's area on disk: exclusive, private, isolated, and never acting on what is not its own."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.unit.faults import PATIENCE

from tempscope.errors import (
    ForeignPathError,
    ForkedScopeError,
    InvalidNameError,
    LeaseLostError,
    NameTakenError,
    PathMissingError,
    ScopeClosedError,
    StorageError,
    StorageFull,
)
from tempscope.model import Outcome, Removal, Usage, Verdict
from tempscope.storages import _area, _area_directory, _measure
from tempscope.storages._area import LocalArea
from tempscope.storages._journal import read_journal
from tempscope.storages._openat2 import open_directory
from tempscope.storages._record_file import RECORD, read_record
from tempscope.storages.local import LocalDiskStorage

from .conftest import as_nobody, below, in_child, needs_root, record_of


@pytest.fixture
def area(storage: LocalDiskStorage) -> LocalArea:
    """An area in which nothing was made yet."""
    return storage.open_area(record_of("the job"))


@pytest.fixture
def made(area: LocalArea) -> LocalArea:
    """An area with one file of content."""
    area.create_file("file").write_bytes(b"content")
    return area


def refuse(monkeypatch: pytest.MonkeyPatch, module: Any, call: str, code: int) -> None:
    """Have the system call *call* of *module* fail with *code*."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.os, call, refused)


def raising(error: Exception) -> Callable[..., None]:
    """Return a function that raises *error*."""

    def fail(*_: object) -> None:
        raise error

    return fail


def mode(path: Path) -> int:
    """Return the permissions of *path*."""
    return stat.S_IMODE(path.lstat().st_mode)


# -- making


def test_nothing_is_made_before_the_first_file(area: LocalArea, tmp_path: Path) -> None:
    """Opening an area makes nothing; its first file makes all that is needed."""
    assert below(tmp_path) == []
    assert area.record.directory is None
    assert area.usage() == Usage()
    path = area.create_file("one")
    assert path == area.directory / "one"
    assert area.record.directory == area.directory
    assert "not made yet" not in repr(area)
    assert path.read_bytes() == b""


def test_an_area_never_used_is_removed_without_a_trace(area: LocalArea, tmp_path: Path) -> None:
    """Removing an area in which nothing was made does nothing."""
    assert "not made yet" in repr(area)
    assert area.remove() == Removal()
    assert below(tmp_path) == []
    with pytest.raises(ScopeClosedError, match="the scope is closed: its files were removed"):
        area.create_file("one")


def test_modes(made: LocalArea) -> None:
    """Security rule 3. Trap 43: files have mode 0600 and directories 0700, exact names included."""
    assert mode(made.directory) == 0o700
    assert mode(made.directory / "file") == 0o600
    assert mode(made.create_dir("directory")) == 0o700


@needs_root
@pytest.mark.parametrize("taken", [0o777, 0o000, 0o077])
def test_modes_under_any_umask(open_to_all: Path, umask: Callable[[int], int], taken: int) -> None:
    """Row 93: modes are exact whatever the umask, for a user without privileges too."""

    def attempt() -> list[int]:
        umask(taken)
        with LocalDiskStorage(open_to_all) as storage:
            area = storage.open_area(record_of())
            paths = [area.create_file("file"), area.create_dir("directory"), area.directory]
            return [mode(path) for path in paths]

    assert as_nobody(attempt) == [0o600, 0o700, 0o700]


@needs_root
@pytest.mark.parametrize("taken", [0o777, 0o000])
def test_modes_when_the_umask_changes(open_to_all: Path, umask: Callable[[int], int], taken: int) -> None:
    """
    Row 93: a umask that changes after the instance was made is met by the next scope.

    A scope that is open already never gives anybody else a right, but a file may lack its owner's.
    """

    def attempt() -> list[list[int]]:
        with LocalDiskStorage(open_to_all) as storage:
            before = storage.open_area(record_of())
            before.create_file("early")
            umask(taken)
            after = storage.open_area(record_of())
            made = [
                [mode(area.create_file("file")), mode(area.create_dir("dir"))] for area in (before, after)
            ]
            umask(0o022)
            storage.open_area(record_of()).create_file("file")
            assert not storage._instance().strips_owner_bits
            return made

    exact = [0o600, 0o700]
    assert as_nobody(attempt) == [[0, 0] if taken == 0o777 else exact, exact]


def test_names_are_checked_before_anything_is_made(area: LocalArea, tmp_path: Path) -> None:
    """Row 89: a name that cannot be one is refused before any directory is made."""
    for make in (area.create_file, area.create_dir):
        for name in ("../file", "a/b", "", ".", "..", "nul\0", ".tempscope-record"):
            with pytest.raises(InvalidNameError):
                make(name)
    with pytest.raises(InvalidNameError):
        area.take_in(tmp_path, "a/b", writable=False, progress=None)
    assert below(tmp_path) == []


def test_a_taken_name(made: LocalArea, tmp_path: Path) -> None:
    """A name that a file, a directory or a dangling link has is refused; what has it stays."""
    (made.directory / "link").symlink_to(tmp_path / "nowhere")
    made.create_dir("directory")
    for name in ("file", "link", "directory"):
        for make in (made.create_file, made.create_dir):
            with pytest.raises(NameTakenError, match=f"{name}.*cannot be made") as caught:
                make(name)
            assert caught.value.scope == "the job"
    assert (made.directory / "file").read_bytes() == b"content"
    assert not (tmp_path / "nowhere").exists()


def test_one_of_racing_threads_gets_the_name(area: LocalArea) -> None:
    """Names are made exclusively: of eight threads one gets the file, the others the error."""
    barrier, results = threading.Barrier(8), []

    def attempt() -> None:
        barrier.wait()
        try:
            results.append(area.create_file("same"))
        except NameTakenError as error:
            results.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([result for result in results if isinstance(result, Path)]) == 1
    assert len(results) == 8


def test_areas_do_not_see_each_other(storage: LocalDiskStorage) -> None:
    """Two areas have files of the same names, and removing one leaves the other's."""
    one, two = storage.open_area(record_of()), storage.open_area(record_of())
    first, second = one.create_file("same"), two.create_file("same")
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    with pytest.raises(ForeignPathError):
        one.delete(second)
    one.remove()
    assert not first.exists()
    assert second.read_bytes() == b"two"


@needs_root
def test_a_disk_that_fills(tiny_disk: Path) -> None:
    """Row 17, 35: on a disk without inodes left every making fails clearly and leaves nothing half-made."""
    with LocalDiskStorage(tiny_disk) as storage:
        area, late = storage.open_area(record_of("first")), storage.open_area(record_of("late"))
        area.create_file("file")
        number = 0
        with pytest.raises(StorageFull, match="no inodes left") as caught:
            while True:
                number += 1
                area.create_file(f"filler{number}")
        assert caught.value.free_inodes == 0
        before = below(tiny_disk)
        for attempt in (area.create_dir, late.create_file, late.create_dir):
            with pytest.raises(StorageFull, match="no inodes left"):
                attempt("another")
        assert below(tiny_disk) == before
        assert area.remove().complete
        late.create_file("now there is room")
    assert below(tiny_disk / f"tempscope-{os.geteuid()}") == [".tempscope-root"]


@needs_root
def test_the_journal_finds_no_room(tiny_disk: Path) -> None:
    """Trap: a scope that cannot be written down is not made, and is an error."""
    with LocalDiskStorage(tiny_disk) as storage:
        filler = storage.open_area(record_of()).create_file("filler")
        with open(filler, "wb", buffering=0) as file:
            while os.statvfs(tiny_disk).f_bavail:
                file.write(bytes(4096))
        with pytest.raises(StorageFull):
            for _ in range(1000):
                storage.open_area(record_of("n" * 1000)).create_file("file")


# -- descriptors


def test_ten_thousand_scopes(storage: LocalDiskStorage) -> None:
    """Row 94, L18: ten thousand open scopes with a file each hold at most eight descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    areas = [storage.open_area(record_of()) for _ in range(10_000)]
    for area in areas:
        area.create_file("one")
    assert len(os.listdir("/proc/self/fd")) - before <= 8
    for area in (areas[0], areas[5_000], areas[-1]):
        area.create_file("two")
        assert below(area.directory) == ["one", "two"]
    assert len(os.listdir("/proc/self/fd")) - before <= 8
    storage.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def shut(area: LocalArea, storage: LocalDiskStorage) -> None:
    """Use other areas until the descriptor of *area* is closed."""
    others = iter([storage.open_area(record_of()) for _ in range(8)])
    while not area._descriptor.closed:
        next(others).create_file("other")


def test_an_area_in_use_keeps_its_descriptor(made: LocalArea, storage: LocalDiskStorage) -> None:
    """The descriptor of an area that a thread is inside of is not closed for another's sake."""
    inside, leave = threading.Event(), threading.Event()

    def use() -> None:
        with made._lock:
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=use)
    thread.start()
    inside.wait(20)
    for _ in range(8):
        storage.open_area(record_of()).create_file("other")
    assert not made._descriptor.closed
    leave.set()
    thread.join()
    shut(made, storage)


@pytest.mark.parametrize("how", ["directory", "link", "file", "nothing"])
def test_a_replaced_directory_is_recognised(
    made: LocalArea, storage: LocalDiskStorage, tmp_path: Path, how: str
) -> None:
    """Row 48: an area opened again by name is recognised; what stands in its place is never acted on."""
    shut(made, storage)
    directory, outside = made.directory, tmp_path / "outside"
    shut(made, storage)
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    os.rename(directory, tmp_path / "moved")
    if how == "directory":
        shutil.copytree(outside, directory)
    elif how == "link":
        directory.symlink_to(outside)
    elif how == "file":
        directory.write_bytes(b"")
    for attempt in (
        lambda: made.create_file("new"),
        lambda: made.create_dir("new"),
        lambda: made.delete(directory / "file"),
        lambda: made.delete(directory),
        lambda: made.retain(record_of()),
        made.usage,
    ):
        with pytest.raises(LeaseLostError, match="was removed or replaced by somebody else") as caught:
            attempt()
        assert caught.value.errno == errno.ESTALE
    removal = made.remove()
    assert removal.skipped == (how != "nothing")
    assert below(outside) == ["file"]
    assert below(tmp_path / "moved") == ["file"]
    if how == "directory":
        assert below(directory) == ["file"]
        shutil.rmtree(directory)


def test_a_link_in_place_of_an_open_area(made: LocalArea, tmp_path: Path) -> None:
    """Row 48: while its descriptor is open, a link put in an area's place leads none of its calls outside."""
    directory, outside = made.directory, tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    os.rename(directory, tmp_path / "moved")
    directory.symlink_to(outside)
    made.create_file("new")
    assert made.delete(directory / "file") == Removal(removed=1)
    assert below(tmp_path / "moved") == ["new"]
    assert below(outside) == ["file"]
    with pytest.raises(LeaseLostError):
        made.retain(record_of())
    assert made.remove().skipped == 1
    assert below(outside) == ["file"]


def test_an_area_that_cannot_be_opened_again(
    made: LocalArea, storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An area whose directory the system does not open is an error of its own, not a lost lease."""
    shut(made, storage)

    def no_descriptors(name: str, *, dir_fd: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(_area_directory, "open_directory", no_descriptors)
    with pytest.raises(StorageFull, match="no file descriptor left"):
        made.create_file("new")
    monkeypatch.undo()
    made.create_file("new")
    monkeypatch.setattr(_area_directory, "open_directory", no_descriptors)
    with pytest.raises(StorageFull, match="no file descriptor left"):
        made.usage()


# -- descriptors that somebody else closed


def close_all(area: LocalArea) -> list[int]:
    """Close all descriptors of the area and its instance behind their backs; return their numbers."""
    instance = area._instance
    assert instance is not None
    numbers = [instance.fd, instance.root.fd, instance.journal._file[0].fd, area._descriptor.fd]
    for number in numbers:
        os.close(number)
    return numbers


USES: dict[str, Callable[[LocalArea], object]] = {
    "create_file": lambda area: area.create_file("new"),
    "create_dir": lambda area: area.create_dir("new"),
    "delete": lambda area: area.delete(Path(area._path, "file")),
    "delete below": lambda area: area.delete(Path(area._path, "directory", "inner")),
    "delete all": lambda area: area.delete(Path(area._path)),
    "usage": lambda area: area.usage(),
    "note": lambda area: area.note_outside(Path("/outside"), ""),
    "forget": lambda area: area.forget_outside(Path("/outside")),
    "give_up": lambda area: shutil.rmtree(area.give_up(Path(area._path, "file")).parent),
    "retain": lambda area: shutil.rmtree(str(area.retain(record_of()).directory)),
    "remove": lambda area: area.remove(),
}


@pytest.mark.parametrize("use", USES)
def test_closed_descriptors_are_noticed_and_replaced(made: LocalArea, use: str, tmp_path: Path) -> None:
    """L4: after os.closerange every use of an area works again, and closes no number that it lost."""
    (made.create_dir("directory") / "inner").touch()
    numbers = close_all(made)
    (tmp_path / "others").touch()
    others = [os.open(tmp_path / "others", os.O_RDWR) for _ in numbers]
    assert sorted(others) == sorted(numbers)
    USES[use](made)
    made.remove()
    assert [os.fstat(fd).st_size for fd in others] == [0, 0, 0, 0]
    for fd in others:
        os.close(fd)


@pytest.mark.parametrize("use", [use for use in USES if use not in ("forget", "remove", "delete")])
def test_an_area_that_an_operator_removed(
    made: LocalArea, use: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 46: after rm -rf of a live scope every use fails clearly, and closing says so without an error."""
    shutil.rmtree(made.directory)
    with pytest.raises((LeaseLostError, PathMissingError)):
        USES[use](made) if use != "note" else made.create_file("x")
    assert made.remove() == Removal()
    assert "was removed by somebody else" in caplog.text


@pytest.mark.parametrize("what", ["instance", "root"])
def test_new_areas_after_the_instance_was_removed(
    made: LocalArea, storage: LocalDiskStorage, what: str, tmp_path: Path
) -> None:
    """Row 26, L16: after rm -rf of the instance, or of the root in use, new scopes get new directories."""
    shutil.rmtree(made.directory.parent if what == "instance" else made.directory.parent.parent)
    late = storage.open_area(record_of())
    assert late.create_file("new").exists()
    with pytest.raises(LeaseLostError):
        made.create_file("new")
    removal = made.remove()
    assert removal.skipped == 1
    assert "taken away" in removal.entries[0].reason
    made.forget_outside(Path("/outside"))
    assert late.remove().complete


def test_the_instance_goes_while_the_area_is_made(
    area: LocalArea, storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that is removed between its check and the making of an area is answered by another one."""
    real, calls = _area_directory.make_directory, []

    def operator(fd: int, name: str) -> Any:
        calls.append(name)
        if len(calls) == 1:
            shutil.rmtree(os.readlink(f"/proc/self/fd/{fd}"))
        return real(fd, name)

    monkeypatch.setattr(_area_directory, "make_directory", operator)
    assert area.create_file("new").exists()
    assert len(calls) == 2


def test_the_instance_closes_while_the_area_is_made(area: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor closed by another thread just then is told as a storage error."""

    def closed(fd: int, name: str) -> Any:
        raise ValueError("the descriptor is closed")

    monkeypatch.setattr(_area_directory, "make_directory", closed)
    with pytest.raises(StorageError, match="cannot be made"):
        area.create_file("new")


def test_a_second_failure_is_told(made: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """When making fails again after the descriptors came back, that error is told."""
    close_all(made)
    made._create = None
    made._descriptor.forget()
    monkeypatch.setattr(LocalArea, "_came_back", lambda self, error: True)
    with pytest.raises(NameTakenError):
        made.create_dir("file")


def test_a_missing_path_in_a_sound_area(made: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected ENOENT in a directory that is what it was is told as it is."""
    refuse(monkeypatch, _area, "mkdir", errno.ENOENT)
    with pytest.raises(PathMissingError, match="'new' cannot be made"):
        made.create_dir("new")


# -- looking and deleting


def test_deleting(made: LocalArea) -> None:
    """What is deleted is gone with all below it; deleting again, or what never was, is not an error."""
    deep = made.create_dir("directory") / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    assert made.delete(deep / "file") == Removal(removed=1)
    assert made.delete(deep / "file") == Removal()
    assert made.delete(made.directory / "directory").complete
    assert made.delete(made.directory / "file") == Removal(removed=1)
    assert made.delete(made.directory / "file") == Removal()
    assert below(made.directory) == []


def test_emptying(made: LocalArea) -> None:
    """Deleting the area's own directory empties it and leaves it usable."""
    made.create_dir("directory")
    assert made.delete(made.directory).removed == 2
    assert made.create_file("file").exists()


def test_what_is_not_in_the_area_is_not_deleted(made: LocalArea, tmp_path: Path) -> None:
    """P2: a path outside the area, however it is spelled, is refused and untouched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (made.directory / "way out").symlink_to(outside)
    (made.directory / "plain").touch()
    (made.directory / "dot").mkdir()
    for path in (
        outside,
        made.directory.parent,
        made.directory / ".." / "a1" / "file",
        Path(f"{made.directory}x"),
        Path(f"{made.directory}//..//..//x"),
        made.directory / "way out" / "file",
        made.directory / "plain" / "file",
    ):
        with pytest.raises(ForeignPathError):
            made.delete(path)
    assert made.delete(made.directory / "missing" / "file") == Removal()
    assert below(outside) == ["file"]
    assert made.delete(made.directory / "way out") == Removal(removed=1)
    assert below(outside) == ["file"]


def test_usage_is_measured(made: LocalArea) -> None:
    """The usage of an area counts its files and directories, and the bytes they take."""
    made.create_dir("directory")
    (made.directory / "file").write_bytes(bytes(10_000))
    usage = made.usage()
    assert (usage.files, usage.directories) == (1, 1)
    assert usage.bytes >= 12_288
    made.remove()
    assert made.usage() == Usage()


# -- in and out


def test_staging_and_publishing(made: LocalArea, tmp_path: Path) -> None:
    """A file comes in as a copy and goes out to its place; nothing goes out into the scope itself."""
    source = tmp_path / "source"
    source.write_bytes(b"input")
    staged = made.take_in(source, "staged", writable=True, progress=None)
    assert staged.path.read_bytes() == b"input"
    options: dict[str, Any] = {"overwrite": True, "durable": False, "mode": None, "progress": None}
    assert made.give_out(staged.path, tmp_path / "product", **options) == tmp_path / "product"
    assert (tmp_path / "product").read_bytes() == b"input"
    with pytest.raises(ForeignPathError, match="inside the scope"):
        made.give_out(made.directory / "file", made.directory / "elsewhere", **options)


def test_a_destination_that_cannot_be_looked_at(
    made: LocalArea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is not published where nobody can tell whether that is inside the scope; it stays."""
    path = made.create_file("f")
    options: dict[str, Any] = {"overwrite": True, "durable": False, "mode": None, "progress": None}

    lstat, readlink = os.lstat, os.readlink

    def failing(really: Any, broken: str) -> Any:
        def call(place: Any, **options: Any) -> Any:
            if str(place).startswith(broken):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return really(place, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", failing(lstat, str(tmp_path)))
        patch.setattr(os, "readlink", failing(readlink, "/proc/"))
        with pytest.raises(StorageError, match="nobody can tell whether") as caught:
            made.give_out(path, tmp_path / "product", **options)
    assert (caught.value.errno, caught.value.scope) == (errno.EIO, "the job")
    assert path.exists()


def test_publishing_when_the_base_has_another_name(made: LocalArea, tmp_path: Path) -> None:
    """A base that was renamed, and linked to by its old name, is no obstacle; what is open counts."""
    options: dict[str, Any] = {"overwrite": True, "durable": False, "mode": None, "progress": None}
    made.give_out(made.create_file("first"), tmp_path / "product", **options)
    (tmp_path / "disk").rename(tmp_path / "renamed")
    below = made.directory.relative_to(tmp_path / "disk")
    for link in (False, True):
        if link:
            (tmp_path / "disk").symlink_to("renamed")
        for inside in (tmp_path / "renamed" / below, *([made.directory] if link else [])):
            with pytest.raises(ForeignPathError, match="inside the scope"):
                made.give_out(made.directory / "file", inside / "x", **options)
    with pytest.raises(ForeignPathError, match="inside the scope"):
        made.give_out(made.directory / "file", made.directory / "no" / "x", **options)
    made.give_out(made.directory / "file", tmp_path / "product", **options)
    assert (tmp_path / "product").read_bytes() == b"content"
    (tmp_path / "disk").unlink()


def test_publishing_by_a_path_that_is_not_absolute(
    made: LocalArea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative destination, which the protocol forbids, is at least where it says."""
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"overwrite": True, "durable": False, "mode": None, "progress": None}
    made.give_out(made.directory / "file", Path("product"), **options)
    assert (tmp_path / "product").read_bytes() == b"content"


def test_a_destination_that_leads_in_circles(made: LocalArea, tmp_path: Path) -> None:
    """A loop of links in the destination's path is not blamed on what is published."""
    (tmp_path / "loop").symlink_to("loop")
    options: dict[str, Any] = {"overwrite": True, "durable": True, "mode": None, "progress": None}
    with pytest.raises(StorageError, match="Too many levels") as caught:
        made.give_out(made.directory / "file", tmp_path / "loop" / "x", **options)
    assert caught.value.path == str(tmp_path / "loop" / "x")
    assert (made.directory / "file").exists()


def test_giving_up(made: LocalArea, storage: LocalDiskStorage, root: Path) -> None:
    """A path that is given up lies in a directory of its own, and outlives scope and storage."""
    deep = made.create_dir("directory") / "inner"
    deep.write_bytes(b"inner")
    kept = made.give_up(deep)
    assert kept.read_bytes() == b"inner"
    assert kept.parent.parent == root
    assert kept.parent.name.startswith("f-")
    assert kept.name == "inner"
    assert made.give_up(made.directory / "directory").is_dir()
    made.remove()
    storage.close()
    assert kept.read_bytes() == b"inner"


def test_what_cannot_be_given_up_stays(made: LocalArea, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is missing or cannot be moved stays where it is, and no empty directory is left."""
    with pytest.raises(PathMissingError):
        made.give_up(made.directory / "missing")
    with monkeypatch.context() as patch:
        refuse(patch, _area, "rename", errno.ENOSPC)
        with pytest.raises(StorageFull, match="cannot be kept"):
            made.give_up(made.directory / "file")
    assert (made.directory / "file").read_bytes() == b"content"
    assert not [name for name in os.listdir(root) if name.startswith("f-")]


# -- outside paths


def journal_of(area: LocalArea) -> Any:
    """Return what the journal of the area's instance says."""
    with open_directory(str(area.directory.parent)) as directory:
        return read_journal(directory.fd)


def test_outside_paths_are_written_down(area: LocalArea, tmp_path: Path) -> None:
    """A registered path stands in the journal before the call returns, and is taken out the same way."""
    area.note_outside(tmp_path / "one", "1:2:3:")
    area.note_outside(tmp_path / "two", "")
    area.note_outside(tmp_path / "three", "no identity")
    outside = journal_of(area).outside
    assert str(outside[str(tmp_path / "one")].identity) == "1:2:3:"
    assert outside[str(tmp_path / "two")].identity is None
    assert outside[str(tmp_path / "three")].identity is None
    area.forget_outside(tmp_path / "one")
    assert list(journal_of(area).outside) == [str(tmp_path / "two"), str(tmp_path / "three")]


def test_forgetting_before_anything_was_made(area: LocalArea, tmp_path: Path) -> None:
    """Forgetting a path in an area without a directory does nothing."""
    area.forget_outside(tmp_path)
    assert below(tmp_path) == []


def test_a_journal_that_takes_no_more(
    made: LocalArea, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap: the journal cannot be written: neither registering nor unregistering passes for done."""
    refuse(monkeypatch, __import__("tempscope.storages._journal", fromlist=["os"]), "write", errno.ENOSPC)
    with pytest.raises(StorageFull, match="the path cannot be registered"):
        made.note_outside(Path("/outside"), "")
    with pytest.raises(StorageFull, match="the path cannot be unregistered"):
        made.forget_outside(Path("/outside"))


def test_a_lost_journal_is_not_written_to(made: LocalArea, caplog: pytest.LogCaptureFixture) -> None:
    """L4: a path in a journal that was taken away is nobody's to take out; that is said."""
    shutil.rmtree(made.directory.parent)
    made.forget_outside(Path("/outside"))
    assert "could not be taken out of the journal" in caplog.text


def test_evidence_that_cannot_be_opened_is_not_removed_either(
    made: LocalArea, storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 16: what is to be kept and cannot be opened outlives its storage, and a sweep knows to keep it."""
    directory = made.directory
    with monkeypatch.context() as patch:
        patch.setattr(LocalArea, "_own_copy", raising(StorageError("no", errno=errno.EIO)))
        with pytest.raises(StorageError, match="cannot be kept where it should be"):
            made.retain(kept_record())
    storage.close()
    assert (directory / "file").read_bytes() == b"content"
    with open_directory(str(directory.parent)) as found:
        assert read_journal(found.fd).areas["a1"].never_closed.keep


def test_evidence_without_a_directory_is_told(area: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 17: a scope that is to be kept and has no directory, and can have none, is told."""
    monkeypatch.setattr(LocalArea, "_own_copy", raising(StorageFull("no", errno=errno.ENOSPC)))
    with pytest.raises(StorageFull, match="cannot be kept where it should be"):
        area.retain(kept_record())


def test_evidence_that_cannot_be_measured_is_kept_all_the_same(
    made: LocalArea, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 16: a scope that cannot be measured is retained without its size, and that is said."""
    monkeypatch.setattr(_measure, "measure", raising(OSError(errno.EIO, "no")))
    kept = made.retain(kept_record())
    assert (kept.state, kept.usage) == ("retained", None)
    assert "could not be measured" in caplog.text


# -- closing


def test_removing(made: LocalArea) -> None:
    """Removing an area removes all in it; doing it twice is fine; afterwards everything else raises."""
    directory = made.directory
    assert made.remove().removed == 2
    assert made.remove() == Removal()
    assert not directory.exists()
    assert "removed" in repr(made)
    for attempt in (
        lambda: made.create_file("new"),
        lambda: made.create_dir("new"),
        lambda: made.delete(directory / "file"),
        lambda: made.directory,
        lambda: made.retain(record_of()),
        lambda: made.give_up(directory / "file"),
        lambda: made.note_outside(Path("/outside"), ""),
    ):
        with pytest.raises(ScopeClosedError):
            attempt()


def test_what_cannot_be_removed_goes_to_trash(
    made: LocalArea, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: what cannot be removed is reported, and stands in trash for the next sweep."""
    with monkeypatch.context() as patch:
        refuse(patch, __import__("tempscope.storages._delete", fromlist=["os"]), "unlink", errno.EBUSY)
        removal = made.remove()
    assert removal.failed == 1
    trash = [name for name in os.listdir(root) if name.startswith("t-")]
    assert below(root / trash[0]) == ["file"]
    shutil.rmtree(root / trash[0])


def test_what_cannot_even_be_moved(made: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 20: on a disk that turned read-only, closing reports and leaves everything in place."""
    directory = made.directory
    delete = __import__("tempscope.storages._delete", fromlist=["os"])
    with monkeypatch.context() as patch:
        refuse(patch, delete, "unlink", errno.EROFS)
        refuse(patch, delete, "rename", errno.EROFS)
        assert made.remove().failed == 1
    assert below(directory) == ["file"]
    shutil.rmtree(directory)


def test_an_error_while_removing_is_reported(made: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing never raises for what the system says."""

    def refused(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(LocalDiskStorage, "_discard", refused)
    removal = made.remove()
    assert removal.failed == 1
    assert removal.entries[0].errno == errno.EIO
    shutil.rmtree(made._path)


def kept_record(**fields: Any) -> Any:
    """Return the record of a scope that is to be kept."""
    return record_of(
        "kept", outcome=Outcome("failed", error="E: why"), verdict=Verdict(True, "it failed"), **fields
    )


def test_retaining(made: LocalArea, root: Path, storage: LocalDiskStorage) -> None:
    """A retained area stands whole under its token, with its record, and is found again."""
    record = kept_record()
    kept = made.retain(record)
    assert kept.state == "retained"
    assert kept.directory == root / f"k-{record.token}"
    assert kept.usage is not None
    assert kept.usage.files == 1
    assert kept.owner is not None
    assert kept.owner.pid == os.getpid()
    assert below(root / f"k-{record.token}") == [RECORD, "file"]
    assert made.retain(record) == kept
    assert made.remove() == Removal()
    with pytest.raises(ScopeClosedError, match="retained"):
        made.create_file("new")
    assert [found.token for found in storage.areas() if found.state == "retained"] == [record.token]
    with open_directory(str(kept.directory)) as directory:
        found = read_record(directory.fd)
    assert found is not None
    assert found.verdict == record.verdict


def refuse_keeping(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Have the move of a scope to where it is kept fail with *code*."""
    real = os.rename

    def refused(source: str, target: str, **fds: int) -> None:
        if target.startswith("k-"):
            raise OSError(code, os.strerror(code))
        real(source, target, **fds)

    monkeypatch.setattr(_area.os, "rename", refused)


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC, errno.EXDEV, errno.EROFS])
def test_retaining_is_whole_or_nothing(
    made: LocalArea, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Row 18: if the move is refused the files stay where they are, and the journal says keep."""
    record, directory = kept_record(), made.directory
    with monkeypatch.context() as patch:
        refuse_keeping(patch, code)
        with pytest.raises(StorageError, match="cannot be kept where it should be") as caught:
            made.retain(record)
    assert caught.value.errno == code
    assert (directory / "file").read_bytes() == b"content"
    assert not [name for name in os.listdir(root) if name.startswith("k-")]
    written = journal_of(made).areas["a1"]
    assert written.never_closed == record.verdict
    assert written.outcome == record.outcome
    assert made.retain(record).state == "retained"


def test_evidence_outlives_a_storage_that_could_not_keep_it(
    made: LocalArea, storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: what should have been kept and stays in the instance is there, with its journal, at the end."""
    directory = made.directory
    with monkeypatch.context() as patch:
        refuse_keeping(patch, errno.EDQUOT)
        with pytest.raises(StorageError):
            made.retain(kept_record())
    storage.close()
    assert below(directory.parent) == ["a1", "a1/.tempscope-record", "a1/file", "journal", "owner"]
    with open_directory(str(directory.parent)) as found:
        assert read_journal(found.fd).areas["a1"].never_closed.keep


def test_neither_kept_nor_written_down(
    made: LocalArea, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 17: on a disk without any room the error says what happened and a warning that nothing is known."""
    refuse(monkeypatch, _area, "rename", errno.ENOSPC)
    refuse(monkeypatch, _area, "write", errno.ENOSPC)
    with pytest.raises(StorageFull):
        made.retain(kept_record())
    assert "a scope's verdict could not be written down" in caplog.text


# -- forks


def test_a_child_touches_nothing_of_its_parents(
    made: LocalArea, storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5, row 63: in a forked child closing and removing do nothing, and making anything raises."""
    instance = made._instance
    assert instance is not None

    def child() -> list[str]:
        # As if the at-fork hook had not run: the child has the parent's descriptors.
        instance.lost = False
        told = [type(made.remove()).__name__]
        made.forget_outside(Path("/outside"))
        made._create = None
        for attempt in (
            lambda: made.create_file("new"),
            lambda: made.retain(record_of()),
            lambda: made.note_outside(Path("/outside"), ""),
        ):
            with pytest.raises(ForkedScopeError, match="belongs to process"):
                attempt()
        storage.close()
        return told

    # The hook itself would close the descriptors, so that only the guard is tested.
    monkeypatch.setattr("tempscope.storages._instance.Instance.let_go", lambda self: None)
    assert in_child(child) == ["Removal"]
    monkeypatch.undo()
    assert (made.directory / "file").read_bytes() == b"content"
    assert made.create_file("new").exists()


def test_a_record_with_its_directory(made: LocalArea) -> None:
    """An area's record is the scope's, with its directory."""
    assert made.record == attrs.evolve(made.record, directory=None)
    assert made.record.directory == made.directory


def test_a_directory_that_does_not_open_again(made: LocalArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 57: where the directory is not open after it was opened, the error says that it is lost."""
    made.release_descriptor()
    monkeypatch.setattr(LocalArea, "_reopen", lambda self: None)
    with pytest.raises(LeaseLostError, match="removed or replaced"):
        made.create_file("late")


def test_removal_leaves_a_reused_descriptor_open(made: LocalArea, tmp_path: Path) -> None:
    """If the area's descriptor is somebody else's file by now, removing leaves that open, and removes all."""
    made.create_file("f")
    directory, number = made.directory, made._descriptor.fd
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    try:
        assert made.remove().complete
        assert os.path.samestat(os.fstat(number), os.fstat(other))
    finally:
        os.close(number)
        os.close(other)
    assert not directory.exists()


# Beside other threads


@pytest.mark.parametrize("what", ["a directory", "all"])
def test_deleting_much_does_not_hold_up_others(
    made: LocalArea, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """While one thread deletes a whole directory, another makes files in the same scope."""
    (made.create_dir("much") / "deep").mkdir()
    rmdir, meanwhile = os.rmdir, []

    def removing(*args: Any, **kwargs: Any) -> None:
        if not meanwhile:
            worker = threading.Thread(target=lambda: meanwhile.append(made.create_file("meanwhile")))
            worker.start()
            worker.join(PATIENCE)
        rmdir(*args, **kwargs)

    monkeypatch.setattr(os, "rmdir", removing)
    made.delete(made.directory / "much" if what == "a directory" else made.directory)
    assert [path.name for path in meanwhile] == ["meanwhile"]
    assert not (made.directory / "much").exists()


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("end", ["remove", "retain"])
def test_staging_while_the_scope_closes_says_so(made: LocalArea, tmp_path: Path, kind: str, end: str) -> None:
    """Row 42: what is staged while another thread closes the scope raises that, and no path is handed out."""
    source = tmp_path / "source"
    if kind == "directory":
        source.mkdir()
        (source / "one").write_bytes(b"x" * 100)
        (source / "two").write_bytes(b"x" * 100)
    else:
        source.write_bytes(b"x" * 100)

    def close(*_: object) -> None:
        if made._state == "open":
            made.remove() if end == "remove" else made.retain(made.record)

    with pytest.raises(ScopeClosedError, match="the scope is closed"):
        made.take_in(source, "in", writable=True, progress=close)
