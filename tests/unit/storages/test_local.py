"""The disk storages: what they share, how they close, and what stays at the end of a process."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from tempscope.errors import BaseDirectoryError, ScopeClosedError, StorageError
from tempscope.janitor import sweep
from tempscope.model import Capability, Removal
from tempscope.policies import DeleteOnClose
from tempscope.storages import _lock, local
from tempscope.storages._background import BackgroundRemoval, wait_for_all
from tempscope.storages._root import MARKER, root_name
from tempscope.storages.local import LocalDiskStorage, RamDiskStorage, default_application

from .conftest import below, in_child, python, record_of


def test_constructing_touches_nothing(tmp_path: Path) -> None:
    """Trap 14: making a storage, and an area of it, makes no directory and deletes nothing."""
    storage = LocalDiskStorage(tmp_path / "base")
    storage.open_area(record_of())
    assert below(tmp_path) == []
    assert storage.base_dir == tmp_path / "base"
    assert repr(storage) == f"LocalDiskStorage({str(tmp_path / 'base')!r})"
    assert list(storage.areas()) == []
    storage.close()
    assert below(tmp_path) == []


def test_the_base_directory_stays(tmp_path: Path) -> None:
    """Trap 13: the base directory, which was there before us, stays with all that is in it, whatever ends."""
    (tmp_path / "theirs").write_text("precious")
    with LocalDiskStorage(tmp_path) as storage:
        storage.open_area(record_of()).create_file("file")
    sweep(tmp_path, policy=DeleteOnClose())
    assert below(tmp_path) == [root_name(), f"{root_name()}/{MARKER}", "theirs"]


def test_a_process_may_stand_in_its_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 39: a scope goes although the current directory is in it, and the next one is made as ever."""
    monkeypatch.chdir(tmp_path)
    with LocalDiskStorage("base") as storage:
        area = storage.open_area(record_of())
        directory = area.create_dir("inside")
        os.chdir(directory)
        area.remove()
        assert not directory.exists()
        assert storage.open_area(record_of()).create_file("file").is_relative_to(tmp_path / "base")


def test_the_environment_names_the_base(own_base_dir: Path) -> None:
    """Without a base directory the environment's is asked at the first file."""
    with LocalDiskStorage() as storage:
        assert storage.base_dir is None
        assert repr(storage) == "LocalDiskStorage()"
        assert storage.open_area(record_of()).create_file("file").is_relative_to(own_base_dir)


