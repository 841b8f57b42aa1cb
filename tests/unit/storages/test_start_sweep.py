"""The small sweep at a process's first file: only the surely dead, only for a moment, never an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tempscope.model import Verdict
from tempscope.storages import _start_sweep
from tempscope.storages._start_sweep import sweep_at_start
from tempscope.storages.local import LocalDiskStorage

from .conftest import TOKENS, abandon, below, record_of


KEEP = Verdict(True, "its owner wanted it")


@pytest.fixture
def left_behind(tmp_path: Path) -> Path:
    """A root in which a process died: two scopes, one of them wanted; trash, and a kept scope."""
    storage = LocalDiskStorage(tmp_path, sweep_on_start=False)
    storage.open_area(record_of("plain")).create_file("file")
    storage.open_area(record_of("wanted", token=TOKENS[0], never_closed=KEEP)).create_file("file")
    root = abandon(storage).parent
    (root / f"t-{TOKENS[1]}").mkdir()
    (root / f"k-{TOKENS[2]}").mkdir()
    return root


def first_file(base: Path, **options: Any) -> None:
    """Do what a process does that makes a file and ends well."""
    with LocalDiskStorage(base, **options) as storage:
        storage.open_area(record_of()).create_file("file")


def test_the_first_file_cleans_up(left_behind: Path, tmp_path: Path) -> None:
    """A process's first file removes what dead ones left, as they wanted; what is kept stays."""
    first_file(tmp_path)
    assert sorted(os.listdir(left_behind)) == [".tempscope-root", f"k-{TOKENS[0]}", f"k-{TOKENS[2]}"]
    assert below(left_behind / f"k-{TOKENS[0]}") == [".tempscope-record", "file"]


def test_it_can_be_turned_off(left_behind: Path, tmp_path: Path) -> None:
    """With ``sweep_on_start=False`` the first file removes nothing of others."""
    before = below(left_behind)
    first_file(tmp_path, sweep_on_start=False)
    assert below(left_behind) == before


def test_only_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs when the instance is made, not for each storage, scope or file."""
    calls = []
    monkeypatch.setattr(
        "tempscope.storages._start_sweep.sweep_at_start",
        lambda base, *, trust_locks: calls.append((base, trust_locks)),
    )
    with LocalDiskStorage(tmp_path, trust_locks=True) as one, LocalDiskStorage(tmp_path) as two:
        assert calls == []
        for storage in (one, two, one):
            storage.open_area(record_of()).create_file("file")
        assert calls == [(str(tmp_path), True)]


@pytest.mark.parametrize("bound", ["_SECONDS", "_THINGS"])
def test_it_is_bounded(
    left_behind: Path, tmp_path: Path, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 54: when its time or its number of things is used up, it leaves the rest to another sweep."""
    monkeypatch.setattr(_start_sweep, bound, -1)
    before = below(left_behind)
    sweep_at_start(str(tmp_path), trust_locks=False)
    assert below(left_behind) == before


def test_it_never_raises(left_behind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in it, the file that the process wanted is made."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("tempscope.storages._scan.DiskSweep.reclaim", broken)
    first_file(tmp_path)
    assert (left_behind / f"t-{TOKENS[1]}").exists()
