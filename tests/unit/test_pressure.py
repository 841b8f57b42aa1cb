"""Whether memory or a disk runs short: by files as the kernel writes them, and in a real control group."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tempscope import (
    ConfigurationError,
    LocalDiskStorage,
    MemoryStorage,
    TempScopes,
    is_disk_pressure,
    is_memory_pressure,
    pressure,
)


MIB = 1024 * 1024
MEMINFO = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  {available} kB\n\nodd\n"
STALLS = "some avg10={some} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


class System:
    """What the kernel tells, as files in a directory."""

    def __init__(self, place: Path) -> None:
        self.proc = place / "proc"
        self.groups = place / "groups"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "pressure").mkdir()
        self.machine(900)

    def machine(self, available: int) -> None:
        (self.proc / "meminfo").write_text(MEMINFO.format(available=available))

    def version_2(self, path: str = "/", root: str = "/") -> None:
        (self.proc / "self" / "cgroup").write_text(f"0::{path}\n")
        (self.proc / "self" / "mountinfo").write_text(
            f"1 0 0:1 / /proc rw - proc proc rw\n2 0 0:2 {root} {self.groups} rw - cgroup2 cgroup2 rw\nodd\n"
        )

    def version_1(self, path: str = "/") -> None:
        (self.proc / "self" / "cgroup").write_text(f"5:cpu,cpuacct:/\n4:hugetlb,memory:{path}\n0::/\n")
        (self.proc / "self" / "mountinfo").write_text(
            f"1 0 0:1 / {self.groups}/other rw - cgroup cgroup rw,cpu\n"
            f"2 0 0:2 / {self.groups} rw - cgroup cgroup rw,memory\n"
        )

    def group(self, path: str, **files: object) -> None:
        directory = self.groups / path
        directory.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (directory / f"memory.{name}").write_text(f"{value}\n")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """A system of files, in place of the real one."""
    made = System(tmp_path)
    monkeypatch.setattr(pressure, "_PROC", made.proc)
    return made


def test_the_machine(system: System) -> None:
    """Without a control group or stalls the machine's available memory decides."""
    assert not is_memory_pressure()
    system.machine(101)
    assert not is_memory_pressure()
    system.machine(100)
    assert is_memory_pressure()
    assert not is_memory_pressure(at=0.95)
    (system.proc / "meminfo").unlink()
    assert not is_memory_pressure()


@pytest.mark.parametrize("limit", ["max", "high"])
def test_a_limit_of_version_2(system: System, limit: str) -> None:
    """In version 2 the hard limit counts and the one from which on the kernel slows processes down."""
    system.version_2("/job")
    system.group("job", current=95, stat="anon 95\ninactive_file 0", **{limit: 100})
    assert is_memory_pressure()
    system.group("job", current=89)
    assert not is_memory_pressure()


def test_cache_that_the_kernel_takes_back_is_free(system: System) -> None:
    """The cache of files does not count; what is in a tmpfs, which is no such cache, does."""
    system.version_2()
    system.group("", current=100, max=100, stat="file 90\nshmem 40\ninactive_file 30\nactive_file 20\n")
    assert not is_memory_pressure()
    system.group("", stat="file 90\nshmem 90\ninactive_file 0\nactive_file 0\n")
    assert is_memory_pressure()


def test_no_limit(system: System) -> None:
    """The word "max" is no limit, nor is a group without files."""
    system.version_2()
    system.group("", current=100, max="max", stat="")
    assert not is_memory_pressure()
    system.version_2("/gone")
    assert not is_memory_pressure()


def test_a_limit_above(system: System) -> None:
    """A limit on a group above binds as well."""
    system.version_2("/a/b")
    system.group("a/b", current=1, max="max", stat="")
    system.group("a", current=99, max=100, stat="")
    assert is_memory_pressure()


@pytest.mark.parametrize(
    ("path", "root"),
    [("/docker/1", "/docker/1"), ("/elsewhere", "/"), ("/../up", "/"), ("/docker/1", "/docker")],
)
def test_inside_a_container(system: System, path: str, root: str) -> None:
    """Whatever the path says, the group that the mount shows as its top is found."""
    system.version_2(path, root)
    system.group("", current=99, max=100, stat="")
    system.group("1", current=1, max=100, stat="")
    assert is_memory_pressure()


def test_a_limit_of_version_1(system: System) -> None:
    """In version 1 the totals count, with the groups below; a huge limit is none."""
    system.version_1("/job")
    system.group(
        "job",
        usage_in_bytes=100,
        limit_in_bytes=100,
        stat="inactive_file 1\nactive_file 1\ntotal_inactive_file 30\ntotal_active_file 1\n",
    )
    assert not is_memory_pressure()
    system.group("job", stat="total_inactive_file 3\ntotal_active_file 1\n")
    assert is_memory_pressure()
    system.group("job", limit_in_bytes=9223372036854771712)
    assert not is_memory_pressure()


