"""What the tests of the storages stand on: records, other users, small disks, forked children."""

from __future__ import annotations

import codecs
import itertools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.model import Instant, ScopeRecord
from tempscope.storages._registry import _registry
from tempscope.storages.local import LocalDiskStorage


NOBODY = 65534
_tokens = itertools.count()


def record_of(name: str | None = None, **fields: Any) -> ScopeRecord:
    """Return the record of a new scope, whose token is unique in this process."""
    token = f"{os.getpid():013d}{next(_tokens):013d}".translate(str.maketrans("0189", "abcd"))
    return ScopeRecord(name=name, **{"token": token, "opened": Instant(0.0, 0.0), **fields})


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalDiskStorage]:
    """A disk storage with nothing in it."""
    with LocalDiskStorage(tmp_path / "disk") as storage:
        yield storage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the storage's root is, once it is made."""
    return tmp_path / "disk" / f"tempscope-{os.geteuid()}"


def interrupted_after(call: Callable[..., object]) -> Callable[..., None]:
    """Return what does *call* and is interrupted just as that returned."""

    def interrupted(*args: Any, **kwargs: Any) -> None:
        call(*args, **kwargs)
        raise KeyboardInterrupt

    return interrupted


def in_child(job: Callable[[], Any]) -> Any:
    """Run *job* in a forked child and return what it returned, as JSON has it; its errors are told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            answer = {"is": job()}
        except BaseException:
            answer = {"raised": traceback.format_exc()}
        with open(writing, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        answer = json.loads(pipe.read() or '{"raised": "the child died"}')
    os.waitpid(pid, 0)
    if "raised" in answer:
        pytest.fail(answer["raised"])
    return answer["is"]


def as_nobody(job: Callable[[], Any]) -> Any:
    """Run *job* in this process without any privilege."""
    # Another user may not be able to read the interpreter's own library.
    codecs.lookup("ascii")
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        return job()
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Sets the umask for this test."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user, or mount"
)


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """A directory that another user reaches, and may write to."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    return place


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte and forty inodes."""
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "tmpfs", place],
        check=True,
        capture_output=True,
    )
    yield place
    subprocess.run(["umount", "-l", place], check=True, capture_output=True)


def below(path: Path) -> list[str]:
    """Return the names of all that is below *path*, relative to it, sorted."""
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run *program* in a Python of its own and return what became of it."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def abandon(storage: LocalDiskStorage) -> Path:
    """Leave behind what *storage* has open, as a process does that dies; return its instance's directory."""
    instance = storage._used
    assert instance is not None
    _registry.instances.pop(instance.root.identity)
    instance.let_go()
    storage._used = None
    storage._areas.clear()
    return Path(instance.path)


TOKENS = tuple(letter * 26 for letter in "abcdefghij")
