"""
What removing trees costs, as ratios measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_delete.py [DIRECTORY]``

Each contestant removes the same tree, 100,000 empty files in 50 directories, in turn; its best round
counts.
Beside the time that passes stands the processor's, which other programs disturb less.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import attrs

from tempscope import LocalDiskStorage, TempFileManager, TempScopes


DIRECTORIES, FILES = 50, 2_000
ROUNDS = 5


@attrs.frozen
class Mark:
    """What the design promises: *ours* takes at most *limit* times as long as *theirs*."""

    ours: str
    theirs: str
    limit: float


MARKS = [Mark("closing a scope", "rm -rf", 1.1), Mark("closing a scope", "shutil.rmtree", 1.0)]


def grow(directory: str) -> None:
    """Make the tree in *directory*."""
    for number in range(DIRECTORIES):
        path = f"{directory}/d{number}"
        os.mkdir(path)
        fd = os.open(path, os.O_RDONLY)
        for file in range(FILES):
            os.close(os.open(f"f{file}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
        os.close(fd)


def spent() -> tuple[float, float]:
    """Return the time that passed, and that the processor spent on us and our children, in seconds."""
    of = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in of)


def by_rm(path: str) -> None:
    """Remove it by the system's own program."""
    subprocess.run(["rm", "-rf", path], check=True)


def removing(remove: Callable[[str], object], base: str) -> Callable[[], tuple[float, float]]:
    """Return what makes a tree and measures its removal by *remove*."""

    def once() -> tuple[float, float]:
        path = f"{base}/tree"
        os.mkdir(path)
        grow(path)
        begun = spent()
        remove(path)
        ended = spent()
        return ended[0] - begun[0], ended[1] - begun[1]

    return once


def closing(scopes: TempScopes) -> Callable[[], tuple[float, float]]:
    """Return what makes a tree in a scope and measures its closing."""

    def once() -> tuple[float, float]:
        manager: TempFileManager = scopes.open()
        grow(str(manager.directory))
        begun = spent()
        report = manager.close()
        ended = spent()
        assert report.complete, report
        return ended[0] - begun[0], ended[1] - begun[1]

    return once


def measure(contestants: dict[str, Callable[[], tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Return the best times of each, after *ROUNDS* rounds in which all take turns."""
    best = {name: (float("inf"), float("inf")) for name in contestants}
    for _ in range(ROUNDS):
        for name, once in contestants.items():
            passed, used = once()
            best[name] = min(best[name][0], passed), min(best[name][1], used)
    return best


def show(found: dict[str, tuple[float, float]]) -> bool:
    """Print the table; return whether all marks are reached."""
    print(f"\nRemoving {DIRECTORIES * FILES} files in {DIRECTORIES} directories")
    for name, (passed, used) in found.items():
        print(f"  {name:<36} {passed * 1e3:9.1f} ms, {used * 1e3:9.1f} ms of the processor")
    reached = True
    for mark in MARKS:
        ours, theirs = found[mark.ours], found[mark.theirs]
        ratio = ours[0] / theirs[0]
        reached &= ratio <= mark.limit
        verdict = "reached" if ratio <= mark.limit else "MISSED"
        print(
            f"  {mark.ours} / {mark.theirs}: {ratio:.2f}, at most {mark.limit:.2f}: {verdict} "
            f"(of the processor {ours[1] / theirs[1]:.2f})"
        )
    return reached


def main(directory: str | None = None) -> int:
    """Print the table for a base directory in *directory*; return 0 if all marks are reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    storage = LocalDiskStorage(base, sweep_on_start=False)
    behind = LocalDiskStorage(base, sweep_on_start=False, background_removal=True)
    try:
        reached = show(
            measure(
                {
                    "rm -rf": removing(by_rm, base),
                    "shutil.rmtree": removing(shutil.rmtree, base),
                    "closing a scope": closing(TempScopes(storage)),
                    "closing it, removal in the background": closing(TempScopes(behind)),
                }
            )
        )
    finally:
        behind.close()
        storage.close()
        shutil.rmtree(base, ignore_errors=True)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