@pytest.mark.parametrize(("some", "short"), [("9.99", False), ("10.00", True), ("odd", False)])
def test_stalls(system: System, some: str, short: bool) -> None:
    """Processes that waited for memory a tenth of the time are pressure: the group's, or the machine's."""
    (system.proc / "pressure" / "memory").write_text(STALLS.format(some=some))
    assert is_memory_pressure() is short
    (system.proc / "pressure" / "memory").write_text("some total=1\nfull avg10=99.00\n")
    assert not is_memory_pressure()
    system.version_2()
    system.group("", pressure=STALLS.format(some=some))
    assert is_memory_pressure() is short


@pytest.mark.parametrize("at", [0, -1, 1.1, float("nan"), True, "0.9", None])
def test_what_is_no_share_is_refused(at: object, tmp_path: Path) -> None:
    """A share is more than nothing and at most all."""
    with pytest.raises(ConfigurationError, match="at cannot be"):
        is_memory_pressure(at=at)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="at cannot be"):
        is_disk_pressure(tmp_path, at=at)  # type: ignore[arg-type]


Room = namedtuple("Room", "f_blocks f_bfree f_bavail f_files f_ffree f_favail")


@pytest.mark.parametrize(
    ("room", "short"),
    [
        (Room(100, 50, 50, 100, 50, 50), False),
        (Room(110, 20, 10, 100, 50, 50), True),
        (Room(110, 21, 11, 100, 50, 50), False),
        (Room(100, 50, 50, 100, 10, 10), True),
        (Room(100, 50, 50, 0, 0, 0), False),
        (Room(0, 0, 0, 0, 0, 0), False),
    ],
)
def test_blocks_and_inodes(room: Room, short: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks or inodes that are nearly used up are pressure; what root alone may use is not there."""
    monkeypatch.setattr(pressure, "mount_of", lambda _: ("/", "ext4"))
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    assert is_disk_pressure(tmp_path / "not" / "there") is short


def test_the_room_of_a_tmpfs_is_memory(
    tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tmpfs memory that runs short is room that does; where nobody tells, nothing is said."""
    monkeypatch.setattr(os, "statvfs", lambda _: Room(100, 90, 90, 0, 0, 0))
    monkeypatch.setattr(pressure, "mount_of", lambda _: ("/", "tmpfs"))
    assert not is_disk_pressure(tmp_path)
    system.machine(1)
    assert is_disk_pressure(tmp_path)
    monkeypatch.delattr(os, "statvfs")
    assert not is_disk_pressure(tmp_path)


def test_a_real_disk(tmp_path: Path) -> None:
    """A file system with room is not short of it."""
    assert is_disk_pressure(tmp_path, at=1.0) is False


def test_memory_is_given_back_when_it_is_short(
    tmp_path: Path, system: System, caplog: pytest.LogCaptureFixture
) -> None:
    """Under pressure what can spill does; what cannot, or fails, is passed over, and disks are left alone."""
    disk = LocalDiskStorage(tmp_path / "disk", sweep_on_start=False)
    broken = MemoryStorage(spill_to=LocalDiskStorage(Path(__file__), sweep_on_start=False))
    storages = [disk, MemoryStorage(), broken, MemoryStorage(spill_to=disk)]
    managers = [TempScopes(storage).open() for storage in storages]
    paths = [manager.new_file() for manager in managers]
    for path in paths:
        path.write_bytes(b"x" * 100_000)
    assert pressure.relieve_memory(storages) == 0
    system.machine(1)
    assert pressure.relieve_memory(storages) == 100_000
    assert "memory could not be given back" in caplog.text
    assert [path.read_bytes() for path in paths] == [b"x" * 100_000] * 4
    for manager in managers:
        manager.close()
    for storage in reversed(storages):
        storage.close()


GROUPS = Path("/sys/fs/cgroup/memory")
PROGRAM = """
import os, sys
from tempscope import is_memory_pressure
group, shown = sys.argv[1:]
print(is_memory_pressure(), flush=True)
with open(os.path.join(group, "cgroup.procs"), "w") as file:
    file.write(str(os.getpid()))
print(is_memory_pressure(), flush=True)
cached = os.path.join(shown, "cached")
with open(cached, "wb") as file:
    for _ in range(80):
        file.write(b"x" * 2**20)
    os.fsync(file.fileno())
print(is_memory_pressure(), flush=True)
os.unlink(cached)
held = bytearray(b"x") * (59 * 2**20)
print(is_memory_pressure(), flush=True)
"""


def test_a_real_control_group(tmp_path: Path) -> None:
    """Row CG: in a group of 64 MiB, 59 MiB that a process holds are pressure; more of cache is none."""
    if pressure.mount_of(str(tmp_path))[1] == "tmpfs":
        pytest.skip("the tests' files are on a tmpfs, whose content is no cache")
    group = GROUPS / f"tempscope-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 * MIB))
    except OSError as error:
        pytest.skip(f"no memory control group of version 1 can be made: {error}")
    try:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, group, tmp_path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        group.rmdir()
    assert ended.stdout.split() == ["False", "False", "False", "True"], ended.stderr
