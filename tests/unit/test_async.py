"""Closing on an event loop: off the loop, complete, and obedient."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
import trio

from tempscope import _shield
from tempscope.errors import CleanupFailed
from tempscope.manager import TempFileManager
from tempscope.policies import KeepOnFailure
from tempscope.scopes import TempScopes, current_scope
from tempscope.storages import LocalDiskStorage, MemoryStorage

from .faults import PATIENCE, Gate, HookedStorage, raising


LOOPS = {
    "asyncio": lambda function, *args: asyncio.run(function(*args)),
    "trio": trio.run,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine function on one event loop, then on the other."""
    return LOOPS[request.param]


async def turns(number: int = 20) -> None:
    """Let the loop go round, whatever else happens on it."""
    for _ in range(number):
        await asyncio.sleep(0)


class Ticking:
    """Counts how often its loop came round."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


# Both loops


def test_an_async_scope_closes(run: Callable[..., Any], scopes: TempScopes) -> None:
    """``async with`` opens, makes current, and leaves nothing."""

    async def main() -> Path:
        async with scopes.open() as job:
            assert current_scope() is job
            return job.new_file()

    assert not run(main).exists()


def test_an_empty_async_scope_needs_no_thread(run: Callable[..., Any], scopes: TempScopes) -> None:
    """A scope in which nothing happened closes at once, with a report."""

    async def main() -> TempFileManager:
        async with scopes.open() as job:
            pass
        return job

    job = run(main)
    assert job.closed
    assert job.report.outcome.ok


def test_the_loop_runs_on_while_files_are_removed(hooked: HookedStorage) -> None:
    """A slow removal does not hold up other tasks."""
    gate = hooked.hooks.before["remove"] = Gate()

    async def main() -> None:
        async def job() -> None:
            async with TempScopes(hooked).open() as manager:
                manager.new_file()

        task = asyncio.ensure_future(job())
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        await turns()
        assert not task.done()
        gate.open()
        await task

    asyncio.run(main())


def test_exits_run_on_the_loop(run: Callable[..., Any], scopes: TempScopes) -> None:
    """Callbacks and objects of the scope end in the loop's own thread, newest first, files after them."""
    ended: list[tuple[str, int]] = []

    def note(name: str) -> None:
        assert path.exists()
        ended.append((name, threading.get_ident()))

    async def leave(exc: BaseException | None) -> None:
        await anyio.lowlevel.checkpoint()
        note("awaited")

    async def main() -> None:
        nonlocal path
        async with scopes.open() as job:
            path = job.new_file()
            job.register_cleanup_callback(note, "callback")
            job._push_exit(leave, is_async=True)
            job._push_exit(lambda exc: note("object"))

    path = Path()
    run(main)
    here = threading.get_ident()
    assert ended == [("object", here), ("awaited", here), ("callback", here)]


def test_errors_follow_the_same_rules(run: Callable[..., Any], scopes: TempScopes) -> None:
    """What exits raise is noted on the job's exception, or raised as one group."""

    async def failing() -> None:
        async with scopes.open("job") as job:
            job.register_cleanup_callback(raising(OSError("late")))
            raise ZeroDivisionError

    async def fine() -> None:
        async with scopes.open("job") as job:
            job.new_file()
            job.register_cleanup_callback(raising(OSError("one")))
            job.register_cleanup_callback(raising(OSError("two")))

    with pytest.raises(ZeroDivisionError) as caught:
        run(failing)
    assert caught.value.__notes__ == ["tempscope: closing scope 'job' also raised OSError: late"]
    with pytest.raises(CleanupFailed):
        run(fine)


def test_an_interrupt_of_an_exit_is_raised_last(scopes: TempScopes) -> None:
    """``SystemExit`` from an exit comes out when the files are gone."""
    paths = []

    async def main() -> None:
        async with scopes.open() as job:
            paths.append(job.new_file())
            job.register_cleanup_callback(raising(SystemExit(3)))

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert not paths[0].exists()


