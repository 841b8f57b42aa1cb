"""The API of the masking tool: each row of its table, its pipeline, and what it is fed by mistake."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tempscope import LocalDiskStorage, MemoryStorage, sweep
from tempscope.compat import resource_manager as ours
from tempscope.compat.resource_manager import ResourceManager
from tempscope.errors import (
    ConfigurationError,
    InvalidNameError,
    PathMissingError,
    StagedSourceChangedError,
    StorageError,
)

from .conftest import original


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture on the same file system as the default storage."""
    path = tmp_path / "input" / "traffic.pcap"
    path.parent.mkdir()
    path.write_bytes(b"packets" * 100)
    return path


@pytest.fixture
def resources() -> Iterator[ResourceManager]:
    """What is tested; nothing of it is left."""
    resources = ResourceManager("masker")
    yield resources
    resources.cleanup()
    assert resources.leftovers() == []


# -- the rows


def no_link(monkeypatch: pytest.MonkeyPatch, code: int = errno.EXDEV) -> None:
    """Let the system refuse hard links."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("tempscope.storages._link.note_unable", lambda *_: None)


def never_the_source(api: ModuleType, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no link can be made there is a copy: the source is never handed out as temporary, or deleted."""
    no_link(monkeypatch)
    resources = api.ResourceManager()
    path = resources.create_temp_hardlink(capture)
    resources.register_temp_file(path)
    assert path != capture and path.read_bytes() == capture.read_bytes()
    resources.cleanup()
    assert capture.exists() and not path.exists()


