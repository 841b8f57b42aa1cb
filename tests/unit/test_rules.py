"""The twelve rules of a scope, as the design states them, each with the tests that hold it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from tempscope._outcomes import SignalExit
from tempscope.container import PerScope
from tempscope.errors import (
    CleanupFailed,
    ForkedScopeError,
    LeftoverError,
    NoOpenScopeError,
    PickledScopeError,
    ScopeClosedError,
    ScopeEnteredError,
    ScopeError,
    StagedSourceChangedError,
    TempscopeError,
)
from tempscope.manager import TempFileManager
from tempscope.policies import KeepOnFailure
from tempscope.scopes import TempScopes, current_scope
from tempscope.storages import LocalDiskStorage

from .conftest import Program
from .faults import PATIENCE, Gate, HookedStorage, Keeping, leaving_behind, raising


Left = Callable[[], list[str]]


class JobFailed(Exception):
    """What a job in these tests fails with."""


def fail(job: TempFileManager, error: BaseException | None = None) -> BaseException:
    """Enter *job*, raise in it, and return what came out."""
    error = error or JobFailed("no such codec")
    with pytest.raises(type(error)) as caught, job:
        raise error
    return caught.value


# 1. Whoever opens closes.


def test_rule_1_threads_share_the_manager(scopes: TempScopes) -> None:
    """A thread that ends does not close the scope it worked in."""
    with scopes.open() as job:
        worker = threading.Thread(target=job.bind(lambda: current_scope().new_file()))
        worker.start()
        worker.join(PATIENCE)
        assert not job.closed
        assert len(list(job.directory.iterdir())) == 1


def test_rule_1_child_tasks_share_the_manager(scopes: TempScopes) -> None:
    """Tasks of one job find its manager, and their end leaves it open."""

    async def part() -> TempFileManager:
        current_scope().new_file()
        return current_scope()

    async def main() -> None:
        async with scopes.open() as job:
            assert await asyncio.gather(part(), part()) == [job, job]
            assert not job.closed
            assert job.usage().files == 2

    asyncio.run(main())


def test_rule_1_open_always_makes_a_root_scope(scopes: TempScopes) -> None:
    """A scope opened while another is current is no child: it outlives the other."""
    with scopes.open("outer"):
        inner = scopes.open("inner")
    assert not inner.closed
    assert scopes.active()[0].parent is None
    inner.close()


def test_rule_1_only_scope_nests(scopes: TempScopes) -> None:
    """``manager.scope()`` opens a child, which its record says and its parent's close ends."""
    with scopes.open("outer") as outer:
        inner = outer.scope("inner")
        records = {record.name: record for record in scopes.active()}
        assert records["inner"].parent == records["outer"].token
    assert inner.closed


# 2. Current is set by entering.


def test_rule_2_constructing_sets_nothing(scopes: TempScopes) -> None:
    """A scope that was only opened is not the current one."""
    job = scopes.open()
    with pytest.raises(NoOpenScopeError, match="no scope was entered.*FastAPI"):
        current_scope()
    job.close()


def test_rule_2_entering_makes_current_and_leaving_restores(scopes: TempScopes) -> None:
    """The innermost entered scope is current; leaving it brings back the one before."""
    with scopes.open() as outer:
        assert current_scope() is outer
        with outer.scope() as inner:
            assert current_scope() is inner
        assert current_scope() is outer
    with pytest.raises(NoOpenScopeError):
        current_scope()


def test_rule_2_entering_twice_raises(scopes: TempScopes) -> None:
    """A scope is entered once, also while it is still open."""
    with scopes.open() as job:
        with pytest.raises(ScopeEnteredError, match="entered before"):
            job.__enter__()
        assert current_scope() is job


def test_rule_2_entering_a_closed_one_raises(scopes: TempScopes) -> None:
    """A scope that was closed is not entered, whether it was before or not."""
    job = scopes.open()
    job.close()
    with pytest.raises(ScopeClosedError), job:
        pass


