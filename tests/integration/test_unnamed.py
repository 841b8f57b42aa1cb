"""
Files without a name: nothing of them can be left behind.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import (
    ConfigurationError,
    LocalDiskStorage,
    MemoryStorage,
    ScopeClosedError,
    StorageError,
    StorageFull,
    TempScopes,
    sweep,
)
from tempscope.storages import _unnamed


ROOT = f"tempscope-{os.geteuid()}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base directory."""
    return tmp_path / "base"


@pytest.fixture(params=["O_TMPFILE", "fallback", "memory", "spilling"])
def scopes(
    request: pytest.FixtureRequest, base: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TempScopes]:
    """All ways: as the kernel does it, where the file system cannot, and in memory."""
    if request.param == "fallback":
        monkeypatch.setattr(_unnamed, "_TMPFILE", 0)
    with LocalDiskStorage(base) as disk:
        if request.param == "memory":
            yield TempScopes(MemoryStorage())
        elif request.param == "spilling":
            yield TempScopes(MemoryStorage(spill_to=disk))
        else:
            yield TempScopes(disk)


@pytest.fixture
def on_disk(base: Path) -> Iterator[TempScopes]:
    """Scopes on the disk."""
    with LocalDiskStorage(base) as disk:
        yield TempScopes(disk)


def test_it_can_be_written_and_read_and_has_no_name(scopes: TempScopes) -> None:
    """An unnamed file is an ordinary open file that no directory knows."""
    with scopes.open() as manager:
        with manager.unnamed_file() as file:
            assert file.write(b"content") == 7
            file.seek(0)
            assert file.read() == b"content"
            assert list(manager.directory.iterdir()) == []
        with manager.unnamed_file("wb") as file, pytest.raises(OSError, match="read"):
            file.read()
        assert list(manager.directory.iterdir()) == []


def test_it_can_be_text(scopes: TempScopes) -> None:
    """Text modes take encoding, errors and newline as open() does."""
    with scopes.open() as manager:
        with manager.unnamed_file("w+", encoding="utf-16", newline="\r\n") as file:
            file.write("äö\n")
            file.flush()
            assert file.buffer.tell() == 10
            assert (file.mode, file.encoding) == ("w+", "utf-16")
            file.seek(0)
            assert file.read() == "äö\r\n"
        with manager.unnamed_file("wt", encoding="ascii", errors="replace") as file:
            file.write("ä")


def test_a_descriptor_of_it_has_no_link(scopes: TempScopes) -> None:
    """On a disk it is a file of mode 0600 without a link; in memory it moves there when that is asked for."""
    with scopes.open() as manager, manager.unnamed_file() as file:
        file.write(b"content")
        file.flush()
        if isinstance(manager.storage, MemoryStorage) and not manager.storage.capabilities & {"real_paths"}:
            with pytest.raises(OSError, match="in memory only"):
                file.fileno()
            return
        status = os.fstat(file.fileno())
        assert (status.st_nlink, status.st_mode & 0o777, status.st_size) == (0, 0o600, 7)
        assert not os.get_inheritable(file.fileno())
        assert os.listdir(manager.directory) == []


def test_it_outlives_its_scope_while_it_is_open(scopes: TempScopes) -> None:
    """It goes with its last descriptor, not with the scope; a closed scope makes no more."""
    with scopes.open() as manager:
        file = manager.unnamed_file()
        file.write(b"content")
    file.seek(0)
    assert file.read() == b"content"
    file.close()
    with pytest.raises(ScopeClosedError):
        manager.unnamed_file()


def test_memory_counts_it_while_it_is_open() -> None:
    """In memory it counts against the limits until it is closed."""
    with MemoryStorage(max_files=1, max_bytes=10) as memory, TempScopes(memory).open() as manager:
        with manager.unnamed_file() as file:
            with pytest.raises(StorageFull, match="max_files"):
                manager.unnamed_file()
            with pytest.raises(StorageFull, match="max_bytes"):
                file.raw.write(bytes(11))  # type: ignore[attr-defined]
        with manager.unnamed_file() as file:
            file.write(bytes(10))


