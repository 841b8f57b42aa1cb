"""
The command that runs everything, ``python -m tests``: it stops at nothing and hides nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest


@pytest.fixture
def command() -> ModuleType:
    """The program behind ``python -m tests``."""
    return importlib.import_module("tests.__main__")


def test_a_failed_check_fails_the_command_and_stops_nothing(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every check runs, also after one failed, and the command fails when any did."""
    checks = (
        command.Check("one", "fails", ("python", "-c", "raise SystemExit(3)")),
        command.Check("two", "passes", ("python", "-c", "print('two ran')")),
    )
    monkeypatch.setattr(command, "CHECKS", checks)
    monkeypatch.setattr(sys, "argv", ["tests"])
    assert command.main() == 1
    said = capfd.readouterr().out
    assert "two ran" in said
    assert "one        FAILED" in said
    assert "two        passed" in said

    monkeypatch.setattr(sys, "argv", ["tests", "--only", "two"])
    assert command.main() == 0
    assert "FAILED" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "====== 12 passed in 0.05s ======",
        "=== 1 failed, 12 passed, 2 deselected in 1.05s ===",
        "=== 3 skipped in 61.02s (0:01:01) ===",
        "=== 1 error in 0.10s ===",
        "=== no tests ran in 0.10s ===",
    ],
)
def test_pytests_last_line_is_found(
    command: ModuleType, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What pytest says last is shown at once and remembered, with its exit code."""
    program = f"print('=== FAILURES ===', {line!r}, 'more', sep='\\n'); raise SystemExit(1)"
    assert command.watch([sys.executable, "-c", program]) == (1, line)
    assert line in capfd.readouterr().out


def test_a_missing_tool_says_how_to_get_it(command: ModuleType) -> None:
    """A tool is never taken from outside this environment; the message says what to install."""
    with pytest.raises(
        SystemExit, match=r"no-such-tool is not installed .* pip install '\.\[dev,examples\]'"
    ):
        command.tool("no-such-tool")