def test_children_close_off_the_loop_too(run: Callable[..., Any], hooked: HookedStorage) -> None:
    """A child that its parent closes is removed in another thread, however both were entered."""
    threads: list[int] = []
    hooked.hooks.before["remove"] = lambda: threads.append(threading.get_ident())

    async def main() -> None:
        job = TempScopes(hooked).open()
        with job:
            child = job.scope()
            child.new_file()
            await job.aclose()
            assert child.closed
        forgotten = TempScopes(hooked).open()
        forgotten._push_exit(lambda exc: None)
        async with forgotten, forgotten.scope() as other:
            other.new_file()

    run(main)
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def test_a_child_of_an_async_scope_closes_without_awaiting(scopes: TempScopes) -> None:
    """``close()`` of a scope entered by ``async with`` closes its children as well."""

    async def main() -> None:
        async with scopes.open() as job:
            child = job.scope()
            path = child.new_file()
            job.close()
            assert child.closed
            assert not path.exists()

    asyncio.run(main())


def test_the_worker_sees_the_context(run: Callable[..., Any]) -> None:
    """Work in a thread sees the context variables of the task that waits for it."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> str:
        variable.set("set")
        return await _shield.complete(variable.get)

    assert run(main) == "set"


def test_the_work_raises_in_the_task(run: Callable[..., Any]) -> None:
    """What the work raises is raised where it is waited for."""

    async def main() -> None:
        await _shield.complete(raising(ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        run(main)


# asyncio


def test_native_cancellation_twice(hooked: HookedStorage) -> None:
    """
    Cancelled twice during a slow removal: it completes, the loop ran on, the cancellation is obeyed.

    Row 73.
    """
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open()

    async def work() -> Path:
        async with job:
            return job.new_file()

    async def main() -> None:
        ticking = Ticking()
        clock, task = asyncio.ensure_future(ticking.run()), asyncio.ensure_future(work())
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        before = ticking.count
        for _ in range(2):
            task.cancel("stop")
            await turns()
            assert not task.done()
        assert ticking.count > before + 20
        assert job.report is None
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        clock.cancel()

    asyncio.run(main())
    assert job.report is not None
    assert job.report.complete
    assert job.report.removed > 0
    assert hooked.hooks.calls.count("remove") == 1


def test_native_cancellation_of_a_job_and_again_of_its_removal(hooked: HookedStorage) -> None:
    """A job that was cancelled has that outcome; another cancellation during the removal adds nothing."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked, KeepOnFailure()).open()
    paths = []

    async def work() -> None:
        async with job:
            paths.append(job.new_file())
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await turns()
        task.cancel()
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        task.cancel()
        await turns()
        assert not task.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert job.outcome is not None
    assert job.outcome.kind == "cancelled"
    assert not paths[0].exists()


def test_an_error_of_the_work_is_noted_on_the_cancellation() -> None:
    """Work that fails while its task is cancelled is not silent: the cancellation has a note."""
    gate = Gate()

    def work() -> None:
        gate()
        raise OSError("late")

    async def main() -> None:
        task = asyncio.ensure_future(_shield.complete(work))
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        task.cancel()
        await turns()
        gate.open()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.__notes__ == ["tempscope: the work that was finished first raised OSError: late"]

    asyncio.run(main())


def test_a_timeout_waits_for_the_removal(hooked: HookedStorage) -> None:
    """``asyncio.timeout`` raises ``TimeoutError`` as ever, when the files are gone."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                async with job:
                    job.new_file()
                    asyncio.ensure_future(expire(limit))  # noqa: RUF006
        assert job.report is not None

    async def expire(limit: asyncio.Timeout) -> None:
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        limit.reschedule(0)
        await turns()
        gate.open()

    asyncio.run(main())


def test_the_end_of_the_loop_waits_for_the_removal(hooked: HookedStorage) -> None:
    """A loop that is shut down cancels every task; the removal runs once, to its end, and is waited for."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open()

    async def work() -> None:
        async with job:
            job.new_file()

    async def main() -> None:
        task = asyncio.ensure_future(work())
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        others.append(asyncio.ensure_future(open_when_cancelled()))
        await turns()
        assert not task.done()

    async def open_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns()
            gate.open()

    others: list[asyncio.Future[None]] = []

    asyncio.run(main())
    assert job.report is not None
    assert hooked.hooks.calls.count("remove") == 1


