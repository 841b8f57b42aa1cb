"""Forks: what the parent opened stays the parent's. Each runs in a program of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tempscope import _scope
from tempscope.manager import TempFileManager
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage

from .conftest import Program
from .faults import PlainStorage


FORK = """
import gc, os, sys, threading
from pathlib import Path
from tempscope import *

def forked(child):
    # Run child() in a forked child and return its answer, which it gives by os._exit(0) and a pipe.
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = repr(child())
        except BaseException as error:
            answer = f"raised {type(error).__name__}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return answer

storage = LocalDiskStorage(base)
scopes = TempScopes(storage)
"""


def check(program: Program, body: str) -> None:
    """Run *body* after :data:`FORK`, and expect it to end well and quietly."""
    import textwrap

    ended = program(FORK + textwrap.dedent(body), python=("-W", "error"))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_creating_in_an_inherited_scope_raises(program: Program) -> None:
    """Whatever would create in an inherited scope raises ``ForkedScopeError`` in the child."""
    check(
        program,
        """
        with scopes.open() as job:
            job.new_file()
            for use in (
                lambda: job.new_file(), lambda: job.new_dir(), lambda: job.create_temp_file(),
                lambda: job.scope(), lambda: job.register_file("/a"), lambda: job.stage("/a"),
                lambda: job.register_cleanup_callback(print), lambda: job.cleanup_all(),
                lambda: job.directory, lambda: job.usage(), lambda: current_scope().new_file(),
                lambda: job.__enter__(),
            ):
                assert forked(use) == "raised ForkedScopeError", forked(use)
        """,
    )


def test_closing_an_inherited_scope_does_nothing(program: Program) -> None:
    """Closing, leaving and forgetting an inherited scope do nothing in the child, however they are done."""
    check(
        program,
        """
        import asyncio
        ran = []
        job = scopes.open()
        path = job.new_file()
        outside = Path(base, "outside"); outside.touch()
        job.register_file(outside)
        job.register_cleanup_callback(ran.append, 1)
        job._push_exit(ran.append)
        child = job.scope(); child.new_file()
        job.__enter__()

        def leave():
            job.__exit__(None, None, None)
            return ran, job.closed, job.report

        def close():
            report = job.close(ValueError())
            return ran, job.closed, report.outcome

        def aclose():
            asyncio.run(job.__aexit__(None, None, None))
            asyncio.run(job.aclose())
            return ran, job.closed

        def forget():
            global job, child
            del job, child
            gc.collect()
            return ran

        assert forked(leave) == "([], False, None)", forked(leave)
        assert forked(close) == "([], False, None)"
        assert forked(aclose) == "([], False)"
        assert forked(forget) == "[]"
        assert path.exists() and outside.exists()
        job.__exit__(None, None, None)
        assert ran == [None, 1]
        assert not path.exists() and not outside.exists()
        """,
    )


def test_an_empty_inherited_scope_is_left_alone(program: Program) -> None:
    """Leaving an inherited scope in which nothing happened does nothing either."""
    check(
        program,
        """
        job = scopes.open()
        job.__enter__()
        assert forked(lambda: (job.__exit__(None, None, None), job.closed)) == "(False, False)"
        job.__exit__(None, None, None)
        assert job.closed
        """,
    )


def test_a_block_left_in_the_child_deletes_nothing(program: Program) -> None:
    """The end of a per-file block in the child leaves the parent's file."""
    check(
        program,
        """
        with scopes.open() as job:
            block = job.create_temp_file()
            with block as path:
                forked(lambda: block.__exit__(None, None, None))
                assert path.exists()
            assert not path.exists()
        """,
    )


