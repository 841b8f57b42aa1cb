"""
The jobs: each is one task with one scope, from the first byte of its upload to the last of its result.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self, TypeVar

import attrs

from muxing import Muxer, MuxError
from tempscope import TempscopeError, TempScopes


__all__ = ["Job", "Jobs"]

_T = TypeVar("_T")
_BLOCK = 256 * 1024


@attrs.define(eq=False)
class Job:
    """
    One video and its subtitles.

    Attributes:
        name: Which.

        state: What is done with it now.

        problem: What went wrong, if it failed.

        result: The finished file, while it is there.
    """

    name: str
    state: Literal["uploading", "waiting", "working", "done", "failed", "gone"] = "uploading"
    problem: str = ""
    result: Path | None = None
    uploaded: asyncio.Event = attrs.Factory(asyncio.Event)
    sent: asyncio.Event = attrs.Factory(asyncio.Event)


class Jobs:
    """
    Owns the jobs; used by ``async with`` for as long as the application runs.

    Args:
        scopes: Opens a scope for each job.

        muxer: Makes the job's :class:`Muxer`, inside its scope.

        at_once: How many are worked on at once.

        keep_seconds: How long a result waits to be fetched, and the end of a job is remembered.
    """

    def __init__(
        self, scopes: TempScopes, muxer: Callable[[], Muxer], at_once: int, keep_seconds: float
    ) -> None:
        self._scopes = scopes
        self._muxer = muxer
        self._keep_seconds = keep_seconds
        self._slots = asyncio.Semaphore(at_once)
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def get(self, name: str) -> Job | None:
        """Return the job called *name*; None if there is none, or it is forgotten."""
        return self._jobs.get(name)

    def states(self) -> list[str]:
        """Return in which state each job is."""
        return [job.state for job in self._jobs.values()]

    async def receive(self, name: str, fill: Callable[[dict[str, Path]], Awaitable[None]]) -> Job:
        """
        Begin a job, have *fill* write its input, and go on with it in the background.

        If *fill* raises, or is cancelled because the client is gone, nothing of the job is left.

        Raises:
            OSError: If there is no room.

            Exception: What *fill* raises.
        """
        job = Job(name)
        files: asyncio.Future[dict[str, Path]] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(job, files))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await fill(await files)
        except BaseException:
            task.cancel()
            await asyncio.wait([task])
            raise
        self._jobs[name] = job
        job.uploaded.set()
        return job

    async def _run(self, job: Job, files: asyncio.Future[dict[str, Path]]) -> None:
        try:
            async with self._scopes.open(job.name) as scope:
                files.set_result({each: scope.new_file(name=each) for each in ("video", "subtitles")})
                await job.uploaded.wait()
                await self._work(job, **files.result())
                # Here the file lives until it is sent, or nobody came for it.
                with suppress(TimeoutError):
                    await asyncio.wait_for(job.sent.wait(), self._keep_seconds)
                job.result = None
            job.state = "gone"
        except (MuxError, TempscopeError, OSError) as error:
            job.state, job.problem = "failed", str(error)
            if not files.done():
                files.set_exception(error)
        finally:
            files.cancel()
            asyncio.get_running_loop().call_later(self._keep_seconds, self._jobs.pop, job.name, None)

    async def _work(self, job: Job, video: Path, subtitles: Path) -> None:
        job.state = "waiting"
        async with self._slots:
            job.state = "working"
            job.result = await _stoppable(self._muxer().mux, video, subtitles)
        job.state = "done"

    def send(self, job: Job, is_gone: Callable[[], Awaitable[bool]]) -> tuple[int, AsyncIterator[bytes]]:
        """
        Return how long the result is, and the result, block by block.

        When all of it was taken the job is over; one who breaks off may come again.
        The file is open from now on, so it can be read to its end even if the job is over before.

        Args:
            job: One that is done.

            is_gone: Tells at the end whether the one who asked for it has broken off.
        """
        assert job.result is not None
        file = job.result.open("rb")

        async def blocks() -> AsyncIterator[bytes]:
            with file:
                while block := await asyncio.to_thread(file.read, _BLOCK):
                    yield block
            if not await is_gone():
                job.sent.set()

        return job.result.stat().st_size, blocks()


async def _stoppable(function: Callable[..., _T], *args: object) -> _T:
    """Run ``function(*args, stop)`` in a thread; if this is cancelled, set *stop* and wait for its end."""
    stop = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # that it was stopped is no news, and asyncio is not to tell it later
        raise
