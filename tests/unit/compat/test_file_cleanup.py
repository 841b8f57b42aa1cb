"""The API of the transcription service: each row of its table, its uses, and what it is fed by mistake."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from tempscope import LocalDiskStorage, MemoryStorage, TempFileManager, sweep
from tempscope.compat import _cleanup_pass
from tempscope.compat import file_cleanup as ours
from tempscope.compat.file_cleanup import FileCleanupManager, TempFileContext, temp_file_async
from tempscope.errors import (
    ConfigurationError,
    ScopeClosedError,
    ScopeEnteredError,
    StorageError,
    UnsupportedError,
)

from .conftest import original


HOUR = 3600
ROOT = f"tempscope-{os.geteuid()}"


def aged(path: Path, hours: float, content: bytes = b"content") -> Path:
    """Make *path* a file that was last changed so many hours ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    when = time.time() - hours * HOUR
    os.utime(path, (when, when))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The base directory for temporary files of the application."""
    place = tmp_path / "work"
    place.mkdir()
    return place


@pytest.fixture
def manager(place: Path) -> FileCleanupManager:
    """What cleans up in it."""
    return FileCleanupManager(place)


# -- the rows


def kept_on_error(api: ModuleType, place: Path) -> None:
    """With cleanup_on_error=False a block that raises, or is cancelled, keeps its file."""

    async def run(error: type[BaseException]) -> None:
        path = place / error.__name__
        path.touch()
        with pytest.raises(error):
            async with api.temp_file_async(path, cleanup_on_error=False):
                raise error
        assert path.exists()

    asyncio.run(run(KeyError))
    asyncio.run(run(asyncio.CancelledError))


def the_blocks_own_exception(api: ModuleType, place: Path) -> None:
    """A file that is missing when its block ends raises nothing, and hides nothing."""
    with api.TempFileContext(place / "moved"):
        pass
    with pytest.raises(KeyError, match="own"), api.TempFileContext(place / "moved"):
        raise KeyError("own")


def what_a_dead_run_tracked(api: ModuleType, place: Path) -> None:
    """What an earlier run tracked, and did not delete because it was killed, goes when its time has come."""
    old, young = aged(place / "old.wav", 25), aged(place / "young.wav", 1)
    program = f"""
import os, signal
from pathlib import Path
from tempscope.compat.file_cleanup import FileCleanupManager
manager = FileCleanupManager({str(place)!r})
for name in ("old.wav", "young.wav"):
    manager.track_file(Path({str(place)!r}) / name)
os.kill(os.getpid(), signal.SIGKILL)
"""
    if api is ours:
        done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL
        report = sweep(None)
        assert report.removed == 0
        assert sorted(entry.path for entry in report.leftovers) == [str(old), str(young)]
    stranger = aged(place / "nobody.wav", 25)
    result = asyncio.run(api.FileCleanupManager(place).cleanup_old_files())
    assert result["removed_count"] == 1
    assert not old.exists() and young.exists() and stranger.exists()


def what_another_process_holds(api: ModuleType, place: Path) -> None:
    """What another living process tracks, or registered, stays, however old, also if we track it too."""
    paths = [aged(place / name, 25) for name in ("tracked.wav", "registered.wav", "directory/deep.wav")]
    program = f"""
