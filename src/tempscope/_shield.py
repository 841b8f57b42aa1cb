"""
Finishing blocking work off the event loop, whatever cancellations come.

anyio's shield stops its own cancellation and trio's, but not a native ``task.cancel()`` of
asyncio, which would leave a removal running behind the task's back.
Under asyncio the work therefore is no task, which anybody could cancel, but a future of a thread
pool, and the waiting is done again until it is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar, cast


if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from contextlib import AbstractContextManager

    from anyio import CapacityLimiter, Lock
    from anyio.lowlevel import RunVar

__all__ = ["complete", "new_lock", "shielded", "sleep_forever"]

_T = TypeVar("_T")
_WORKERS = 16


async def complete(function: Callable[[], _T]) -> _T:
    """
    Run *function* in a worker thread and wait until it is done.

    A cancellation that comes meanwhile, also a second one, is raised when it is done, not before.
    Where no thread can be started any more, at the end of the process, it runs in this one.
    """
    return await shielded(_finish(function) if _in_asyncio_task() else _in_thread(function))


async def shielded(work: Awaitable[_T]) -> _T:
    """Await *work* in this task, out of reach of trio's and anyio's cancellation."""
    import anyio

    # The types have it that any cancel scope may swallow what was raised; one that nobody cancels does not.
    shield = cast("AbstractContextManager[object, None]", anyio.CancelScope(shield=True))
    try:
        with shield:
            return await work
    except RuntimeError as error:
        if isinstance(error.__context__, GeneratorExit):
            # A loop that throws its tasks away does so outside of them, where anyio leaves no shield.
            raise error.__context__ from None
        raise


async def _finish(function: Callable[[], _T]) -> _T:
    import asyncio

    work = _submit(function)
    done = asyncio.wrap_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not done.done():
        try:
            # Unlike awaiting the future itself, this does not cancel it.
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancellation = error
        except GeneratorExit:
            # The loop throws this task away: nothing can be awaited, but the thread can be waited for.
            work.exception()
            raise
    if cancellation is None:
        return done.result()
    _add_note(cancellation, done.exception())
    raise cancellation


def _submit(function: Callable[[], _T]) -> Future[_T]:
    try:
        return _workers(process=os.getpid()).submit(copy_context().run, function)
    except RuntimeError:
        return _done(function)


@lru_cache(maxsize=1)
def _workers(process: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a fork takes no threads along
    """Return this process's threads: ours alone, so that jobs that fill other pools cannot stop a close."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_WORKERS, thread_name_prefix="tempscope")


def _done(function: Callable[[], _T]) -> Future[_T]:
    from concurrent.futures import Future

    work: Future[_T] = Future()
    try:
        work.set_result(function())
    except BaseException as error:
        work.set_exception(error)
    return work


def _add_note(cancellation: BaseException, error: BaseException | None) -> None:
    if error is not None:
        cancellation.add_note(
            f"tempscope: the work that was finished first raised {type(error).__name__}: {error}"
        )


def _in_asyncio_task() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def _in_thread(function: Callable[[], _T]) -> _T:
    from anyio import to_thread

    return await to_thread.run_sync(function, limiter=_limiter())


def new_lock() -> Lock:
    """Return a lock for tasks, of whichever event loop runs."""
    import anyio

    return anyio.Lock()


async def sleep_forever() -> None:
    """Wait, on whichever event loop runs, until this task is cancelled."""
    import anyio

    await anyio.sleep_forever()


def _limiter() -> CapacityLimiter:
    """Return this loop's limiter, ours alone for the same reason."""
    import anyio

    variable = _run_variable()
    try:
        return variable.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_WORKERS)
        variable.set(limiter)
        return limiter


@cache
def _run_variable() -> RunVar[CapacityLimiter]:
    from anyio.lowlevel import RunVar

    return RunVar("tempscope_limiter")
