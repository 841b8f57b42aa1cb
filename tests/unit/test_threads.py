"""Many threads on one manager, many managers at once: nothing lost, nothing twice, no deadlock."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tempscope import _scope
from tempscope.errors import ScopeClosedError
from tempscope.manager import TempFileManager
from tempscope.policies import KeepOnFailure
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage

from .faults import PATIENCE, Gate, HookedStorage, PlainStorage


THREADS = 8
JOBS = 200
Left = Callable[[], list[str]]


def at_once(function: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Call *function* with 0, 1, ... in as many threads, released together; return results and errors."""
    start = threading.Barrier(threads)

    def run(number: int) -> Any:
        start.wait(PATIENCE)
        try:
            return function(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(run, n) for n in range(threads)]]


# One manager


def test_no_file_is_lost(scopes: TempScopes) -> None:
    """Threads that make files in one scope each get their own, and all go with it."""
    with scopes.open() as job:
        made = [path for paths in at_once(lambda _: [job.new_file() for _ in range(50)]) for path in paths]
        assert len(set(made)) == THREADS * 50
        assert sorted(job.directory.iterdir()) == sorted(made)
    assert not any(path.exists() for path in made)


def test_racing_threads_open_one_area(hooked: HookedStorage) -> None:
    """The first files of a scope, asked for at once, open its area once, and all stand in it."""
    gate = hooked.hooks.before["open_area"] = Gate()
    with TempScopes(hooked).open() as job:
        others = threading.Barrier(THREADS)

        def first(number: int) -> Path:
            others.wait(PATIENCE)
            if not number:
                gate.arrived.wait(PATIENCE)
                gate.open()
                return job.new_file()
            return job.new_file()

        made = at_once(first)
        assert len(hooked.hooks.opened) == 1
        assert sorted(job.directory.iterdir()) == sorted(made)


def test_blocks_of_many_threads(scopes: TempScopes) -> None:
    """Per-file blocks in many threads delete their own file, once."""

    def work(number: int) -> int:
        for _ in range(50):
            with job.create_temp_file() as path:
                path.write_text(str(number))
                assert path.read_text() == str(number)
            assert not path.exists()
        return number

    with scopes.open() as job:
        assert at_once(work) == list(range(THREADS))
        assert list(job.directory.iterdir()) == []


def test_one_of_many_closers_closes(hooked: HookedStorage) -> None:
    """Of threads that close one scope at once, one does; callbacks run once and the area goes once."""
    ran: list[int] = []
    job = TempScopes(hooked).open()
    job.new_file()
    job.register_cleanup_callback(ran.append, 1)
    at_once(lambda _: job.close())
    assert ran == [1]
    assert hooked.hooks.calls.count("remove") == 1


def test_one_of_many_closers_of_an_empty_scope_closes(scopes: TempScopes) -> None:
    """An empty scope that many threads leave at once is closed, without an error."""
    for _ in range(20):
        job = scopes.open()
        reports = at_once(lambda _: job.__exit__(None, None, None))  # noqa: B023
        assert reports == [False] * THREADS
        assert job.closed


class WatchedLock:
    """A lock that says when somebody comes to wait for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.wanted = threading.Event()

    def __enter__(self) -> None:
        self.wanted.set()
        self.lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.lock.release()


@pytest.mark.parametrize(
    ("act", "happened"),
    [
        (lambda job: job.close(), lambda job: job.outcome),
        (lambda job: job.__exit__(None, None, None), lambda job: job.outcome),
        (lambda job: job._pending(), lambda job: job.closed),
        (lambda job: job.new_file(), lambda job: job._area),
        (lambda job: job.register_file("/nowhere"), lambda job: job._outside),
        (lambda job: job.register_cleanup_callback(str), lambda job: job._exits),
        (lambda job: job.__enter__(), lambda job: job._entered),
        (lambda job: job.new_file(name="x", create=False), lambda job: job._reserved),
    ],
    ids=["close", "leave", "seal", "open the area", "register", "add an exit", "enter", "reserve"],
)
def test_what_threads_race_for_is_decided_under_the_lock(
    scopes: TempScopes,
    act: Callable[[TempFileManager], object],
    happened: Callable[[TempFileManager], object],
) -> None:
    """While one thread holds the scope's lock, nothing that two may want is decided by another."""
    job = scopes.open()
    lock = WatchedLock()
    job._lock = lock  # type: ignore[assignment]
    with lock.lock:
        worker = threading.Thread(target=act, args=(job,))
        worker.start()
        assert lock.wanted.wait(PATIENCE)
        assert not happened(job)
    worker.join(PATIENCE)
    assert happened(job)
    job.close()


