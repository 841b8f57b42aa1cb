"""
Files without a name: nothing of them can be left behind.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import ConfigurationError, LocalDiskStorage, TempScopes, sweep
from tempscope.storages import _unnamed


@pytest.fixture
def scopes(tmp_path: Path) -> Iterator[TempScopes]:
    """Scopes on a storage of this process."""
    with LocalDiskStorage(tmp_path / "base") as storage:
        yield TempScopes(storage)


@pytest.fixture(params=["O_TMPFILE", "fallback"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ways: as the kernel does it, and where the file system cannot."""
    if request.param == "fallback":
        monkeypatch.setattr(_unnamed, "_TMPFILE", 0)
    return request.param


def test_it_can_be_written_and_read_and_has_no_name(scopes: TempScopes, how: str) -> None:
    """An unnamed file is an ordinary open file that no directory knows."""
    with scopes.open() as manager:
        with manager.unnamed_file() as file:
            file.write(b"content")
            file.seek(0)
            assert file.read() == b"content"
            assert os.fstat(file.fileno()).st_nlink == 0
            assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
            assert os.listdir(manager.directory) == []
        with manager.unnamed_file("w+") as text:
            text.write("äö")
            text.seek(0)
            assert text.read() == "äö"


def test_a_killed_process_leaves_none(tmp_path: Path) -> None:
    """After SIGKILL and one sweep nothing is there: the file went with its last descriptor."""
    program = (
        "import os, signal, sys; from tempscope import *\n"
        "m = TempScopes(LocalDiskStorage(sys.argv[1])).open(); f = m.unnamed_file(); f.write(b'x' * 10**6); f.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "base")], check=False, timeout=60)
    assert not [path for path in (tmp_path / "base").rglob("*") if path.is_file() and path.stat().st_size > 10_000]

    sweep(tmp_path / "base")

    root = next((tmp_path / "base").iterdir())
    assert os.listdir(root) == [".tempscope-root"]


@pytest.mark.parametrize("mode", ["r", "rb", "a", "x", "", "nonsense"])
def test_a_mode_that_cannot_write_a_new_file_is_refused(scopes: TempScopes, mode: str) -> None:
    """There is nothing to read or to append to in a new file."""
    with scopes.open() as manager, pytest.raises(ConfigurationError, match="w\\+b"):
        manager.unnamed_file(mode)


def test_a_file_system_without_them_is_answered_by_the_fallback(
    scopes: TempScopes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 32: EOPNOTSUPP for O_TMPFILE leads to the next way; any other error is raised as ours."""
    real = os.open
    code = errno.EOPNOTSUPP

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code))
        return real(path, flags, *args, **options)

    with scopes.open() as manager:
        manager.new_file()
        monkeypatch.setattr(os, "open", refuse)
        with manager.unnamed_file() as file:
            assert os.fstat(file.fileno()).st_nlink == 0
        code = errno.ENOSPC
        with pytest.raises(OSError, match="unnamed") as caught:
            manager.unnamed_file()
        assert caught.value.errno == errno.ENOSPC
