"""The fixtures for users of the resource manager."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


TESTS = """
import tempfile
from pathlib import Path

import pytest
from tempscope.compat.resource_manager import ResourceManager


pytest_plugins = ["tempscope.compat.resource_fixtures"]


@pytest.fixture
def temp_app():
    return "masker"


def test_output(everything_gone, temp_output_dir):
    assert temp_output_dir.name.startswith("masker_test_")
    (temp_output_dir / "masked.pcap").touch()
    Path("made").write_text(str(temp_output_dir))


def test_output_is_gone():
    assert not Path(Path("made").read_text()).exists()


def test_cleans_up(everything_gone):
    resources = ResourceManager("masker")
    resources.create_temp_directory("pipeline")
    with tempfile.TemporaryDirectory(prefix="masker_stage_"):
        pass
    resources.cleanup()


def test_forgets_one(everything_gone):
    ResourceManager("masker").create_temp_directory("pipeline")


def test_forgets_another(everything_gone):
    tempfile.mkdtemp(prefix="masker_stage_")


def test_fails_itself(everything_gone):
    raise ValueError("its own")
"""


def test_the_fixtures(tmp_path: Path) -> None:
    """The directory carries its prefix and goes; what a test forgets is named, with its place."""
    (tmp_path / "test_masker.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--basetemp=pytest",
        "test_masker.py",
    ]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert "1 failed, 5 passed, 2 errors" in done.stdout, done.stdout
    assert "scope 'masker' is open, its files in " in done.stdout
    assert "a temporary file or directory: " in done.stdout
    assert ' in test_forgets_another: tempfile.mkdtemp(prefix="masker_stage_")' in done.stdout


def test_the_applications_name_by_default(tmp_path: Path) -> None:
    """Without a name of its own an application is called as the library is."""
    (tmp_path / "test_it.py").write_text(
        'pytest_plugins = ["tempscope.compat.resource_fixtures"]\n'
        "def test_it(temp_output_dir): assert temp_output_dir.name.startswith('tempscope_test_')\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp=pytest", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed" in done.stdout, done.stdout