@pytest.mark.parametrize("fallback", [False, True])
def test_a_killed_process_leaves_none(base: Path, fallback: bool) -> None:
    """After SIGKILL nothing of the file is there, not even before the sweep."""
    program = f"""
import os, signal, sys
from tempscope import *
from tempscope.storages import _unnamed
if {fallback}:
    _unnamed._TMPFILE = 0
manager = TempScopes(LocalDiskStorage(sys.argv[1])).open()
file = manager.unnamed_file()
file.write(bytes(10**6))
file.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program, str(base)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert list((base / ROOT).glob("i-*/a1/*")) == []

    sweep(base)

    assert os.listdir(base / ROOT) == [".tempscope-root"]


def test_killed_between_making_and_unlinking(base: Path) -> None:
    """Without O_TMPFILE the file has a name for a moment; killed then, one sweep takes it away."""
    program = """
import os, signal, sys
from tempscope import *
from tempscope.storages import _unnamed
_unnamed._TMPFILE = 0
manager = TempScopes(LocalDiskStorage(sys.argv[1])).open()
manager.new_file()
os.unlink = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
manager.unnamed_file()
"""
    done = subprocess.run([sys.executable, "-c", program, str(base)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list((base / ROOT).glob("i-*/a1/.tempscope-*"))) == 1

    sweep(base)

    assert os.listdir(base / ROOT) == [".tempscope-root"]


def test_killed_while_a_file_in_memory_is_published(tmp_path: Path) -> None:
    """Row 1: what is published from memory, which no journal knows of, has no name until it is whole."""
    program = """
import os, signal, sys
from tempscope import *

def die(done, total):
    os.kill(os.getpid(), signal.SIGKILL)

manager = TempScopes(MemoryStorage()).open()
path = manager.new_file()
path.write_bytes(bytes(10**6))
manager.publish(path, sys.argv[1], progress=die)
"""
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out" / "done")], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "out").iterdir()) == []


def test_killed_while_it_is_copied_out(base: Path, tmp_path: Path) -> None:
    """Row 1, P3: killed while it is published to another file system, one sweep takes the copy away."""
    program = """
import errno, os, signal, sys
from tempscope import *

def link(*args, **options):
    raise OSError(errno.EXDEV, "another file system")

def die(done, total):
    os.kill(os.getpid(), signal.SIGKILL)

os.link = link
manager = TempScopes(LocalDiskStorage(sys.argv[1])).open()
file = manager.unnamed_file()
file.write(b"content")
manager.publish(file, sys.argv[2], progress=die)
"""
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(base), str(out / "done")], check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.name[:11] for path in out.iterdir()] == [".tempscope-"]

    sweep(base)

    assert os.listdir(out) == []
    assert os.listdir(base / ROOT) == [".tempscope-root"]


@pytest.mark.parametrize("mode", ["r", "rb", "a", "x+b", "", "+", "ww", "wbt", "nonsense", 3, None])
def test_a_mode_that_cannot_write_a_new_file_is_refused(scopes: TempScopes, mode: Any) -> None:
    """There is nothing to read or to append to in a new file."""
    with scopes.open() as manager, pytest.raises(ConfigurationError, match=r"w\+b"):
        manager.unnamed_file(mode)


@pytest.mark.parametrize("option", ["encoding", "errors", "newline"])
def test_a_binary_file_takes_no_encoding(scopes: TempScopes, option: str) -> None:
    """What is about text goes with a text mode only, and must be known there."""
    options: Any = {option: "no such"}
    with scopes.open() as manager:
        with pytest.raises(ConfigurationError, match="for text"):
            manager.unnamed_file(**options)
        if option != "errors":  # which Python looks at when it meets one
            with pytest.raises(ConfigurationError, match="such"):
                manager.unnamed_file("w", **options)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_them_is_answered_by_the_fallback(
    on_disk: TempScopes, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Row 32: a refused O_TMPFILE leads to the next way; any other error is raised as ours."""
    real = os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(code, os.strerror(code))
        return real(path, flags, *args, **options)

    with on_disk.open() as manager:
        manager.new_file()
        monkeypatch.setattr(os, "open", refuse)
        with manager.unnamed_file() as file:
            assert os.fstat(file.fileno()).st_nlink == 0
        code = errno.EIO
        with pytest.raises(StorageError, match="no unnamed file can be made") as caught:
            manager.unnamed_file()
        assert caught.value.errno == errno.EIO
