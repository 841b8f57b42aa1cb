"""
Attacks on the deleter: names are swapped, moved and mounted over while a scope closes.

Promises P2 and P8; rows 48, 49, 52 of the fault catalogue.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None) if os.name == "posix" else None, "renameat2"),
    reason="this system's C library has no renameat2",
)

PROGRAM = Path(__file__).resolve().parent / "programs" / "attacks.py"
ROUNDS_FULL, ROUNDS_SHORT = 1_000, 80
SLOWEST_SECONDS = 2.0


def own_mounts() -> list[str]:
    """Return the command prefix that gives a program mounts of its own; skip where there is none."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    prefix = ["unshare", *user, "--mount", "--propagation", "private"]
    probe = [*prefix, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        answer = subprocess.run(probe, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the command unshare is missing")
    if answer.returncode:
        pytest.skip(f"{' '.join(probe)} failed: {answer.stderr.strip()}")
    return prefix


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["link_swap", "fifo_swap", "moved_subtree", "mount"])
def test_nothing_escapes_and_nothing_hangs(
    kind: str, full: bool, tmp_path: Path, unmeasured: dict[str, str]
) -> None:
    """
    Whatever happens to the tree while it is deleted, nothing outside changes, and no close takes 2 seconds.

    Rows 48, 49, 52.
    Trap 27: a directory swapped for a symlink during cleanup.
    Trap 29: a bind mount inside the tree is emptied.
    Trap 38: FIFOs: open must not block.
    P2, P8.
    """
    prefix = own_mounts() if kind == "mount" else []
    rounds = ROUNDS_FULL if full else ROUNDS_SHORT
    result = subprocess.run(
        [*prefix, sys.executable, str(PROGRAM), kind, str(rounds), str(tmp_path)],
        env=unmeasured,
        capture_output=True,
        text=True,
        timeout=60 + rounds / 2,
        check=False,
    )
    assert result.returncode != -signal.SIGALRM, "a close hung"
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["rounds"] == rounds
    assert answer["changes"] >= rounds, "the attacker hardly got to do anything"
    assert answer["escapes"] == 0
    assert answer["slowest"] < SLOWEST_SECONDS
    assert answer["left"] == answer["failed"] == [], "one sweep did not remove the rest"