def test_rule_2_entering_twice_by_both_ways_raises(scopes: TempScopes) -> None:
    """``async with`` after ``with`` raises, and does not make an async scope of it."""

    async def main() -> None:
        with scopes.open() as job:
            with pytest.raises(ScopeEnteredError):
                await job.__aenter__()
            assert not job._async

    asyncio.run(main())


def test_rule_2_leaving_tolerates_another_context(scopes: TempScopes) -> None:
    """A scope left in another context than it was entered in closes all the same."""
    job = scopes.open()
    contextvars.copy_context().run(job.__enter__)
    job.__exit__(None, None, None)
    assert job.closed


def test_rule_2_leaving_in_a_copied_context_leaves_that_one_alone(scopes: TempScopes) -> None:
    """Left in a copy of its context, the scope is closed there and here, and nothing outer is current."""
    with scopes.open("outer"):
        job = scopes.open("inner")
        here = contextvars.copy_context()
        here.run(job.__enter__)
        here.copy().run(job.__exit__, None, None, None)
        with pytest.raises(ScopeClosedError):
            here.run(current_scope)


def test_rule_2_a_closed_innermost_scope_never_falls_outward(scopes: TempScopes) -> None:
    """Inside a scope that was closed early, asking for the current one raises."""
    with scopes.open("outer"), scopes.open("inner") as inner:
        inner.close()
        with pytest.raises(ScopeClosedError, match="'inner'"):
            current_scope()


def test_rule_2_an_outer_scope_left_first_keeps_the_inner_current(scopes: TempScopes) -> None:
    """Scopes that are left in the wrong order leave no trace, and the inner one current until it ends."""
    outer, inner = scopes.open("outer"), scopes.open("inner")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert current_scope() is inner
    inner.__exit__(None, None, None)
    with pytest.raises(NoOpenScopeError):
        current_scope()


# 3. Exits run newest first, all of them.


def test_rule_3_newest_first(scopes: TempScopes) -> None:
    """Callbacks, objects and children end in the reverse order of their coming."""
    ended: list[str] = []
    with scopes.open() as job:
        job.register_cleanup_callback(ended.append, "first")
        job._push_exit(lambda exc: ended.append("second"))
        child = job.scope()
        child.register_cleanup_callback(ended.append, "third")
        job.register_cleanup_callback(ended.append, "fourth")
    assert ended == ["fourth", "third", "second", "first"]


