"""Calls made at the same moment."""

from __future__ import annotations

import threading

import pytest

from tempscope.testing.storage import _together
from tempscope.testing.storage._together import together


def test_results_and_errors_in_order() -> None:
    """Each call's result, or the error it raised, stands at its place."""
    error = ValueError("no")

    def fail() -> int:
        raise error

    assert together([lambda: 1, fail, lambda: 3]) == [1, error, 3]


def test_a_call_that_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does not come back in time is told, and not waited for."""
    monkeypatch.setattr(_together, "_PATIENCE", 0.05)
    held = threading.Event()
    try:
        with pytest.raises(AssertionError, match="1 of 2 calls never came back"):
            together([lambda: True, held.wait])
    finally:
        held.set()