def test_an_anyio_cancellation_waits_for_the_removal(hooked: HookedStorage) -> None:
    """A cancel scope of anyio is stopped by our shield, without spinning."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open()

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
                group.cancel_scope.cancel()
                await turns()
                gate.open()

            task = asyncio.ensure_future(cancel())
            async with job:
                job.new_file()
        assert group.cancel_scope.cancel_called
        await task

    asyncio.run(main())
    assert job.report is not None
    assert job.report.complete


def test_many_closings_wait_for_threads(hooked: HookedStorage) -> None:
    """More scopes than there are worker threads close at once, each completely."""
    scopes = TempScopes(hooked)

    async def work() -> Path:
        async with scopes.open() as job:
            return job.new_file()

    async def main() -> list[Path]:
        return await asyncio.gather(*[work() for _ in range(100)])

    assert [path for path in asyncio.run(main()) if path.exists()] == []


def test_a_task_that_is_thrown_away_still_cleans_up(hooked: HookedStorage) -> None:
    """When a loop drops a task in the middle of its close, what is left is done on the spot."""
    gate = hooked.hooks.before["remove"] = Gate()
    ended: list[str] = []
    job = TempScopes(hooked).open()

    async def main() -> None:
        work: Coroutine[Any, Any, Any] = job.aclose()

        async def driver() -> None:
            await asyncio.sleep(0)

        async def start() -> None:
            # Driven by hand inside a task, as a loop would, up to where it waits for the thread.
            work.send(None)

        await asyncio.ensure_future(driver())
        await asyncio.ensure_future(start())
        assert gate.arrived.wait(PATIENCE)
        threading.Thread(target=gate.open).start()
        work.close()

    path = job.new_file()
    job.register_cleanup_callback(ended.append, "callback")
    asyncio.run(main())
    assert job.report is not None
    assert not path.exists()
    assert ended == ["callback"]


def test_a_task_that_is_thrown_away_in_an_exit_runs_the_others(scopes: TempScopes) -> None:
    """When a loop drops a task in the middle of an exit, the older exits run and the files go."""
    ended: list[str] = []

    async def hang(exc: BaseException | None) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        job.register_cleanup_callback(ended.append, "older")
        job._push_exit(hang, is_async=True)
        work: Coroutine[Any, Any, Any] = job.aclose()
        work.send(None)
        work.close()

    job = scopes.open()
    path = job.new_file()
    asyncio.run(main())
    assert ended == ["older"]
    assert not path.exists()
    assert job.closed


def test_without_threads_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the process no thread can be started; the work then runs in this one."""
    from concurrent.futures import ThreadPoolExecutor

    ended = ThreadPoolExecutor()
    ended.shutdown()
    monkeypatch.setattr(_shield, "_workers", lambda process: ended)

    async def main() -> None:
        assert await _shield.complete(threading.get_ident) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await _shield.complete(raising(ZeroDivisionError()))

    asyncio.run(main())


def test_a_cancelled_clean_up_goes_to_its_end(hooked: HookedStorage) -> None:
    """``acleanup_all`` cancelled in the middle still empties the scope and its children, then obeys."""
    gate = Gate()
    paths = []

    async def work() -> None:
        async with TempScopes(hooked).open() as job:
            with job.scope() as child:
                paths.extend([child.new_file(), job.new_file()])
                hooked.hooks.before["delete"] = gate
                await job.acleanup_all()

    async def main() -> None:
        task = asyncio.ensure_future(work())
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        task.cancel()
        await turns()
        assert not task.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert hooked.hooks.calls.count("delete") == 2
    assert [path for path in paths if path.exists()] == []


def test_an_object_that_is_awaited_may_raise_anything(run: Callable[..., Any], scopes: TempScopes) -> None:
    """A ``RuntimeError`` of an async exit is an error like another."""

    async def leave(exc: BaseException | None) -> None:
        raise RuntimeError("mine")

    async def main() -> None:
        async with scopes.open() as job:
            job._push_exit(leave, is_async=True)

    with pytest.raises(RuntimeError, match="mine"):
        run(main)


def test_a_lock_for_tasks(run: Callable[..., Any]) -> None:
    """``new_lock`` gives a lock of whichever loop runs."""

    async def main() -> bool:
        lock = _shield.new_lock()
        async with lock:
            return lock.locked()

    assert run(main)


