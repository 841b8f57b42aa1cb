"""
Closes scopes while another process changes their trees under the deleter's hands.

``attacks.py KIND ROUNDS BASE`` prints JSON: rounds, changes made meanwhile, escapes, the slowest round.
The attacker is forked for each round and changes the tree as fast as it can, from before the close
until after it; the canaries stand outside and are compared after every round.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import logging
import mmap
import os
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tempscope import LocalDiskStorage, TempScopes, sweep


KIND, ROUNDS, BASE = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
RENAME_EXCHANGE, AT_FDCWD, MS_BIND, MNT_DETACH, PR_SET_PDEATHSIG = 2, -100, 4096, 2, 1
HUNG_SECONDS = 10.0
LIBC = ctypes.CDLL(None, use_errno=True)
CHANGES = mmap.mmap(-1, 8)
OPEN: list[int] = []

ATTIC = BASE / "attic"
PRECIOUS = ATTIC / "precious"
# By the names that occur in the trees: a deleter that lost its way would find what it looks for.
CANARIES = (PRECIOUS, ATTIC / "x", ATTIC / "y")


def snapshot() -> list[tuple[str, int, bytes]]:
    """Return all that must not change: names, modes and contents."""
    return [
        (str(path), path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for canary in CANARIES
        for path in (canary, *sorted(canary.rglob("*")))
        if os.path.lexists(path)
    ]


def make_precious() -> None:
    """Put canaries where a careless deleter would get to."""
    (ATTIC / "x").mkdir(parents=True)
    for directory in (PRECIOUS, PRECIOUS / "within", ATTIC / "y"):
        directory.mkdir(parents=True)
        for index in range(5):
            (directory / f"canary{index}").write_text(f"canary {index}")
    (PRECIOUS / "within").chmod(0o750)


def make_tree(top: Path, depth: int = 3) -> None:
    """Make something to delete: deeper than the deleter keeps descriptors, with files at each level."""
    current = top
    for _ in range(depth):
        (current / "y").mkdir(parents=True)
        for index in range(3):
            (current / f"file{index}").touch()
        current /= "x"


def exchange(parent: Path, pairs: list[tuple[str, Path]]) -> Callable[[], bool]:
    """Return what swaps names in *parent* with others, wherever *parent* is moved meanwhile."""
    OPEN.append(os.open(parent, os.O_PATH))
    calls = itertools.cycle(
        [(OPEN[-1], os.fsencode(here), AT_FDCWD, os.fsencode(there)) for here, there in pairs]
    )
    return lambda: LIBC.renameat2(*next(calls), RENAME_EXCHANGE) == 0


def mount_and_unmount(here: Path, there: Path) -> Callable[[], bool]:
    """Return what mounts *there* on *here* if it is not, and takes it off if it is."""
    source = os.fsencode(there)
    mounted = False
    OPEN.append(os.open(here.parent, os.O_PATH))
    target = os.fsencode(f"/proc/self/fd/{OPEN[-1]}/{here.name}")

    def change() -> bool:
        nonlocal mounted
        if mounted:
            mounted = LIBC.umount2(target, MNT_DETACH) != 0
            return not mounted
        mounted = LIBC.mount(source, target, None, MS_BIND, None) == 0
        return mounted

    return change


# Each sets up one round inside the scope's directory, and returns what the attacker repeats.


def link_swap(scope: Path) -> Callable[[], bool]:
    """Swap directories in the tree for links to the canaries, and back."""
    make_tree(scope / "tree")
    return exchange(
        scope / "tree", list(replacements(scope / "tree", lambda link: link.symlink_to(PRECIOUS)))
    )


def fifo_swap(scope: Path) -> Callable[[], bool]:
    """Swap directories in the tree for FIFOs that nobody will ever open, and back."""
    make_tree(scope / "tree")
    return exchange(scope / "tree", list(replacements(scope / "tree", os.mkfifo)))


def replacements(tree: Path, make: Callable[[Path], object]) -> Iterator[tuple[str, Path]]:
    """Make directories in the tree, and beside the canaries what shall take their places."""
    for index in range(8):
        (tree / f"victim{index}").mkdir()
        (tree / f"victim{index}" / "file").touch()
        make(ATTIC / f"swap{index}")
        yield f"victim{index}", ATTIC / f"swap{index}"


def mount(scope: Path) -> Callable[[], bool]:
    """Mount the canaries on a directory in the tree, and unmount them."""
    make_tree(scope / "tree")
    return mount_and_unmount(scope / "tree" / "x", PRECIOUS)


def moved_subtree(scope: Path) -> Callable[[], bool]:
    """Move a subtree out, beside the canaries, so that ``..`` leads to them, and back."""
    make_tree(scope / "tree", depth=16)
    (ATTIC / "hole").mkdir()
    # Deeper than the deleter keeps descriptors: on its way up it has to ask for the parent.
    return exchange(Path(scope, "tree", *["x"] * 7), [("x", ATTIC / "hole")])


KINDS = {"link_swap": link_swap, "fifo_swap": fifo_swap, "mount": mount, "moved_subtree": moved_subtree}


def attack(change: Callable[[], bool], ready: int) -> NoReturn:
    """Be the attacker: repeat the change for ever, counting; say when the first succeeded."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    done = 0
    while True:
        if change():
            done += 1
            struct.pack_into("q", CHANGES, 0, done)
            if done == 1:
                os.write(ready, b"!")