import sys
from pathlib import Path
from tempscope import TempFileManager
from tempscope.compat.file_cleanup import FileCleanupManager
place = Path({str(place)!r})
FileCleanupManager(place).track_file(place / "tracked.wav")
manager = TempFileManager()
manager.register_file(place / "registered.wav")
manager.register_file(place / "directory" / "deep.wav")
print(flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        mine = api.FileCleanupManager(place)
        for path in (*paths[:2], paths[2].parent):
            mine.track_file(path)
        os.utime(paths[2].parent, (0, 0))
        result = asyncio.run(mine.cleanup_old_files())
        assert all(path.exists() for path in paths)
        assert len(result["skipped"]) == 3
        asyncio.run(mine.cleanup_old_files(adopt=True))
        assert all(path.exists() for path in paths)
        other.communicate(b"")


def somebody_elses_file(api: ModuleType, place: Path) -> None:
    """A tracked path that somebody else uses by now is not deleted."""
    path = aged(place / "clip.wav", 25)
    cleaner = api.FileCleanupManager(place)
    cleaner.track_file(path)
    path.unlink()
    aged(path, 25, b"somebody else's")
    result = asyncio.run(cleaner.cleanup_old_files())
    assert path.exists()
    assert "not the file that was registered" in result["skipped"][0]


ROWS = [
    kept_on_error,
    the_blocks_own_exception,
    what_a_dead_run_tracked,
    what_another_process_holds,
    somebody_elses_file,
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row(row: Callable[[ModuleType, Path], None], place: Path) -> None:
    """Each row of the table holds."""
    row(ours, place)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row_fails_on_the_original(row: Callable[[ModuleType, Path], None], place: Path) -> None:
    """Each row is about something that the hand-written one does not do."""
    with pytest.raises((AssertionError, FileNotFoundError, IsADirectoryError)):
        row(original("file_cleanup"), place)


# -- the uses, as they were, with the import changed


def test_the_life_of_an_application(place: Path) -> None:
    """Clean up at start-up, periodically, after each request, and at shutdown."""

    async def application() -> None:
        cleaner = FileCleanupManager(base_temp_dir=place, default_ttl_hours=24, cleanup_interval_minutes=30)
        await cleaner.cleanup_old_files()
        cleaner.start_periodic_cleanup()
        cleaner.start_periodic_cleanup()
        directory = place / "session_123"
        directory.mkdir(parents=True)
        cleaner.track_file(directory)
        (directory / "video.mp4").write_bytes(b"video")
        cleaner.track_file(directory / "video.mp4")
        assert cleaner.get_stats() == {
            "tracked_files": 2,
            "total_size_bytes": 10,
            "total_size_mb": 0.0,
            "periodic_cleanup_running": True,
            "default_ttl_hours": 24,
            "cleanup_interval_minutes": 30,
        }
        assert await cleaner.cleanup_directory(directory)
        assert cleaner.get_stats()["tracked_files"] == 0
        for name in ("one", "two"):
            cleaner.track_file(aged(place / name, 0))
        await cleaner.stop_periodic_cleanup()
        await cleaner.stop_periodic_cleanup()
        assert await cleaner.cleanup_all_tracked() == 2
        assert cleaner.get_stats()["periodic_cleanup_running"] is False

    asyncio.run(application())
    assert list(place.iterdir()) == []


def test_old_files_and_what_is_told(manager: FileCleanupManager, place: Path) -> None:
    """Old tracked files go, directories that this leaves empty too; the result counts them."""
    manager.track_file(aged(place / "a" / "b" / "old.wav", 2, b"x" * 1_600_000))
    manager.track_file(aged(place / "young.wav", 0))
    manager.track_file(aged(place.parent / "elsewhere" / "old.wav", 2))
    (place / "new and empty").mkdir()
    old = place / "old and empty"
    old.mkdir()
    os.utime(old, (0, 0))
    result = asyncio.run(manager.cleanup_old_files(max_age_hours=1))
    assert result == {
        "removed_count": 2,
        "removed_size_bytes": 1_600_007,
        "removed_size_mb": 1.53,
        "errors": 0,
        "tracked_files_remaining": 1,
        "untracked_count": 0,
        "untracked_files": [],
        "skipped": [],
    }
    assert sorted(path.name for path in place.iterdir()) == ["new and empty", "young.wav"]
    assert (place.parent / "elsewhere").exists()


def test_what_nobody_tracks(
    manager: FileCleanupManager, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files below the base directory that nobody tracks are told, and go by their age if they are adopted."""
    monkeypatch.setattr(_cleanup_pass, "_SHOWN", 2)
    old = [aged(place / "upload" / f"{number}.wav", 25) for number in range(3)]
    young = aged(place / "young.wav", 1)
    link = place / "link"
    link.symlink_to(aged(place.parent / "outside", 25))
    os.utime(link, (0, 0), follow_symlinks=False)
    result = asyncio.run(manager.cleanup_old_files())
    assert (result["removed_count"], result["untracked_count"], len(result["untracked_files"])) == (0, 5, 2)
    result = asyncio.run(manager.cleanup_old_files(adopt=True))
    assert (result["removed_count"], result["untracked_count"]) == (4, 1)
    assert result["untracked_files"] == [str(young)]
    assert not any(path.exists() for path in old) and not link.is_symlink() and not old[0].parent.exists()
    assert (place.parent / "outside").exists()


def test_scopes_below_the_base_directory_are_not_adopted(place: Path) -> None:
    """Our own roots are never walked: what is in them belongs to scopes."""
    storage = LocalDiskStorage(place)
    with TempFileManager(storage=storage) as job:
        path = job.new_file()
        os.utime(path, (0, 0))
        result = asyncio.run(FileCleanupManager(place, storage=storage).cleanup_old_files(0, adopt=True))
        assert path.exists()
        assert result["untracked_count"] == 0


def test_another_managers_directory(place: Path) -> None:
    """What a manager of another directory tracks is not this one's to judge."""
    path = aged(place / "theirs.wav", 25)
    other = FileCleanupManager(place.parent / "other")
    other.track_file(path)
    mine = FileCleanupManager(place)
    result = asyncio.run(mine.cleanup_old_files(adopt=True))
    assert (result["removed_count"], result["untracked_count"]) == (0, 0)
    mine.track_file(path)
    result = asyncio.run(mine.cleanup_old_files())
    assert result["skipped"] == [f"{path}: another living process, or another manager, holds it"]
    assert asyncio.run(other.cleanup_old_files())["removed_count"] == 0
    mine.untrack_file(path)
    assert asyncio.run(other.cleanup_old_files())["removed_count"] == 1


def test_a_dead_run_of_another_directory(place: Path) -> None:
    """What a dead run tracked for another directory is known, and left; a replaced file is nobody's."""
    theirs, replaced = aged(place / "theirs.wav", 25), aged(place / "replaced.wav", 25)
    program = f"""
import os
from tempscope.compat.file_cleanup import FileCleanupManager
FileCleanupManager({str(place.parent)!r}).track_file({str(theirs)!r})
FileCleanupManager({str(place)!r}).track_file({str(replaced)!r})
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
    replaced.unlink()
    aged(replaced, 25)
    result = asyncio.run(FileCleanupManager(place).cleanup_old_files())
    assert (result["removed_count"], result["untracked_files"]) == (0, [str(replaced)])
    assert asyncio.run(FileCleanupManager(place.parent).cleanup_old_files())["removed_count"] == 1
    assert not theirs.exists()


def test_a_directory_is_as_young_as_what_is_in_it(manager: FileCleanupManager, place: Path) -> None:
    """A tracked directory goes, with all in it, when nothing in it was changed for the time."""
    directory = place / "session"
    aged(directory / "old.wav", 25)
    aged(directory / "deep" / "young.wav", 1)
    for each in (directory, directory / "deep"):
        os.utime(each, (0, 0))
    manager.track_file(directory)
    assert asyncio.run(manager.cleanup_old_files())["removed_count"] == 0
    aged(directory / "deep" / "young.wav", 25)
    os.utime(directory / "deep", (0, 0))
    result = asyncio.run(manager.cleanup_old_files())
    assert (result["removed_count"], result["removed_size_bytes"]) == (1, 14)
    assert not directory.exists()


def test_a_path_that_was_tracked_before_it_was_there(manager: FileCleanupManager, place: Path) -> None:
    """A path may be tracked first; once a clean-up met the file, a later run knows it too."""
    early = place / "early.wav"
    manager.track_file(early)
    aged(early, 1)
    assert asyncio.run(manager.cleanup_old_files())["tracked_files_remaining"] == 1
    (tracked,) = manager._tracked()
    assert tracked.identity
    aged(early, 25)
    assert asyncio.run(manager.cleanup_old_files())["removed_count"] == 1


# -- single calls


def test_cleaning_up_a_file(manager: FileCleanupManager, place: Path) -> None:
    """A file is deleted, tracked or not, given as text or path; a missing one and a directory are told."""

    async def run() -> None:
        for tracked in (True, False):
            path = aged(place / "file", 0)
            if tracked:
                manager.track_file(str(path))
            assert await manager.cleanup_file(str(path)) is True
            assert not path.exists()
            assert manager.get_stats()["tracked_files"] == 0
        assert await manager.cleanup_file(path) is False
        assert await manager.cleanup_file(place) is False

    asyncio.run(run())
    assert place.is_dir()


def test_cleaning_up_a_directory(manager: FileCleanupManager, place: Path) -> None:
    """A directory goes; without recursive only an empty one; a missing one is fine, a file is told."""

    async def run() -> None:
        directory = place / "directory"
        path = aged(directory / "file", 0)
        manager.track_file(path)
        neighbour = aged(place / "directory.wav", 0)
        manager.track_file(neighbour)
        assert await manager.cleanup_directory(directory, recursive=False) is False
        assert path.exists()
        assert await manager.cleanup_directory(path) is False
        assert await manager.cleanup_directory(directory) is True
        assert manager.get_stats()["tracked_files"] == 1
        assert await manager.cleanup_directory(directory) is True
        directory.mkdir()
        assert await manager.cleanup_directory(str(directory), recursive=False) is True
        assert not directory.exists() and neighbour.exists()

    asyncio.run(run())


def test_one_failure_does_not_stop_the_rest(
    manager: FileCleanupManager, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be deleted, or looked at, is counted, stays tracked, and the rest goes."""
    for name in ("bad", "good", "hidden"):
        manager.track_file(aged(place / name, 25))
    really_remove, really_look = _cleanup_pass.remove_outside, _cleanup_pass.look_at
    failed = really_remove(str(place / "missing"), None)
    failed = attrs.evolve(failed, failed=1, entries=(_entry("the system says no"),))

    def remove(path: str, identity: Any) -> Any:
        return failed if path.endswith("bad") else really_remove(path, identity)

    def look(path: str) -> Any:
        if path.endswith("hidden"):
            raise PermissionError(13, "no", path)
        return really_look(path)

    for home in (_cleanup_pass, ours):
        monkeypatch.setattr(home, "remove_outside", remove)
        monkeypatch.setattr(home, "look_at", look)
    result = asyncio.run(manager.cleanup_old_files())
    assert (result["removed_count"], result["errors"], result["tracked_files_remaining"]) == (1, 2, 2)
    assert sorted(entry.partition(": ")[0] for entry in result["skipped"]) == [
        str(place / "bad"),
        str(place / "hidden"),
    ]
    assert manager.get_stats()["total_size_bytes"] == 7
    assert asyncio.run(manager.cleanup_all_tracked()) == 1
    assert asyncio.run(manager.cleanup_file(place / "bad")) is False
    assert manager.get_stats()["tracked_files"] == 1


def _entry(reason: str) -> Any:
    from tempscope import Entry

    return Entry("file", "failed", reason)


def test_when_nobody_knows_what_is_held(manager: FileCleanupManager, place: Path) -> None:
    """If a living process's journal cannot be read, nothing is deleted by age, and that is an error."""
    manager.track_file(aged(place / "old.wav", 25))
    program = f"""
import os, sys
from tempscope import TempFileManager
manager = TempFileManager()
manager.register_file({str(place / "theirs")!r})
instance = manager.directory.parent
os.unlink(instance / "journal")
os.mkdir(instance / "journal")
print(flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        result = asyncio.run(manager.cleanup_old_files())
        assert (result["removed_count"], result["errors"]) == (0, 1)
        assert "nothing is known not to be in use" in result["skipped"][0]
        other.communicate(b"")


# -- blocks


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("on_error", [False, True])
@pytest.mark.parametrize("error", [None, KeyError])
def test_a_block(
    place: Path, asynchronous: bool, keep: bool, on_error: bool, error: type[Exception] | None
) -> None:
    """A block deletes its file unless it was told to keep it, or raised and is not to delete then."""
    context = TempFileContext(str(place / "file"), cleanup_on_error=on_error)

    def block(path: Path) -> None:
        assert path == place / "file"
        aged(path.with_name("new"), 0).replace(path)
        if keep:
            context.keep()
        if error is not None:
            raise error

    async def run() -> None:
        if asynchronous:
            async with context as path:
                block(path)
        else:
            with context as path:
                block(path)

    aged(place / "file", 0)
    if error is None:
        asyncio.run(run())
    else:
        with pytest.raises(error):
            asyncio.run(run())
    assert (place / "file").exists() == (keep or (error is not None and not on_error))
    assert list(LocalDiskStorage().areas()) == []


def test_a_directory_goes_with_its_block_too(place: Path) -> None:
    """A directory is deleted with all in it."""
    with TempFileContext(place / "directory") as directory:
        aged(directory / "deep" / "file", 0)
    assert not (place / "directory").exists()


def test_a_block_in_a_block_of_itself(place: Path) -> None:
    """The same object cannot be entered while it is; afterwards it can."""
    context = TempFileContext(place / "file")

    async def again() -> None:
        async with context:
            pass

    with context:
        with pytest.raises(ScopeEnteredError, match="entered already"), context:
            pass
        with pytest.raises(ScopeEnteredError):
            asyncio.run(again())
        aged(place / "file", 0)
    assert not (place / "file").exists()
    with context:
        aged(place / "file", 0)
    assert not (place / "file").exists()


def test_a_block_that_is_cancelled_before_it_begins(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it enters, nothing stays registered, and the file stays."""
    path = aged(place / "file", 0)
    entered, go_on = threading.Event(), threading.Event()
    really = TempFileManager.register_file

    def slowly(self: TempFileManager, given: Any) -> None:
        entered.set()
        assert go_on.wait(30)
        really(self, given)

    monkeypatch.setattr(TempFileManager, "register_file", slowly)

    async def block() -> None:
        async with temp_file_async(path):
            raise AssertionError("it never begins")

    async def run() -> None:
        task = asyncio.ensure_future(block())
        await asyncio.to_thread(entered.wait, 30)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert path.exists()
    assert list(LocalDiskStorage().areas()) == []


def test_deleting_is_off_the_event_loop(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is looked at or deleted the loop runs on."""
    here, seen = threading.current_thread(), []
    for home in (ours, _cleanup_pass):
        really = home.remove_outside

        def elsewhere(*args: Any, really: Any = really) -> Any:
            seen.append(threading.current_thread() is not here)
            return really(*args)

        monkeypatch.setattr(home, "remove_outside", elsewhere)

    async def run() -> None:
        manager = FileCleanupManager(place)
        manager.track_file(aged(place / "old", 25))
        await manager.cleanup_old_files()
        manager.track_file(aged(place / "young", 0))
        await manager.cleanup_all_tracked()
        await manager.cleanup_file(aged(place / "one", 0))
        aged(place / "directory" / "file", 0)
        await manager.cleanup_directory(place / "directory")
        async with temp_file_async(place / "block") as path:
            aged(path, 0)

    asyncio.run(run())
    assert seen == [True] * 5
    assert list(place.iterdir()) == []


def test_a_manager_in_a_forked_child(place: Path) -> None:
    """In a forked child a manager tracks nothing of the parent's, and its periodic clean-up does not run."""
    program = f"""
import asyncio, os, sys
from tempscope.compat.file_cleanup import FileCleanupManager
path = {str(place / "file")!r}
manager = FileCleanupManager({str(place)!r})
open(path + "2", "w").close()
manager.track_file(path + "2")
async def start():
    manager.start_periodic_cleanup()
    if not (pid := os.fork()):
        assert not manager._is_periodic()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
asyncio.run(start())
if not (pid := os.fork()):
    assert asyncio.run(manager.cleanup_all_tracked()) == 0
    manager.untrack_file(path + "2")
    manager.track_file(path)
    assert manager.get_stats()["tracked_files"] == 1
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert manager.get_stats()["tracked_files"] == 1
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=60, check=True)
    assert (place / "file2").exists()


def test_the_childs_end_of_a_block_deletes_nothing(place: Path) -> None:
    """The end of a block in a forked child leaves the file to the parent."""
    program = f"""
import os
from tempscope.compat.file_cleanup import TempFileContext
path = {str(place / "file")!r}
context = TempFileContext(path)
context.__enter__()
open(path, "w").close()
if not (pid := os.fork()):
    context.__exit__(None, None, None)
    os._exit(0 if os.path.exists(path) else 1)
assert os.waitpid(pid, 0)[1] == 0
context.__exit__(None, None, None)
assert not os.path.exists(path)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def test_a_crash_in_a_block(place: Path) -> None:
    """A file that was there when its block began goes with the sweep after a crash."""
    path = aged(place / "file", 0)
    program = f"""
import os, signal
from tempscope.compat.file_cleanup import TempFileContext
with TempFileContext({str(path)!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert path.exists()
    assert sweep(None).removed == 2
    assert not path.exists()


def test_a_file_that_cannot_be_deleted_when_its_block_ends(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises nothing: the log tells, and the sweep knows the file."""
    path = aged(place / "file", 0)
    failed = attrs.evolve(
        ours.remove_outside(str(place / "missing"), None), failed=1, entries=(_entry("no"),)
    )
    monkeypatch.setattr(ours, "remove_outside", lambda *_: failed)
    monkeypatch.setattr("tempscope._outside_paths.remove_outside", lambda *_: failed)
    with TempFileContext(path):
        pass
    monkeypatch.undo()
    assert path.exists()


# -- again and again


def test_periodic_cleaning(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cleans up after each interval, goes on after a failure, and is stopped between two clean-ups."""
    manager = FileCleanupManager(place, cleanup_interval_minutes=0.0001)
    really, runs = manager._clean, []

    async def run() -> None:
        loop, twice = asyncio.get_running_loop(), asyncio.Event()

        def clean(hours: float, adopt: bool) -> Any:
            runs.append((hours, adopt))
            if len(runs) == 1:
                raise RuntimeError("once")
            if len(runs) == 3:
                loop.call_soon_threadsafe(twice.set)
            return really(hours, adopt)

        monkeypatch.setattr(manager, "_clean", clean)
        manager.track_file(aged(place / "old", 25))
        manager.start_periodic_cleanup()
        await asyncio.wait_for(twice.wait(), 30)
        await manager.stop_periodic_cleanup()

    asyncio.run(run())
    assert runs[0] == (24, False)
    assert not (place / "old").exists()
    assert manager.get_stats()["periodic_cleanup_running"] is False


def test_starting_without_a_loop_and_stopping_in_another(manager: FileCleanupManager) -> None:
    """Both are clear errors; a loop that is gone took its clean-up along."""
    with pytest.raises(ConfigurationError, match="running asyncio event loop"):
        manager.start_periodic_cleanup()

    async def start() -> None:
        manager.start_periodic_cleanup()
        error = await asyncio.to_thread(_stop)
        assert "another event loop" in str(error)
        assert manager.get_stats()["periodic_cleanup_running"] is True

    def _stop() -> Exception:
        with pytest.raises(ConfigurationError) as caught:
            asyncio.run(manager.stop_periodic_cleanup())
        return caught.value

    asyncio.run(start())
    assert manager.get_stats()["periodic_cleanup_running"] is False
    asyncio.run(manager.stop_periodic_cleanup())


def test_threads_track_at_once(manager: FileCleanupManager, place: Path) -> None:
    """What eight threads track and untrack at once is tracked or not, exactly."""
    barrier = threading.Barrier(8, timeout=30)

    def run(number: int) -> None:
        barrier.wait()
        for each in range(50):
            manager.track_file(place / f"{number}-{each}")
            if each % 2:
                manager.untrack_file(place / f"{number}-{each}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert manager.get_stats()["tracked_files"] == 200


# -- mistakes


@pytest.mark.parametrize("hours", [-1, float("nan"), float("inf"), "24", None, True])
def test_numbers_that_are_none(place: Path, hours: Any) -> None:
    """A number that is none, or too small, is an error that names it."""
    with pytest.raises(ConfigurationError, match="default_ttl_hours"):
        FileCleanupManager(place, hours)
    with pytest.raises(ConfigurationError, match="cleanup_interval_minutes"):
        FileCleanupManager(place, cleanup_interval_minutes=hours)
    if hours is not None:
        with pytest.raises(ConfigurationError, match="max_age_hours"):
            asyncio.run(FileCleanupManager(place).cleanup_old_files(hours))


def test_a_storage_that_cannot_remember(place: Path) -> None:
    """A storage without a journal is refused at once."""
    with pytest.raises(UnsupportedError, match="storage on disk"):
        FileCleanupManager(place, storage=MemoryStorage())


@pytest.mark.parametrize("path", ["", "nul\0"])
def test_paths_that_are_none(manager: FileCleanupManager, path: str) -> None:
    """What cannot be a path is an error."""
    for call in (manager.track_file, manager.untrack_file, TempFileContext, FileCleanupManager):
        with pytest.raises(StorageError, match="cannot be a path"):
            call(path)


def test_after_the_storage_was_closed(place: Path) -> None:
    """Tracking afterwards is an error; what was tracked is known to the next."""
    storage = LocalDiskStorage(place / "disk")
    manager = FileCleanupManager(place, storage=storage)
    path = aged(place / "old.wav", 25)
    manager.track_file(path)
    storage.close()
    with pytest.raises(ScopeClosedError):
        manager.track_file(path)
    assert manager.get_stats()["tracked_files"] == 0
    another = FileCleanupManager(place, storage=LocalDiskStorage(place / "disk"))
    assert asyncio.run(another.cleanup_old_files())["removed_count"] == 1


def test_a_base_directory_that_is_missing(place: Path) -> None:
    """It need not exist."""
    assert asyncio.run(FileCleanupManager(place / "missing").cleanup_old_files())["errors"] == 0


# -- what it costs


def test_memory_for_each_tracked_file(place: Path, unmeasured: dict[str, str]) -> None:
    """A tracked file takes at most 300 bytes, its path of 56 characters and its identity included."""
    # pathlib interns names, in a table of the interpreter's that may grow at any moment; what it makes
    # and we keep is the path's text.
    program = f"""
import os, sys, tracemalloc
from tempscope.compat.file_cleanup import FileCleanupManager
place = {str(place)!r}
paths = [os.path.join(place, f"{{number:05}}.wav") for number in range(1000)]
for path in paths:
    open(path, "w").close()
manager = FileCleanupManager(place)
manager.track_file(paths[0])
tracemalloc.start()
for path in paths[1:]:
    manager.track_file(path)
made = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
print(sum(trace.size for trace in made.traces) / 999 + sys.getsizeof("x" * 56))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=unmeasured, capture_output=True, text=True, check=True
    )
    assert 150 < float(done.stdout) <= 300


def test_what_vanishes_meanwhile(
    manager: FileCleanupManager, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody else deletes at any moment is no error, and tracked no more."""
    really = os.walk

    def haunted(top: str) -> Any:
        for directory, directories, files in really(top):
            yield directory, directories, [*files, "ghost"]
        yield f"{top}/ghost", [], []

    monkeypatch.setattr(os, "walk", haunted)
    aged(place / "session" / "file", 25)
    os.utime(place / "session", (0, 0))
    for path in (place / "missing", place / "session", aged(place / "taken", 25)):
        manager.track_file(path)
    remove = _cleanup_pass.remove_outside
    gone = remove(str(place / "missing"), None)
    monkeypatch.setattr(
        _cleanup_pass, "remove_outside", lambda path, known: gone if "taken" in path else remove(path, known)
    )
    result = asyncio.run(manager.cleanup_old_files())
    assert (result["removed_count"], result["errors"], result["tracked_files_remaining"]) == (1, 0, 0)


def test_not_more_is_told_than_can_be_read(
    manager: FileCleanupManager, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reasons beyond the first hundred are only counted."""
    monkeypatch.setattr(_cleanup_pass, "_SHOWN", 1)
    for name in ("one", "two"):
        manager.track_file(aged(place / name, 25))
        (place / name).unlink()
        aged(place / name, 25)
    assert len(asyncio.run(manager.cleanup_old_files())["skipped"]) == 1


def test_a_block_that_cannot_begin(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong at its beginning is raised as it is, and nothing stays registered."""

    async def run() -> None:
        async with temp_file_async(place / "file"):
            raise AssertionError("it never begins")

    def refuse(*_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(TempFileManager, "register_file", refuse)
    with pytest.raises(StorageError, match="no room"):
        asyncio.run(run())