def test_a_cancellation_that_was_there_before_does_not_stop_the_removal(
    run: Callable[..., Any], scopes: TempScopes
) -> None:
    """A scope left by a task that is cancelled already still removes its files, and its blocks theirs."""
    paths: list[Path] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with scopes.open() as job:
                paths.append(job.new_file())
                async with job.create_temp_file() as path:
                    paths.append(path)
                    scope.cancel()
                assert not path.exists()

    run(main)
    assert [path for path in paths if path.exists()] == []


# trio


def test_trio_cancellation_waits_for_the_removal(hooked: HookedStorage) -> None:
    """Under trio a cancelled scope is removed completely, then the cancellation is obeyed."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open()
    paths = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel() -> None:
                    assert await trio.to_thread.run_sync(gate.arrived.wait, PATIENCE)
                    scope.cancel()
                    with trio.CancelScope(shield=True):
                        await trio.lowlevel.checkpoint()
                    gate.open()

                nursery.start_soon(cancel)
                async with job:
                    paths.append(job.new_file())
                await trio.lowlevel.checkpoint()
                raise AssertionError("the cancellation was not obeyed")
        assert scope.cancelled_caught

    trio.run(main)
    assert job.report is not None
    assert job.report.complete
    assert not paths[0].exists()


def test_trio_beside_asyncio(scopes: TempScopes) -> None:
    """An asyncio that was imported, and even ran, does not mislead a trio program."""

    async def main() -> None:
        async with scopes.open() as job:
            job.new_file()
            job.scope().register_cleanup_callback(str)
            async with job.create_temp_file() as path:
                pass
            assert not path.exists()

    asyncio.run(asyncio.sleep(0))
    with pytest.warns(ResourceWarning, match="never closed"):
        trio.run(main)


def test_trio_limiter_is_ours(storage: LocalDiskStorage) -> None:
    """Jobs that occupy all of trio's threads do not stop a scope from closing."""

    async def main() -> None:
        gates = [Gate() for _ in range(int(trio.to_thread.current_default_thread_limiter().total_tokens))]
        async with trio.open_nursery() as nursery:
            for gate in gates:
                nursery.start_soon(trio.to_thread.run_sync, gate)
            for _ in range(2):
                async with TempScopes(storage).open() as job:
                    path = job.new_file()
                assert not path.exists()
            for gate in gates:
                gate.open()

    trio.run(main)


def test_asyncio_pool_is_ours(storage: LocalDiskStorage) -> None:
    """Jobs that occupy all of asyncio's threads do not stop a scope from closing."""

    async def main() -> None:
        gate = Gate()
        jobs = [asyncio.ensure_future(asyncio.to_thread(gate)) for _ in range(64)]
        async with TempScopes(storage).open() as job:
            path = job.new_file()
        assert not path.exists()
        gate.open()
        await asyncio.gather(*jobs)

    asyncio.run(main())


