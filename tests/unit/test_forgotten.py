"""Scopes that nobody closed: forgotten ones, and those that are open when the program ends."""

from __future__ import annotations

import gc
import textwrap
import weakref
from collections.abc import Callable, Iterator

import pytest

from tempscope import _open_scopes
from tempscope.manager import TempFileManager
from tempscope.policies import KeepOnFailure
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage

from .conftest import Program
from .faults import raising


Left = Callable[[], list[str]]


# Forgotten


def test_a_forgotten_scope_warns_and_is_cleaned_up(scopes: TempScopes) -> None:
    """A scope whose last reference goes is closed, with a ``ResourceWarning`` that names it."""
    ended: list[str] = []
    job = scopes.open("render")
    path = job.new_file()
    job.register_cleanup_callback(ended.append, "callback")
    with pytest.warns(ResourceWarning, match=r"'render' open.*was never closed: it was forgotten"):
        del job
    assert not path.exists()
    assert ended == ["callback"]


def test_a_forgotten_child_warns_too(scopes: TempScopes) -> None:
    """A child that is forgotten is closed before its parent, which does not mind."""
    with scopes.open() as job:
        child = job.scope("child")
        path = child.new_file()
        with pytest.warns(ResourceWarning, match="'child'"):
            del child
        assert not path.exists()
        assert not job._exits
        assert not job.closed


def test_an_exit_of_a_child_that_is_gone_does_nothing(scopes: TempScopes) -> None:
    """A parent that meets the exit of a child that nobody has any more passes it over."""
    import asyncio

    from tempscope._closing import ChildExit

    child = scopes.open()
    gone = ChildExit(weakref.ref(child))
    child.close()
    del child
    gone.run(None)
    asyncio.run(gone.arun(None))
    with scopes.open() as job:
        job._push(gone)
        assert job.cleanup_all().removed == 0


def test_a_forgotten_scope_in_a_cycle(scopes: TempScopes) -> None:
    """
    A scope that refers to itself through its callback is closed when the collector comes.

    Trap 24: uncollected cycles delay finalisers.
    """
    ended: list[bool] = []
    job = scopes.open()
    path = job.new_file()
    job.register_cleanup_callback(lambda job=job: ended.append(job.closed))
    reference = weakref.ref(job)
    del job
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert reference() is None
    assert not path.exists()
    assert ended == [False]


def test_a_forgotten_generator_closes_its_scope(scopes: TempScopes) -> None:
    """
    A generator that is dropped inside ``with`` leaves it, as cancelled, without a warning.

    Row 74.
    """
    jobs = []

    def generate() -> Iterator[int]:
        with scopes.open() as job:
            jobs.append(job)
            job.new_file()
            yield 1
            raise AssertionError("nobody asked for more")

    stream = generate()
    assert next(stream) == 1
    del stream
    gc.collect()
    assert jobs[0].outcome.kind == "cancelled"
    assert jobs[0].report.complete


def test_a_forgotten_scope_was_never_closed(storage: LocalDiskStorage, left: Left) -> None:
    """Its outcome is ``never_closed``, so that a policy may keep it as evidence."""
    job = TempScopes(storage, KeepOnFailure()).open()
    job.new_file(name="evidence")
    with pytest.warns(ResourceWarning):
        del job
    assert left() == [".tempscope-record", "evidence"]


def test_a_forgotten_scope_is_closed_where_warnings_are_errors(scopes: TempScopes) -> None:
    """With warnings as errors the scope is cleaned up all the same (the error is unraisable)."""
    job = scopes.open()
    path = job.new_file()
    with pytest.raises(ResourceWarning, match="never closed"):
        job._close_forgotten("for this test")
    assert not path.exists()


def test_a_standalone_manager_that_was_never_entered_is_silent(storage: LocalDiskStorage) -> None:
    """Its callers hold paths, not the manager: the files stay, until it is closed or the program ends."""
    job = TempFileManager(storage=storage)
    path = job.new_file()
    reference = weakref.ref(job)
    del job
    gc.collect()
    assert path.exists()
    held = reference()
    assert held is not None
    held.close()
    assert not path.exists()
    del held
    assert reference() is None


@pytest.mark.parametrize(
    "use", [lambda job: job.register_cleanup_callback(str), lambda job: job.register_file("/nowhere")]
)
def test_a_standalone_manager_with_duties_is_held(
    storage: LocalDiskStorage, use: Callable[[TempFileManager], None]
) -> None:
    """Callbacks and registered paths hold it as files do."""
    job = TempFileManager(storage=storage)
    use(job)
    reference = weakref.ref(job)
    del job
    gc.collect()
    held = reference()
    assert held is not None
    held.close()


def test_an_unused_standalone_manager_goes_without_a_trace(storage: LocalDiskStorage) -> None:
    """One that was never used is not held, does not warn, and leaves no entry behind."""
    job = TempFileManager(storage=storage)
    key = id(job)
    assert key in _open_scopes._open
    del job
    assert key not in _open_scopes._open


def test_an_entered_standalone_manager_that_is_forgotten_warns(storage: LocalDiskStorage) -> None:
    """Entering makes it a scope like any other."""
    job = TempFileManager(storage=storage, name="alone")
    job.__enter__()
    job._variable = None
    from tempscope import _current

    _current._current.set(None)
    path = job.new_file()
    with pytest.warns(ResourceWarning, match="'alone'"):
        del job
    assert not path.exists()


def test_a_manager_that_could_not_be_made_does_not_warn() -> None:
    """An object whose construction failed has nothing to close."""
    with pytest.raises(ValueError, match="path separator"):
        TempFileManager("a/b")
    gc.collect()


