"""The API of the video-learning service: each row of its table, and its uses, with the import changed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tempscope
from tempscope import TempScopes, sweep
from tempscope.compat import temp_file_manager as ours

from .conftest import ORIGINALS, original


pytestmark = pytest.mark.allow_temp_leaks("what this API makes lives until the process ends")

Row = Callable[[ModuleType, Path], None]


# -- the rows: each holds for ours, and fails for the hand-written one


def kept_for_good(api: ModuleType, place: Path) -> None:
    """A file made with delete=False belongs to the manager until it closes; keep() frees it for good."""
    manager = api.TempFileManager(base_dir=place)
    with manager.create_temp_file(suffix=".mp3", delete=False) as speech:
        pass
    with manager.create_temp_file(delete=False) as other:
        pass
    assert speech.exists() and other.exists()
    speech = manager.keep(speech) if hasattr(manager, "keep") else speech
    manager.cleanup_all()
    assert speech.exists() and not other.exists()


def the_real_error(api: ModuleType, place: Path) -> None:
    """A creation that fails raises what went wrong."""
    (place / "a file").touch()
    manager = api.TempFileManager(base_dir=place / "a file")
    with pytest.raises(OSError, match="a file") as caught, manager.create_temp_file():
        pass
    assert caught.value.errno == errno.ENOTDIR


def one_for_all(api: ModuleType, place: Path) -> None:
    """Whoever calls first, and however many at once: there is one manager."""
    first_is_in, second_is_done = threading.Event(), threading.Event()
    really, got = api.TempFileManager, []

    def slowly(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == "first":
            first_is_in.set()
            assert second_is_done.wait(30)
        return really(*args, **kwargs)

    api.TempFileManager = slowly  # type: ignore[attr-defined]
    try:
        first = threading.Thread(target=lambda: got.append(api.get_temp_manager()), name="first")
        first.start()
        assert first_is_in.wait(30)
        got.append(api.get_temp_manager())
        second_is_done.set()
        first.join()
    finally:
        api.TempFileManager = really  # type: ignore[attr-defined]
    assert got[0] is got[1] is api.get_temp_manager()


def directories_and_links(api: ModuleType, place: Path) -> None:
    """Registered directories, and links that lead nowhere, go."""
    manager = api.TempFileManager(base_dir=place)
    directory, link = place / "registered", place / "link"
    directory.mkdir()
    (directory / "clip.mkv").touch()
    link.symlink_to(place / "nowhere")
    manager.register_file(directory)
    manager.register_file(link)
    manager.cleanup_all()
    assert not directory.exists() and not link.is_symlink()


def somebody_elses_file(api: ModuleType, place: Path) -> None:
    """A path that somebody else uses by now is not deleted."""
    manager = api.TempFileManager(base_dir=place)
    path = place / "clip.mkv"
    path.write_text("ours")
    manager.register_file(path)
    path.unlink()
    path.write_text("somebody else's")
    manager.cleanup_all()
    assert path.exists() and path.read_text() == "somebody else's"


def another_directory(api: ModuleType, place: Path) -> None:
    """A relative path means what it meant when it was registered."""
    manager = api.TempFileManager(base_dir=place)
    for name in ("here", "there"):
        (place / name).mkdir()
        (place / name / "clip.mkv").touch()
    before = Path.cwd()
    try:
        os.chdir(place / "here")
        manager.register_file("clip.mkv")
        os.chdir(place / "there")
        manager.cleanup_all()
    finally:
        os.chdir(before)
    assert [path.parent.name for path in place.glob("*/clip.mkv")] == ["there"]


PROGRAMS = {
    "a forked child": """
        import os, sys
        from tempscope.compat.temp_file_manager import get_temp_manager
        manager = get_temp_manager()
        outside = os.path.join(sys.argv[1], "outside")
        open(outside, "w").close()
        manager.register_file(outside)
        with manager.create_temp_file(delete=False) as made:
            pass
        if not os.fork():
            sys.exit(0)
        os.wait()
        assert os.path.exists(outside) and os.path.exists(made)
    """,
    "SIGTERM": """
        import os, signal, sys
        from tempscope.compat.temp_file_manager import get_temp_manager
        if sys.argv[2] == "ours":
            import tempscope
            tempscope.install_signal_handlers()
        with get_temp_manager().create_temp_file(suffix=".mkv") as made:
            open(os.path.join(sys.argv[1], "name"), "w").write(str(made))
            os.kill(os.getpid(), signal.SIGTERM)
    """,
    "SIGKILL": """
        import os, signal, sys
        from tempscope.compat.temp_file_manager import get_temp_manager
        with get_temp_manager().create_temp_file(suffix=".mkv") as made:
            open(os.path.join(sys.argv[1], "name"), "w").write(str(made))
            os.kill(os.getpid(), signal.SIGKILL)
    """,
}


def run(what: str, api: ModuleType, place: Path) -> int:
    """Run one of the programs on *api*, and return how it ended."""
    is_ours = api is ours
    source = "\n".join(line[8:] for line in PROGRAMS[what].splitlines())
    env = {**os.environ, "TMPDIR": str(place)}
    if not is_ours:
        env["PYTHONPATH"] = str(ORIGINALS)
        source = source.replace("tempscope.compat.", "")
    command = [sys.executable, "-c", source, str(place), "ours" if is_ours else "original"]
    done = subprocess.run(command, env=env, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode <= 0, done.stderr
    return done.returncode


def a_fork(api: ModuleType, place: Path) -> None:
    """A forked child deletes nothing of its parent's."""
    assert run("a forked child", api, place) == 0


