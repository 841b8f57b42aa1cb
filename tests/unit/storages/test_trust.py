"""Which locks prove anything: local file systems, a self-test, and the caller's word."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tempscope.model import Owner, Removal, Verdict
from tempscope.storages import _lock, _trust
from tempscope.storages._openat2 import open_directory
from tempscope.storages._owner import host_id
from tempscope.storages._record_file import write_record
from tempscope.storages._trust import Trust, file_system_type, trust_in
from tempscope.storages.local import LocalDiskStorage

from .conftest import TOKENS, abandon, below, needs_root, record_of


DELETE = Verdict(False, "it is to go")


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A directory, held by a shared lock as our root is."""
    with open_directory(str(tmp_path)) as directory:
        yield directory.fd


def mounted_as(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Have every file system be of this type."""
    monkeypatch.setattr(_trust, "file_system_type", lambda fd: kind)


def test_the_type_of_a_file_system(fd: int) -> None:
    """The type is read by mount id, so that a bind mount has the type of what it shows."""
    kind = file_system_type(fd)
    assert f" - {kind} " in Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    with open_directory("/proc") as proc:
        assert file_system_type(proc.fd) == "proc"


@needs_root
def test_a_ram_disk_is_known(tiny_disk: Path) -> None:
    """A tmpfs is a tmpfs."""
    with open_directory(str(tiny_disk)) as directory:
        assert file_system_type(directory.fd) == "tmpfs"
        assert trust_in(directory.fd, vouched=False) == Trust("", vouched=False)


def test_a_system_that_does_not_tell(fd: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the system does not tell the type it is unknown, and not trusted."""
    monkeypatch.setattr(_trust, "_MOUNTS", str(tmp_path / "missing"))
    assert file_system_type(fd) == ""
    assert trust_in(fd, vouched=False).doubt == "it is on an unknown file system"
    (tmp_path / "missing").write_text("1 2 3:4 / /mnt rw - nfs4 server:/ rw\n", encoding="utf-8")
    assert file_system_type(fd) == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p", "virtiofs", "exfat", ""])
def test_network_file_systems_prove_nothing(fd: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    L11, L12: on a network, FUSE or unknown file system a lock proves nothing, and the reason names it.

    Trap 18: living directories purged on a cluster's file system.
    """
    mounted_as(monkeypatch, kind)
    trust = trust_in(fd, vouched=False)
    assert kind in trust.doubt
    assert "trust_locks=True" in trust.objection(fd)


@pytest.mark.parametrize(
    "kind", ["ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "zfs", "ramfs"]
)
def test_local_file_systems_are_trusted(fd: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a local file system whose locks exclude each other, a lock is proof enough."""
    mounted_as(monkeypatch, kind)
    assert trust_in(fd, vouched=False).objection(fd) == ""


@pytest.mark.parametrize("answer", ["held", "unsupported"])
def test_locks_that_fail_their_test(fd: int, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that grants an exclusive lock beside a shared one, or none at all, proves nothing."""
    mounted_as(monkeypatch, "ext4")
    monkeypatch.setattr(_lock, "seize", lambda fd: answer)
    assert trust_in(fd, vouched=False).doubt == "locks on this ext4 file system failed their test"


def test_the_test_of_the_locks_disturbs_nobody(fd: int, tmp_path: Path) -> None:
    """The self-test leaves no file, no lock and no descriptor."""
    before = os.listdir("/proc/self/fd")
    assert trust_in(fd, vouched=False).doubt == ""
    assert os.listdir("/proc/self/fd") == before
    assert below(tmp_path) == []
    assert _lock.seize(fd) == "held"


def test_a_host_without_a_name(fd: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a machine does not know its own name, nothing shows that something was made on it."""
    monkeypatch.setattr(_trust, "host_id", lambda: "")
    write_record(fd, record_of(owner=Owner(host="")))
    assert "nothing shows that it was made on this machine" in Trust("doubt", vouched=True).objection(fd)


@pytest.mark.skipif(not host_id(), reason="this machine has no /etc/machine-id")
class TestOnANetwork:
    """A root on a file system whose locks prove nothing."""

    @pytest.fixture(autouse=True)
    def network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have every file system be a network one."""
        mounted_as(monkeypatch, "nfs4")

    def reclaimed(self, storage: LocalDiskStorage) -> tuple[list[Removal], list[str]]:
        """Reclaim all; return what became of each, and why things were left."""
        with storage.sweeping() as sweep:
            removals = [sweep.reclaim(record, DELETE) for record in sweep.records()]
            left = [entry.reason for entry in sweep.left]
        return removals, left + [entry.reason for removal in removals for entry in removal.entries]

    def orphan(self, base: Path, **options: Any) -> tuple[LocalDiskStorage, Path]:
        """Make a storage, and a dead process's instance on it."""
        storage = LocalDiskStorage(base, sweep_on_start=False, **options)
        storage.open_area(record_of()).create_file("file")
        return storage, abandon(storage)

    def test_a_sweep_only_reports(self, tmp_path: Path) -> None:
        """L11: a dead process's scopes, retained ones and trash stay, and each is told with the reason."""
        storage, home = self.orphan(tmp_path)
        (home.parent / f"t-{TOKENS[0]}").mkdir()
        (home.parent / f"k-{TOKENS[1]}").mkdir()
        before = below(tmp_path)
        removals, why = self.reclaimed(storage)
        assert sum(removal.removed for removal in removals) == 0
        assert len(why) == 3
        assert all("a nfs4 file system: trust_locks=True says" in reason for reason in why)
        assert below(tmp_path) == before
        assert [record.state for record in storage.areas()] == ["live", "retained", "trash"]

    def test_a_caller_who_vouches(self, tmp_path: Path) -> None:
        """With trust_locks what this machine made goes; what another one made, or nobody tells of, stays."""
        storage, here = self.orphan(tmp_path, trust_locks=True)
        _, there = self.orphan(tmp_path, trust_locks=True)
        text = (there / "owner").read_text(encoding="ascii")
        (there / "owner").write_text(text.replace(host_id(), "f" * 32), encoding="ascii")
        (here.parent / f"t-{TOKENS[0]}").mkdir()
        (here.parent / f"k-{TOKENS[1]}").mkdir()
        with open_directory(str(here.parent / f"k-{TOKENS[1]}")) as kept:
            write_record(kept.fd, record_of(token=TOKENS[1], owner=Owner(host=host_id())))
        _, why = self.reclaimed(storage)
        assert sorted(os.listdir(here.parent)) == sorted([".tempscope-root", there.name, f"t-{TOKENS[0]}"])
        assert (
            why
            == [
                "it is on a nfs4 file system, and nothing shows that it was made on this machine",
            ]
            * 2
        )

    def test_the_living_are_safe(self, tmp_path: Path) -> None:
        """P1: a living process's scopes stay, vouched for or not."""
        with LocalDiskStorage(tmp_path, trust_locks=True) as storage:
            path = storage.open_area(record_of()).create_file("file")
            record = attrs.evolve(record_of(), directory=path.parent)
            assert storage.reclaim(record, DELETE).skipped == 1
            assert path.exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("vouched", [False, True])
def test_no_locks_at_all(tmp_path: Path, code: int, vouched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 22, L19: without locks everything works and nothing is ever taken back, vouched for or not."""

    def unsupported(fd: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_lock.fcntl, "flock", unsupported)
    with LocalDiskStorage(tmp_path, trust_locks=vouched) as storage:
        path = storage.open_area(record_of()).create_file("file")
        (path.parents[2] / f"t-{TOKENS[0]}").mkdir()
        before = below(tmp_path)
        with storage.sweeping() as sweep:
            removals = [sweep.reclaim(record, DELETE) for record in sweep.records()]
            assert [entry.reason for entry in sweep.left] == [
                "its file system has no locks, so nothing shows whether its owner lives"
            ]
        assert [removal.skipped for removal in removals] == [1]
        assert below(tmp_path) == before
        assert storage.reclaim(attrs.evolve(record_of(), directory=path.parent), DELETE).skipped == 1
