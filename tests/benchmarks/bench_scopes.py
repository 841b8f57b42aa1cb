"""
What a scope costs, as ratios measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_scopes.py [DIRECTORY]``

Each contestant of a table runs in turn, many rounds over, and its best round counts: what disturbs the
machine meanwhile disturbs all of them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import attrs

from tempscope import LocalDiskStorage, TempScopes


ROUNDS = 25
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Contestants = dict[str, Callable[[], object]]


@attrs.frozen
class Mark:
    """
    What the design promises: *ours* takes at most *limit* times as long as *theirs*.

    Attributes:
        aim: What it should be one day; None for nothing better than the limit.
    """

    ours: str
    theirs: str
    limit: float
    aim: float | None = None


def measure(contestants: Contestants, times: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the seconds that each contestant takes once: the best of *rounds*, of *times* calls each."""
    best = dict.fromkeys(contestants, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, function in contestants.items():
                started = time.perf_counter()
                for _ in range(times):
                    function()
                best[name] = min(best[name], (time.perf_counter() - started) / times)
    finally:
        gc.enable()
    return best


def empty_scopes(scopes: TempScopes) -> Contestants:
    """A scope without files, beside the cheapest thing that has an end."""

    def scope() -> None:
        with scopes.open():
            pass

    def stack() -> None:
        with contextlib.ExitStack():
            pass

    return {"ExitStack": stack, "empty scope": scope}


@contextlib.contextmanager
def single_files(scopes: TempScopes) -> Iterator[Contestants]:
    """
    Create and delete an empty file: by system calls, by us, by the standard library.

    All in one directory: on ext4 what an inode costs depends on how full its directory's group is.
    """

    def raw() -> None:
        os.close(os.open(path, _FLAGS, 0o600))
        os.unlink(path)

    def named() -> None:
        with tempfile.NamedTemporaryFile(dir=directory):
            pass

    with scopes.open() as job:
        directory = job.directory
        path = str(directory / "raw")

        def block() -> None:
            with job.create_temp_file():
                pass

        yield {"system calls": raw, "create_temp_file": block, "NamedTemporaryFile": named}


def scopes_with_a_file(scopes: TempScopes, directory: str) -> Contestants:
    """A scope with one file, crash-proof, beside a temporary directory with one."""

    def scope() -> None:
        with scopes.open() as job:
            job.new_file()

    def temporary_directory() -> None:
        with tempfile.TemporaryDirectory(dir=directory) as made:
            os.close(os.open(f"{made}/file", _FLAGS, 0o600))

    return {"TemporaryDirectory": temporary_directory, "scope with a file": scope}


def show(title: str, found: dict[str, float], *marks: Mark) -> bool:
    """Print one table; return whether all marks are reached."""
    print(f"\n{title}")
    first = next(iter(found.values()))
    for name, seconds in found.items():
        print(f"  {name:<20} {seconds * 1e6:9.2f} µs {seconds / first:7.2f}")
    reached = True
    for mark in marks:
        ratio = found[mark.ours] / found[mark.theirs]
        reached &= ratio <= mark.limit
        aim = "" if mark.aim is None else f", aiming for {mark.aim}"
        verdict = "reached" if ratio <= mark.limit else "MISSED"
        print(f"  {mark.ours} / {mark.theirs}: {ratio:.2f}, at most {mark.limit:.2f}{aim}: {verdict}")
    return reached


def main(directory: str | None = None) -> int:
    """Print all tables for a base directory in *directory*; return 0 if all marks are reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    storage = LocalDiskStorage(base, sweep_on_start=False)
    scopes = TempScopes(storage)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    try:
        reached = [
            show(
                "An empty scope",
                measure(empty_scopes(scopes), 2000),
                Mark("empty scope", "ExitStack", 6.0),
            )
        ]
        with single_files(scopes) as files:
            reached.append(
                show(
                    "An empty file, created and deleted in an open scope",
                    measure(files, 300),
                    Mark("create_temp_file", "system calls", 2.0, 1.6),
                    Mark("create_temp_file", "NamedTemporaryFile", 1 / 1.5),
                )
            )
        reached.append(
            show(
                "A scope with one file",
                measure(scopes_with_a_file(scopes, base), 100),
                Mark("scope with a file", "TemporaryDirectory", 1.0),
            )
        )
    finally:
        storage.close()
        shutil.rmtree(base, ignore_errors=True)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