def a_changed_source_is_told(api: ModuleType, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing through the link is noticed; what is to be written to is no link."""
    resources = api.ResourceManager()
    path = resources.create_temp_hardlink(capture, writable=True)
    path.write_bytes(b"changed")
    assert capture.read_bytes() == b"packets" * 100
    resources.cleanup()
    path = resources.create_temp_hardlink(capture)
    assert path.stat().st_ino == capture.stat().st_ino
    path.write_bytes(b"changed")
    with pytest.raises(StagedSourceChangedError, match=r"traffic\.pcap"):
        resources.cleanup()
    assert not path.exists()


def the_whole_directory(api: ModuleType, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage directory goes whole."""
    resources = api.ResourceManager("masker")
    path = resources.create_temp_hardlink(capture)
    assert path.name == "input_traffic.pcap" and path.parent.name.startswith("masker_stage_")
    resources.cleanup()
    assert not path.parent.exists() and capture.exists()


def an_input_stays(api: ModuleType, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small input is used as it is, and registering it for cleanup deletes nothing."""
    resources = api.ResourceManager()
    assert resources.optimize_large_file_access(capture) == capture
    resources.register_temp_file(capture)
    resources.cleanup()
    assert capture.exists()


def memory_is_read_in_the_container(api: ModuleType, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory pressure is that of the control group, if there is one with a limit, and not the machine's."""
    proc, group = capture.with_name("proc"), capture.with_name("cgroup")
    (proc / "self").mkdir(parents=True)
    (proc / "pressure").mkdir()
    group.mkdir()
    (proc / "self" / "cgroup").write_text("0::/\n")
    (proc / "self" / "mountinfo").write_text(f"1 0 0:1 / {group} rw - cgroup2 cgroup2 rw\n")
    (proc / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    monkeypatch.setattr("tempscope.pressure._PROC", proc)
    resources = api.ResourceManager()
    for current, pressure in ((95, True), (50, False)):
        (group / "memory.max").write_text("1000000\n")
        (group / "memory.current").write_text(f"{current * 10_000}\n")
        (group / "memory.stat").write_text("inactive_file 0\nactive_file 0\nfile 0\nshmem 0\n")
        assert resources.is_memory_pressure() is pressure
        assert resources.should_cleanup_early() is pressure


Row = Callable[[ModuleType, Path, pytest.MonkeyPatch], None]
ROWS = [
    never_the_source,
    a_changed_source_is_told,
    the_whole_directory,
    an_input_stays,
    memory_is_read_in_the_container,
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row(row: Row, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of the table holds."""
    row(ours, capture, monkeypatch)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row_fails_on_the_original(
    row: Row, capture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each row is about something that the hand-written one does not do."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(AssertionError):
        row(original("resource_manager"), capture, monkeypatch)


# -- its pipeline


class Result:
    """How a run of the pipeline ended."""

    def __init__(self, success: bool, errors: list[str]) -> None:
        self.success = success
        self.errors = errors


Stage = Callable[[Path, Path], None]


def run_pipeline(resources: ResourceManager, source: Path, output: Path, stages: list[Stage]) -> Result:
    """Run *stages* in turn, as the masking tool does."""
    directory = resources.create_temp_directory("pipeline")
    assert directory.name.startswith("masker_pipeline_")
    current = resources.optimize_large_file_access(source)
    try:
        for number, stage in enumerate(stages):
            is_last = number == len(stages) - 1
            following = output if is_last else directory / f"stage_{number}_{output.name}"
            stage(current, following)
            current = following
            if resources.should_cleanup_early():
                resources.cleanup_temp_directory(directory)
    except Exception as error:
        return Result(False, [str(error)])
    finally:
        resources.cleanup()
    return Result(True, [])


def mask(source: Path, target: Path) -> None:
    """Write something else than the packets."""
    target.write_bytes(source.read_bytes().replace(b"packets", b"*******"))


def fail(source: Path, target: Path) -> None:
    """Fail, with half an output."""
    target.write_bytes(b"half")
    raise ValueError("no such protocol")


@pytest.mark.parametrize("threshold", [0, 100], ids=["linked", "as it is"])
@pytest.mark.parametrize("stages", [[mask], [mask, mask, mask], [mask, fail, mask]])
def test_the_pipeline(
    capture: Path, tmp_path: Path, stages: list[Stage], threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages run in turn, an error becomes a failed result, and nothing is left but the output."""
    monkeypatch.setattr(ResourceManager, "LARGE_FILE_THRESHOLD_MB", threshold)
    resources = ResourceManager("masker")
    output = tmp_path / "masked.pcap"
    result = run_pipeline(resources, capture, output, stages)
    assert (result.success, result.errors) == (
        (False, ["no such protocol"]) if fail in stages else (True, [])
    )
    assert output.exists() is result.success
    assert capture.read_bytes() == b"packets" * 100
    assert resources.leftovers() == []
    assert list(LocalDiskStorage().areas()) == []


# -- single calls


def test_large_inputs(resources: ResourceManager, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input above the threshold is linked, one of just that size is not; the threshold is in MiB."""
    assert ours.LARGE_FILE_THRESHOLD_MB == ResourceManager.LARGE_FILE_THRESHOLD_MB == 100
    monkeypatch.setattr(ResourceManager, "LARGE_FILE_THRESHOLD_MB", 1)
    os.truncate(capture, 1024 * 1024)
    assert resources.optimize_large_file_access(str(capture)) == capture
    os.truncate(capture, 1024 * 1024 + 1)
    linked = resources.optimize_large_file_access(str(capture))
    assert linked != capture and linked.samefile(capture)


def test_what_is_cleaned_up(resources: ResourceManager, tmp_path: Path) -> None:
    """Files, directories and links go, callbacks run newest first, once, and before; then it begins anew."""
    called = []
    for _ in range(2):
        for name in ("file", "directory"):
            (tmp_path / name).mkdir() if name == "directory" else (tmp_path / name).touch()
            resources.register_temp_file(str(tmp_path / name))
            resources.register_temp_file(tmp_path / name)
        resources.register_temp_file(tmp_path / "missing")
        made = resources.create_temp_directory()
        resources.register_temp_file(made)
        assert resources.leftovers() == [made, tmp_path / "file", tmp_path / "directory"]
        resources.register_cleanup_callback(lambda made=made: called.append(made.exists()))
        resources.register_cleanup_callback(lambda: called.append("newest"))
        resources.cleanup()
        assert list(tmp_path.iterdir()) == [] and not made.exists()
    assert called == ["newest", True] * 2


def test_a_registered_file_without_anything_made(resources: ResourceManager, tmp_path: Path) -> None:
    """What is only registered is told too."""
    (tmp_path / "file").touch()
    resources.register_temp_file(tmp_path / "file")
    assert resources.leftovers() == [tmp_path / "file"]


def test_a_callback_that_fails(resources: ResourceManager, tmp_path: Path) -> None:
    """Its error is raised when all the rest is done; what nobody could call is refused."""
    (tmp_path / "file").touch()
    resources.register_temp_file(tmp_path / "file")

    def broken() -> None:
        raise ValueError("broken")

    resources.register_cleanup_callback(broken)
    with pytest.raises(ValueError, match="broken"):
        resources.cleanup()
    assert not (tmp_path / "file").exists()
    with pytest.raises(ConfigurationError):
        resources.register_cleanup_callback(None)  # type: ignore[arg-type]


def test_directories_that_are_left_alone(
    resources: ResourceManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only an empty directory with the application's prefix goes; others stay, and the log says why."""
    caplog.set_level(logging.WARNING, "tempscope")
    for name in ("masker_stage_1", "masker_stage_2", "foreign", "mask"):
        (tmp_path / name).mkdir()
    (tmp_path / "masker_stage_2" / "file").touch()
    for path in (*tmp_path.iterdir(), tmp_path / "masker_stage_missing"):
        resources.cleanup_temp_directory(str(path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "mask", "masker_stage_2"]
    assert sorted(record.message for record in caplog.records) == [
        "a directory was left alone",
        "a directory was left alone: it does not carry the application's prefix",
        "a directory was left alone: it does not carry the application's prefix",
    ]


def test_names(resources: ResourceManager, capture: Path) -> None:
    """The longest and the oddest name of an input still gives a link of a like name."""
    longest = capture.with_name("x" * 250 + ".pcap")
    odd = capture.with_name("a\udcff b\n.pcap")
    for path in (longest, odd):
        path.touch()
    assert resources.create_temp_hardlink(longest).name == "input_" + longest.name[-60:]
    assert resources.create_temp_hardlink(odd).name == "input_" + odd.name
    first, second = (resources.create_temp_hardlink(capture) for _ in range(2))
    assert first.name == second.name and first.parent != second.parent


@pytest.mark.parametrize("app", ["", "a/b", "..", "nul\0", "x" * 250, 3, None])
def test_applications_that_are_none(app: Any) -> None:
    """A name that cannot be in a directory's is an error."""
    with pytest.raises(InvalidNameError):
        ResourceManager(app)


def test_inputs_that_are_none(resources: ResourceManager, tmp_path: Path) -> None:
    """A missing input, a directory and a purpose that there is not are clear errors; nothing is made."""
    for call in (resources.create_temp_hardlink, resources.optimize_large_file_access):
        with pytest.raises(PathMissingError):
            call(tmp_path / "missing")
        with pytest.raises(StorageError, match="neither a file nor a link"):
            call(tmp_path)
        with pytest.raises(StorageError):
            call("")
    with pytest.raises(InvalidNameError, match="pipeline, stage or test"):
        resources.create_temp_directory("stages")  # type: ignore[arg-type]
    assert resources.leftovers() == []


def test_on_another_storage(capture: Path) -> None:
    """Without hard links inputs are copied, also into memory."""
    resources = ResourceManager(storage=MemoryStorage())
    path = resources.create_temp_hardlink(capture)
    assert path.read_bytes() == capture.read_bytes()
    assert len(resources.leftovers()) == 1
    resources.cleanup()
    assert capture.exists()


def test_across_devices(resources: ResourceManager, tmp_path: Path) -> None:
    """An input on another device is copied."""
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is on the same device as the tests' directory")
    source = Path("/dev/shm") / f"tempscope-test-{os.getpid()}"
    try:
        source.write_bytes(b"packets")
        path = resources.create_temp_hardlink(source)
        assert path.read_bytes() == b"packets" and not path.samefile(source)
    finally:
        source.unlink()


def test_a_crash(capture: Path, tmp_path: Path) -> None:
    """What a killed run linked and registered goes with the next sweep; the input stays."""
    temporary = tmp_path / "temporary"
    temporary.touch()
    program = f"""
import os, signal
from tempscope.compat.resource_manager import ResourceManager
resources = ResourceManager("masker")
resources.create_temp_hardlink({str(capture)!r})
resources.register_temp_file({str(temporary)!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert sweep(None).removed == 2
    assert capture.exists() and not temporary.exists()
    assert capture.stat().st_nlink == 1


def test_two_threads_clean_up_at_once(tmp_path: Path) -> None:
    """Each thing goes once, and what is registered afterwards is not forgotten."""
    resources = ResourceManager("masker")
    called: list[int] = []
    for number in range(20):
        resources.register_cleanup_callback(lambda number=number: called.append(number))
    barrier = threading.Barrier(4, timeout=30)

    def run() -> None:
        barrier.wait()
        resources.cleanup()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(called) == list(range(20))
    (tmp_path / "file").touch()
    resources.register_temp_file(tmp_path / "file")
    resources.cleanup()
    assert not (tmp_path / "file").exists()
