"""What removing, measuring and bounded scopes keep in memory: the design's marks, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest

from tempscope import LocalDiskStorage, TempScopes


# Asked by a text that is no constant, since those are kept in any case.
names_are_free = pytest.mark.skipif(
    sys.getrefcount(sys.intern(str(object()))) > 1 << 20,
    reason="this Python keeps each name that pathlib met for ever (CPython gh-113993)",
)


def peak(source: str, unmeasured: dict[str, str], *args: object) -> int:
    """Return the most memory, in bytes, that a program of its own had at once."""
    program = f"{textwrap.dedent(source)}\nimport resource\nprint(resource.getrusage(0).ru_maxrss * 1024)"
    command = [sys.executable, "-c", program, *map(str, args)]
    ended = subprocess.run(command, env=unmeasured, capture_output=True, text=True, check=True, timeout=600)
    return int(ended.stdout)


def traced() -> int:
    """Return how many bytes are allocated, but for the interpreter's table of interned strings."""
    # pathlib looks names up there, so that it may grow at any moment.
    made = tracemalloc.take_snapshot().traces
    return sum(
        each.size for each in made if "pathlib" not in each.traceback[0].filename or each.size < 10_000
    )


def grow(directory: Path, files: int) -> None:
    """Make many files in a few directories, the first of them huge."""
    for number, count in enumerate((files // 2, files // 4, files // 4)):
        (directory / str(number)).mkdir(parents=True)
        fd = os.open(directory / str(number), os.O_RDONLY)
        for name in range(count):
            os.close(os.open(f"{name:032d}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
        os.close(fd)


@pytest.mark.parametrize(
    "work",
    [
        "from tempscope.storages._measure import measure; measure(fd)",
        "from tempscope.storages._delete import remove_contents; assert remove_contents(fd).complete",
    ],
    ids=["measuring", "removing"],
)
def test_memory_does_not_grow_with_the_files(
    work: str, tmp_path: Path, unmeasured: dict[str, str], full: bool
) -> None:
    """A great many files are measured, and removed, within 50 MB over the bare interpreter."""
    files = 1_000_000 if full else 60_000
    grow(tmp_path / "tree", files)
    used = peak(
        f"import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\n{work}", unmeasured, tmp_path / "tree"
    )
    more = used - peak("", unmeasured)
    # Some 10 MB of it are the imports; a name each would be more than the rest.
    assert more < (50_000_000 if full else 20_000_000)


@names_are_free
def test_scopes_leave_nothing_in_memory(tmp_path: Path, full: bool) -> None:
    """However many scopes came and went, bounded ones too, nothing of them is kept."""
    count = 100_000 if full else 1_500
    with LocalDiskStorage(tmp_path, sweep_on_start=False) as storage:
        scopes = TempScopes(storage, label="video", quota="1GiB")

        def run(times: int) -> None:
            for _ in range(times):
                with scopes.open("job", quota="1MiB") as manager:
                    manager.new_file()

        run(300)
        tracemalloc.start()
        try:
            run(300)
            before = traced()
            run(count)
            more = traced() - before
        finally:
            tracemalloc.stop()
    # A hundred bytes of each scope would be 150,000.
    assert more < 50_000


REGISTERING = """
    import os, pathlib, sys, tracemalloc
    from tempscope import TempFileManager
    base, kind, directory, files = *sys.argv[1:4], int(sys.argv[4])
    paths = [f"{directory}/{number:07}.wav" for number in range(files + 1)]
    for path in paths:
        open(path, "w").close()
    given = list(map({"text": str, "Path": pathlib.Path}[kind], paths))
    assert list(map(os.fspath, given)) == paths
    with TempFileManager(base_dir=base) as manager:
        # What is made once, on the way to the first.
        manager.register_file(given.pop())
        tracemalloc.start()
        for path in given:
            manager.register_file(path)
        made = tracemalloc.take_snapshot().traces
        tracemalloc.stop()
        interned = lambda trace: "pathlib" in trace.traceback[0].filename and trace.size > 10_000
        longer = len(paths[0]) - 70 if kind == "text" else 0
        print(sum(trace.size for trace in made if not interned(trace)) / files - longer)
    assert not any(map(os.path.exists, paths))
"""


@names_are_free
@pytest.mark.parametrize(("kind", "most"), [("Path", 220), ("text", 300)])
def test_memory_for_each_registered_file(
    kind: str, most: int, tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """
    A registered file takes at most 300 bytes beyond the caller's own path, here of 70 characters.

    Counted is all that 4,000 registrations leave in memory: both tables, the text of the identity, and
    where the caller gave text our own copy of the path, by 70 characters wherever the tests run.
    Not counted is the interpreter's one table of interned strings, in which pathlib looks names up, and
    which may grow at any moment.
    """
    (tmp_path / "files").mkdir()
    program, directory = textwrap.dedent(REGISTERING), tmp_path / "files"
    command = [sys.executable, "-c", program, tmp_path / "base", kind, directory, "4000"]
    ended = subprocess.run(command, env=unmeasured, capture_output=True, text=True, check=True, timeout=600)
    assert 100 < float(ended.stdout) <= most