@pytest.mark.parametrize("error", [ValueError("one"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_rule_3_all_of_them(scopes: TempScopes, error: BaseException) -> None:
    """Whatever one exit raises, the others run and the files go."""
    ended: list[str] = []
    job = scopes.open()
    directory = job.new_file().parent
    job.register_cleanup_callback(ended.append, "older")
    job.register_cleanup_callback(raising(error))
    job.register_cleanup_callback(ended.append, "newer")
    with pytest.raises(type(error)) as caught:
        job.close()
    assert caught.value is error
    assert ended == ["newer", "older"]
    assert job.closed
    assert not directory.exists()


def test_rule_3_outcome_is_set_before_the_first(scopes: TempScopes) -> None:
    """An exit sees how the job ended."""
    seen: list[Any] = []
    job = scopes.open()
    job.register_cleanup_callback(lambda: seen.append(job.outcome))
    error = fail(job)
    assert seen[0].kind == "failed"
    assert seen[0].exception is error


def test_rule_3_interrupts_are_raised_last(scopes: TempScopes) -> None:
    """An interrupt of an exit is raised when all exits ran; the other errors are notes on it."""
    interrupt = KeyboardInterrupt()
    job = scopes.open("job")
    job.register_cleanup_callback(raising(ValueError("one")))
    job.register_cleanup_callback(raising(interrupt))
    job.register_cleanup_callback(raising(OSError("two")))
    with pytest.raises(KeyboardInterrupt) as caught:
        job.close()
    assert caught.value is interrupt
    assert [note.rpartition(" raised ")[2] for note in interrupt.__notes__] == [
        "OSError: two",
        "ValueError: one",
    ]


def test_rule_3_the_first_interrupt_counts_and_an_exit_before_a_cancellation(scopes: TempScopes) -> None:
    """Of several interrupts ``KeyboardInterrupt`` and ``SystemExit`` win, then the first."""
    first, second = SystemExit(4), KeyboardInterrupt()
    job = scopes.open()
    for error in (second, first, GeneratorExit()):
        job.register_cleanup_callback(raising(error))
    with pytest.raises(SystemExit) as caught:
        job.close()
    assert caught.value is first


def test_rule_3_an_interrupt_while_files_are_removed(hooked: HookedStorage) -> None:
    """An interrupt in the middle of removing is remembered, the removal done again, then it is raised."""
    interrupts = [KeyboardInterrupt()]
    hooked.hooks.before["remove"] = lambda: raising(interrupts.pop())() if interrupts else None
    job = TempScopes(hooked).open()
    path = job.new_file()
    with pytest.raises(KeyboardInterrupt):
        job.close()
    assert not path.exists()
    assert job.report is not None
    assert job.report.complete


def test_rule_3_exits_added_by_exits_run_too(scopes: TempScopes) -> None:
    """What an exit registers, and the files it makes, go with the scope."""
    ended: list[str] = []
    made: list[Path] = []

    def late() -> None:
        made.append(job.new_file())
        job.register_cleanup_callback(ended.append, "latest")

    job = scopes.open()
    job.register_cleanup_callback(late)
    job.close()
    assert ended == ["latest"]
    assert not made[0].exists()


# 4. A cleanup error never replaces the job's own exception.


def test_rule_4_a_cleanup_error_is_a_note_on_the_jobs_own(scopes: TempScopes) -> None:
    """
    The job's exception comes out, with what went wrong while cleaning up as notes.

    Row 76. Trap 36: a cleanup error hides the job's exception.
    """
    job = scopes.open("render")
    job.register_cleanup_callback(raising(OSError("the disk is gone")))
    error = fail(job)
    assert error.__notes__ == [
        "tempscope: closing scope 'render' also raised OSError: the disk is gone",
    ]


def test_rule_4_an_exit_that_raises_the_jobs_own_exception_adds_nothing(scopes: TempScopes) -> None:
    """An object that raises the job's exception once more did not fail."""
    job = scopes.open()

    def again(exc: BaseException | None) -> None:
        assert exc is not None
        raise exc

    job._push_exit(again)
    error = fail(job)
    assert not hasattr(error, "__notes__")
    assert job.report is not None
    assert job.report.errors == ()


def test_rule_4_notes_survive_an_exception_without_text(scopes: TempScopes) -> None:
    """An error whose text cannot be had is noted by its type."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    job = scopes.open("job")
    job.register_cleanup_callback(raising(Mute()))
    error = fail(job, Mute())
    assert error.__notes__ == ["tempscope: closing scope 'job' also raised Mute: its text cannot be had"]


def test_rule_4_leftovers_are_a_warning_and_stand_in_the_report(
    hooked: HookedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What a sweep will finish does not fail a job that was fine.

    Trap 37: ignored errors hide leaks that last.
    """
    hooked.hooks.before["remove"] = leaving_behind()
    with TempScopes(hooked).open("job") as job:
        job.new_file()
    assert job.report is not None
    assert [entry.reason for entry in job.report.leftovers] == ["it is in use"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_rule_4_what_nobody_removes_is_no_promise(
    scopes: TempScopes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning about a registered file that was replaced does not say that a sweep tries again."""
    saved, file = tmp_path / "saved", tmp_path / "file"
    for path in (saved, file):
        path.touch()
    with scopes.open() as job:
        job.register_file(file)
        saved.replace(file)
    assert file.exists()
    assert [record.message for record in caplog.records] == ["a scope left something alone"]


def test_rule_4_strict_raises_for_leftovers(hooked: HookedStorage) -> None:
    """With ``strict=True`` they are an error, which has the report and survives pickling."""
    hooked.hooks.before["remove"] = leaving_behind("clip.mkv")
    job = TempScopes(hooked, strict=True).open("job")
    job.new_file()
    with pytest.raises(LeftoverError, match=r"'job' left 1 things behind: clip.mkv: it is in use") as caught:
        job.close()
    assert caught.value.path == "clip.mkv"
    assert caught.value.report.failed == 1  # type: ignore[attr-defined]
    assert job.report is not None
    assert job.report.errors == (caught.value,)
    assert pickle.loads(pickle.dumps(caught.value)).report.failed == 1


def test_rule_4_the_warning_says_nothing_of_what_is_raised(
    hooked: HookedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """An error is told once: the warning about leftovers gives the reasons of these alone."""
    hooked.hooks.before["remove"] = leaving_behind()
    with pytest.raises(ValueError, match="mine"), TempScopes(hooked).open("job") as job:
        job.new_file()
        job.register_cleanup_callback(raising(ValueError("mine")))
    assert [record.tempscope_reason for record in caplog.records] == ["it is in use"]  # type: ignore[attr-defined]


def test_rule_4_one_error_is_raised_as_itself(scopes: TempScopes) -> None:
    """A callback's own exception comes out of a scope whose job was fine."""
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught, scopes.open() as job:
        job.register_cleanup_callback(raising(error))
    assert caught.value is error


def test_rule_4_several_are_raised_as_a_group(scopes: TempScopes) -> None:
    """Several errors are one :class:`CleanupFailed`, which is ours and an exception group."""
    with pytest.raises(CleanupFailed) as caught, scopes.open("job") as job:
        job.register_cleanup_callback(raising(ValueError("older")))
        job.register_cleanup_callback(raising(OSError("newer")))
    assert isinstance(caught.value, TempscopeError)
    assert isinstance(caught.value, ExceptionGroup)
    assert [str(error) for error in caught.value.exceptions] == ["newer", "older"]
    assert caught.value.scope == "job"


def test_rule_4_a_changed_source_is_an_error(base: Path, tmp_path: Path) -> None:
    """An input that was staged read-only and written to fails a job that was fine."""
    from tempscope.storages import HardlinkStorage

    source = tmp_path / "input.mkv"
    source.write_bytes(b"video")
    with (
        pytest.raises(StagedSourceChangedError, match="size"),
        TempScopes(HardlinkStorage(base)).open() as job,
    ):
        staged = job.stage(source)
        assert staged.method == "hardlink"
        staged.path.write_bytes(b"longer video")


def test_rule_4_a_per_file_error_is_a_note_too(hooked: HookedStorage) -> None:
    """A file that cannot be deleted when its block fails does not hide why the block failed."""
    hooked.hooks.before["delete"] = raising(OSError("busy"))
    with TempScopes(hooked).open() as job:
        with pytest.raises(JobFailed) as caught, job.create_temp_file():
            raise JobFailed
        with pytest.raises(OSError, match="busy"), job.create_temp_file():
            pass
    assert caught.value.__notes__ == ["tempscope: deleting a temporary file also raised OSError: busy"]


# 5. What counts as cancelled.


CANCELLED = [
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseExceptionGroup("all", [KeyboardInterrupt(), BaseExceptionGroup("inner", [asyncio.CancelledError()])]),
    SignalExit(143),
]
FAILED = [
    ValueError(),
    SystemExit(1),
    SystemExit("usage"),
    BaseExceptionGroup("mixed", [KeyboardInterrupt(), ValueError()]),
]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("cancelled", each) for each in CANCELLED]
    + [("failed", each) for each in FAILED]
    + [("ok", SystemExit()), ("ok", SystemExit(0))],
    ids=repr,
)
def test_rule_5_outcomes(scopes: TempScopes, kind: str, error: BaseException) -> None:
    """Cancelled is what stops a job from outside; ``SystemExit`` counts by its code."""
    job = scopes.open()
    with pytest.raises(type(error)), job:
        raise error
    assert job.outcome is not None
    assert job.outcome.kind == kind
    assert job.outcome.exception is error


def test_rule_5_trio_cancelled(scopes: TempScopes) -> None:
    """A job that trio cancelled is cancelled, also where a group holds only that."""
    jobs = [scopes.open(), scopes.open()]

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with jobs[0]:
                await trio.sleep_forever()
        with trio.CancelScope() as scope:
            async with jobs[1], trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()

    trio.run(main, strict_exception_groups=True)
    assert [job.outcome and job.outcome.kind for job in jobs] == ["cancelled", "cancelled"]


def test_rule_5_retry(scopes: TempScopes) -> None:
    """A job that will run again has the outcome ``retry``, whatever it raised."""
    job = scopes.open()
    job.mark_retry()
    error = fail(job)
    assert job.outcome is not None
    assert (job.outcome.kind, job.outcome.exception) == ("retry", error)
    with scopes.open() as quiet:
        quiet.mark_retry()
    assert quiet.outcome is not None
    assert quiet.outcome.kind == "retry"


# 6. Per-file blocks.


def test_rule_6_a_failing_block_leaves_its_file_when_the_policy_may_keep(
    storage: LocalDiskStorage,
) -> None:
    """A failed job's evidence is whole: files of the blocks it failed in are in the kept scope."""
    job = TempScopes(storage, KeepOnFailure()).open()
    with pytest.raises(JobFailed), job:
        with job.create_temp_file(name="done"):
            pass
        with job.create_temp_dir(name="frames") as frames, job.create_temp_file(name="clip.mkv") as clip:
            (frames / "1.png").touch()
            clip.write_bytes(b"half")
            raise JobFailed
    assert job.report is not None
    kept = job.report.directory
    assert kept is not None
    assert (kept / "clip.mkv").read_bytes() == b"half"
    assert (kept / "frames" / "1.png").exists()
    assert not (kept / "done").exists()


def test_rule_6_otherwise_it_deletes_at_once(scopes: TempScopes) -> None:
    """With a policy that keeps nothing, a failing block deletes its file before the scope ends."""
    with scopes.open() as job:
        with pytest.raises(JobFailed), job.create_temp_file() as path:
            raise JobFailed
        assert not path.exists()


# 7. Children closed by their parent.


def test_rule_7_children_take_their_parents_outcome(scopes: TempScopes) -> None:
    """A child that is open when its parent fails has failed with the same exception."""
    job = scopes.open()
    child = job.scope()
    grandchild = child.scope()
    error = fail(job)
    assert [each.outcome and each.outcome.exception for each in (child, grandchild)] == [error, error]


def test_rule_7_each_area_is_judged_on_its_own_outcome(storage: LocalDiskStorage, left: Left) -> None:
    """A child that failed and was handled is kept; its parent, which then ended well, is not."""
    job = TempScopes(storage, KeepOnFailure()).open()
    with job:
        job.new_file(name="parent")
        child = job.scope()
        child.new_file(name="child")
        fail(child)
    assert child.report is not None
    assert child.report.directory is not None
    assert (child.report.directory / "child").exists()
    assert left() == [".tempscope-record", "child"]


def test_rule_7_a_child_ends_without_its_siblings(scopes: TempScopes) -> None:
    """Closing one child touches neither its siblings' files nor its parent's."""
    with scopes.open() as job:
        mine, sibling = job.new_file(name="same"), job.scope()
        theirs = sibling.new_file(name="same")
        with job.scope() as child:
            child.new_file(name="same")
        assert mine.exists()
        assert theirs.exists()
    assert sibling.closed
    assert not theirs.exists()


def test_rule_7_a_child_takes_its_parents_policy_or_its_own(storage: LocalDiskStorage) -> None:
    """A child is judged by its parent's policy unless it brings another."""
    own = Keeping(on=("ok",))
    with TempScopes(storage, KeepOnFailure()).open() as job:
        usual, child = job.scope(), job.scope(policy=own)
        assert usual.policy is job.policy
        child.new_file()
    assert child.report is not None
    assert child.report.directory is not None


# 8. Closed, twice, forgotten.


@pytest.mark.parametrize(
    "use",
    [
        lambda job: job.create_temp_file(),
        lambda job: job.create_temp_dir(),
        lambda job: job.new_file(),
        lambda job: job.new_file(name="x", create=False),
        lambda job: job.new_dir(),
        lambda job: job.stage(__file__),
        lambda job: job.publish("/a", "/b"),
        lambda job: job.keep("/a"),
        lambda job: job.register_file("/a"),
        lambda job: job.unregister_file("/a"),
        lambda job: job.register_cleanup_callback(print),
        lambda job: job.scope(),
        lambda job: job.usage(),
        lambda job: job.mark_retry(),
        lambda job: job.cleanup_all(),
        lambda job: asyncio.run(job.acleanup_all()),
        lambda job: job.directory,
        lambda job: job.__enter__(),
    ],
)
@pytest.mark.parametrize("with_files", [False, True])
def test_rule_8_using_a_closed_manager_raises(
    scopes: TempScopes, use: Callable[[TempFileManager], object], with_files: bool, left: Left
) -> None:
    """Whatever one does with a closed manager raises, and makes nothing."""
    job = scopes.open("job")
    if with_files:
        job.new_file()
    job.close()
    with pytest.raises(ScopeClosedError, match="'job' is closed"):
        use(job)
    assert left() == []


def test_rule_8_a_block_entered_after_the_close_raises(scopes: TempScopes) -> None:
    """A per-file object that was asked for before the close makes nothing after it."""
    with scopes.open() as job:
        block = job.create_temp_file()
        job.new_file()
    with pytest.raises(ScopeClosedError), block:
        pass


def test_rule_8_closing_twice_is_fine(scopes: TempScopes) -> None:
    """The second close does nothing and returns the same report."""
    job = scopes.open()
    job.new_file()
    report = job.close()
    assert job.close(ValueError()) is report
    assert asyncio.run(job.aclose()) is report
    assert job.report is report
    assert report.outcome is not None
    assert report.outcome.ok


# 9. Async closing: see test_async.py for the whole of it.


def test_rule_9_files_are_removed_off_the_event_loop(hooked: HookedStorage) -> None:
    """Removing a scope's files, or one block's, happens in another thread than the loop's."""
    threads: list[int] = []
    note = lambda *_: threads.append(threading.get_ident())  # noqa: E731
    hooked.hooks.before.update(remove=note, delete=note)

    async def main() -> None:
        async with TempScopes(hooked).open() as job, job.create_temp_file():
            pass

    for run in (asyncio.run, lambda coroutine: trio.run(lambda: coroutine)):
        threads.clear()
        run(main())
        assert len(threads) == 2
        assert threading.get_ident() not in threads


def test_rule_9_a_native_cancellation_waits_for_the_removal(hooked: HookedStorage) -> None:
    """``task.cancel()`` while files are removed is obeyed when that is complete."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open()

    async def work() -> None:
        async with job:
            job.new_file()

    async def main() -> None:
        task = asyncio.ensure_future(work())
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert job.report is not None
    assert job.report.complete


# 10. bind, pickle.


def test_rule_10_bind_carries_the_scope_per_call(scopes: TempScopes) -> None:
    """A bound function runs in any thread, at once and again, with this scope current and nothing else."""
    other: contextvars.ContextVar[str] = contextvars.ContextVar("other", default="unset")
    other.set("set")
    barrier = threading.Barrier(4)

    def look(number: int) -> tuple[int, str, bool]:
        barrier.wait(PATIENCE)
        return number, other.get(), current_scope() is job

    with scopes.open() as job, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(job.bind(look), range(8))) == [(n, "unset", True) for n in range(8)]
        with pytest.raises(NoOpenScopeError):
            pool.submit(current_scope).result(PATIENCE)


def test_rule_10_bind_restores_what_was_current(scopes: TempScopes) -> None:
    """After a bound call, also a failing one, the caller's own scope is current again."""
    with scopes.open() as outer, scopes.open() as inner:
        assert outer.bind(current_scope)() is outer
        with pytest.raises(ZeroDivisionError):
            outer.bind(lambda: 1 / 0)()
        assert current_scope() is inner


def test_rule_10_bind_takes_coroutine_functions(scopes: TempScopes) -> None:
    """A bound coroutine function has the scope current across its awaits."""

    async def look(extra: int) -> tuple[TempFileManager, int]:
        await asyncio.sleep(0)
        return current_scope(), extra

    with scopes.open() as job:
        bound = job.bind(look)
    with scopes.open(), pytest.raises(ScopeClosedError):
        asyncio.run(bound(1))
    with scopes.open() as other:
        assert asyncio.run(other.bind(look)(2)) == (other, 2)
        assert bound.__name__ == "look"


def test_rule_10_pickling_names_detach(scopes: TempScopes) -> None:
    """A manager does not travel by pickle, and the error says what does."""
    with scopes.open() as job, pytest.raises(PickledScopeError, match="detach"):
        pickle.dumps(job)


# 11. fork: see test_fork.py for the whole of it.


def test_rule_11_an_inherited_scope_is_the_parents(scopes: TempScopes) -> None:
    """In a forked child, creating in an inherited scope raises and closing it does nothing."""
    ran: list[int] = []
    with scopes.open() as job:
        path = job.new_file()
        job.register_cleanup_callback(ran.append, 1)
        pid = os.fork()
        if not pid:  # pragma: no cover - in a child that says by its status how it went
            code = 1
            try:
                try:
                    job.new_file()
                except ForkedScopeError:
                    job.close()
                    code = 0 if path.exists() and not ran and not job.closed else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert path.exists()


# 12. PerScope: see container/test_per_scope.py for the whole of it.


def test_rule_12_one_instance_per_root_scope(scopes: TempScopes) -> None:
    """A provider gives one instance for a job and its children, left with the job's exception."""
    left: list[BaseException | None] = []

    class Tool:
        def __enter__(self) -> Tool:
            assert current_scope() is job
            return self

        def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
            left.append(exc)

    tool = PerScope(Tool)
    job = scopes.open()
    with pytest.raises(JobFailed) as caught, job:
        first = tool()
        with job.scope():
            assert tool() is first
        raise JobFailed
    assert left == [caught.value]


def test_rule_12_an_async_object_needs_an_async_close(scopes: TempScopes) -> None:
    """Closing by ``close()`` what must be left by awaiting says so, and closes the rest."""
    ended: list[str] = []

    async def leave(exc: BaseException | None) -> None:
        ended.append("awaited")

    job = scopes.open()
    job.register_cleanup_callback(ended.append, "older")
    job._push_exit(leave, is_async=True)
    with pytest.raises(ScopeError, match="aclose"):
        job.close()
    assert ended == ["older"]


def test_all_rules_hold_in_an_exit_stack(scopes: TempScopes, program: Program) -> None:
    """A scope is an ordinary context manager: an ``ExitStack`` closes it with the job's exception."""
    with pytest.raises(JobFailed), ExitStack() as stack:
        job = stack.enter_context(scopes.open())
        raise JobFailed
    assert job.outcome is not None
    assert job.outcome.kind == "failed"