def test_a_block_left_in_the_child_asks_no_storage(tmp_path: Path) -> None:
    """That holds for storages that know nothing of forks, too."""
    job = TempScopes(PlainStorage(tmp_path)).open()
    with job, job.create_temp_file() as path:
        pid = os.fork()
        if not pid:
            try:
                job._delete_path(path, job._generation, None)
            finally:
                os._exit(0 if path.exists() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert path.exists()


def test_a_child_that_ends_by_itself_takes_nothing_along(program: Program) -> None:
    """A child that leaves the parent's ``with`` by its exit, or by an exception, deletes nothing."""
    check(
        program,
        """
        parent = os.getpid()
        for error in (SystemExit(5), RuntimeError("no such codec")):
            alone = TempFileManager(storage=storage)
            held = alone.new_file()
            with scopes.open() as job:
                path = job.new_file()
                job.register_cleanup_callback(lambda: os.getpid() == parent or os.write(2, b"ran"))
                pid = os.fork()
                if not pid:
                    sys.excepthook = lambda *_: None
                    raise error
                assert os.waitpid(pid, 0)[1] != 0
                assert path.exists() and held.exists()
            assert not path.exists()
            alone.close()
        """,
    )


def test_the_exit_pass_of_a_child_leaves_inherited_scopes(program: Program) -> None:
    """At the child's exit nothing that the parent opened is closed."""
    check(
        program,
        """
        ran = []
        job = scopes.open(); path = job.new_file()
        job.register_cleanup_callback(print, "ran")
        alone = TempFileManager(storage=storage); held = alone.new_file()
        pid = os.fork()
        if not pid:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert path.exists() and held.exists()
        job.register_cleanup_callback(print, "closed")
        job.close()
        alone.close()
        """,
    )


def test_a_standalone_manager_starts_anew(program: Program) -> None:
    """A manager made directly and never entered works in the child, in a directory of its own."""
    check(
        program,
        """
        ran = []
        job = TempFileManager("x_", base, name="alone")
        path = job.new_file()
        job.register_cleanup_callback(ran.append, 1)
        outside = Path(base, "outside"); outside.touch()
        job.register_file(outside)

        def work():
            mine = job.new_file()
            assert mine.name.startswith("x_") and job.name == "alone"
            assert mine.parent != path.parent
            job.close()
            assert not mine.exists()
            return ran, path.exists(), outside.exists(), job.closed

        assert forked(work) == "([], True, True, True)", forked(work)
        job.close()
        assert not path.exists()
        """,
    )


def test_a_block_of_the_parent_ends_quietly_in_a_child_that_started_anew(program: Program) -> None:
    """A child that goes on with a standalone manager leaves its parent's blocks, and files, alone."""
    check(
        program,
        """
        job = TempFileManager("x_", base)
        with job.create_temp_file() as path:
            block = job.create_temp_file()
            other = block.__enter__()

            def work():
                job.new_file()
                block.__exit__(None, None, None)
                job.close()
                return path.exists(), other.exists()

            assert forked(work) == "(True, True)", forked(work)
            block.__exit__(None, None, None)
        assert not path.exists() and not other.exists()
        job.close()
        """,
    )


def test_a_standalone_manager_starts_anew_once(program: Program) -> None:
    """Threads of the child that use it first, at once, share one new beginning."""
    check(
        program,
        """
        job = TempFileManager(storage=storage)
        job.new_file()

        def work():
            start, made = threading.Barrier(8), []
            def first():
                start.wait(20)
                made.append(job.new_file())
            threads = [threading.Thread(target=first) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join(20)
            assert len(made) == 8 and len({path.parent for path in made}) == 1
            job.close()
            return [path.exists() for path in made]

        assert forked(work) == str([False] * 8), forked(work)
        job.close()
        """,
    )


def test_a_closed_or_entered_standalone_manager_does_not_start_anew(program: Program) -> None:
    """What the parent closed stays closed in the child, and what it entered is an inherited scope."""
    check(
        program,
        """
        closed = TempFileManager(storage=storage)
        closed.close()
        assert forked(closed.new_file) == "raised ScopeClosedError", forked(closed.new_file)
        with TempFileManager(storage=storage) as entered:
            assert forked(entered.new_file) == "raised ForkedScopeError"
        """,
    )


def test_a_lock_held_at_the_fork_stops_nobody(program: Program) -> None:
    """Another thread of the parent may hold a scope's lock at the fork; the child leaves without it."""
    check(
        program,
        """
        job = scopes.open()
        job.__enter__()
        alone = TempFileManager(storage=storage)
        held, free = threading.Event(), threading.Event()
        def hold():
            from tempscope import _scope
            with job._lock, alone._lock, _scope._starting_anew[-1]:
                held.set()
                free.wait(30)
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(30)

        def work():
            job.__exit__(None, None, None)
            job.close()
            alone.new_file()
            alone.close()
            return "done"

        assert forked(work) == "'done'"
        free.set()
        thread.join()
        job.__exit__(None, None, None)
        """,
    )


def test_scopes_opened_in_the_child_are_its_own(program: Program) -> None:
    """An opener that was inherited opens scopes in the child as ever, and tells only of those."""
    check(
        program,
        """
        with scopes.open("parent") as job:
            job.new_file()
            def work():
                with scopes.open("child") as mine:
                    path = mine.new_file()
                    assert path.exists() and current_scope() is mine
                    names = [record.name for record in scopes.active()]
                return names, path.exists()
            assert forked(work) == "(['child'], False)", forked(work)
        """,
    )


def test_an_async_scope_in_a_forked_child_uses_threads_of_its_own(program: Program) -> None:
    """The worker threads of the parent are not there in the child, which makes others."""
    check(
        program,
        """
        import asyncio
        async def work():
            async with scopes.open() as job:
                path = job.new_file()
            return path.exists()
        assert not asyncio.run(work())
        assert forked(lambda: asyncio.run(work())) == "False"
        """,
    )


def test_the_last_of_racing_beginners_finds_it_begun(storage: LocalDiskStorage) -> None:
    """A thread that waited while another began anew uses what that one began (seen from inside)."""
    job = TempFileManager(storage=storage)
    job._pid = -1
    _scope._starting_anew[-1].acquire()
    try:
        job._pid = -1
    finally:
        _scope._starting_anew[-1].release()
    job._after_fork()
    assert job._pid == os.getpid()
    job._after_fork()
    path = job.new_file()
    job.close()
    assert not path.exists()


def test_without_fork_hooks_the_module_loads(scopes: TempScopes) -> None:
    """Renewing the lock after a fork leaves a free one."""
    before = _scope._starting_anew[-1]
    _scope._renew_lock()
    assert _scope._starting_anew[-1] is not before
    assert not _scope._starting_anew[-1].locked()


def test_a_fork_while_the_first_instance_is_made(program: Program) -> None:
    """A child that is forked while its parent makes its first file holds nothing of it open."""
    check(
        program,
        """
        from tempscope.storages import _registry

        def inherited():
            targets = []
            for descriptor in os.listdir("/proc/self/fd"):
                try:
                    targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))
                except FileNotFoundError:
                    pass
            return [target for target in targets if target.startswith(str(base))]

        token, told = _registry.new_token, []

        def fork_first():
            told.append((inherited() != [], forked(inherited)))
            return token()

        _registry.new_token = fork_first
        with scopes.open() as job:
            job.new_file()
        assert told == [(True, "[]")], told
        """,
    )
