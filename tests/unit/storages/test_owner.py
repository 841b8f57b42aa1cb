"""The owner file: for people and untrusted file systems, read as something a stranger wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tempscope.model import Owner
from tempscope.storages import _owner
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._openat2 import open_directory
from tempscope.storages._owner import OWNER, host_id, owner_of_this_process, read_owner, write_owner


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A directory."""
    with open_directory(str(tmp_path)) as directory:
        yield directory.fd


def test_this_process(fd: int) -> None:
    """The owner of what this process makes is this process, and can be read back."""
    owner = owner_of_this_process()
    assert owner.pid == os.getpid()
    assert owner.started > 0
    assert owner.pid_namespace.startswith("pid:")
    assert write_owner(fd, owner) is False
    assert read_owner(fd) == owner
    with pytest.raises(FileExistsError):
        write_owner(fd, owner)


def test_a_child_that_reads_on_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 57: a child forked while we read shares the file's position, and may be faster."""
    really = Descriptor.open

    def opened(name: str, flags: int) -> Descriptor:
        descriptor = really(name, flags)
        os.read(descriptor.fd, 4096)
        return descriptor

    expected = owner_of_this_process().started
    monkeypatch.setattr(Descriptor, "open", opened)
    assert expected == _owner.start_time(os.getpid()) > 0


def test_a_umask_that_takes_our_own_permissions(fd: int, tmp_path: Path, umask: Callable[[int], int]) -> None:
    """Row 93: a umask that takes the owner's bits is noticed by the first file, which gets them back."""
    umask(0o777)
    assert write_owner(fd, Owner(pid=1)) is True
    assert (tmp_path / OWNER).stat().st_mode & 0o777 == 0o600


GOOD = {"schema": 1, "pid": 1, "started": 2, "boot_id": "b", "pid_namespace": "n", "host": "h"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"x" * 20_000,
        b'{"a":' * 5_000,
        *(
            json.dumps({**GOOD, **bad}).encode()
            for bad in [
                {"schema": 2},
                {"pid": -1},
                {"pid": True},
                {"pid": "1"},
                {"started": 2**64},
                {"host": 3},
                {"host": "h" * 2000},
                {"boot_id": None},
            ]
        ),
    ],
)
def test_a_hostile_owner_file(fd: int, tmp_path: Path, text: bytes) -> None:
    """Row 103: an owner file that is huge, deep, of wrong types or another schema is none."""
    (tmp_path / OWNER).write_bytes(text)
    assert read_owner(fd) is None


def test_a_good_owner_file(fd: int, tmp_path: Path) -> None:
    """The smallest owner file that says all is read."""
    (tmp_path / OWNER).write_text(json.dumps(GOOD))
    assert read_owner(fd) == Owner(pid=1, started=2, boot_id="b", pid_namespace="n", host="h")


def test_no_owner_file(fd: int, tmp_path: Path) -> None:
    """A missing owner file is none, and a FIFO in its place does not block."""
    assert read_owner(fd) is None
    os.mkfifo(tmp_path / OWNER)
    assert read_owner(fd) is None


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no /proc and no machine id, the owner is known by number alone."""

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    host_id.cache_clear()
    monkeypatch.setattr(Descriptor, "open", missing)
    monkeypatch.setattr(_owner.os, "readlink", missing)
    monkeypatch.setattr(_owner.sys, "platform", "win32")
    owner = owner_of_this_process()
    assert (owner.pid, owner.host, owner.pid_namespace, owner.started) == (os.getpid(), "", "", 0)
    assert _owner._uid() == -1
    host_id.cache_clear()