def one_round(scopes: TempScopes) -> tuple[float, int]:
    """Close a scope under attack; return how many seconds that took, and how many changes were made."""
    scope = scopes.open("attacked")
    change = KINDS[KIND](scope.directory)
    struct.pack_into("q", CHANGES, 0, 0)
    ready, told = os.pipe()
    attacker = os.fork()
    if attacker == 0:
        attack(change, told)
    os.read(ready, 1)
    signal.setitimer(signal.ITIMER_REAL, HUNG_SECONDS)  # nobody handles it: a hang ends this program
    began = time.monotonic()
    try:
        scope.close()
    finally:
        took = time.monotonic() - began
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(attacker, signal.SIGKILL)
        os.waitpid(attacker, 0)
        for fd in (ready, told, *OPEN):
            os.close(fd)
        OPEN.clear()
    return took, int(struct.unpack_from("q", CHANGES, 0)[0])


def tidy_attic() -> None:
    """Clear away what the attacker left, mounts first."""
    if KIND == "mount":
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            for place in [line.split()[1] for line in mounts if str(BASE) in line]:
                LIBC.umount2(os.fsencode(place), MNT_DETACH)
    for path in ATTIC.iterdir():
        if path not in CANARIES:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def main() -> None:
    """Be the program."""
    logging.getLogger("tempscope").setLevel(logging.ERROR)
    make_precious()
    before = snapshot()
    escapes, slowest, changes = 0, 0.0, 0
    with LocalDiskStorage(BASE / "base", sweep_on_start=False) as storage:
        scopes = TempScopes(storage)
        for _ in range(ROUNDS):
            took, made = one_round(scopes)
            slowest, changes = max(slowest, took), changes + made
            tidy_attic()
            if snapshot() != before:
                escapes += 1
                for canary in CANARIES:
                    shutil.rmtree(canary, ignore_errors=True)
                make_precious()
    report = sweep(BASE / "base")
    root = next((BASE / "base").iterdir())
    print(
        json.dumps(
            {
                "rounds": ROUNDS,
                "changes": changes,
                "escapes": escapes,
                "slowest": slowest,
                "left": [name for name in os.listdir(root) if name[0] != "."],
                "failed": [entry.to_dict() for entry in report.leftovers],
            }
        )
    )


if __name__ == "__main__":
    main()
