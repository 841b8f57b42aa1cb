"""
File systems that turn against us: a quota that is used up, and one that becomes read-only.

Real ones, so only where this user can mount.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tempscope import LocalDiskStorage, StorageError, StorageFull, TempScopes, sweep
from tempscope.storages._root import MARKER


ROOT = f"tempscope-{os.geteuid()}"
OWNER = """
import os, signal, sys
from tempscope import LocalDiskStorage, TempScopes

job = TempScopes(LocalDiskStorage(sys.argv[1])).open("the job")
(job.new_dir() / "inner").mkdir()
with open(job.new_file(), "wb", buffering=0) as file:
    try:
        while True:
            file.write(os.urandom(1 << 16))
            os.fsync(file.fileno())
    except OSError as error:
        print(error.errno, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def done(*command: str | Path) -> None:
    """Run *command*; skip the test where this machine cannot."""
    try:
        result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    if result.returncode:
        pytest.skip(f"{' '.join(map(str, command))} failed: {result.stderr.strip()}")


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Path]:
    """A directory on btrfs that may hold one megabyte."""
    image, place = tmp_path / "image", tmp_path / "btrfs"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(128 << 20)
    done("mkfs.btrfs", "-q", image)
    done("mount", "-o", "loop", image, place)
    try:
        done("btrfs", "quota", "enable", place)
        done("btrfs", "subvolume", "create", place / "limited")
        done("btrfs", "qgroup", "limit", "1M", place / "limited")
        yield place / "limited"
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def fading(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system, which ``mount -o remount,abort`` makes read-only as an error on the disk would."""
    image, place = tmp_path / "image", tmp_path / "ext4"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    done("mkfs.ext4", "-q", "-F", image)
    done("mount", "-o", "loop", image, place)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_used_up_quota(limited: Path) -> None:
    """Row 18: with the quota used up a scope still closes, and a dead one is swept, in place if need be."""
    command = [sys.executable, "-c", OWNER, limited]
    owner = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (owner.returncode, owner.stdout) == (-signal.SIGKILL, f"{errno.EDQUOT}\n"), owner.stderr
    os.sync()
    report = sweep(limited)
    assert (report.removed, report.failed, report.skipped) == (1, 0, 0)
    assert os.listdir(limited / ROOT) == [MARKER]
    with LocalDiskStorage(limited, sweep_on_start=False) as storage:
        with TempScopes(storage).open() as job:
            directory = job.new_dir()
            with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
                (directory / "large").write_bytes(os.urandom(4 << 20))
                os.sync()
                (directory / "more").write_bytes(os.urandom(4 << 20))
            with pytest.raises(StorageFull, match="quota is used up"):
                for _ in range(10_000):
                    job.new_file()
        assert job.report is not None
        assert job.report.complete
        assert not directory.exists()


def test_a_disk_that_turns_read_only(fading: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Row 20: errors are told, closing and sweeping end at once; on the repaired disk one sweep does it."""
    storage = LocalDiskStorage(fading)
    job = TempScopes(storage).open()
    (job.new_dir() / "inner").mkdir()
    os.sync()
    done("mount", "-o", "remount,abort", fading)
    with pytest.raises(StorageError) as caught:
        job.new_file()
    assert caught.value.errno == errno.EROFS
    report = job.close()
    assert {entry.errno for entry in report.leftovers} == {errno.EROFS}
    storage.close()
    swept = sweep(fading)
    assert (swept.removed, swept.failed) == (0, 1)
    assert {entry.errno for entry in swept.leftovers} == {errno.EROFS}
    subprocess.run(["umount", fading], check=True)
    subprocess.run(["mount", "-o", "loop", fading.parent / "image", fading], check=True)
    assert sweep(fading).removed == 1
    assert os.listdir(fading / ROOT) == [MARKER]
