"""
What importing costs a program that opens scopes, as a ratio measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_imports.py``

Fresh Pythons import ours and what nearly every program imports, in turn, and the best of each counts.
The second table imports both beside FastAPI and pydantic, which import much of the same.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys


ROUNDS = 25
LIMIT = 1.6
OURS = "from tempscope import TempFileManager, TempScopes, LocalDiskStorage, DeleteOnClose"
THEIRS = "import attrs, pathlib, tempfile, threading, logging"
BESIDE = "import fastapi, pydantic"
PROGRAM = """
import time
started = time.perf_counter()
{statement}
print(time.perf_counter() - started)
"""


def seconds(statement: str) -> float:
    """Return how long a fresh Python takes for *statement*."""
    program = PROGRAM.format(statement=statement)
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(*statements: str) -> list[float]:
    """Return the seconds that each statement takes: the best of all rounds."""
    rounds = [[seconds(statement) for statement in statements] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def show(title: str, ours: str, theirs: str) -> bool:
    """Print one table; return whether the mark is reached."""
    found = measure(ours, theirs)
    ratio = found[0] / found[1]
    verdict = "reached" if ratio <= LIMIT else "MISSED"
    print(f"\n{title}")
    for statement, taken in zip((ours, theirs), found, strict=True):
        print(f"  {taken * 1e3:8.2f} ms  {statement}")
    print(f"  ratio {ratio:.2f}, at most {LIMIT:.2f}: {verdict}")
    return ratio <= LIMIT


def main(directory: str | None = None) -> int:
    """Print all tables, *directory* unused; return 0 if all marks are reached, else 1."""
    reached = [show("Importing", OURS, THEIRS)]
    if all(importlib.util.find_spec(name) for name in ("fastapi", "pydantic")):
        reached.append(
            show("Importing beside FastAPI and pydantic", f"{BESIDE}; {OURS}", f"{BESIDE}; {THEIRS}")
        )
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
