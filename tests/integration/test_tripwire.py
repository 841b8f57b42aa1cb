"""
Nothing outside is ever written or removed: told by Python's audit events, and enforced by the kernel.

Promise P2, row 111 of the fault catalogue, security rule 20.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


PROGRAM = Path(__file__).resolve().parent / "programs" / "whole_life.py"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="this system has no /proc/self/fd"
)


def live(mode: str, box: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run the program with everything it names in *box*."""
    box.mkdir()
    canary = box.parent / f"{box.name}-outside"
    canary.write_text("outside")
    command = [sys.executable, "-B", str(PROGRAM), mode, str(box)]
    result = subprocess.run(command, cwd=box, env=environment, capture_output=True, text=True, check=False)
    if result.returncode and result.stderr.startswith("no Landlock here"):
        pytest.skip(f"landlock_create_ruleset(2) failed: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert canary.exists()
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["trips"], "nobody was watching"
    return answer


def test_no_audit_event_outside(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """
    A program that uses the whole library removes, renames, makes and opens for writing nothing elsewhere.

    Row 111, security rule 20.
    """
    answer = live("audit", tmp_path / "box", unmeasured)

    assert answer["outside"] == []
    assert answer["failed"] == []
    assert {"os.remove", "os.rmdir", "os.rename", "os.mkdir", "open"} <= answer["seen"].keys()


def test_it_works_behind_a_fence(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """
    The same program works, and leaves nothing behind, where the kernel refuses writing elsewhere.

    Row 111, security rule 20: Landlock.
    """
    answer = live("landlock", tmp_path / "box", unmeasured)

    assert answer["failed"] == []
