"""
What a sweep costs beside many living processes, as a ratio measured side by side in one run.

``python -m tests.benchmarks`` or ``python tests/benchmarks/bench_sweep.py [DIRECTORY]``

The processes are real, and hold real leases; the other contestant opens and locks their directories by
hand, which is the least that anybody must do who wants to know whether their owners live.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from side_by_side import Mark, measure, show

from tempscope import LocalDiskStorage, TempScopes, sweep


PROCESSES, SCOPES = 200, 50


@contextlib.contextmanager
def living(base: str) -> Iterator[None]:
    """Have processes live, each with scopes of a file each, for one ``with`` block."""
    ready, told = os.pipe()
    wait, go = os.pipe()
    gc.freeze()
    pids = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            live(base, told, wait)
        pids.append(pid)
    os.close(told)
    os.close(wait)
    try:
        while said := os.read(ready, PROCESSES):
            if b"x" in said:
                raise RuntimeError("a process failed to make its files")
        yield
    finally:
        os.close(go)
        for pid in pids:
            os.waitpid(pid, 0)


def live(base: str, told: int, wait: int) -> None:
    """Be one of them: make files, say so, and end when the others may."""
    said = b"x"
    try:
        scopes = TempScopes(LocalDiskStorage(base, sweep_on_start=False))
        opened = [scopes.open() for _ in range(SCOPES)]
        for scope in opened:
            scope.new_file()
        said = b"."
    finally:
        os.write(told, said)
        os.close(told)
        os.read(wait, 1)
        os._exit(0)


def by_hand(root: str) -> None:
    """Open each directory, try to lock it, and close it."""
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in os.listdir(root_fd):
        if not name.startswith("i-"):
            continue
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    os.close(root_fd)


def main(directory: str | None = None) -> int:
    """Print the table for a base directory in *directory*; return 0 if the mark is reached, else 1."""
    base = tempfile.mkdtemp(dir=directory)
    print(f"Python {sys.version.split()[0]}, files in {base}")
    try:
        with living(base):
            root = os.path.join(base, os.listdir(base)[0])
            report = sweep(base)
            assert report.live >= PROCESSES and not report.removed, report
            found = measure({"by hand": lambda: by_hand(root), "sweep": lambda: sweep(base)})
        after = sweep(base)
    finally:
        shutil.rmtree(base)
    title = f"A sweep beside {PROCESSES} living processes with {SCOPES} scopes of a file each"
    reached = show(title, found, Mark("sweep", "by hand", 3.0))
    print(f"  (the sweep after their end removed {after.removed} scopes in {after.seconds:.2f} s)")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