def test_closed_scopes_are_not_remembered(scopes: TempScopes) -> None:
    """Closing, by whatever way, leaves no entry in the list of open scopes."""
    before = len(_open_scopes._open)
    for use in (lambda job: None, lambda job: job.new_file(), lambda job: job.scope().close()):
        with scopes.open() as job:
            use(job)
    assert len(_open_scopes._open) == before


# The end of the program


def run(program: Program, source: str, *python: str) -> list[str]:
    """Run a program on a storage of its own; return its output lines, then those of its errors."""
    start = """
        import sys
        from pathlib import Path
        from tempscope import *
        storage = LocalDiskStorage(base)
        scopes = TempScopes(storage)
        def files():
            return sorted(p.name for p in Path(base).rglob("*") if p.is_file() and "file" in p.name)
        """
    ended = program(textwrap.dedent(start) + textwrap.dedent(source), python=python)
    return ended.stdout.splitlines() + ended.stderr.splitlines()


def test_open_scopes_are_closed_at_exit_newest_first(program: Program) -> None:
    """What is open when the program ends is closed, the newest first, with a warning for each."""
    lines = run(
        program,
        """
        import atexit
        jobs = [scopes.open(name) for name in ("one", "two")]
        for job in jobs:
            job.new_file(name="file")
            job.register_cleanup_callback(print, job.name)
        """,
        "-W",
        "always::ResourceWarning",
    )
    assert lines[:2] == ["two", "one"]
    assert sum("was never closed: the process ended" in line for line in lines) == 2


def test_files_are_gone_after_the_exit_pass(program: Program) -> None:
    """Standalone managers' files go at exit too, silently."""
    lines = run(
        program,
        """
        import atexit
        from tempscope import _open_scopes
        TempFileManager(storage=storage, name="alone").new_file(name="file")
        scoped = scopes.open(); scoped.new_file(name="file")
        assert files() == ["file", "file"]
        atexit.unregister(_open_scopes._end)
        atexit.register(lambda: print(files()))
        atexit.register(_open_scopes._end)
        """,
        "-W",
        "error",
    )
    assert lines[0] == "[]"
    assert not any("alone" in line for line in lines)


def test_a_scope_that_fails_at_exit_does_not_stop_the_others(program: Program) -> None:
    """Neither an error nor an interrupt of one keeps the exit pass from the rest."""
    lines = run(
        program,
        """
        import logging
        logging.basicConfig(format="%(message)s %(tempscope_error)s", stream=sys.stdout)
        def fail(error):
            raise error
        jobs = [scopes.open(str(number)) for number in range(4)]
        jobs[0].register_cleanup_callback(print, "the last")
        jobs[1].register_cleanup_callback(fail, KeyboardInterrupt())
        jobs[2].register_cleanup_callback(fail, SystemExit(3))
        jobs[3].register_cleanup_callback(fail, ValueError("x"))
        """,
        "-W",
        "ignore",
    )
    assert lines[0] == "a scope could not be closed at exit ValueError"
    assert lines[1] == "the last"


def test_the_exit_pass_ends_in_time(
    scopes: TempScopes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The exit pass is bounded: what it has no time for is the sweep's, and a warning says so."""
    job = scopes.open()
    path = job.new_file()
    monkeypatch.setattr(_open_scopes, "_EXIT_SECONDS", -1.0)
    _open_scopes.close_all()
    assert not job.closed
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    job.close()
    assert not path.exists()


def test_the_exit_pass_in_this_process(scopes: TempScopes, storage: LocalDiskStorage) -> None:
    """The pass closes what is open, raises an interrupt last, and logs errors."""
    alone, failing, interrupted = TempFileManager(storage=storage), scopes.open(), scopes.open()
    path = alone.new_file()
    failing.register_cleanup_callback(raising(ValueError()))
    interrupted.register_cleanup_callback(raising(KeyboardInterrupt()))
    with pytest.warns(ResourceWarning), pytest.raises(KeyboardInterrupt):
        _open_scopes.close_all()
    assert not path.exists()
    assert failing.closed
    assert interrupted.closed
    _open_scopes.close_all()


def test_an_async_scope_is_closed_at_exit_without_a_loop(program: Program) -> None:
    """At exit there is no loop any more: files go, and what must be awaited is reported."""
    lines = run(
        program,
        """
        import asyncio, logging
        logging.basicConfig(format="%(message)s %(tempscope_error)s", stream=sys.stdout)
        async def leave(exc):
            pass
        job = scopes.open()
        async def main():
            await job.__aenter__()
            job.new_file(name="file")
            job._push_exit(leave, is_async=True)
        asyncio.run(main())
        import atexit
        from tempscope import _open_scopes
        atexit.unregister(_open_scopes._end)
        atexit.register(lambda: print(files()))
        atexit.register(_open_scopes._end)
        """,
        "-W",
        "ignore",
    )
    assert lines == ["a scope could not be closed at exit ScopeError", "[]"]


def test_a_worker_that_still_removes_at_exit_finishes(program: Program) -> None:
    """A removal that runs in a worker thread when the main thread ends is completed."""
    lines = run(
        program,
        """
        from tempscope import _shield
        import concurrent.futures.thread, threading
        started, ending = threading.Event(), threading.Event()
        def work():
            started.set()
            print("ending:", ending.wait(20))
        threading._register_atexit(ending.set)
        _shield._submit(work)
        started.wait(20)
        """,
    )
    assert lines == ["ending: True"]
