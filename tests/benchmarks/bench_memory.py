"""
What files in memory cost, as ratios measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_memory.py [RAM DISK]``

Wants the extra ``benchmarks``: the other libraries that keep files in memory.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from side_by_side import Contestants, Mark, measure, show

from tempscope import MemoryStorage, TempScopes


with warnings.catch_warnings():
    # Of the way in which it declares its namespace.
    warnings.simplefilter("ignore")
    from fs.memoryfs import MemoryFS
    from upath import UPath


ROUNDS, TIMES = 60, 60
CONTENT = bytes(range(256)) * 16
FILES, OVERHEAD = 2000, 600


def whole(top: Path) -> Callable[[], object]:
    """Write, read and remove a file by a path's own methods; the path is new, as every file's is."""

    def run() -> None:
        path = top / "file"
        path.write_bytes(CONTENT)
        assert path.read_bytes() == CONTENT
        path.unlink()

    return run


def opened(top: Path, text: str = "") -> Callable[[], object]:
    """Do the same by opening the file, for bytes or for text."""
    content: str | bytes = CONTENT.decode("latin-1") if text else CONTENT
    kind, options = ("", {"encoding": text, "newline": ""}) if text else ("b", {})

    def run() -> None:
        path = top / "file"
        with path.open(f"w{kind}", **options) as file:
            file.write(content)
        with path.open(f"r{kind}", **options) as file:
            assert file.read() == content
        path.unlink()

    return run


def of_pyfilesystem(top: MemoryFS) -> tuple[Callable[[], object], Callable[[], object]]:
    """Do both with PyFilesystem, which has names in the place of paths."""

    def run_whole() -> None:
        top.writebytes("file", CONTENT)
        assert top.readbytes("file") == CONTENT
        top.remove("file")

    def run_opened() -> None:
        with top.open("file", "wb") as file:
            file.write(CONTENT)
        with top.open("file", "rb") as file:
            assert file.read() == CONTENT
        top.remove("file")

    return run_whole, run_opened


def empty_scopes(scopes: TempScopes) -> Contestants:
    """A scope without files, beside the cheapest thing that has an end."""

    def scope() -> None:
        with scopes.open():
            pass

    def stack() -> None:
        with contextlib.ExitStack():
            pass

    return {"ExitStack": stack, "empty scope": scope}


def overhead(top: Path, write: Callable[[Path], object]) -> float:
    """Return how many bytes a file takes beyond its content."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(FILES):
            write(top / f"file-{number}")
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return taken / FILES - len(CONTENT)


def write_in_pieces(path: Path) -> None:
    """Write a file as a program does that makes it bit by bit."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(CONTENT), 100):
            file.write(CONTENT[start : start + 100])


def main(directory: str | None = None) -> int:
    """Print all tables, with pathlib's files in *directory*; return 0 if all marks are reached, else 1."""
    disk = Path(tempfile.mkdtemp(dir=directory or "/dev/shm"))
    print(f"Python {sys.version.split()[0]}, pathlib's files in {disk}")
    other, theirs = UPath("memory://tempscope-benchmark"), MemoryFS()
    other.mkdir(exist_ok=True)
    try:
        with MemoryStorage() as storage, TempScopes(storage).open() as job:
            reached = [
                *files(job.directory, disk, other, theirs),
                show(
                    "An empty scope",
                    measure(empty_scopes(TempScopes(storage)), TIMES, ROUNDS),
                    Mark("empty scope", "ExitStack", 6.0),
                ),
                *memory(job.new_dir()),
            ]
    finally:
        theirs.close()
        other.fs.rm(other.path, recursive=True)
        shutil.rmtree(disk)
    return 0 if all(reached) else 1


def files(ours: Path, disk: Path, other: UPath, theirs: MemoryFS) -> Iterator[bool]:
    """Print the tables of files; yield whether their marks are reached."""
    of_theirs, opened_of_theirs = of_pyfilesystem(theirs)
    yield show(
        "4 KiB written, read and removed by write_bytes, read_bytes and unlink",
        measure(
            {
                "pathlib": whole(disk),
                "UPath": whole(other),
                "MemoryFS": of_theirs,
                "in memory": whole(ours),
            },
            TIMES,
            ROUNDS,
        ),
        Mark("in memory", "pathlib", 1 / 3),
        Mark("in memory", "UPath", 1 / 10),
        Mark("in memory", "MemoryFS", 1 / 5),
    )
    yield show(
        "The same by open()",
        measure(
            {
                "pathlib": opened(disk),
                "UPath": opened(other),
                "MemoryFS": opened_of_theirs,
                "in memory": opened(ours),
                "pathlib, text": opened(disk, "latin-1"),
                "in memory, text": opened(ours, "latin-1"),
            },
            TIMES,
            ROUNDS,
        ),
        Mark("in memory", "pathlib", 1 / 3),
        Mark("in memory, text", "pathlib, text", 1 / 3),
    )


def memory(top: Path) -> Iterator[bool]:
    """Print what files take beyond their content; yield whether the mark is reached."""
    print(f"\nMemory for each of {FILES} files of 4 KiB, beyond the content")
    ways = {"write_bytes": lambda path: path.write_bytes(bytes(len(CONTENT))), "41 writes": write_in_pieces}
    for way, write in ways.items():
        taken = overhead(top, write)
        verdict = "reached" if taken <= OVERHEAD else "MISSED"
        print(f"  {way:<20} {taken:9.0f} bytes, at most {OVERHEAD}: {verdict}")
        for path in top.iterdir():
            path.unlink()
        yield taken <= OVERHEAD


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
