"""What reaches the kernel, counted exactly by ``strace``: the marks of the design that are counts."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tempscope import LocalDiskStorage, TempScopes


BEGIN, END = "/@@begin", "/@@end"
CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\(")


@functools.cache
def objection() -> str:
    """Return why strace cannot trace here, or an empty text; the probe traces ``true``."""
    if shutil.which("strace") is None:
        return "strace cannot trace: it is not installed"
    probe = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False
    )
    return f"strace cannot trace: {probe.stderr.strip()}" if probe.returncode else ""


@pytest.fixture(autouse=True)
def traceable() -> None:
    """Skip where the probe says that nothing can be traced."""
    if objection():
        pytest.skip(objection())


def system_calls(
    tmp_path: Path, unmeasured: dict[str, str], prepare: str, measure: str, times: int = 10
) -> Counter[str]:
    """
    Return the system calls of *measure*, done *times* times, without those of Python itself.

    *prepare* runs before, once; then *measure* once, so that what is made on first use is there.
    """
    source = f"""
import gc, os
from tempscope import *
base = {str(tmp_path)!r}
scopes = TempScopes(LocalDiskStorage(base))
{textwrap.dedent(prepare)}
def measure():
{textwrap.indent(textwrap.dedent(measure), "    ")}
def mark(path):
    try:
        os.stat(path)
    except OSError:
        pass
measure()
gc.collect()
gc.disable()
mark({BEGIN!r})
for _ in range({times}):
    measure()
