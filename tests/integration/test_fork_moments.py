"""
Forks at bad moments: beside a thread that holds our locks, and in the middle of making an instance.

Rows 56 and 57 of the fault catalogue.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

PROGRAM = Path(__file__).resolve().parent / "programs" / "forking_at.py"
LEAST_MOMENTS = {"thread": 10, "raise": 20, "go_on": 20}


def fork_at_every_moment(mode: str, base: Path, step: int, environment: dict[str, str]) -> dict[str, Any]:
    """Return what the program found."""
    command = [sys.executable, str(PROGRAM), mode, str(base), str(step)]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["moments"] >= LEAST_MOMENTS[mode], "the program did not reach what it should"
    return answer


def test_a_fork_beside_a_thread_that_holds_our_locks(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """
    A child forked while another thread is anywhere inside the library can use the same storage at once.

    Row 56.
    """
    assert fork_at_every_moment("thread", tmp_path, 1, unmeasured)["wrong"] == []


@pytest.mark.parametrize("mode", ["raise", "go_on"])
def test_a_fork_between_the_steps_of_create(
    mode: str, tmp_path: Path, full: bool, unmeasured: dict[str, str]
) -> None:
    """
    A child forked between any two lines of the first create owns nothing of what its parent is making.

    Whether it raises there or goes on, the parent's files and lease are whole, and what the child
    made goes with one sweep.
    Row 57.
    """
    assert fork_at_every_moment(mode, tmp_path, 1 if full else 5, unmeasured)["wrong"] == []