def sigterm(api: ModuleType, place: Path) -> None:
    """SIGTERM cleans up, after the opt-in handler was installed."""
    assert run("SIGTERM", api, place) == -signal.SIGTERM
    assert not Path((place / "name").read_text()).exists()


def sigkill(api: ModuleType, place: Path) -> None:
    """What SIGKILL leaves goes with the next sweep."""
    assert run("SIGKILL", api, place) == -signal.SIGKILL
    made = Path((place / "name").read_text())
    assert made.exists()
    sweep(None)
    assert not made.exists()


ROWS = [
    kept_for_good,
    the_real_error,
    one_for_all,
    directories_and_links,
    somebody_elses_file,
    another_directory,
    a_fork,
    sigterm,
    sigkill,
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row(row: Row, tmp_path: Path) -> None:
    """Each row of the table holds."""
    row(ours, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row_fails_on_the_original(row: Row, tmp_path: Path) -> None:
    """Each row is about something that the hand-written manager does not do."""
    with pytest.raises((AssertionError, UnboundLocalError)):
        row(original("temp_file_manager"), tmp_path)


# -- the uses, as they were, with the import changed


def routes(api: ModuleType, job_id: str, upload: bytes) -> list[str]:
    """Do what a route does: two files whose names tell the job, one inside the other."""
    manager = api.get_temp_manager()
    with manager.create_temp_file(suffix=".mkv", prefix=f"{job_id}_video_") as video:
        video.write_bytes(upload)
        with manager.create_temp_file(suffix=".srt", prefix=f"{job_id}_subtitle_") as subtitle:
            subtitle.write_text("1\n")
            return [video.name, subtitle.name, str(video), str(subtitle)]


class VideoEditor:
    """Receives the manager, and registers intermediate clips that another program made."""

    def __init__(self, temp_manager: Any) -> None:
        self.temp_manager = temp_manager

    def cut(self, output: Path, count: int) -> list[Path]:
        clips = []
        for number in range(count):
            clip = output / f"clip_{number:03}.mkv"
            clip.write_bytes(b"clip")
            self.temp_manager.register_file(clip)
            clips.append(clip)
        return clips


def speak(manager: Any, text: str) -> Path:
    """Return an .mp3 that outlives the function."""
    with manager.create_temp_file(suffix=".mp3", delete=False) as path:
        path.write_text(text)
    manager.register_file(path)
    return path


@pytest.mark.parametrize("which", ["ours", "original"])
def test_the_published_uses(which: str, tmp_path: Path) -> None:
    """Routes, editor, pipeline and speech work as they did, with only the import changed."""
    api = ours if which == "ours" else original("temp_file_manager")
    video, subtitle, *paths = routes(api, "job1", b"video")
    assert video.startswith("job1_video_") and video.endswith(".mkv")
    assert subtitle.startswith("job1_subtitle_") and subtitle.endswith(".srt")
    assert not any(map(os.path.exists, paths))
    manager = api.TempFileManager(prefix="langflix_", base_dir=tmp_path)
    clips = VideoEditor(manager).cut(tmp_path, 3)
    speech = speak(manager, "hello")
    with manager.create_temp_dir(prefix="clips_") as directory:
        assert directory.name.startswith("clips_")
        (directory / "a.mkv").touch()
    assert not directory.exists()
    with pytest.raises(KeyError), manager.create_temp_file() as broken:
        assert broken.name.startswith("langflix_")
        raise KeyError
    assert not broken.exists()
    assert all(clip.exists() for clip in clips) and speech.read_text() == "hello"
    manager.cleanup_all()
    assert not any(clip.exists() for clip in clips) and not speech.exists()


# -- what was asked for and never built


def test_it_is_one_in_and_out_of_scopes_and_threads(tmp_path: Path) -> None:
    """The same object comes back everywhere; it is the core's class, and never the current scope."""
    manager = ours.get_temp_manager()
    assert type(manager) is tempscope.TempFileManager is ours.TempFileManager
    with TempScopes(tempscope.LocalDiskStorage(tmp_path)).open() as job:
        assert ours.get_temp_manager() is manager is not job
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ours.get_temp_manager()))
    thread.start()
    thread.join()
    assert found == [manager]
    assert manager.name == "default"


def test_after_cleaning_up_it_goes_on(tmp_path: Path) -> None:
    """cleanup_all() is no end: what is made and registered afterwards is owned as before."""
    manager = ours.get_temp_manager()
    for _ in range(2):
        path = tmp_path / "registered"
        path.touch()
        manager.register_file(str(path))
        manager.register_file(str(path))
        made = manager.new_file()
        manager.cleanup_all()
        assert not path.exists() and not made.exists()


def test_a_failing_workflow_leaks_nothing(tmp_path: Path) -> None:
    """Eight threads whose jobs fail half-way leave no file of theirs."""
    manager = ours.TempFileManager(base_dir=tmp_path)
    barrier = threading.Barrier(8, timeout=30)
    failures: list[str] = []

    def job(number: int) -> None:
        barrier.wait()
        try:
            with manager.create_temp_file(prefix=f"{number}_") as video, manager.create_temp_dir() as clips:
                (clips / "clip").write_bytes(video.read_bytes())
                raise RuntimeError(str(number))
        except RuntimeError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=job, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(failures) == list("01234567")
    assert list(manager.directory.iterdir()) == []
    manager.close()
