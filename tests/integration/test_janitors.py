"""Janitors of several processes beside owners under load, watched by somebody who knows none of our code."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tempscope import Janitor, KeepOnFailure, LocalDiskStorage, TempScopes, stats
from tempscope.janitor import SweepBudget


OWNERS, JANITORS = 8, 2
AT_MOST = 10
POLICY = KeepOnFailure(at_most=AT_MOST, for_="1h")
CONTENT = b"alive" * 200


def fork(job: Callable[[], Any], answer: Path | None = None) -> int:
    """Run *job* in a child, which writes what it returned, or raised, to *answer*; return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        told = {"is": job()}
    except BaseException:
        told = {"raised": traceback.format_exc()}
    if answer is not None:
        answer.write_text(json.dumps(told), encoding="utf-8")
    os._exit("raised" in told)


def storage_in(base: Path) -> LocalDiskStorage:
    """Return the storage that all processes of this test use."""
    return LocalDiskStorage(base, application="loaded")


class JobFailed(Exception):
    """What a job of this test fails with."""


class Owner:
    """
    A process that has jobs, and says in a claim what must be there meanwhile.

    A claim is a file with a path in it, locked as long as its owner lives, and gone before the owner closes
    what it is about.
    """

    def __init__(self, base: Path, claims: Path, number: int) -> None:
        self.base, self.claims, self.number = base, claims, number

    def live(self, jobs: int, *, dies: bool) -> None:
        """Do so many jobs; then end, or die in the middle of some."""
        chance = random.Random(self.number)
        scopes = TempScopes(storage_in(self.base), POLICY)
        for job in range(jobs):
            scope = scopes.open(f"job {job}")
            path = scope.new_file()
            path.write_bytes(CONTENT)
            claim = self.claim(path, job)
            if dies and job == jobs - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(chance.random() / 200)
            assert path.read_bytes() == CONTENT
            os.unlink(self.claims / f"{self.number}-{job}")
            os.close(claim)
            scope.close(JobFailed() if chance.random() < 0.3 else None)
            assert scope.report is not None
            assert scope.report.complete, scope.report

    def claim(self, path: Path, job: int) -> int:
        """Say that *path* is there from now on."""
        new = self.claims / f".{self.number}-{job}"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, os.fsencode(path))
        os.rename(new, self.claims / f"{self.number}-{job}")
        return fd


class Observer:
    """Compares claims, and what is kept, with what is there; by the system's calls alone."""

    def __init__(self, root: Path, claims: Path, stop: Path) -> None:
        self.root, self.claims, self.stop = root, claims, stop
        self.looked = 0
        self.violations: list[str] = []

    def watch(self) -> list[Any]:
        """Look until it is over; returns how often something was looked at, and what was wrong."""
        while not self.stop.exists():
            for name in os.listdir(self.claims):
                if not name.startswith("."):
                    self.check_claim(self.claims / name)
            for name in os.listdir(self.root) if self.root.exists() else ():
                if name.startswith("k-"):
                    self.check_kept(self.root / name)
        return [self.looked, self.violations]

    def check_claim(self, claim: Path) -> None:
        """What is claimed is there, unless the claim was taken back, or its owner died, meanwhile."""
        try:
            fd = os.open(claim, os.O_RDONLY)
        except FileNotFoundError:
            return
        path = os.read(fd, 4096)
        if _content(path) != CONTENT and claim.exists() and _is_locked(fd):
            self.violations.append(f"gone: {path!r}")
        os.close(fd)
        self.looked += 1

    def check_kept(self, directory: Path) -> None:
        """What is kept is whole, as long as it has the name of what is kept."""
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        names = sorted(os.listdir(fd))
        if names != [".tempscope-record", "tempscope_1"] and directory.exists():
            self.violations.append(f"not whole: {directory}: {names}")
        os.close(fd)
        self.looked += 1


def _content(path: bytes) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def keep_house(base: Path, stop: Path) -> list[int]:
    """Run a janitor without pause until it is over; returns what it did."""
    janitor = Janitor(
        storage_in(base),
        POLICY,
        interval=timedelta(milliseconds=1),
        budget=SweepBudget(entries=50, seconds=10),
    )
    with janitor:
        while not stop.exists():
            assert janitor.status().running
            told = stats(base)
            assert told.live >= 0
            time.sleep(0.01)
    status = janitor.status()
    return [status.passes, status.failures, status.removed]


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_janitors_and_eight_owners(tmp_path: Path, full: bool) -> None:
    """Two janitors that never rest take nothing from eight owners that work, fail and die: no violation."""
    lives, jobs = (60, 60) if full else (4, 15)
    base, claims, stop = tmp_path / "base", tmp_path / "claims", tmp_path / "stop"
    for directory in (base, claims):
        directory.mkdir()
    observer = Observer(base / f"tempscope-{os.geteuid()}", claims, stop)
    watchers = {fork(observer.watch, tmp_path / "observer"): "observer"}
    for number in range(JANITORS):
        watchers[fork(lambda: keep_house(base, stop), tmp_path / f"janitor {number}")] = f"janitor {number}"
    owners: dict[int, int] = {}
    try:
        for life in range(lives * OWNERS):
            if len(owners) == OWNERS:
                bury_one(owners)
            dies = bool(life % 2)
            owner = Owner(base, claims, life)
            owners[fork(lambda owner=owner, dies=dies: owner.live(jobs, dies=dies))] = -9 if dies else 0
        while owners:
            bury_one(owners)
    finally:
        stop.touch()
        for pid in owners:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        codes = [os.waitpid(pid, 0)[1] for pid in watchers]

    told = {name: json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in watchers.values()}
    assert codes == [0] * len(watchers), told
    looked, violations = told["observer"]["is"]
    assert violations == []
    assert looked > lives * OWNERS
    passes, failures, removed = map(
        sum, zip(*(told[f"janitor {number}"]["is"] for number in range(JANITORS)), strict=True)
    )
    assert passes > JANITORS
    assert failures == 0
    assert removed > 0

    # Those who died left nothing that one more pass does not settle.
    report = Janitor(storage_in(base), POLICY).sweep()
    assert (report.failed, report.skipped) == (0, 0)
    left = stats(base)
    assert (left.live, left.orphaned, left.trash, left.retained) == (0, 0, 0, AT_MOST)


def bury_one(owners: dict[int, int]) -> None:
    """Wait for one of *owners* to end, in the way it should."""
    while True:
        # Of ours alone: the others are asked for later.
        for pid, expected in owners.items():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del owners[pid]
                assert os.waitstatus_to_exitcode(status) == expected
                return
        time.sleep(0.001)
