"""The system's clock, and the modules that look for what the platform has when they are loaded."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import tempscope
from tempscope import _clock
from tempscope._clock import SystemClock, boot_id
from tempscope.protocols import Clock


def loaded_again(name: str) -> ModuleType:
    """Load another copy of one of our modules, as a platform would that lacks what was taken away."""
    path = Path(tempscope.__path__[0]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"another_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_clocks() -> None:
    """An instant has wall time and boot time, and says which boot."""
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    now = SystemClock().now()
    assert before[0] <= now.wall <= time.time()
    assert before[1] <= now.boot <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert now.boot_id == boot_id()
    assert isinstance(SystemClock(), Clock)


def test_a_reading_becomes_an_instant_later() -> None:
    """A reading costs little; what it means is the same whenever it is asked for."""
    clock = SystemClock()
    reading = clock.read()
    assert clock.at(reading) == clock.at(reading)
    assert (clock.at(reading).wall, clock.at(reading).boot) == reading


def test_without_a_boot_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no boot clock, instants name no boot, so that wall time decides (a fake)."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    clock = loaded_again("_clock").SystemClock()
    assert clock.now().boot_id == ""
    assert clock.now().seconds_since(clock.now()) == 0


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody names the boot, it has no name (a fake)."""

    def missing(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(_clock, "open", missing, raising=False)
    uncached: Callable[[], str] = boot_id.__wrapped__
    assert uncached() == ""
    assert boot_id() == boot_id()


@pytest.mark.parametrize("name", ["_scope", "_open_scopes"])
def test_without_fork(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where processes do not fork, nothing is to be done after it (a fake)."""
    monkeypatch.delattr(os, "register_at_fork")
    assert loaded_again(name).__all__