def test_without_asyncio_there_is_no_asyncio_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trio program need not import asyncio (a fake: the tests themselves have it)."""
    import sys

    monkeypatch.delitem(sys.modules, "asyncio")
    assert not _shield._in_asyncio_task()


# Staging and publishing


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An input that takes several pieces to copy."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (40 << 12))
    return path


def cancelled_by(run: Callable[..., Any]) -> type[BaseException]:
    """Return what a cancelled task sees on the loop of *run*."""
    return trio.Cancelled if run is trio.run else asyncio.CancelledError


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("kind", [LocalDiskStorage, MemoryStorage])
def test_a_cancelled_staging_leaves_nothing(
    run: Callable[..., Any], tmp_path: Path, large: Path, kind: Any, tree: bool
) -> None:
    """A task that is cancelled while it stages ends the copy; nothing of the input is in the scope."""
    source = large
    if tree:
        source = tmp_path / "tree"
        source.mkdir()
        large.rename(source / "large")
    storage = kind(tmp_path / "base") if kind is LocalDiskStorage else kind()

    async def main() -> None:
        async with TempScopes(storage).open() as job:
            with anyio.CancelScope() as scope:
                told: list[int] = []

                def cancel(done: int, total: int) -> None:
                    if not told:
                        anyio.from_thread.run_sync(scope.cancel) if run is trio.run else (
                            loop.call_soon_threadsafe(scope.cancel),
                            noticed.wait(PATIENCE),
                        )
                    told.append(done)

                loop = None if run is trio.run else asyncio.get_running_loop()
                noticed = threading.Event()

                async def notice() -> None:
                    try:
                        await anyio.sleep_forever()
                    finally:
                        noticed.set()

                async with anyio.create_task_group() as group:
                    group.start_soon(notice)
                    await job.astage(source, progress=cancel)
            assert scope.cancelled_caught
            assert told[-1] < 40 << 20
            assert list(job.directory.iterdir()) == []
            assert job.usage().files == 0
            assert job.stage(source).method

    run(main)
    storage.close()


def test_a_cancelled_publication_leaves_nothing(tmp_path: Path, large: Path, mocker: Any) -> None:
    """A task that is cancelled while it publishes by copying leaves nothing there; the file is still ours."""
    mocker.patch("tempscope.storages._publish._File._move", return_value=False)
    (tmp_path / "out").mkdir()
    size = large.stat().st_size

    async def main() -> None:
        async with TempScopes(LocalDiskStorage(tmp_path / "base")).open() as job:
            path = job.stage(large, writable=True).path
            loop, noticed = asyncio.get_running_loop(), threading.Event()

            def cancel() -> None:
                task.cancel()
                loop.call_soon(loop.call_soon, noticed.set)

            def stop(done: int, total: int) -> None:
                loop.call_soon_threadsafe(cancel)
                assert noticed.wait(PATIENCE)

            task = asyncio.ensure_future(job.apublish(path, tmp_path / "out" / "product", progress=stop))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert list((tmp_path / "out").iterdir()) == []
            assert job.usage().bytes >= size
            assert await job.apublish(path, tmp_path / "out" / "product") == tmp_path / "out" / "product"

    asyncio.run(main())


def test_an_input_that_came_too_late_is_taken_back(
    tmp_path: Path, large: Path, hooked: HookedStorage
) -> None:
    """If the task is cancelled when the input is in already, it goes again, and is verified no more."""
    gate = Gate()

    async def main() -> None:
        async with TempScopes(hooked).open() as job:
            real = job.stage

            def late(*args: Any, **kwargs: Any) -> Any:
                staged = real(*args, **kwargs)
                job._staged = [staged]
                gate()
                return staged

            job.stage = late
            task = asyncio.ensure_future(job.astage(large))
            assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
            task.cancel()
            await turns()
            task.cancel()
            await turns()
            gate.open()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert list(job.directory.iterdir()) == []
            assert job._staged == []
            staged = real(large)
        # Taken back when the scope is closed already, it has gone with that.
        job._unstage(staged)

    asyncio.run(main())


def test_an_error_of_the_cancelled_work_is_noted() -> None:
    """What the work raised itself, or its undoing, is a note on the cancellation."""

    async def main(fail: bool) -> list[str]:
        gate = Gate()

        def work(check: Callable[[], None]) -> int:
            gate()
            if fail:
                raise OSError(5, "the disk is broken")
            return 1

        def undo(result: int) -> None:
            raise OSError(5, "the disk is broken too")

        task = asyncio.ensure_future(_shield.cancellable(work, undo))
        assert await asyncio.to_thread(gate.arrived.wait, PATIENCE)
        task.cancel()
        await turns()
        gate.open()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return getattr(caught.value, "__notes__", [])

    assert "is broken" in asyncio.run(main(True))[0]
    assert "broken too" in asyncio.run(main(False))[0]


def test_a_staging_task_that_is_thrown_away(tmp_path: Path, large: Path) -> None:
    """A loop that throws a staging task away waits for the thread, which stops; nothing stays."""
    storage = LocalDiskStorage(tmp_path / "base")
    job = TempScopes(storage).open()
    gate = Gate()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        await job.astage(large, progress=gate)

    with job:
        coroutine = main()
        task = loop.create_task(coroutine)
        while not gate.arrived.is_set():
            loop.run_until_complete(asyncio.sleep(0.001))
        gate.open()
        task._log_destroy_pending = False
        coroutine.close()
        loop.close()
        assert list(job.directory.iterdir()) == []
    storage.close()
