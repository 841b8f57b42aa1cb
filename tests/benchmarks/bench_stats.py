"""
What statistics cost, as a ratio to ``du -s`` over the same files, measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_stats.py [DIRECTORY]``

Open scopes are walked; retained ones go by the size that was written down when they were kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from side_by_side import Mark, measure, show

from tempscope import KeepAll, LocalDiskStorage, Stats, TempFileManager, TempScopes, stats


SCOPES, FILES = 1_000, 100
ROUNDS = 9


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


def compare(base: str, expected: str) -> bool:
    """Print the table of one state of the scopes; return whether the mark is reached."""
    told: Stats = stats(base)
    assert getattr(told, expected) == SCOPES and told.files == SCOPES * FILES, told
    contestants = {
        "du -s": lambda: subprocess.run(["du", "-s", base], stdout=subprocess.DEVNULL, check=True),
        "stats": lambda: stats(base),
    }
    title = f"{SCOPES} {expected} scopes with {FILES} files each"
    return show(title, measure(contestants, rounds=ROUNDS), Mark("stats", "du -s", 2.0))


def main(directory: str | None = None) -> int:
    """Print the tables for a base directory in *directory*; return 0 if the mark is reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    try:
        with LocalDiskStorage(base) as storage:
            opened = fill(storage)
            reached = [compare(base, "live")]
            for scope in opened:
                scope.close()
            reached.append(compare(base, "retained"))
    finally:
        shutil.rmtree(base)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