def test_making_files_while_the_scope_closes(scopes: TempScopes, left: Left) -> None:
    """A thread that makes files in a closing scope gets the closed error, and leaves nothing."""
    job = scopes.open()

    def work(number: int) -> object:
        if not number:
            return job.close()
        while True:
            job.new_file()

    results = at_once(work)
    assert [type(each) for each in results[1:]] == [ScopeClosedError] * (THREADS - 1)
    assert left() == []


def test_registering_while_the_scope_closes(scopes: TempScopes, tmp_path: Path) -> None:
    """What was registered before the scope closed is deleted; later registrations raise."""
    (tmp_path / "outside").mkdir()
    job = scopes.open()
    registered: list[Path] = []

    def work(number: int) -> object:
        if not number:
            return job.close()
        count = 0
        while True:
            path = tmp_path / "outside" / f"{number}-{count}"
            path.touch()
            count += 1
            job.register_file(path)
            registered.append(path)

    results = at_once(work)
    assert [type(each) for each in results[1:]] == [ScopeClosedError] * (THREADS - 1)
    assert [path for path in registered if path.exists()] == []


def test_exits_added_while_the_scope_closes(scopes: TempScopes) -> None:
    """A callback that was accepted runs, however late; one that was refused does not."""
    accepted: Counter[int] = Counter()
    ran: Counter[int] = Counter()
    job = scopes.open()

    def work(number: int) -> object:
        if not number:
            return job.close()
        while True:
            job.register_cleanup_callback(ran.update, [number])
            accepted[number] += 1

    at_once(work, 3)
    assert ran == accepted


def test_children_of_many_threads(scopes: TempScopes) -> None:
    """Threads that open and close children of one scope take nothing from each other."""

    def work(number: int) -> list[bool]:
        found = []
        for _ in range(20):
            with job.scope() as child:
                found.append(child.new_file(name="same").exists())
        return found

    with scopes.open() as job:
        assert at_once(work) == [[True] * 20] * THREADS
        assert not job._exits


def test_cleaning_up_while_files_are_made(scopes: TempScopes) -> None:
    """Clean-ups beside working threads raise nothing, and the scope stays usable."""

    def work(number: int) -> None:
        for _ in range(30):
            if number % 2:
                job.new_file()
            else:
                job.cleanup_all()

    with scopes.open() as job:
        assert at_once(work) == [None] * THREADS
        assert job.new_file().exists()


# Many managers


def test_200_jobs_on_8_threads(storage: LocalDiskStorage, left: Left) -> None:
    """Each job has its own outcome; nothing of those that ended well is left, and the failed are whole."""
    scopes = TempScopes(storage, KeepOnFailure(at_most=None))
    jobs: dict[int, TempFileManager] = {}
    errors: dict[int, Exception] = {}

    def run(number: int) -> None:
        try:
            work(number)
        except ValueError as error:
            errors[number] = error

    def work(number: int) -> None:
        with scopes.open(f"job {number}") as job:
            jobs[number] = job
            job.new_file(name="input").write_text(str(number))
            with job.scope("part") as part, part.create_temp_file(name="part") as inner:
                inner.write_text(str(number))
                with job.create_temp_dir(name="frames") as frames, job.create_temp_file(name="clip") as clip:
                    (frames / "1").touch()
                    clip.write_text(str(number))
                    if not number % 5:
                        raise ValueError(number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, range(JOBS)))
    check_outcomes(jobs, errors)
    failed = [n for n in range(JOBS) if not n % 5]
    for number in failed:
        kept = jobs[number].report.directory  # type: ignore[union-attr]
        assert kept is not None
        assert (kept / "input").read_text() == (kept / "clip").read_text() == str(number)
        assert (kept / "frames" / "1").exists()
    assert Counter(left()) == Counter(
        dict.fromkeys(["input", "clip", "1", "part"], len(failed)) | {".tempscope-record": 2 * len(failed)}
    )


