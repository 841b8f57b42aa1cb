"""Many sweepers at once: beside each other, beside creators, and for applications of different minds."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import DeleteOnClose, KeepAll, LocalDiskStorage, TempScopes, sweep


ROOT = f"tempscope-{os.geteuid()}"


class Child:
    """
    A forked child that runs a job each time it is told to go, and tells what came of it.

    Lives until it is ended; used by one thread.
    """

    def __init__(self, job: Callable[[], Any]) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._commands)
            os.close(self._answers)
            _obey(job, commands, answers)
        os.close(commands)
        os.close(answers)
        self._lines = os.fdopen(self._answers, encoding="utf-8")

    def go(self) -> None:
        """Have it start."""
        os.write(self._commands, b"g")

    def answer(self) -> Any:
        """Return what its job returned; fail with what it raised."""
        answer = json.loads(self._lines.readline() or '{"raised": "it died"}')
        if "raised" in answer:
            pytest.fail(answer["raised"])
        return answer["is"]

    def end(self) -> None:
        """End it, and wait for that."""
        os.close(self._commands)
        self._lines.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _obey(job: Callable[[], Any], commands: int, answers: int) -> None:
    while os.read(commands, 1):
        try:
            answer = {"is": job()}
        except BaseException:
            answer = {"raised": traceback.format_exc()}
        os.write(answers, json.dumps(answer).encode() + b"\n")
    os._exit(0)


@pytest.fixture
def children() -> Iterator[Callable[[Callable[[], Any]], Child]]:
    """Make children, which end with the test."""
    made: list[Child] = []

    def make(job: Callable[[], Any]) -> Child:
        made.append(Child(job))
        return made[-1]

    yield make
    for child in made:
        child.end()


def names_in(base: Path) -> list[str]:
    """Return what is in the root."""
    return sorted(os.listdir(base / ROOT))


def die_with_scopes(base: Path, number: int, application: str = "mine", policy: Any = None) -> None:
    """Have a child die with so many scopes open."""
    pid = os.fork()
    if not pid:
        storage = LocalDiskStorage(base, application=application, sweep_on_start=False)
        scopes = TempScopes(storage, policy or DeleteOnClose())
        held = [scopes.open(f"job {each}") for each in range(number)]
        for scope in held:
            scope.new_file().write_bytes(b"content")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_two_sweepers_and_one_orphan(
    tmp_path: Path, children: Callable[[Callable[[], Any]], Child], full: bool
) -> None:
    """Row 40: of two sweepers that meet one orphan exactly one removes it, and neither tells of an error."""

    def job() -> list[Any]:
        report = sweep(tmp_path)
        return [report.removed, report.failed, [entry.reason for entry in report.leftovers]]

    sweepers = [children(job), children(job)]
    for _ in range(1_000 if full else 60):
        die_with_scopes(tmp_path, 1)
        for sweeper in sweepers:
            sweeper.go()
        one, two = sweepers[0].answer(), sweepers[1].answer()
        assert sorted([one[0], two[0]]) == [0, 1]
        assert (one[1:], two[1:]) == ([0, []], [0, []])
        assert names_in(tmp_path) == [".tempscope-root"]


def test_many_sweepers_and_many_orphans(
    tmp_path: Path, children: Callable[[Callable[[], Any]], Child], full: bool
) -> None:
    """However many sweepers share the work, each scope is removed or kept once, and nothing is left."""

    def job() -> list[int]:
        report = sweep(tmp_path)
        return [report.removed, report.kept, report.failed]

    sweepers = [children(job) for _ in range(4)]
    for _ in range(50 if full else 5):
        for _ in range(4):
            die_with_scopes(tmp_path, 5)
        for sweeper in sweepers:
            sweeper.go()
        assert [sum(counts) for counts in zip(*(s.answer() for s in sweepers), strict=True)] == [20, 0, 0]
        assert names_in(tmp_path) == [".tempscope-root"]


def test_sweepers_and_creators(
    tmp_path: Path, children: Callable[[Callable[[], Any]], Child], full: bool
) -> None:
    """Row 39, trap: with sweepers in a tight loop no creator ever loses a file, and none fails."""
    rounds, creators = (2_500, 4) if full else (50, 2)

    def create() -> int:
        made = 0
        for _ in range(rounds):
            # Each time a new instance: its window between mkdir and lock is what is aimed at.
            storage = LocalDiskStorage(tmp_path, sweep_on_start=False)
            with TempScopes(storage).open() as scope:
                path = scope.new_file()
                path.write_bytes(b"mine")
                assert path.read_bytes() == b"mine"
                made += 1
            assert scope.report is not None
            assert scope.report.complete
            storage.close()
        return made

    stop = tmp_path / "stop"

    def sweep_on() -> list[int]:
        failed = passes = 0
        while not stop.exists():
            failed += sweep(tmp_path / "." if passes % 2 else tmp_path).failed
            passes += 1
        return [failed, passes]

    TempScopes(LocalDiskStorage(tmp_path)).open().close()
    workers = [children(create) for _ in range(creators)]
    sweepers = [children(sweep_on) for _ in range(2)]
    for child in (*sweepers, *workers):
        child.go()
    assert [worker.answer() for worker in workers] == [rounds] * creators
    stop.touch()
    for sweeper in sweepers:
        failed, passes = sweeper.answer()
        assert failed == 0
        assert passes > 0
    assert sweep(tmp_path).failed == 0
    assert names_in(tmp_path) == [".tempscope-root"]


def test_closing_and_sweeping(tmp_path: Path, children: Callable[[Callable[[], Any]], Child]) -> None:
    """Row 41: owners that close while sweepers look see no error, and neither do the sweepers."""

    def work() -> bool:
        with LocalDiskStorage(tmp_path) as storage:
            for number in range(100):
                with TempScopes(storage, KeepAll() if number % 10 == 0 else DeleteOnClose()).open() as scope:
                    scope.new_file()
                assert scope.report is not None
                assert scope.report.complete
        return True

    def look() -> list[int]:
        reports = [sweep(tmp_path) for _ in range(100)]
        return [sum(report.failed for report in reports), sum(report.removed for report in reports)]

    owner, sweeper = children(work), children(look)
    for child in (owner, sweeper):
        child.go()
    assert owner.answer()
    assert sweeper.answer() == [0, 0]
    assert len([name for name in names_in(tmp_path) if name.startswith("k-")]) == 10


def test_two_applications_sweep_at_once(
    tmp_path: Path, children: Callable[[Callable[[], Any]], Child]
) -> None:
    """Trap: two applications, one that keeps all and one nothing, never lose each other's evidence."""

    def sweeper_of(application: str, policy: Any) -> Callable[[], list[int]]:
        def job() -> list[int]:
            report = sweep(LocalDiskStorage(tmp_path, application=application), policy=policy)
            return [report.removed, report.failed]

        return job

    keeper = children(sweeper_of("keeper", KeepAll()))
    deleter = children(sweeper_of("deleter", DeleteOnClose()))
    gone = 0
    for number in range(10):
        die_with_scopes(tmp_path, 3, "keeper", KeepAll())
        die_with_scopes(tmp_path, 2, "deleter", KeepAll())
        keeper.go()
        deleter.go()
        assert keeper.answer() == [0, 0]
        removed, failed = deleter.answer()
        gone += removed
        assert failed == 0
        kept = [record for record in LocalDiskStorage(tmp_path).areas() if record.application == "keeper"]
        assert len(kept) == 3 * (number + 1)
    report = sweep(LocalDiskStorage(tmp_path, application="deleter"), policy=DeleteOnClose())
    assert gone + report.removed == 20
    assert len([name for name in names_in(tmp_path) if name.startswith("k-")]) == 30