def test_a_base_directory_is_absolute_from_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: a relative base directory means the one of the storage's making, whatever chdir follows."""
    monkeypatch.chdir(tmp_path)
    storage = LocalDiskStorage("base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert storage.open_area(record_of()).create_file("file").is_relative_to(tmp_path / "base")
    storage.close()


def test_a_process_without_a_lease_is_never_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 22, L19: where the kernel gave no lock, neither our own sweep at start nor any other touches it."""
    monkeypatch.setattr(_lock, "share", lambda fd: "unsupported")
    with LocalDiskStorage(tmp_path) as storage:
        path = storage.open_area(record_of()).create_file("file")
        monkeypatch.undo()
        report = sweep(tmp_path)
        assert path.exists()
        assert [entry.reason for entry in report.entries] == [
            "its owner could not lock it, so nobody can tell whether it lives"
        ]
        home = path.parent.parent
    assert not home.exists()


def test_capabilities() -> None:
    """A disk storage says what it can do, the same all its life."""
    storage = LocalDiskStorage()
    assert {Capability.REAL_PATHS, Capability.RETAIN, Capability.CRASH_SWEEP} <= storage.capabilities
    assert Capability.HARD_LINKS not in storage.capabilities
    storage.close()
    assert storage.capabilities == LocalDiskStorage().capabilities


def test_arguments_are_checked() -> None:
    """A base directory that cannot be a path is refused at once."""
    with pytest.raises(BaseDirectoryError, match="cannot be a path"):
        LocalDiskStorage("nul\0")


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/srv/app/worker.py"], "worker.py"),
        (["/srv/app/__main__.py"], "app"),
        (["__main__.py"], "__main__.py"),
        (["-c"], "python"),
        (["-m"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_the_default_application(argv: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is the main program's file name; a package's ``__main__`` goes by the package."""
    monkeypatch.setattr(sys, "argv", argv)
    assert default_application() == name
    assert LocalDiskStorage().application == name
    assert LocalDiskStorage(application="mine").application == "mine"


def test_storages_on_one_root_share_one_lease(tmp_path: Path) -> None:
    """Storages on one root in one process share one instance, which goes with the last of them."""
    one, two = LocalDiskStorage(tmp_path), LocalDiskStorage(tmp_path)
    first, second = one.open_area(record_of()), two.open_area(record_of())
    first.create_file("file")
    second.create_file("file")
    assert first.directory.parent == second.directory.parent
    one.close()
    assert second.create_file("another").exists()
    assert not first._path or not Path(first._path).exists()
    two.close()
    assert below(Path(first._path).parent.parent) == [".tempscope-root"]


def test_closing(storage: LocalDiskStorage, root: Path) -> None:
    """Closing removes the open areas and the instance; twice is fine; afterwards nothing opens."""
    made, unused = storage.open_area(record_of()), storage.open_area(record_of("unused"))
    made.create_file("file")
    storage.close()
    storage.close()
    assert below(root) == [".tempscope-root"]
    with pytest.raises(ScopeClosedError, match="is closed: open another storage") as caught:
        storage.open_area(record_of("late"))
    assert caught.value.scope == "late"
    with pytest.raises(ScopeClosedError):
        made.create_file("file")
    with pytest.raises(ScopeClosedError, match="is closed"):
        unused.create_file("file")
    assert below(root) == [".tempscope-root"]


def test_threads_that_need_the_instance_at_once(storage: LocalDiskStorage) -> None:
    """However many threads make a storage's first files at once, it counts as one user of one instance."""
    barrier = threading.Barrier(8)

    def make() -> None:
        area = storage.open_area(record_of())
        barrier.wait()
        area.create_file("file")

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage._used is not None
    assert len(storage._used.users) == 1
    assert len(storage._areas) == 8


def test_another_thread_was_faster(storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waited for the lock while another made the instance uses that one."""
    theirs = storage._instance()
    storage._used = None

    def meanwhile() -> None:
        storage._used = theirs

    monkeypatch.setattr(storage, "_after_fork", meanwhile)
    assert storage._instance() is theirs
    assert len(theirs.users) == 1


# -- background removal


def test_background_removal(tmp_path: Path) -> None:
    """With background removal closing an area is a rename, and nothing is left once the storage is closed."""
    storage = LocalDiskStorage(tmp_path, background_removal=True)
    areas = [storage.open_area(record_of()) for _ in range(5)]
    for area in areas:
        area.create_dir("directory")
        assert area.remove() == Removal()
        assert not Path(area._path).exists()
    storage.close()
    assert below(tmp_path / f"tempscope-{os.geteuid()}") == [".tempscope-root"]


def test_background_removal_of_what_was_replaced(tmp_path: Path) -> None:
    """Background removal does not carry off what stands in the place of an area."""
    storage = LocalDiskStorage(tmp_path / "base", background_removal=True)
    area = storage.open_area(record_of())
    directory = area.create_file("file").parent
    os.rename(directory, tmp_path / "moved")
    directory.mkdir()
    (directory / "foreign").touch()
    assert area.remove().skipped == 1
    storage.close()
    assert below(directory) == ["foreign"]


def test_a_rename_into_trash_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 18: where the rename into trash is refused, the area is removed in place."""
    storage = LocalDiskStorage(tmp_path, background_removal=True)
    area = storage.open_area(record_of())
    area.create_file("file")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(local.os, "rename", refused)
    assert area.remove().removed == 2
    monkeypatch.undo()
    storage.close()
    assert below(tmp_path / f"tempscope-{os.geteuid()}") == [".tempscope-root"]


def trash_in(storage: LocalDiskStorage, name: str) -> Path:
    """Make a directory of trash with a file in it."""
    instance = storage._instance()
    place = Path(instance.root.path, name)
    place.mkdir()
    (place / "file").touch()
    return place


def test_trash_is_removed_where_no_thread_starts(
    storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Row 70: at interpreter shutdown no thread can be started, so trash is removed in this one.

    Trap 23: at the interpreter's end executors are closed.
    """
    place = trash_in(storage, "t-" + "a" * 26)

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    removal = BackgroundRemoval()
    removal.put(storage._instance().root, place.name)
    assert not place.exists()
    removal.wait()


def test_trash_that_stays_is_said(
    storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the background cannot remove is a warning: a sweep tries again."""
    place, root = trash_in(storage, "t-" + "a" * 26), storage._instance().root
    monkeypatch.setattr("tempscope.storages._background.remove_entry", lambda fd, name: Removal(failed=1))
    removal = BackgroundRemoval()
    removal.put(root, place.name)
    removal.wait()
    assert caplog.text.count("trash could not be removed") == 1

    def gone(fd: int, name: str) -> Removal:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("tempscope.storages._background.remove_entry", gone)
    removal.put(root, place.name)
    removal.wait()
    assert caplog.text.count("trash could not be removed") == 2


def test_waiting_for_the_background_is_bounded(
    storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At exit a removal is waited for, but not for ever; what another process started is not waited for."""
    place, go_on = trash_in(storage, "t-" + "a" * 26), threading.Event()
    monkeypatch.setattr(
        "tempscope.storages._background.remove_entry", lambda fd, name: (go_on.wait(20), Removal())[1]
    )
    removal, inherited = BackgroundRemoval(), BackgroundRemoval()
    inherited.pid = os.getpid() + 1
    inherited._waiting.append((storage._instance().root, "not ours"))
    removal.put(storage._instance().root, place.name)
    wait_for_all(0.01)
    assert len(inherited._waiting) == 1
    thread = removal._thread
    assert thread is not None
    assert thread.is_alive()
    go_on.set()
    removal.wait()
    assert not removal._waiting


def test_the_thread_goes_on_while_there_is_trash(
    storage: LocalDiskStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trash that comes while the thread is about to end is removed by the same thread."""
    root, removal, seen = storage._instance().root, BackgroundRemoval(), []
    real = removal._drain

    def drain() -> None:
        real()
        if not seen:
            seen.append(1)
            removal._waiting.append((root, "late"))

    monkeypatch.setattr(removal, "_drain", drain)
    monkeypatch.setattr("tempscope.storages._background.remove_entry", lambda fd, name: Removal(removed=1))
    removal._working = True
    removal._work()
    assert not removal._waiting
    assert not removal._working


# -- forks


def test_a_child_starts_anew(storage: LocalDiskStorage, root: Path) -> None:
    """Row 60: a storage used in a forked child makes its own instance; the parent's is untouched."""
    area = storage.open_area(record_of())
    path = area.create_file("file")

    def child() -> str:
        mine = storage.open_area(record_of()).create_file("file")
        assert mine.exists()
        storage.close()
        return str(mine)

    theirs = Path(in_child(child))
    assert theirs.parent.parent != path.parent.parent
    assert not theirs.exists()
    assert path.exists()
    assert area.create_file("more").exists()


@pytest.mark.parametrize("use", ["open", "close"])
def test_a_fork_while_the_storage_is_locked(storage: LocalDiskStorage, use: str) -> None:
    """Row 56: a child can create and close though another thread of its parent held the storage's lock."""
    path = storage.open_area(record_of()).create_file("file")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with storage._lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)

    def child() -> bool:
        signal.alarm(5)
        if use == "open":
            return storage.open_area(record_of()).create_file("file").exists()
        storage.close()
        return True

    try:
        assert in_child(child)
    finally:
        done.set()
        thread.join()
    assert path.exists()


# -- the end of the process


PROGRAMS = {
    "a scope left open": """
manager = tempscope.TempScopes(storage).open()
manager.new_file()
manager.__enter__()
""",
    "a standalone manager": """
manager = tempscope.TempFileManager(storage=storage)
print(manager.new_file())
""",
    "a closed scope": """
with tempscope.TempScopes(storage).open() as manager:
    manager.new_file()
""",
    "an open area": """
from tempscope.model import Instant, ScopeRecord
area = storage.open_area(ScopeRecord(token="a" * 26, opened=Instant(0, 0)))
""",
    "in an exit handler": """
import atexit
def late():
    with tempscope.TempScopes(storage).open() as manager:
        manager.new_file()
atexit.register(late)
""",
    "a daemon thread": """
import threading
started = threading.Event()
def work():
    with tempscope.TempScopes(storage).open() as manager:
        manager.new_file()
        started.set()
        threading.Event().wait()
threading.Thread(target=work, daemon=True).start()
started.wait()
""",
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_is_left_at_the_end_of_the_process(tmp_path: Path, program: str, background: bool) -> None:
    """Row 70, 71: at a normal exit open scopes are closed, and the instance's directory goes with them."""
    done = python(
        "import sys, tempscope\n"
        f"storage = tempscope.LocalDiskStorage(sys.argv[1], background_removal={background})\n"
        + PROGRAMS[program],
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    left = below(tmp_path)
    assert left in ([], [f"tempscope-{os.geteuid()}", f"tempscope-{os.geteuid()}/.tempscope-root"])


def test_a_child_that_exits_normally_removes_nothing(tmp_path: Path) -> None:
    """Row 60, trap: a forked child that runs the inherited exit handlers removes nothing."""
    done = python(
        """
import os, sys, tempscope
storage = tempscope.LocalDiskStorage(sys.argv[1])
with tempscope.TempScopes(storage).open() as manager:
    path = manager.new_file()
    if not os.fork():
        sys.exit(0)
    os.wait()
    assert path.exists()
    manager.new_file()
print("well")
""",
        str(tmp_path),
    )
    assert done.stdout == "well\n", done.stderr


# -- the RAM disk


def test_the_ram_disk() -> None:
    """A RAM-disk storage is a disk storage on ``/dev/shm``."""
    with RamDiskStorage(application="test") as storage:
        path = storage.open_area(record_of()).create_file("file")
        assert str(path).startswith("/dev/shm/tempscope-")
        assert repr(storage) == "RamDiskStorage()"
        assert storage.application == "test"
    assert not path.exists()


def test_no_ram_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without a RAM disk is an error at once, which says what would do."""
    monkeypatch.setattr(local, "_RAM_DISK", str(tmp_path / "shm"))
    with pytest.raises(StorageError, match="has no RAM disk.*use LocalDiskStorage or MemoryStorage"):
        RamDiskStorage()


def test_the_names_of_the_package() -> None:
    """What is heavy is imported when its name is first used, and an unknown name is an error."""
    from tempscope import storages

    assert set(storages.__all__) <= set(dir(storages))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        storages.nothing  # noqa: B018  # looking is what is tested
