"""
The distribution's own ageing, ``systemd-tmpfiles --clean``, keeps its hands off living scopes.

Row 44 of the fault catalogue, failure mode L15.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tempscope import LocalDiskStorage, TempScopes, sweep


OWNER = Path(__file__).resolve().parent / "programs" / "owner.py"


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Where a configuration for ``systemd-tmpfiles`` may be written; skip without the tool."""
    if shutil.which("systemd-tmpfiles") is None:
        pytest.skip("systemd-tmpfiles is not on the path (apt package: systemd)")
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "file").touch()
    age(tmp_path, probe)
    if (probe / "file").exists():
        pytest.skip("systemd-tmpfiles --clean left a plain file that was older than the age it was given")
    return tmp_path


def age(directory: Path, *places: Path) -> None:
    """Have everything in *places* removed that is older than a millisecond."""
    newest = time.time_ns()
    while time.time_ns() < newest + 20_000_000:  # all that is there is now older than that
        time.sleep(0.005)
    configuration = directory / "tmpfiles.conf"
    configuration.write_text("".join(f"d {place} - - - 1ms\n" for place in places))
    subprocess.run(
        ["systemd-tmpfiles", "--clean", str(configuration)], check=True, capture_output=True, timeout=60
    )


def dead_owner(base: Path, environment: dict[str, str]) -> Path:
    """Have a process make a file in a scope and die; return the file."""
    command = [sys.executable, str(OWNER), str(base)]
    answer = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return Path(answer.stdout.split(maxsplit=1)[1].strip())


@pytest.mark.parametrize("place", ["base", "root"])
def test_ageing_spares_the_living(place: str, clean: Path, unmeasured: dict[str, str]) -> None:
    """
    Ageing everything in the base directory, or in our root, leaves a living scope whole.

    A dead one beside it goes as soon as the ageing gets to it.
    Row 44.
    """
    base = clean / "base"
    with LocalDiskStorage(base, sweep_on_start=False) as storage:
        scope = TempScopes(storage).open("alive")
        scope.new_file(name="old.txt").write_text("alive")
        scope.new_dir(name="empty")
        old = scope.directory / "old.txt"
        os.utime(old, (0, 0))
        root = scope.directory.parent.parent
        dead = dead_owner(base, unmeasured)

        age(clean, base if place == "base" else root)

        assert old.read_text() == "alive"
        assert (scope.directory / "empty").is_dir()
        assert (scope.directory.parent / "journal").exists()
        assert (root / ".tempscope-root").exists() or place == "root"
        if place == "root":
            assert not dead.exists(), "the ageing did nothing, so this test shows nothing"
        scope.new_file(name="new.txt").write_text("goes on")
        scope.close()

    assert sweep(base).leftovers == ()


def test_ageing_takes_the_dead(clean: Path, unmeasured: dict[str, str]) -> None:
    """
    With nobody alive, ageing removes what a dead process left; a sweep afterwards finds no fault.

    Row 44, and row 45: the next process makes the root anew.
    """
    base = clean / "base"
    dead = dead_owner(base, unmeasured)

    age(clean, base)

    assert not dead.exists()
    assert sweep(base).leftovers == ()
    with LocalDiskStorage(base) as storage, TempScopes(storage).open("next") as scope:
        assert scope.new_file().exists()


def test_an_ageing_that_holds_our_directory(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """
    While somebody else holds the lock on what a dead process left, a sweep leaves it, and the next takes it.

    Failure mode L15: systemd-tmpfiles holds such a lock for a moment.
    """
    fcntl = pytest.importorskip("fcntl")
    instance = dead_owner(tmp_path, unmeasured).parent.parent
    ageing = os.open(instance, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(ageing, fcntl.LOCK_EX)

        report = sweep(tmp_path)

        assert report.removed == report.failed == 0
        assert instance.exists()
    finally:
        os.close(ageing)
    sweep(tmp_path)
    assert not instance.exists()
