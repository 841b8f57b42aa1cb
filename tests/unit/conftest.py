"""What the unit tests share: scopes on a disk of their own, and programs that end badly."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tempscope.policies import DeleteOnClose
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage

from .faults import HookedStorage


Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base directory of :func:`storage`."""
    path = tmp_path / "base"
    path.mkdir()
    return path


@pytest.fixture
def storage(base: Path) -> LocalDiskStorage:
    """A storage on disk, of this test alone."""
    return LocalDiskStorage(base)


@pytest.fixture
def hooked(storage: LocalDiskStorage) -> HookedStorage:
    """The same storage, made to fail or to wait."""
    return HookedStorage(storage)


@pytest.fixture
def scopes(storage: LocalDiskStorage) -> TempScopes:
    """What opens scopes on :func:`storage`; nothing is kept."""
    return TempScopes(storage, DeleteOnClose())


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """
    Run the source of a program in a process of its own, and return how it ended.

    ``base`` in it is a base directory; extra arguments stand in ``sys.argv``.
    """

    def run(source: str, *args: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        base = tmp_path / "program"
        base.mkdir(exist_ok=True)
        text = f"base = {str(base)!r}\n{textwrap.dedent(source)}"
        command = [sys.executable, *python, "-c", text, *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def left(base: Path) -> Callable[[], list[str]]:
    """Tell which files, directories apart, are below :func:`base`; our own bookkeeping left out."""

    def files() -> list[str]:
        ours = {"owner", "journal", ".tempscope-root", "CACHEDIR.TAG"}
        return sorted(path.name for path in base.rglob("*") if path.is_file() and path.name not in ours)

    return files
