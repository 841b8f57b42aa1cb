"""
Every example is a program that succeeds, and leaves nothing behind but what it says it keeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted([*ROOT.glob("examples/*/main.py"), *ROOT.glob("examples/[0-9][0-9]_*.py")])


def run_example(script: Path, directory: Path, base_dir: Path) -> str:
    """Run *script* with nothing of ours in its environment but the base directory; return what it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TEMPSCOPE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=directory,
        env={**env, "TEMPSCOPE_BASE_DIR": str(base_dir)},
        timeout=110,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{script.name} gave {done.returncode}:\n{done.stdout}"
    return done.stdout


def left_in(base_dir: Path) -> list[Path]:
    """Return the directories left in our root below *base_dir*: instances, trash, what was kept."""
    return [path for path in base_dir.glob("*/*") if path.is_dir()]


def test_there_are_examples() -> None:
    """The examples are where this file looks for them, the video service first of all."""
    assert ROOT / "examples" / "video_service" / "main.py" in EXAMPLES


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.relative_to(ROOT / "examples").as_posix())
def test_example_runs_and_leaves_nothing(script: Path, tmp_path: Path) -> None:
    """
    An example succeeds, says something, and leaves nothing in the base directory.

    Only a scope that it keeps on purpose stays, and its directory is named in what the example says.
    """
    base_dir = tmp_path / "base"
    directory = tmp_path / "cwd"
    base_dir.mkdir()
    directory.mkdir()
    said = run_example(script, directory, base_dir)
    assert said.strip()
    unsaid = [
        path for path in left_in(base_dir) if not (path.name.startswith(("k-", "f-")) and str(path) in said)
    ]
    assert unsaid == []


@pytest.mark.parametrize("test", sorted(ROOT.glob("examples/*/test_*.py")), ids=lambda path: path.name)
def test_an_examples_own_tests_pass(test: Path, tmp_path: Path) -> None:
    """The tests that an example brings along pass, run as its reader would run them."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tmp_path / 'base'}",
            test.name,
        ],
        cwd=test.parent,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
