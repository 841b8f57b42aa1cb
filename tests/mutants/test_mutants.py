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
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


Result = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Result]]]:
    """What the tests said of each breakage that is asked for; as many run at once as there are processors."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [params["breakage"] for params in chosen if "breakage" in params]
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {each.name: pool.submit(tried, each, tmp_path_factory.mktemp("broken")) for each in wanted}
    pool.shutdown(cancel_futures=True)


def copy_package(parent: Path) -> None:
    """Put a copy of the package, that can be broken, into *parent*."""
    shutil.copytree(PACKAGE, parent / "tempscope", ignore=shutil.ignore_patterns("__pycache__"))


def tried(breakage: Breakage, parent: Path) -> Result:
    """Apply *breakage* to a copy in *parent*, and run the named tests on it."""
    copy_package(parent)
    file = parent / "tempscope" / breakage.file
    text = file.read_text(encoding="utf-8")
    assert text.count(breakage.old) == 1, f"{breakage.file} has the text {text.count(breakage.old)} times"
    file.write_text(text.replace(breakage.old, breakage.new), encoding="utf-8")
    return run_tests(breakage.tests, parent)


def run_tests(tests: list[str], package_parent: Path) -> Result:
    """Run *tests* with the package in *package_parent* instead of the installed one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = str(package_parent)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("breakage", breakages(), ids=lambda breakage: breakage.name)
def test_a_breakage_is_noticed(breakage: Breakage, results: dict[str, Future[Result]]) -> None:
    """With the breakage applied the named tests run, and at least one of them fails."""
    result = results[breakage.name].result()

    assert result.returncode == TESTS_FAILED, result.stdout + result.stderr


def test_the_copy_is_what_the_tests_import(tmp_path: Path) -> None:
    """The broken copy, not the installed package, is under test: an import error in it shows."""
    copy_package(tmp_path)
    (tmp_path / "tempscope" / "__init__.py").write_text("raise RuntimeError('the copy')\n", encoding="utf-8")

    result = run_tests(["tests/unit/test_units.py"], tmp_path)

    assert result.returncode not in (0, TESTS_FAILED)
    assert "the copy" in result.stdout + result.stderr
