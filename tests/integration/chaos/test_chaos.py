"""
Chaos: many owners that die at any moment, sweepers without a pause, and nothing goes wrong.

Promises P1, P3 and P5; rows 39 and 40 of the fault catalogue.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")

PROGRAM = Path(__file__).resolve().parent / "chaos.py"
SHORT = (4, 100)  # seconds, kills
FULL = (60, 5_000)
COUNTS = ("seconds", "kills", "sweeps", "looks", "foreign")


@pytest.mark.timeout(1_300)
def test_chaos(
    full: bool, tmp_path: Path, unmeasured: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A living owner's files are there whenever somebody looks, and one last sweep leaves nothing.

    The full size is at least a minute and 5,000 kills.
    Trap 6: the window between mkdir and lock.
    Trap 15: two sweepers at once.
    Trap 3: a child unlocks the parent's lock.
    P1.
    """
    seconds, kills = FULL if full else SHORT
    result = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), str(seconds), str(kills)],
        env=unmeasured,
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    with capsys.disabled():
        print(f"\nchaos: {json.dumps({key: answer[key] for key in COUNTS})}")
    assert answer["violations"] == [], result.stderr[-2000:]
    assert answer["leftovers"] == 0
    assert answer["kills"] >= kills
    assert answer["foreign"] >= kills / 50, "hardly a registered file was replaced"
    assert answer["seconds"] >= seconds
    assert answer["sweeps"] >= kills / 10, "the sweepers hardly ran"
