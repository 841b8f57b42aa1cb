"""What importing the suites costs, and what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tempscope import testing


def run(source: str, env: dict[str, str] | None = None) -> str:
    """Run *source* in an interpreter of its own, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    return done.stdout.strip()


def test_importing_tempscope_imports_no_suite() -> None:
    """Importing tempscope imports neither tempscope.testing nor pytest nor hypothesis."""
    heavy = ("tempscope.testing", "pytest", "hypothesis")
    assert run(f"import tempscope, sys; print([name for name in {heavy!r} if name in sys.modules])") == "[]"


def test_the_fakes_need_no_pytest() -> None:
    """Without pytest the fakes work, and only the suites say that it is missing."""
    source = """
import sys
sys.modules["pytest"] = None
from tempscope.testing import FakeClock, FaultyStorage, RecordingStorage
try:
    from tempscope.testing import StorageContract
except ImportError as error:
    print(error.name)
"""
    assert run(source) == "pytest"


def test_the_names_are_all_there() -> None:
    """Every name of the front page is found, is listed by dir, and no other is."""
    assert set(testing.__all__) <= set(dir(testing))
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Mock'"):
        _ = testing.Mock
