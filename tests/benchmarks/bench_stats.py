"""
What statistics cost, as a ratio to ``du -s`` over the same files, measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_stats.py [DIRECTORY]``

Each contestant takes its turn, and its best round counts.
Open scopes are walked; retained ones go by the size that was written down when they were kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tempscope import KeepAll, LocalDiskStorage, Stats, TempFileManager, TempScopes, stats


SCOPES, FILES = 1_000, 100
ROUNDS = 9
LIMIT = 2.0


def fill(storage: LocalDiskStorage) -> list[TempFileManager]:
    """Open scopes with a hundred files each."""
    scopes = TempScopes(storage, KeepAll())
    opened = [scopes.open(f"job {number}") for number in range(SCOPES)]
    for scope in opened:
        directory = os.open(scope.directory, os.O_RDONLY | os.O_DIRECTORY)
        for number in range(FILES):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(f"f{number}", flags, 0o600, dir_fd=directory), "wb") as file:
                file.write(b"x" * 100)
        os.close(directory)
    return opened


def measure(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds that each contestant takes: the best of the rounds, in which all take turns."""
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(ROUNDS):
        for name, function in contestants.items():
            started = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def compare(base: str, expected: str) -> float:
    """Print the table of one state of the scopes; return the ratio."""
    told: Stats = stats(base)
    assert getattr(told, expected) == SCOPES and told.files == SCOPES * FILES, told
    found = measure(
        {
            "du -s": lambda: subprocess.run(["du", "-s", base], stdout=subprocess.DEVNULL, check=True),
            "stats": lambda: stats(base),
        }
    )
    print(f"\n{SCOPES} {expected} scopes with {FILES} files each")
    for name, seconds in found.items():
        print(f"  {name:<20} {seconds * 1e3:9.2f} ms {seconds / found['du -s']:7.2f}")
    ratio = found["stats"] / found["du -s"]
    print(f"  stats / du -s: {ratio:.2f}, at most {LIMIT:.2f}: {'reached' if ratio <= LIMIT else 'MISSED'}")
    return ratio


def main(directory: str | None = None) -> int:
    """Print the tables for a base directory in *directory*; return 0 if the mark is reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    try:
        with LocalDiskStorage(base) as storage:
            opened = fill(storage)
            ratios = [compare(base, "live")]
            for scope in opened:
                scope.close()
            ratios.append(compare(base, "retained"))
    finally:
        shutil.rmtree(base)
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