def test_200_asyncio_jobs(scopes: TempScopes, left: Left) -> None:
    """The same on an event loop; with a policy that keeps nothing, nothing is left of any."""
    jobs: dict[int, TempFileManager] = {}
    errors: dict[int, Exception] = {}

    async def work(number: int) -> None:
        try:
            async with scopes.open(f"job {number}") as job:
                jobs[number] = job
                path = job.new_file()
                path.write_text(str(number))
                async with job.create_temp_file() as clip:
                    await asyncio.sleep(0)
                    clip.write_text(str(number))
                    if not number % 5:
                        raise ValueError(number)
                assert path.read_text() == str(number)
        except ValueError as error:
            errors[number] = error

    async def main() -> None:
        await asyncio.gather(*[work(number) for number in range(JOBS)])

    asyncio.run(main())
    check_outcomes(jobs, errors)
    assert left() == []


def check_outcomes(jobs: dict[int, TempFileManager], errors: dict[int, Exception]) -> None:
    """Check that of all jobs every fifth failed, each with its own exception."""
    assert len(jobs) == JOBS
    assert sorted(errors) == [n for n in range(JOBS) if not n % 5]
    for number, job in jobs.items():
        assert job.closed
        assert job.outcome is not None
        assert job.outcome.exception is errors.get(number)
        assert job.outcome.ok is (number not in errors)


@pytest.mark.parametrize("kind", ["disk", "third party"])
def test_many_managers_at_once(kind: str, storage: LocalDiskStorage, tmp_path: Path) -> None:
    """Scopes that open and close in many threads at once leave nothing open."""
    scopes = TempScopes(storage if kind == "disk" else PlainStorage(tmp_path))

    def work(number: int) -> int:
        for _ in range(25):
            with scopes.open() as job:
                assert len({job.new_file() for _ in range(3)}) == 3
        return number

    assert at_once(work) == list(range(THREADS))
    assert scopes.active() == []


def test_a_second_look_after_waiting_for_the_lock(hooked: HookedStorage) -> None:
    """A thread that waited for another to open the area takes that one, or learns that the scope closed."""
    with TempScopes(hooked).open() as job:
        first = job._open_area()
        assert job._open_area() is first
    with pytest.raises(ScopeClosedError):
        job._open_area()


def test_a_thread_that_enters_a_scope_just_closed(
    scopes: TempScopes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed between the check and the lock, a scope is still not entered."""
    job = scopes.open()
    checks: list[None] = []

    def check() -> None:
        if checks:
            _scope.Scope._check_usable(job)
        else:
            checks.append(None)
            job.close()

    monkeypatch.setattr(job, "_check_usable", check)
    with pytest.raises(ScopeClosedError):
        job.__enter__()


def test_a_thread_that_still_writes_when_the_scope_closes(scopes: TempScopes, left: Left) -> None:
    """Row 42: who writes late fails clearly, or writes to what has no name; no directory comes back."""
    job = scopes.open()
    path = job.new_file()
    with path.open("wb") as late:
        job.close()
        late.write(b"to nowhere")
        with pytest.raises(ScopeClosedError):
            job.new_file()
        with pytest.raises(FileNotFoundError):
            (path.parent / "another").open("wb")
        assert not path.parent.exists()
    assert left() == []


def test_two_threads_close_one_scope(scopes: TempScopes, full: bool) -> None:
    """Row 43: of two threads that close one scope one wins, and both return; 10,000 times (``--full``)."""
    rounds = 10_000 if full else 200
    start = threading.Barrier(2)
    jobs = [scopes.open() for _ in range(rounds)]
    paths = [job.new_file() for job in jobs]

    def close(_: int) -> int:
        reports = []
        for job in jobs:
            start.wait(PATIENCE)
            reports.append(job.close())
        return len(reports)

    with ThreadPoolExecutor(2) as pool:
        assert [future.result(300) for future in [pool.submit(close, n) for n in range(2)]] == [rounds] * 2
    assert all(job.report is not None and job.report.complete for job in jobs)
    assert not any(path.exists() for path in paths)