mark({END!r})
"""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), sys.executable, "-c", source]
    subprocess.run(command, env=unmeasured, check=True, timeout=60)
    calls: Counter[str] = Counter()
    between = False
    for line in trace.read_text(errors="replace").splitlines():
        if BEGIN in line:
            between = True
        elif END in line:
            break
        elif between and (call := CALL.match(line)):
            calls[call[1]] += 1
    # Python's own memory.
    for name in ("brk", "mmap", "munmap", "madvise", "mremap"):
        calls.pop(name, None)
    return calls


def names(calls: Counter[str]) -> dict[str, int]:
    """Return *calls* under one name for each of the calls that differ between machines."""
    same = {"unlinkat": "unlink", "openat": "open"}
    merged: Counter[str] = Counter()
    for name, count in calls.items():
        merged[same.get(name, name)] += count
    return dict(merged)


def test_an_empty_scope_asks_for_the_pid_only(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """Opening, entering and closing a scope without files makes no system call but ``getpid``."""
    calls = names(system_calls(tmp_path, unmeasured, "", "with scopes.open(): pass"))
    assert set(calls) == {"getpid"}
    assert calls["getpid"] <= 30


def test_an_empty_named_scope_with_a_child_asks_for_the_pid_only(
    tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """Names, children and callbacks cost no system call either."""
    measure = """
        with scopes.open("job") as job:
            job.register_cleanup_callback(int)
            with job.scope("part"): pass
        """
    assert set(system_calls(tmp_path, unmeasured, "", measure)) == {"getpid"}


@pytest.mark.parametrize(
    "measure",
    [
        "with job.create_temp_file(): pass",
        "with job.create_temp_file('.mkv', 'clip_'): pass",
        "with job.create_temp_file(name='x'): pass",
    ],
)
def test_a_file_in_an_open_scope_is_three_calls(
    tmp_path: Path, unmeasured: dict[str, str], measure: str
) -> None:
    """Creating and deleting an empty file is one open, one close, one unlink; beside them only the pid."""
    calls = names(system_calls(tmp_path, unmeasured, "job = scopes.open(); job.__enter__()", measure))
    pids = calls.pop("getpid")
    assert calls == {"open": 10, "close": 10, "unlink": 10}
    assert pids <= 40


def test_a_file_for_the_scope_is_two_calls(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """``new_file`` is one open and one close."""
    calls = names(
        system_calls(tmp_path, unmeasured, "job = scopes.open(); job.__enter__()", "job.new_file()")
    )
    calls.pop("getpid")
    assert calls == {"open": 10, "close": 10}


def test_current_scope_asks_nothing(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """Asking for the current scope makes no system call at all."""
    calls = system_calls(tmp_path, unmeasured, "job = scopes.open(); job.__enter__()", "current_scope()")
    assert calls == {}


@pytest.mark.parametrize(("files", "listings"), [(4, 0), (5, 10)])
def test_closing_a_scope_with_few_files_lists_nothing(
    tmp_path: Path, unmeasured: dict[str, str], files: int, listings: int
) -> None:
    """A scope that made a few files, and nothing else, is removed without its directory being read."""
    measure = f"""
        with scopes.open() as job:
            for _ in range({files}): job.new_file()
        """
    calls = names(system_calls(tmp_path, unmeasured, "", measure))
    assert calls["unlink"] == 10 * (files + 1)
    assert calls.get("getdents64", 0) == 2 * listings


@pytest.mark.parametrize("size", ["1 << 10", "10 << 30"])
def test_staging_by_hard_link_is_three_calls(tmp_path: Path, unmeasured: dict[str, str], size: str) -> None:
    """A hard-linked input costs one link and two looks, at the source and at what was linked, at any size."""
    prepare = f"""
        from pathlib import Path
        source = Path(base, "source")
        with source.open("wb") as file:
            file.truncate({size})
        scopes = TempScopes(HardlinkStorage(base))
        job = scopes.open()
        names = iter(map(str, range(20)))
        """
    calls = system_calls(tmp_path, unmeasured, prepare, "job.stage(source, name=next(names))")
    assert calls.pop("getpid") <= 40
    assert dict(calls) == {"newfstatat": 20, "linkat": 10}


def test_a_durable_publication_is_two_syncs_round_a_rename(
    tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """Publishing on one file system syncs the file, renames it, syncs the directory, and copies nothing."""
    prepare = """
        os.mkdir(f"{base}/out")
        job = scopes.open()
        names = iter(map(str, range(20)))
        """
    measure = "name = next(names); job.publish(job.new_file(name=name), f'{base}/out/{name}')"
    calls = system_calls(tmp_path, unmeasured, prepare, measure)
    assert (calls["fsync"], calls["renameat"], calls["fchmod"]) == (20, 10, 10)
    copying = {"copy_file_range", "write", "pwrite64", "ioctl", "linkat", "unlinkat", "ftruncate"}
    # Python asks of the umask's file whether it is a terminal.
    assert set(calls) & copying <= {"ioctl"}
    assert calls["ioctl"] <= 10


def test_a_copy_of_a_dense_file_asks_for_no_holes(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """A small input that cannot be shared is one read by the kernel and one that finds the end."""
    prepare = """
        with open(f"{base}/source", "wb") as file:
            file.write(bytes(1 << 10))
        job = scopes.open()
        names = iter(map(str, range(20)))
        """
    measure = "job.stage(f'{base}/source', name=next(names))"
    calls = system_calls(tmp_path, unmeasured, prepare, measure)
    assert calls["copy_file_range"] <= 20
    assert not set(calls) & {"lseek", "read", "write", "ftruncate", "statx"}


def test_closing_with_background_removal_does_not_depend_on_the_files(
    tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """Closing a scope with background removal is the same few calls, however many files are in it."""

    def calls(files: int) -> Counter[str]:
        prepare = f"""
            import threading
            from tempscope.storages._background import BackgroundRemoval
            # What the thread does then is not the closing's; test_background has it.
            BackgroundRemoval.put = lambda *_: None
            scopes = TempScopes(LocalDiskStorage(base, background_removal=True, sweep_on_start=False))
            def filled():
                scope = scopes.open()
                for _ in range({files}):
                    scope.new_file()
                return scope
            opened = [filled() for _ in range(4)]
            """
        return system_calls(tmp_path, unmeasured, prepare, "opened.pop().close()", times=3)

    few, many = calls(1), calls(1_000)
    assert few == many
    assert few["renameat"] + few["rename"] + few["renameat2"] == 3
    assert many["unlinkat"] + many["unlink"] + many["getdents64"] == 0
    assert sum(few.values()) <= 3 * 30


def test_nothing_is_left_once_a_storage_with_background_removal_is_closed(tmp_path: Path) -> None:
    """Closing the storage waits for the removals: no trash is left, and no instance."""
    with LocalDiskStorage(tmp_path, background_removal=True, sweep_on_start=False) as storage:
        for _ in range(3):
            with TempScopes(storage).open() as scope:
                for _ in range(500):
                    scope.new_file()
    (root,) = tmp_path.iterdir()
    assert [path.name for path in root.iterdir() if path.is_dir()] == []


def test_a_quota_costs_a_look_at_the_free_room(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """With a quota a call asks the file system how much is free, and walks only now and then."""
    prepare = """
        from tempscope.storages import _quota
        _quota._SHARE = 1_000_000
        job = scopes.open(quota="1GiB"); job.__enter__()
        job.new_file(); job.new_file()
        """
    calls = names(system_calls(tmp_path, unmeasured, prepare, "with job.create_temp_file(): pass"))
    calls.pop("getpid")
    # What coarse figures of other programs' files let us look at again is not counted here.
    assert calls["statfs"] == 10
    assert calls["open"] - 10 <= 2
    assert calls["unlink"] == 10


LIVING = """
import fcntl
from tempscope.storages import new_token
with scopes.open() as job:
    root = job.new_file().parent.parent.parent
held = []
for _ in range({owners}):
    path = root / f"i-{{new_token()}}"
    path.mkdir(0o700)
    held.append(os.open(path, os.O_RDONLY))
    fcntl.flock(held[-1], fcntl.LOCK_SH)
"""


def test_a_living_owner_costs_a_sweep_little(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """A sweep asks at most four system calls about a living owner; opening, locking and closing are three."""
    found = []
    for owners in (10, 30):
        base = tmp_path / str(owners)
        base.mkdir()
        measure = f"assert sweep(base).live == {owners + 1}"
        calls = system_calls(base, unmeasured, LIVING.format(owners=owners), measure, times=1)
        found.append(sum(calls.values()))
    assert found[1] - found[0] <= 20 * 4, found
