"""
The suite bites: each deliberate breakage of ``breakages.toml`` makes the tests named beside it fail.

A breakage is a piece of text of the package, and what stands there instead.
It is applied to a copy; the copy is what the tests then import.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

import tempscope


HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGE = Path(tempscope.__path__[0])
TESTS_FAILED = 1  # pytest's exit code; 2 and above is a broken run, which proves nothing


@attrs.frozen
class Breakage:
    """One deliberate breakage: which rule it breaks, where, and which tests must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]


def breakages() -> list[Breakage]:
    """Return all of them, in the file's order."""
    entries = tomllib.loads((HERE / "breakages.toml").read_text(encoding="utf-8"))
    return [Breakage(name, **entry) for name, entry in entries.items()]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the package that can be broken."""
    shutil.copytree(PACKAGE, tmp_path / "tempscope", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run_tests(tests: list[str], package_parent: Path) -> subprocess.CompletedProcess[str]:
    """Run *tests* with the package in *package_parent* instead of the installed one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = str(package_parent)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("breakage", breakages(), ids=lambda breakage: breakage.name)
def test_a_breakage_is_noticed(breakage: Breakage, broken: Path) -> None:
    """With the breakage applied the named tests run, and at least one of them fails."""
    file = broken / "tempscope" / breakage.file
    text = file.read_text(encoding="utf-8")
    assert text.count(breakage.old) == 1, f"{breakage.file} has the text {text.count(breakage.old)} times"
    file.write_text(text.replace(breakage.old, breakage.new), encoding="utf-8")

    result = run_tests(breakage.tests, broken)

    assert result.returncode == TESTS_FAILED, result.stdout + result.stderr


def test_the_copy_is_what_the_tests_import(broken: Path) -> None:
    """The broken copy, not the installed package, is under test: an import error in it shows."""
    (broken / "tempscope" / "__init__.py").write_text("raise RuntimeError('the copy')\n", encoding="utf-8")

    result = run_tests(["tests/unit/test_units.py"], broken)

    assert result.returncode not in (0, TESTS_FAILED)
    assert "the copy" in result.stdout + result.stderr
